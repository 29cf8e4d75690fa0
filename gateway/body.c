#include "gateway/body.h"

#include <string.h>
#include <strings.h>

#include "http/server.h"
#include "wire/compress.h"

bool tob_media_type_is(h2o_iovec_t content_type, const char *type) {
    size_t len = 0;
    while (len < content_type.len && content_type.base[len] != ';') {
        len++;
    }
    while (len && (content_type.base[len - 1] == ' ' || content_type.base[len - 1] == '\t')) {
        len--;
    }
    return len == strlen(type) && strncasecmp(content_type.base, type, len) == 0;
}

static bool is(h2o_iovec_t text, const char *word) {
    return text.len == strlen(word) && strncasecmp(text.base, word, text.len) == 0;
}

static bool inflate(h2o_req_t *req, size_t max_bytes, tob_buffer *scratch, h2o_iovec_t *ret) {
    scratch->max_bytes = max_bytes;
    tob_buffer_clear(scratch);
    tob_error error = tob_gunzip(req->entity.base, req->entity.len, scratch);
    if (error == TOB_TOO_LARGE) {
        tob_http_send_error(req, 413, 0, "the body is longer than %zu bytes once decoded", max_bytes);
    } else if (error) {
        tob_http_send_error(req, error == TOB_MALFORMED ? 400 : 503, 0,
                            "Content-Encoding: the body is not gzip");
    }
    *ret = h2o_iovec_init(scratch->data, scratch->len);
    return !error;
}

bool tob_body_read(h2o_req_t *req, const tob_body_rules *rules, tob_buffer *scratch, h2o_iovec_t *ret) {
    h2o_iovec_t type = tob_http_header(req, "content-type");
    h2o_iovec_t encoding = tob_http_header(req, "content-encoding");
    if (type.base && !tob_media_type_is(type, rules->content_type)) {
        tob_http_send_error(req, 415, 0, "Content-Type: must be %s", rules->content_type);
        return false;
    }
    if (req->entity.len > rules->max_bytes) {
        tob_http_send_error(req, 413, 0, "the body is longer than %zu bytes", rules->max_bytes);
        return false;
    }
    if (!encoding.len || is(encoding, "identity")) {
        *ret = req->entity;
    } else if (!is(encoding, "gzip") && !is(encoding, "x-gzip")) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ACCEPT_ENCODING, NULL, H2O_STRLIT("gzip"));
        tob_http_send_error(req, 415, 0, "Content-Encoding: must be gzip or absent");
        return false;
    } else if (!inflate(req, rules->max_inflated_bytes, scratch, ret)) {
        return false;
    }
    if (!ret->len && !rules->may_be_empty) {
        tob_http_send_error(req, 400, 0, "the body is empty");
        return false;
    }
    return true;
}
