#include "rpc/server.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/nng.h"
#include "rpc/status.h"
#include "util/clock.h"
#include "util/secret.h"
#include "wire/compress.h"

enum {
    COMPRESS_ABOVE_BYTES = 1024, // smaller responses are not worth it
    COMPRESS_LEVEL = 1,
    LINGER_MS = 50, // see tob_rpc_server_stop
};

typedef struct method {
    char path[TOB_RPC_MAX_METHOD_BYTES + 1];
    const ProtobufCMessageDescriptor *input;
    tob_rpc_handler handler;
    void *user;
} method;

typedef enum call_state { CALL_IDLE, CALL_RECEIVING, CALL_WORKING, CALL_SENDING } call_state;

// A call is one NNG context, used for one request after another.
struct tob_rpc_call {
    tob_rpc_server *server;
    nng_ctx ctx;
    nng_aio *aio;
    pthread_mutex_t lock; // guards state; of its own, so that calls don't wait for each other
    call_state state;
    tob_arena *arena;
    tob_inflater *inflater; // made when first needed
    tob_deflater *deflater; // likewise
    const Tobogganing__V1__Request *request;
    uint64_t deadline_ms;
};

struct tob_rpc_server {
    tob_rpc_server_options options;
    nng_socket socket;
    uint16_t port;
    method *methods;
    size_t method_count;
    tob_rpc_call *calls;
    size_t call_count; // that have a context
    atomic_size_t connections;
    bool open;
    bool abandoned; // the socket could not be closed: NNG may still call on_pipe
    atomic_bool stopping;
    pthread_mutex_t lock; // guards active
    pthread_cond_t idle;
    size_t active; // calls that are not retired
};

tob_error tob_rpc_server_new(const tob_rpc_server_options *options, tob_rpc_server **ret) {
    tob_rpc_server *server = calloc(1, sizeof(*server));
    if (!server) {
        return TOB_NO_MEMORY;
    }
    server->options = *options;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->idle, NULL);
    server->calls = calloc(options->contexts, sizeof(*server->calls));
    server->options.url = strdup(options->url);
    for (size_t i = 0; server->calls && i < options->contexts; i++) {
        pthread_mutex_init(&server->calls[i].lock, NULL);
    }
    if (!server->calls || !server->options.url) {
        tob_rpc_server_free(server);
        return TOB_NO_MEMORY;
    }
    *ret = server;
    return TOB_OK;
}

tob_error tob_rpc_server_add(tob_rpc_server *server, const ProtobufCServiceDescriptor *service,
                             const char *name, tob_rpc_handler handler, void *user) {
    const ProtobufCMethodDescriptor *found = protobuf_c_service_descriptor_get_method_by_name(service, name);
    if (!found) {
        return TOB_NOT_FOUND;
    }
    method *methods = realloc(server->methods, (server->method_count + 1) * sizeof(*methods));
    if (!methods) {
        return TOB_NO_MEMORY;
    }
    server->methods = methods;
    method *m = &methods[server->method_count++];
    *m = (method){.input = found->input, .handler = handler, .user = user};
    int n = snprintf(m->path, sizeof(m->path), "/%s/%s", service->name, name);
    assert(n > 0 && (size_t)n < sizeof(m->path));
    (void)n;
    return TOB_OK;
}

static void retire(tob_rpc_server *server) {
    pthread_mutex_lock(&server->lock);
    server->active--;
    pthread_cond_signal(&server->idle);
    pthread_mutex_unlock(&server->lock);
}

// Starts to receive, or retires the call when the server stops: _stop sets `stopping` before it looks at the
// state, so it finds each call either receiving or on its way to see that.
static void receive(tob_rpc_call *call) {
    pthread_mutex_lock(&call->lock);
    bool stopping = atomic_load(&call->server->stopping);
    call->state = stopping ? CALL_IDLE : CALL_RECEIVING;
    if (!stopping) {
        nng_ctx_recv(call->ctx, call->aio);
    }
    pthread_mutex_unlock(&call->lock);
    if (stopping) {
        retire(call->server);
    }
}

static void set_state(tob_rpc_call *call, call_state state) {
    pthread_mutex_lock(&call->lock);
    call->state = state;
    pthread_mutex_unlock(&call->lock);
}

static void send_response(tob_rpc_call *call, Tobogganing__V1__Response *response) {
    nng_msg *msg = NULL;
    size_t n = tobogganing__v1__response__get_packed_size(response);
    if (nng_msg_alloc(&msg, n) != 0) {
        receive(call); // the caller runs into its deadline
        return;
    }
    tobogganing__v1__response__pack(response, nng_msg_body(msg));
    nng_aio_set_msg(call->aio, msg);
    set_state(call, CALL_SENDING);
    nng_ctx_send(call->ctx, call->aio);
}

void tob_rpc_fail(tob_rpc_call *call, tob_error error, uint32_t retry_after_ms, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
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
    free(packed);
}

static const method *find_method(const tob_rpc_server *server, const char *path) {
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
        return TOB_NO_MEMORY;
    }
    *ret_reason = "body: not one zlib stream of `size` bytes";
    tob_error err = tob_inflate(call->inflater, request->body.data, request->body.len, to, request->size);
    if (!err) {
        *ret = (ProtobufCBinaryData){.len = request->size, .data = to};
    }
    return err;
}

