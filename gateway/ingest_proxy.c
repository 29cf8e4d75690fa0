#include "gateway/ingest_proxy.h"

#include "gateway/body.h"
#include "gateway/gateway.h"
#include "gateway/worker.h"
#include "wire/batch.h"

#define PROTOBUF "application/x-protobuf"

static void on_done(h2o_req_t *req, const tob_rpc_result *result, void *user) {
    (void)user;
    if (result->error) {
        tob_calls_send_failure(req, result->error, result->message, result->retry_after_ms);
    } else {
        tob_http_send(req, 200, PROTOBUF, result->body, result->body_len);
    }
}

void tob_ingest_proxy_submit(h2o_req_t *req, const tob_http_match *match, void *user) {
    static const tob_body_rules rules = {.content_type = PROTOBUF,
                                         .max_bytes = TOB_GATEWAY_MAX_PROTOBUF_BYTES,
                                         .max_inflated_bytes = TOB_MAX_INFLATED_BYTES};
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    char address[TOB_HTTP_PEER_BYTES];
    h2o_iovec_t body;
    (void)user;
    if (tob_calls_full(worker->batches)) {
        tob_calls_send_failure(req, TOB_BUSY, "too many batches are waiting for ingestd", 0);
        return;
    }
    if (!tob_body_read(req, &rules, &worker->inflated, &body)) {
        return;
    }
    tob_http_peer(req, address);
    tob_rpc_caller caller = {.address = address, .repeatable = true};
    tob_error error = tob_calls_start(worker->batches, req, &caller, TOB_INGEST_PROXY_PATH, body.base,
                                      body.len, worker->request_timeout_ms, on_done, NULL);
    if (error) {
        tob_calls_send_failure(req, error, NULL, 0);
    }
}
