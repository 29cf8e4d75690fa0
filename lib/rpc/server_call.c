#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/server_state.h"
#include "rpc/status.h"
#include "util/clock.h"
#include "util/secret.h"

enum {
    COMPRESS_ABOVE_BYTES = 1024, // smaller responses are not worth it
    COMPRESS_LEVEL = 1,
    // A connection takes one answer at once; a second one waits in its context while the first is being written. Who does
    // not read must not hold contexts for ever.
    SEND_TIMEOUT_MS = 10000,
};

static void retire(tob_rpc_server *server) {
    pthread_mutex_lock(&server->lock);
    server->active--;
    pthread_cond_signal(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

// Starts to receive, or retires the call when the server stops: _stop sets `stopping` before it looks at the
// state, so it finds each call either receiving or on its way to see that.
void tob_rpc_call_receive(tob_rpc_call *call) {
    pthread_mutex_lock(&call->lock);
    bool stopping = atomic_load(&call->server->stopping);
    call->state = stopping ? TOB_CALL_IDLE : TOB_CALL_RECEIVING;
    if (!stopping) {
        nng_aio_set_timeout(call->aio, NNG_DURATION_INFINITE);
        nng_ctx_recv(call->ctx, call->aio);
    }
    pthread_mutex_unlock(&call->lock);
    if (stopping) {
        retire(call->server);
    }
}

static void set_state(tob_rpc_call *call, tob_call_state state) {
    pthread_mutex_lock(&call->lock);
    call->state = state;
    pthread_mutex_unlock(&call->lock);
}

// Memory that an answer beside the arenas has is not in the budget: NNG has one answer for each connection that is slow to
// read, and each context one more, for SEND_TIMEOUT_MS. Large ones (snapshots, replays) go to holders of the cluster token.
static void send_response(tob_rpc_call *call, Tobogganing__V1__Response *response) {
    nng_msg *msg = NULL;
    size_t n = tobogganing__v1__response__get_packed_size(response);
    int rv = nng_msg_alloc(&msg, n);
    if (rv == 0) {
        tobogganing__v1__response__pack(response, nng_msg_body(msg));
    }
    // The request is done with: a call that waits for the next one holds no memory.
    call->request = NULL;
    tob_arena_clear(call->arena);
    if (rv != 0) {
        tob_rpc_call_receive(call); // the caller runs into its deadline
        return;
    }
    nng_aio_set_msg(call->aio, msg);
    nng_aio_set_timeout(call->aio, SEND_TIMEOUT_MS);
    set_state(call, TOB_CALL_SENDING);
    nng_ctx_send(call->ctx, call->aio);
}

void tob_rpc_fail(tob_rpc_call *call, tob_error error, uint32_t retry_after_ms, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (error == TOB_BUSY) {
        atomic_fetch_add_explicit(&call->server->refused, 1, memory_order_relaxed);
        retry_after_ms = retry_after_ms ? retry_after_ms : TOB_RPC_RETRY_MS;
    }
    Tobogganing__V1__Response response = TOBOGGANING__V1__RESPONSE__INIT;
    response.code = tob_status_code(error);
    response.message = text;
    response.retry_after_ms = retry_after_ms;
    send_response(call, &response);
}

// Compresses into the arena; on failure the body simply stays as it is.
static void compress_body(tob_rpc_call *call, Tobogganing__V1__Response *response, tob_buffer *compressed) {
    if (call->request->encoding != TOBOGGANING__V1__ENCODING__ENCODING_ZLIB ||
        response->body.len <= COMPRESS_ABOVE_BYTES ||
        (!call->deflater && tob_deflater_new(COMPRESS_LEVEL, &call->deflater) != TOB_OK) ||
        tob_deflate(call->deflater, response->body.data, response->body.len, compressed) != TOB_OK ||
        compressed->len >= response->body.len) {
        return;
    }
    response->encoding = TOBOGGANING__V1__ENCODING__ENCODING_ZLIB;
    response->body.data = compressed->data;
    response->body.len = compressed->len;
}

void tob_rpc_reply(tob_rpc_call *call, const ProtobufCMessage *message) {
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(n ? n : 1);
    if (!packed) {
        tob_rpc_fail(call, TOB_NO_MEMORY, 0, "no memory for the response");
        return;
    }
    Tobogganing__V1__Response response = TOBOGGANING__V1__RESPONSE__INIT;
    tob_buffer compressed;
    tob_buffer_init(&compressed, call->server->options.max_inflated_bytes);
    response.body.data = packed;
    response.body.len = protobuf_c_message_pack(message, packed);
    response.size = (uint32_t)n;
    compress_body(call, &response, &compressed);
    send_response(call, &response);
    tob_buffer_fini(&compressed);
    explicit_bzero(packed, n); // keys are shown once, and in no memory that is given to others
    free(packed);
}

static const tob_rpc_method *find_method(const tob_rpc_server *server, const char *path) {
    for (size_t i = 0; i < server->method_count; i++) {
        if (strcmp(server->methods[i].path, path) == 0) {
            return &server->methods[i];
        }
    }
    return NULL;
}

// The request's body as it was before compression; in the arena or borrowed from the request.
static tob_error decode_body(tob_rpc_call *call, const Tobogganing__V1__Request *request,
                             ProtobufCBinaryData *ret, const char **ret_reason) {
    size_t max = call->server->options.max_inflated_bytes;
    switch (request->encoding) {
    case TOBOGGANING__V1__ENCODING__ENCODING_IDENTITY: *ret = request->body; return TOB_OK;
    case TOBOGGANING__V1__ENCODING__ENCODING_ZLIB: break;
    default: *ret_reason = "encoding: unknown"; return TOB_UNIMPLEMENTED;
    }
    if (request->size > max) {
        *ret_reason = "size: the decoded body is over the limit";
        return TOB_TOO_LARGE;
    }
    uint8_t *to = tob_arena_alloc(call->arena, request->size ? request->size : 1);
    if (!to || (!call->inflater && tob_inflater_new(&call->inflater) != TOB_OK)) {
        *ret_reason = "no memory for the body";
        return to ? TOB_NO_MEMORY : tob_arena_error(call->arena);
    }
    *ret_reason = "body: not one zlib stream of `size` bytes";
    tob_error err = tob_inflate(call->inflater, request->body.data, request->body.len, to, request->size);
    if (!err) {
        *ret = (ProtobufCBinaryData){.len = request->size, .data = to};
    }
    return err;
}

static const char *unpack_problem(tob_error err) {
    return err == TOB_BUSY        ? "too many requests are being worked on"
           : err == TOB_NO_MEMORY ? "no memory to unpack it"
           : err == TOB_TOO_LARGE ? "over a limit (unknown fields, nesting, or memory to unpack it)"
                                  : "not a well-formed message of this method (or text that is not UTF-8)";
}

static void dispatch(tob_rpc_call *call) {
    const Tobogganing__V1__Request *request = call->request;
    const tob_rpc_method *m = find_method(call->server, request->method);
    if (!m) {
        tob_rpc_fail(call, TOB_UNIMPLEMENTED, 0, "method: '%.*s' does not exist", TOB_RPC_MAX_METHOD_BYTES,
                     request->method);
        return;
    }
    uint64_t timeout_ms = request->timeout_ms ? request->timeout_ms : TOB_RPC_DEFAULT_TIMEOUT_MS;
    call->deadline_ms = tob_clock_monotonic_ms() +
                        (timeout_ms < TOB_RPC_MAX_TIMEOUT_MS ? timeout_ms : TOB_RPC_MAX_TIMEOUT_MS);
    ProtobufCBinaryData body = {0};
    const char *reason = "";
    tob_error err = decode_body(call, request, &body, &reason);
    if (err) {
        tob_rpc_fail(call, err, 0, "%s", reason);
        return;
    }
    ProtobufCMessage *message = NULL;
    err = tob_arena_unpack(call->arena, m->input, body.data, body.len, &message);
    if (err) {
        tob_rpc_fail(call, err, 0, "body: %s", unpack_problem(err));
        return;
    }
    m->handler(call, message, m->user);
}

static void handle(tob_rpc_call *call, nng_msg *msg) {
    tob_arena_clear(call->arena);
    ProtobufCMessage *message = NULL;
    // The unpacked request holds copies: the message is not needed any more.
    tob_error err = tob_arena_unpack(call->arena, &tobogganing__v1__request__descriptor, nng_msg_body(msg),
                                     nng_msg_len(msg), &message);
    call->pipe = nng_msg_get_pipe(msg);
    call->peer_known = false;
    nng_msg_free(msg);
    set_state(call, TOB_CALL_WORKING);
    static const Tobogganing__V1__Request none = TOBOGGANING__V1__REQUEST__INIT;
    call->request = err ? &none : (const Tobogganing__V1__Request *)message;
    if (err) {
        const char *problem = err == TOB_MALFORMED ? "not a well-formed one" : unpack_problem(err);
        tob_rpc_fail(call, err, 0, "the message as a tobogganing.v1.Request: %s", problem);
        return;
    }
    dispatch(call);
}

void tob_rpc_call_on_aio(void *arg) {
    tob_rpc_call *call = arg;
    int result = nng_aio_result(call->aio);
    pthread_mutex_lock(&call->lock);
    tob_call_state state = call->state;
    pthread_mutex_unlock(&call->lock);
    if (state == TOB_CALL_RECEIVING && result == 0) {
        handle(call, nng_aio_get_msg(call->aio));
        return;
    }
    if (state == TOB_CALL_SENDING && result != 0) { // not taken over: ours to free
        nng_msg_free(nng_aio_get_msg(call->aio));
        nng_aio_set_msg(call->aio, NULL);
    }
    tob_rpc_call_receive(call);
}

tob_arena *tob_rpc_call_arena(tob_rpc_call *call) {
    return call->arena;
}

// The token of "Bearer TOKEN", or NULL.
static const char *bearer_of(const char *header) {
    const char *token = NULL;
    size_t len = 0;
    // The header is a C string: the token runs to its end but for spaces, which tob_bearer has found.
    if (tob_bearer(header, strlen(header), &token, &len) != TOB_OK) {
        return NULL;
    }
    return token;
}

const char *tob_rpc_call_bearer(const tob_rpc_call *call) {
    return bearer_of(call->request->authorization);
}

// Is there somebody who may say where the call comes from, and does he?
static bool forwarded_peer(tob_rpc_call *call) {
    tob_secrets *secrets = call->server->options.forwarder_secrets;
    const Tobogganing__V1__Request *request = call->request;
    if (!secrets || !*request->forwarded_for || !*request->forwarded_by ||
        strnlen(request->forwarded_by, TOB_RPC_MAX_BEARER_BYTES + 1) > TOB_RPC_MAX_BEARER_BYTES) {
        return false;
    }
    const char *token = bearer_of(request->forwarded_by);
    return token && tob_secrets_match(secrets, token, strlen(token)) &&
           tob_peer_parse(request->forwarded_for, call->peer);
}

const char *tob_rpc_call_peer(tob_rpc_call *call) {
    nng_sockaddr address;
    if (call->peer_known) {
        return call->peer;
    }
    call->peer_known = true;
    call->peer[0] = 0;
    // Who has hung up already has no address any more.
    if (!forwarded_peer(call) && nng_pipe_get_addr(call->pipe, NNG_OPT_REMADDR, &address) == 0) {
        tob_peer_of_address(&address, call->peer);
    }
    return call->peer;
}

uint64_t tob_rpc_call_deadline_ms(const tob_rpc_call *call) {
    return call->deadline_ms;
}
