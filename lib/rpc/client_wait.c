#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/client.h"

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
    snprintf(w->failure.message, sizeof(w->failure.message), "%s", result->message ? result->message : "");
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

tob_error tob_rpc_client_call_wait(tob_rpc_client *client, const char *method,
                                   const ProtobufCMessage *request,
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
    tob_error err = tob_rpc_client_call(client, method, packed, n, timeout_ms, wake, &w);
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
