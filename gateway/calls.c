#include "gateway/calls.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/outcome.h"
#include "util/buffer.h"
#include "wire/batch.h"

// One call; free while it has no hold.
typedef struct place {
    tob_calls *calls;
    tob_http_hold *hold;
    tob_call_done done;
    void *user;
    // How the call ended: written by the callback, read by the task.
    tob_http_task task;
    tob_rpc_result result;
    char message[TOB_RPC_MESSAGE_BYTES];
    tob_buffer body;
} place;

struct tob_calls {
    tob_http_worker *worker;
    tob_rpc_client *rpc;
    size_t count;
    place places[];
};

// The index of a free place, or `count`.
static size_t free_place(const tob_calls *calls) {
    size_t i = 0;
    while (i < calls->count && calls->places[i].hold) {
        i++;
    }
    return i;
}

bool tob_calls_full(const tob_calls *calls) {
    return free_place(calls) == calls->count;
}

// Answers may have keys in them.
static void wipe(tob_buffer *body) {
    if (body->data) {
        explicit_bzero(body->data, body->len);
    }
    tob_buffer_fini(body);
    tob_buffer_init(body, TOB_MAX_INFLATED_BYTES);
}

static void release(place *p) {
    tob_http_hold_release(p->hold);
    p->hold = NULL;
    wipe(&p->body);
}

// On the worker's thread. The place is free again before `done` runs, which may want one.
static void on_ended(void *arg) {
    place *p = arg;
    h2o_req_t *req = p->hold->req;
    tob_buffer body = p->body;
    tob_rpc_result result = p->result;
    char message[TOB_RPC_MESSAGE_BYTES];
    memcpy(message, p->message, sizeof(message));
    result.message = message;
    result.body = body.data;
    result.body_len = body.len;
    tob_buffer_init(&p->body, TOB_MAX_INFLATED_BYTES);
    release(p);
    if (req) {
        p->done(req, &result, p->user);
    }
    wipe(&body);
}

// On a thread of the RPC client.
static void on_done(void *user, const tob_rpc_result *result) {
    place *p = user;
    p->result = *result;
    p->result.error = tob_call_error(result);
    p->message[0] = 0;
    strncat(p->message, result->message, sizeof(p->message) - 1);
    if (!result->error) {
        p->result.error = tob_buffer_append(&p->body, result->body, result->body_len);
    }
    // Fails once the worker has stopped: then the request is gone too.
    (void)!tob_http_post_task(p->calls->worker, &p->task);
}

tob_error tob_calls_start(tob_calls *calls, h2o_req_t *req, const tob_rpc_caller *caller, const char *method,
                          const void *body, size_t n, uint32_t timeout_ms, tob_call_done done, void *user) {
    size_t i = free_place(calls);
    if (i == calls->count) {
        return TOB_BUSY;
    }
    place *p = &calls->places[i];
    p->hold = tob_http_hold_new(req);
    p->done = done;
    p->user = user;
    tob_error error = tob_rpc_client_call_for(calls->rpc, caller, method, body, n, timeout_ms, on_done, p);
    if (error) {
        release(p);
    }
    return error;
}

void tob_calls_send_failure(h2o_req_t *req, tob_error error, const char *message, uint32_t retry_after_ms) {
    tob_outcome outcome = tob_outcome_of_call(error, message, retry_after_ms);
    tob_http_send_error(req, outcome.status, outcome.retry_after_ms, "%s", outcome.text);
}

tob_error tob_calls_new(tob_http_worker *worker, tob_rpc_client *rpc, unsigned max, tob_calls **ret) {
    tob_calls *calls = calloc(1, sizeof(*calls) + max * sizeof(calls->places[0]));
    if (!calls) {
        return TOB_NO_MEMORY;
    }
    calls->worker = worker;
    calls->rpc = rpc;
    calls->count = max;
    for (size_t i = 0; i < max; i++) {
        place *p = &calls->places[i];
        p->calls = calls;
        p->task = (tob_http_task){.fn = on_ended, .arg = p};
        tob_buffer_init(&p->body, TOB_MAX_INFLATED_BYTES);
    }
    *ret = calls;
    return TOB_OK;
}

void tob_calls_free(tob_calls *calls) {
    if (!calls) {
        return;
    }
    for (size_t i = 0; i < calls->count; i++) {
        if (calls->places[i].hold) {
            release(&calls->places[i]); // the worker stopped before the call ended
        }
    }
    free(calls);
}
