#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/client.h"

// Where a call goes: to one connection, to one server of a client, or to any of its servers.
typedef struct way {
    tob_rpc_connection *connection;
    tob_rpc_client *client;
    uint64_t server;
} way;

// What a waiting caller shares with the callback.
typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool finished;
    tob_error error;
    tob_rpc_failure failure;
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *response;
} waiter;

static void wake(void *user, const tob_rpc_result *result) {
    waiter *w = user;
    pthread_mutex_lock(&w->lock);
    w->error = result->error;
    w->failure.retry_after_ms = result->retry_after_ms;
    w->failure.answered = result->answered;
    w->failure.sent = result->sent;
    w->failure.server = result->server;
    snprintf(w->failure.message, sizeof(w->failure.message), "%s", result->message);
    if (!w->error) {
        w->response = protobuf_c_message_unpack(w->type, NULL, result->body_len, result->body);
        if (!w->response) {
            w->error = TOB_MALFORMED;
            snprintf(w->failure.message, sizeof(w->failure.message), "the answer is not a %s", w->type->name);
        }
    }
    w->finished = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static tob_error start(const way *to, const char *method, const uint8_t *packed, size_t n,
                       uint32_t timeout_ms, waiter *w) {
    if (to->connection) {
        return tob_rpc_connection_call(to->connection, method, packed, n, timeout_ms, wake, w);
    }
    if (to->server) {
        return tob_rpc_client_call_to(to->client, to->server, method, packed, n, timeout_ms, wake, w);
    }
    return tob_rpc_client_call(to->client, method, packed, n, timeout_ms, wake, w);
}

static tob_error call_wait(const way *to, const char *method, const ProtobufCMessage *request,
                           const ProtobufCMessageDescriptor *response_type, uint32_t timeout_ms,
                           ProtobufCMessage **ret, tob_rpc_failure *failure) {
    waiter w = {.type = response_type};
    size_t n = protobuf_c_message_get_packed_size(request);
    uint8_t *packed = malloc(n ? n : 1);
    if (!packed) {
        return TOB_NO_MEMORY;
    }
    protobuf_c_message_pack(request, packed);
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.changed, NULL);
    tob_error err = start(to, method, packed, n, timeout_ms, &w);
    if (err) {
        snprintf(w.failure.message, sizeof(w.failure.message), "%s", tob_error_string(err));
    } else {
        pthread_mutex_lock(&w.lock);
        while (!w.finished) {
            pthread_cond_wait(&w.changed, &w.lock);
        }
        pthread_mutex_unlock(&w.lock);
        err = w.error;
    }
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.changed);
    free(packed);
    if (failure) {
        *failure = w.failure;
    }
    if (!err) {
        *ret = w.response;
    }
    return err;
}

tob_error tob_rpc_connection_call_wait(tob_rpc_connection *connection, const char *method,
                                       const ProtobufCMessage *request,
                                       const ProtobufCMessageDescriptor *response_type, uint32_t timeout_ms,
                                       ProtobufCMessage **ret, tob_rpc_failure *failure) {
    return call_wait(&(way){.connection = connection}, method, request, response_type, timeout_ms, ret,
                     failure);
}

tob_error tob_rpc_client_call_wait(tob_rpc_client *client, const char *method,
                                   const ProtobufCMessage *request,
                                   const ProtobufCMessageDescriptor *response_type, uint32_t timeout_ms,
                                   ProtobufCMessage **ret, tob_rpc_failure *failure) {
    return call_wait(&(way){.client = client}, method, request, response_type, timeout_ms, ret, failure);
}

tob_error tob_rpc_client_call_to_wait(tob_rpc_client *client, uint64_t server, const char *method,
                                      const ProtobufCMessage *request,
                                      const ProtobufCMessageDescriptor *response_type, uint32_t timeout_ms,
                                      ProtobufCMessage **ret, tob_rpc_failure *failure) {
    return call_wait(&(way){.client = client, .server = server}, method, request, response_type, timeout_ms,
                     ret, failure);
}
