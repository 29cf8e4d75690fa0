#include "rpc/response.h"

#include <stdlib.h>

#include "rpc/status.h"
#include "wire/batch.h"
#include "wire/compress.h"

static tob_error inflate_body(const Tobogganing__V1__Response *response, uint8_t **ret) {
    if (response->size > TOB_MAX_INFLATED_BYTES) {
        return TOB_TOO_LARGE;
    }
    tob_inflater *inflater = NULL;
    uint8_t *to = malloc(response->size ? response->size : 1);
    tob_error err = to ? tob_inflater_new(&inflater) : TOB_NO_MEMORY;
    if (!err) {
        err = tob_inflate(inflater, response->body.data, response->body.len, to, response->size);
    }
    tob_inflater_free(inflater);
    if (err) {
        free(to);
        return err;
    }
    *ret = to;
    return TOB_OK;
}

static void unreadable(tob_rpc_result *result, const char *message) {
    result->error = TOB_MALFORMED;
    result->message = message;
}

void tob_rpc_response_read(tob_rpc_response *response, const nng_msg *msg, tob_rpc_result *ret) {
    *response = (tob_rpc_response){NULL, NULL};
    ret->sent = true;
    response->message =
        tobogganing__v1__response__unpack(NULL, nng_msg_len(msg), nng_msg_body((nng_msg *)msg));
    const Tobogganing__V1__Response *message = response->message;
    if (!message) {
        unreadable(ret, "the answer is not a tobogganing.v1.Response");
        return;
    }
    bool zlib = message->encoding == TOBOGGANING__V1__ENCODING__ENCODING_ZLIB;
    if (zlib && inflate_body(message, &response->inflated) != TOB_OK) {
        unreadable(ret, "the answer's body can't be inflated");
        return;
    }
    ret->answered = true;
    ret->error = tob_status_error(message->code);
    ret->message = message->message;
    ret->retry_after_ms = message->retry_after_ms;
    ret->body = zlib ? response->inflated : message->body.data;
    ret->body_len = zlib ? message->size : message->body.len;
}

void tob_rpc_response_fini(tob_rpc_response *response) {
    free(response->inflated);
    if (response->message) {
        tobogganing__v1__response__free_unpacked(response->message, NULL);
    }
}
