#include "rpc/request.h"

#include <stdlib.h>
#include <string.h>

#include "rpc/nng.h"
#include "wire/batch.h"

enum {
    COMPRESS_ABOVE_BYTES = 256,
    COMPRESS_LEVEL = 6, // batches are small and sent seldom: bytes count more than cycles
};

void tob_rpc_encoder_init(tob_rpc_encoder *encoder, bool compress) {
    encoder->compress = compress;
    encoder->deflater = NULL;
    pthread_mutex_init(&encoder->lock, NULL);
}

void tob_rpc_encoder_fini(tob_rpc_encoder *encoder) {
    pthread_mutex_destroy(&encoder->lock);
    tob_deflater_free(encoder->deflater);
}

// True when `compressed` holds a smaller body. A caller that finds the deflater in use takes one of its own rather than
// wait; without memory the body simply stays as it is.
static bool compress_body(tob_rpc_encoder *encoder, const void *body, size_t body_len,
                          tob_buffer *compressed) {
    tob_deflater *own = NULL;
    bool shared = pthread_mutex_trylock(&encoder->lock) == 0;
    tob_deflater **deflater = shared ? &encoder->deflater : &own;
    bool smaller = (*deflater || tob_deflater_new(COMPRESS_LEVEL, deflater) == TOB_OK) &&
                   tob_deflate(*deflater, body, body_len, compressed) == TOB_OK && compressed->len < body_len;
    if (shared) {
        pthread_mutex_unlock(&encoder->lock);
    }
    tob_deflater_free(own);
    return smaller;
}

static char *put(char **to, const char *text) {
    size_t n = strlen(text) + 1;
    char *at = *to;
    memcpy(at, text, n);
    *to += n;
    return at;
}

// The request and what it has in one piece of memory.
static tob_rpc_request *request_alloc(const char *method, const void *body, size_t body_len,
                                      const tob_rpc_caller *caller) {
    static const char scheme[] = "Bearer ";
    const char *bearer = caller && caller->bearer ? caller->bearer : "";
    size_t texts = strlen(method) + 1;
    if (caller) {
        texts += sizeof(scheme) + strlen(bearer) + strlen(caller->address) + 1;
    }
    tob_rpc_request *request = malloc(sizeof(*request) + body_len + texts);
    if (!request) {
        return NULL;
    }
    uint8_t *to = (uint8_t *)(request + 1);
    char *text = (char *)to + body_len;
    if (body_len) {
        memcpy(to, body, body_len);
    }
    *request = (tob_rpc_request){.body = to, .body_len = body_len};
    atomic_init(&request->references, 1);
    request->method = put(&text, method);
    if (caller) {
        request->forwarded_for = put(&text, caller->address);
        request->authorization = text;
        if (*bearer) {
            memcpy(text, scheme, sizeof(scheme) - 1);
            text += sizeof(scheme) - 1;
        }
        put(&text, bearer);
    }
    return request;
}

tob_error tob_rpc_request_new(tob_rpc_encoder *encoder, const char *method, const void *body, size_t body_len,
                              const tob_rpc_caller *caller, tob_rpc_request **ret) {
    if (body_len > TOB_MAX_INFLATED_BYTES) {
        return TOB_TOO_LARGE;
    }
    tob_buffer compressed;
    tob_buffer_init(&compressed, TOB_MAX_INFLATED_BYTES * 2);
    bool zlib = encoder->compress && body_len > COMPRESS_ABOVE_BYTES &&
                compress_body(encoder, body, body_len, &compressed);
    size_t sent_len = zlib ? compressed.len : body_len;
    tob_rpc_request *request = NULL;
    tob_error err = sent_len > TOB_MAX_BATCH_BYTES ? TOB_TOO_LARGE : TOB_OK;
    if (!err) {
        request = request_alloc(method, zlib ? compressed.data : body, sent_len, caller);
        err = request ? TOB_OK : TOB_NO_MEMORY;
    }
    tob_buffer_fini(&compressed);
    if (err) {
        return err;
    }
    request->size = (uint32_t)body_len;
    request->encoding =
        zlib ? TOBOGGANING__V1__ENCODING__ENCODING_ZLIB : TOBOGGANING__V1__ENCODING__ENCODING_IDENTITY;
    *ret = request;
    return TOB_OK;
}

tob_rpc_request *tob_rpc_request_hold(tob_rpc_request *request) {
    atomic_fetch_add(&request->references, 1);
    return request;
}

void tob_rpc_request_release(tob_rpc_request *request) {
    if (request && atomic_fetch_sub(&request->references, 1) == 1) {
        if (request->authorization) {
            explicit_bzero(request->authorization, strlen(request->authorization));
        }
        free(request);
    }
}

tob_error tob_rpc_request_message(const tob_rpc_request *request, const char *authorization,
                                  uint32_t timeout_ms, nng_msg **ret) {
    Tobogganing__V1__Request envelope = TOBOGGANING__V1__REQUEST__INIT;
    envelope.method = (char *)request->method;
    envelope.timeout_ms = timeout_ms;
    envelope.encoding = request->encoding;
    envelope.size = request->size;
    envelope.body = (ProtobufCBinaryData){.len = request->body_len, .data = (uint8_t *)request->body};
    if (request->forwarded_for) {
        envelope.authorization = request->authorization;
        envelope.forwarded_for = (char *)request->forwarded_for;
        envelope.forwarded_by = (char *)authorization;
    } else {
        envelope.authorization = (char *)authorization;
    }
    size_t n = tobogganing__v1__request__get_packed_size(&envelope);
    nng_msg *msg = NULL;
    tob_error err = n > TOB_MAX_BATCH_BYTES ? TOB_TOO_LARGE : tob_error_from_nng(nng_msg_alloc(&msg, n));
    if (err) {
        return err;
    }
    tobogganing__v1__request__pack(&envelope, nng_msg_body(msg));
    *ret = msg;
    return TOB_OK;
}
