#include "gateway/caller.h"

#include <string.h>

#include "util/secret.h"

// RFC 6750 §2.1: a token of anything else (bytes that are not ASCII, say) would make the whole message malformed.
static bool is_token(const char *text, size_t len) {
    static const char others[] = "-._~+/=";
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool word = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!word && !memchr(others, c, sizeof(others) - 1)) {
            return false;
        }
    }
    return len <= TOB_MAX_CREDENTIAL_BYTES;
}

bool tob_caller_read(h2o_req_t *req, tob_counter *refused, tob_caller *ret) {
    h2o_iovec_t header = tob_http_header(req, "authorization");
    const char *token = NULL;
    size_t len = 0;
    if (tob_bearer(header.base, header.len, &token, &len) || !is_token(token, len)) {
        tob_counter_add(refused, 1);
        tob_http_send_error(req, 401, 0, "Authorization: must be Bearer and a token");
        return false;
    }
    memcpy(ret->bearer, token, len);
    ret->bearer[len] = 0;
    tob_http_peer(req, ret->address);
    return true;
}

bool tob_path_id_read(h2o_req_t *req, const tob_http_match *match, const char *field,
                      char ret[TOB_MAX_ID_BYTES + 1]) {
    h2o_iovec_t id = match->params[0];
    if (!tob_id_valid(id.base, id.len)) {
        tob_http_send_error(req, 400, 0, "%s: must be 1 to %d characters of A-Z a-z 0-9 . _ : -", field,
                            TOB_MAX_ID_BYTES);
        return false;
    }
    memcpy(ret, id.base, id.len);
    ret[id.len] = 0;
    return true;
}