static void dispatch(tob_rpc_call *call) {
    const Tobogganing__V1__Request *request = call->request;
    const method *m = find_method(call->server, request->method);
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
        tob_rpc_fail(call, err, 0, "body: %s",
                     err == TOB_TOO_LARGE
                         ? "over a limit (unknown fields, nesting, or memory to unpack it)"
                         : "not a well-formed message of this method (or text that is not UTF-8)");
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
    nng_msg_free(msg);
    set_state(call, CALL_WORKING);
    static const Tobogganing__V1__Request none = TOBOGGANING__V1__REQUEST__INIT;
    call->request = err ? &none : (const Tobogganing__V1__Request *)message;
    if (err) {
        tob_rpc_fail(call, err, 0, "the message is not a tobogganing.v1.Request");
        return;
    }
    dispatch(call);
}

static void on_aio(void *arg) {
    tob_rpc_call *call = arg;
    int result = nng_aio_result(call->aio);
    pthread_mutex_lock(&call->lock);
    call_state state = call->state;
    pthread_mutex_unlock(&call->lock);
    if (state == CALL_RECEIVING && result == 0) {
        handle(call, nng_aio_get_msg(call->aio));
        return;
    }
    if (state == CALL_SENDING && result != 0) { // not taken over: ours to free
        nng_msg_free(nng_aio_get_msg(call->aio));
        nng_aio_set_msg(call->aio, NULL);
    }
    receive(call);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    tob_rpc_server *server = arg;
    if (event == NNG_PIPE_EV_REM_POST) {
        atomic_fetch_sub(&server->connections, 1);
    } else if (atomic_fetch_add(&server->connections, 1) >= server->options.max_connections) {
        nng_pipe_close(pipe);
    }
}

static tob_error open_calls(tob_rpc_server *server) {
    for (size_t i = 0; i < server->options.contexts; i++) {
        tob_rpc_call *call = &server->calls[i];
        call->server = server;
        int rv = nng_ctx_open(&call->ctx, server->socket);
        if (rv == 0) {
            rv = nng_aio_alloc(&call->aio, on_aio, call);
        }
        if (rv != 0) {
            return tob_error_from_nng(rv);
        }
        server->call_count++;
        tob_error err = tob_arena_new(server->options.max_arena_bytes, &call->arena);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

tob_error tob_rpc_server_start(tob_rpc_server *server) {
    if (strncmp(server->options.url, "tcp://", 6) != 0) {
        return TOB_INVALID; // ipc:// in particular: NNG 1.5's listener dies of one connect-and-close
    }
    int rv = nng_rep0_open(&server->socket);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    server->open = true;
    nng_listener listener;
    (void)(nng_socket_set_size(server->socket, NNG_OPT_RECVMAXSZ, server->options.max_message_bytes) == 0 &&
           nng_socket_set_bool(server->socket, NNG_OPT_TCP_NODELAY, true) == 0 &&
           nng_socket_set_bool(server->socket, NNG_OPT_TCP_KEEPALIVE, true) == 0);
    nng_pipe_notify(server->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, server);
    nng_pipe_notify(server->socket, NNG_PIPE_EV_REM_POST, on_pipe, server);
    tob_error err = open_calls(server);
    if (err) {
        return err;
    }
    rv = nng_listen(server->socket, server->options.url, &listener, 0);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    int port = 0;
    if (nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0) {
        server->port = (uint16_t)port;
    }
    server->active = server->call_count;
    for (size_t i = 0; i < server->call_count; i++) {
        receive(&server->calls[i]);
    }
    return TOB_OK;
}

uint16_t tob_rpc_server_port(const tob_rpc_server *server) {
    return server->port;
}

void tob_rpc_server_stop(tob_rpc_server *server) {
    if (!server->open) {
        return;
    }
    atomic_store(&server->stopping, true);
    for (size_t i = 0; i < server->call_count; i++) {
        tob_rpc_call *call = &server->calls[i];
        pthread_mutex_lock(&call->lock);
        if (call->state == CALL_RECEIVING) {
            nng_aio_cancel(call->aio);
        }
        pthread_mutex_unlock(&call->lock);
    }
    pthread_mutex_lock(&server->lock);
    while (server->active > 0) {
        pthread_cond_wait(&server->idle, &server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; i < server->call_count; i++) {
        nng_aio_wait(server->calls[i].aio);
    }
    // A response counts as sent when its connection has taken it, which is before the kernel has; NNG offers
    // nothing to wait for, and closing drops it.
    nng_msleep(LINGER_MS);
    server->abandoned = !tob_nng_close(server->socket);
    server->open = false;
}

void tob_rpc_server_free(tob_rpc_server *server) {
    if (!server) {
        return;
    }
    if (server->open) {
        server->abandoned = !tob_nng_close(server->socket);
    }
    if (server->abandoned) {
        return;
    }
    for (size_t i = 0; server->calls && i < server->options.contexts; i++) {
        tob_rpc_call *call = &server->calls[i];
        if (call->aio) {
            nng_aio_stop(call->aio);
            nng_aio_free(call->aio);
        }
        tob_arena_free(call->arena);
        tob_inflater_free(call->inflater);
        tob_deflater_free(call->deflater);
        pthread_mutex_destroy(&call->lock);
    }
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->idle);
    free(server->calls);
    free(server->methods);
    free((char *)server->options.url);
    free(server);
}

tob_arena *tob_rpc_call_arena(tob_rpc_call *call) {
    return call->arena;
}

const char *tob_rpc_call_bearer(const tob_rpc_call *call) {
    const char *header = call->request->authorization;
    const char *token = NULL;
    size_t len = 0;
    // The header is a C string: the token runs to its end but for spaces, which tob_bearer has found.
    if (tob_bearer(header, strlen(header), &token, &len) != TOB_OK) {
        return NULL;
    }
    return token;
}

uint64_t tob_rpc_call_deadline_ms(const tob_rpc_call *call) {
    return call->deadline_ms;
}
