#include "gateway/ingest_proxy.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/body.h"
#include "gateway/gateway.h"
#include "gateway/outcome.h"
#include "gateway/worker.h"
#include "wire/batch.h"

#define PROTOBUF "application/x-protobuf"

// One call; free while it has no hold.
typedef struct slot {
    tob_ingest_proxy *proxy;
    tob_http_hold *hold;
    // How the call ended: written by the callback, read by the task.
    tob_http_task task;
    tob_error error;
    uint32_t retry_after_ms;
    char message[TOB_RPC_MESSAGE_BYTES];
    tob_buffer response;
} slot;

struct tob_ingest_proxy {
    tob_http_worker *worker;
    tob_rpc_client *rpc;
    uint64_t request_timeout_ms;
    slot slots[TOB_INGEST_PROXY_IN_FLIGHT];
};

static void release(slot *s) {
    tob_http_hold_release(s->hold);
    s->hold = NULL;
    tob_buffer_fini(&s->response);
    tob_buffer_init(&s->response, TOB_MAX_INFLATED_BYTES);
}

static void send_failure(h2o_req_t *req, tob_error error, const char *message, uint32_t retry_after_ms) {
    tob_outcome outcome = tob_outcome_of_call(error, message, retry_after_ms);
    tob_http_send_error(req, outcome.status, outcome.retry_after_ms, "%s", outcome.text);
}

// On the worker's thread.
static void on_ended(void *arg) {
    slot *s = arg;
    h2o_req_t *req = s->hold->req;
    if (req && s->error) {
        send_failure(req, s->error, s->message, s->retry_after_ms);
    } else if (req) {
        tob_http_send(req, 200, PROTOBUF, s->response.data, s->response.len);
    }
    release(s);
}

// On a thread of the RPC client.
static void on_done(void *user, const tob_rpc_result *result) {
    slot *s = user;
    s->error = result->error;
    s->retry_after_ms = result->retry_after_ms;
    s->message[0] = 0;
    strncat(s->message, result->message ? result->message : "", sizeof(s->message) - 1);
    if (!s->error) {
        s->error = tob_buffer_append(&s->response, result->body, result->body_len);
    }
    // Fails once the worker has stopped: then the request is gone too.
    (void)!tob_http_post_task(s->proxy->worker, &s->task);
}

static slot *free_slot(tob_ingest_proxy *proxy) {
    for (size_t i = 0; i < TOB_INGEST_PROXY_IN_FLIGHT; i++) {
        if (!proxy->slots[i].hold) {
            return &proxy->slots[i];
        }
    }
    return NULL;
}

void tob_ingest_proxy_submit(h2o_req_t *req, const tob_http_match *match, void *user) {
    static const tob_body_rules rules = {.content_type = PROTOBUF,
                                         .max_bytes = TOB_GATEWAY_MAX_PROTOBUF_BYTES,
                                         .max_inflated_bytes = TOB_MAX_INFLATED_BYTES};
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    slot *s = free_slot(worker->proxy);
    h2o_iovec_t body;
    (void)user;
    if (!s) {
        tob_http_send_error(req, 503, TOB_RETRY_AFTER_MS, "too many batches are waiting for ingestd");
        return;
    }
    if (!tob_body_read(req, &rules, &worker->inflated, &body)) {
        return;
    }
    s->hold = tob_http_hold_new(req);
    tob_error error = tob_rpc_client_call(worker->proxy->rpc, TOB_INGEST_PROXY_PATH, body.base, body.len,
                                          (uint32_t)worker->proxy->request_timeout_ms, on_done, s);
    if (error) {
        release(s);
        send_failure(req, error, NULL, 0);
    }
}

tob_error tob_ingest_proxy_new(tob_http_worker *worker, tob_rpc_client *rpc, uint64_t request_timeout_ms,
                               tob_ingest_proxy **ret) {
    tob_ingest_proxy *proxy = calloc(1, sizeof(*proxy));
    if (!proxy) {
        return TOB_NO_MEMORY;
    }
    proxy->worker = worker;
    proxy->rpc = rpc;
    proxy->request_timeout_ms = request_timeout_ms;
    for (size_t i = 0; i < TOB_INGEST_PROXY_IN_FLIGHT; i++) {
        slot *s = &proxy->slots[i];
        s->proxy = proxy;
        s->task = (tob_http_task){.fn = on_ended, .arg = s};
        tob_buffer_init(&s->response, TOB_MAX_INFLATED_BYTES);
    }
    *ret = proxy;
    return TOB_OK;
}

void tob_ingest_proxy_free(tob_ingest_proxy *proxy) {
    if (!proxy) {
        return;
    }
    for (size_t i = 0; i < TOB_INGEST_PROXY_IN_FLIGHT; i++) {
        if (proxy->slots[i].hold) {
            release(&proxy->slots[i]); // the worker stopped before the call ended
        }
    }
    free(proxy);
}
