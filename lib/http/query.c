#include <string.h>

#include "http/server.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static h2o_iovec_t decode(h2o_req_t *req, const char *from, size_t n) {
    char *to = h2o_mem_alloc_pool(&req->pool, n + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int high = from[i] == '%' && i + 2 < n ? hex_digit(from[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(from[i + 2]) : -1;
        if (low >= 0) {
            to[len++] = (char)(high * 16 + low);
            i += 2;
        } else {
            to[len++] = from[i] == '+' ? ' ' : from[i];
        }
    }
    to[len] = 0;
    return h2o_iovec_init(to, len);
}

h2o_iovec_t tob_http_query_value(h2o_req_t *req, const char *name) {
    h2o_iovec_t query = tob_http_query(req);
    size_t name_len = strlen(name);
    const char *end = query.base + query.len;
    for (const char *at = query.base; at && at < end;) {
        const char *next = memchr(at, '&', (size_t)(end - at));
        size_t n = (size_t)((next ? next : end) - at);
        if (n > name_len && at[name_len] == '=' && memcmp(at, name, name_len) == 0) {
            return decode(req, at + name_len + 1, n - name_len - 1);
        }
        at = next ? next + 1 : end;
    }
    return h2o_iovec_init(NULL, 0);
}
