#include "gateway/submit.h"

#include "gateway/body.h"
#include "gateway/caller.h"
#include "gateway/gateway.h"
#include "gateway/outcome.h"
#include "gateway/worker.h"
#include "report/report.h"
#include "util/clock.h"
#include "util/text.h"
#include "wire/batch.h"

// Who a request is about and who says so.
typedef struct sender {
    char id[TOB_MAX_ID_BYTES + 1];
    tob_caller caller;
} sender;

static bool read_sender(h2o_req_t *req, const tob_http_match *match, const char *field, tob_counter *refused,
                        sender *ret) {
    return tob_path_id_read(req, match, field, ret->id) && tob_caller_read(req, refused, &ret->caller);
}

static bool read_body(h2o_req_t *req, tob_gateway_worker *worker, h2o_iovec_t *ret) {
    tob_body_rules rules = {.content_type = "application/json",
                            .max_bytes = worker->max_body_bytes,
                            .max_inflated_bytes = TOB_GATEWAY_MAX_INFLATED_JSON};
    return tob_body_read(req, &rules, &worker->inflated, ret);
}

// Too many names in the JSON is the JSON's fault, not its size's.
static void send_problem(h2o_req_t *req, tob_error error, const tob_report_problem *problem) {
    if (error == TOB_NO_MEMORY) {
        tob_http_send_error(req, 503, TOB_RETRY_AFTER_MS, "out of memory");
    } else {
        tob_http_send_error(req, 400, 0, "%s", problem->text);
    }
}

static void finish(h2o_req_t *req, tob_gateway_worker *worker, unsigned unknown_metrics, tob_error error) {
    if (unknown_metrics) {
        tob_counter_add(worker->unknown_metrics, unknown_metrics);
    }
    if (error) {
        tob_http_send_error(req, 503, TOB_RETRY_AFTER_MS, "too many reports are waiting for ingestd");
    }
}

void tob_submit_client(h2o_req_t *req, const tob_http_match *match, void *user) {
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    tob_client_report report = {0};
    tob_report_problem problem;
    sender who;
    h2o_iovec_t body;
    (void)user;
    if (!read_sender(req, match, "client_id", worker->refused.api_key, &who) ||
        !read_body(req, worker, &body)) {
        return;
    }
    tob_error error = tob_report_parse_client(body.base, body.len, &report, &problem);
    if (error) {
        send_problem(req, error, &problem);
        return;
    }
    report.sample.time_unix_ms = (int64_t)tob_clock_unix_ms();
    error =
        tob_batcher_add_client(worker->batcher, req, who.id, &who.caller, report.headless, &report.sample);
    finish(req, worker, report.unknown_metrics, error);
}

void tob_submit_headend(h2o_req_t *req, const tob_http_match *match, void *user) {
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    tob_headend_report report = {0};
    tob_report_problem problem;
    sender who;
    h2o_iovec_t body;
    (void)user;
    if (!read_sender(req, match, "headend_id", worker->refused.jwt, &who) || !read_body(req, worker, &body)) {
        return;
    }
    tob_error error = tob_report_parse_headend(body.base, body.len, &report, &problem);
    if (error) {
        send_problem(req, error, &problem);
        return;
    }
    report.sample.time_unix_ms = (int64_t)tob_clock_unix_ms();
    error = tob_batcher_add_headend(worker->batcher, req, who.id, report.name, &who.caller, &report.sample);
    finish(req, worker, report.unknown_metrics, error);
}
