#include "gateway/submit.h"

#include <string.h>

#include "gateway/body.h"
#include "gateway/gateway.h"
#include "gateway/outcome.h"
#include "gateway/worker.h"
#include "report/report.h"
#include "util/clock.h"
#include "util/secret.h"
#include "util/text.h"
#include "wire/batch.h"

// Who a request is about and who says so.
typedef struct sender {
    char id[TOB_MAX_ID_BYTES + 1];
    char credential[TOB_MAX_CREDENTIAL_BYTES + 1];
} sender;

// RFC 6750 §2.1: a token of anything else (bytes that are not ASCII, say) would make the whole batch malformed.
static bool is_token(const char *text, size_t len) {
    static const char others[] = "-._~+/=";
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool word = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!word && !memchr(others, c, sizeof(others) - 1)) {
            return false;
        }
    }
    return len <= TOB_MAX_CREDENTIAL_BYTES;
}

static bool read_sender(h2o_req_t *req, const tob_http_match *match, const char *field, sender *ret) {
    h2o_iovec_t id = match->params[0];
    h2o_iovec_t header = tob_http_header(req, "authorization");
    const char *token = NULL;
    size_t token_len = 0;
    if (!tob_id_valid(id.base, id.len)) {
        tob_http_send_error(req, 400, 0, "%s: must be 1 to %d characters of A-Z a-z 0-9 . _ : -", field,
                            TOB_MAX_ID_BYTES);
        return false;
    }
    if (tob_bearer(header.base, header.len, &token, &token_len) || !is_token(token, token_len)) {
        tob_http_send_error(req, 401, 0, "Authorization: must be Bearer and a token");
        return false;
    }
    memcpy(ret->id, id.base, id.len);
    ret->id[id.len] = 0;
    memcpy(ret->credential, token, token_len);
    ret->credential[token_len] = 0;
    return true;
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
    if (!read_sender(req, match, "client_id", &who) || !read_body(req, worker, &body)) {
        return;
    }
    tob_error error = tob_report_parse_client(body.base, body.len, &report, &problem);
    if (error) {
        send_problem(req, error, &problem);
        return;
    }
    report.sample.time_unix_ms = (int64_t)tob_clock_unix_ms();
    error =
        tob_batcher_add_client(worker->batcher, req, who.id, who.credential, report.headless, &report.sample);
    finish(req, worker, report.unknown_metrics, error);
}

void tob_submit_headend(h2o_req_t *req, const tob_http_match *match, void *user) {
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    tob_headend_report report = {0};
    tob_report_problem problem;
    sender who;
    h2o_iovec_t body;
    (void)user;
    if (!read_sender(req, match, "headend_id", &who) || !read_body(req, worker, &body)) {
        return;
    }
    tob_error error = tob_report_parse_headend(body.base, body.len, &report, &problem);
    if (error) {
        send_problem(req, error, &problem);
        return;
    }
    report.sample.time_unix_ms = (int64_t)tob_clock_unix_ms();
    error =
        tob_batcher_add_headend(worker->batcher, req, who.id, report.name, who.credential, &report.sample);
    finish(req, worker, report.unknown_metrics, error);
}
