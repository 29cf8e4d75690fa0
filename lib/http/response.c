#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "http/server.h"
#include "util/text.h"

#define MAX_ERROR_BYTES 512

h2o_iovec_t tob_http_header(const h2o_req_t *req, const char *name) {
    ssize_t at = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    return at < 0 ? h2o_iovec_init(NULL, 0) : req->headers.entries[at].value;
}

h2o_iovec_t tob_http_query(const h2o_req_t *req) {
    if (req->query_at == SIZE_MAX) {
        return h2o_iovec_init(NULL, 0);
    }
    return h2o_iovec_init(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1);
}

void tob_http_send(h2o_req_t *req, int status, const char *content_type, const void *body, size_t n) {
    req->res.status = status;
    req->res.reason = tob_http_reason(status);
    req->res.content_length = n;
    if (content_type) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, content_type,
                       strlen(content_type));
    }
    h2o_send_inline(req, n ? body : "", n);
}

// Writes `text` as the inside of a JSON string; `to` has room for six bytes for each of it. Bytes that are
// not UTF-8 become question marks.
static size_t json_escape(const char *text, size_t n, char *to) {
    static const char hex[] = "0123456789abcdef";
    bool utf8 = tob_utf8_valid(text, n);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            to[at++] = '\\';
            to[at++] = (char)c;
        } else if (c < 0x20) {
            memcpy(to + at, "\\u00", 4);
            to[at + 4] = hex[c >> 4];
            to[at + 5] = hex[c & 15];
            at += 6;
        } else {
            to[at++] = (char)(c >= 0x80 && !utf8 ? '?' : c);
        }
    }
    return at;
}

static void add_error_headers(h2o_req_t *req, int status, uint64_t retry_after_ms) {
    if (status == 401) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_WWW_AUTHENTICATE, NULL, H2O_STRLIT("Bearer"));
    }
    if (retry_after_ms) {
        char text[24];
        int len = snprintf(text, sizeof(text), "%llu",
                           (unsigned long long)(retry_after_ms / 1000 + (retry_after_ms % 1000 != 0)));
        h2o_iovec_t value = h2o_strdup(&req->pool, text, (size_t)len);
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_RETRY_AFTER, NULL, value.base, value.len);
    }
}

void tob_http_send_error(h2o_req_t *req, int status, uint64_t retry_after_ms, const char *format, ...) {
    static const char before[] = "{\"error\":\"";
    char text[MAX_ERROR_BYTES];
    char body[sizeof(before) + 6 * MAX_ERROR_BYTES + 2];
    va_list args;
    va_start(args, format);
    int written = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t n = written < 0 ? 0 : strlen(text);
    memcpy(body, before, sizeof(before) - 1);
    size_t len = sizeof(before) - 1;
    len += json_escape(text, n, body + len);
    memcpy(body + len, "\"}", 2);
    add_error_headers(req, status, retry_after_ms);
    tob_http_send(req, status, "application/json", body, len + 2);
}
