#include "gateway/last_report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/reports.pb-c.h"

#include "gateway/caller.h"
#include "gateway/worker.h"
#include "rpc/endpoints.h"
#include "util/clock.h"

#define METHOD "/tobogganing.v1.Reports/Last"

// A request that asks one ingestd after the other: lives in its pool.
typedef struct search {
    tob_gateway_worker *worker;
    char address[TOB_HTTP_PEER_BYTES];
    h2o_iovec_t message;
    uint64_t deadline_ms; // monotonic
    uint64_t *servers;    // to ask, `count` of them; 0 is any
    size_t count;
    size_t next;
    tob_error error; // why one could not say, if that happened
    char text[TOB_RPC_MESSAGE_BYTES];
    char not_found[TOB_RPC_MESSAGE_BYTES];
    h2o_iovec_t best; // a serialized LastReport; {NULL, 0}: none yet
    uint64_t best_unix_ms;
} search;

static int add_present(json_t *metrics, const tob_metric *table, size_t i, uint32_t present, json_t *value) {
    if (present >> i & 1) {
        return json_object_set_new(metrics, table[i].json, value);
    }
    json_decref(value);
    return 0;
}

static json_t *seconds_json(uint64_t ms) {
    return ms % 1000 ? json_real((double)ms / 1000) : json_integer((json_int_t)(ms / 1000));
}

static json_t *client_metrics(const Tobogganing__V1__ClientRow *row) {
    const uint64_t values[] = {row->bytes_sent, row->bytes_received, row->packets_sent,
                               row->packets_received};
    json_t *metrics = json_object();
    int failed = 0;
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        failed |=
            add_present(metrics, tob_client_metrics, i, row->present, json_integer((json_int_t)values[i]));
    }
    failed |= add_present(metrics, tob_client_metrics, TOB_CLIENT_CONNECTION_UPTIME, row->present,
                          seconds_json(row->connection_uptime_ms));
    if (failed) {
        json_decref(metrics);
        return NULL;
    }
    return metrics;
}

static json_t *headend_metrics(const Tobogganing__V1__HeadendRow *row) {
    const double values[TOB_HEADEND_METRICS] = {row->active_connections, row->bandwidth_in,
                                                row->bandwidth_out, row->cpu_usage, row->memory_usage};
    json_t *metrics = json_object();
    int failed = 0;
    for (size_t i = 0; i < TOB_HEADEND_METRICS; i++) {
        double whole = rint(values[i]);
        bool integer = whole == values[i] && fabs(whole) < 9007199254740992.0; // 2^53
        failed |= add_present(metrics, tob_headend_metrics, i, row->present,
                              integer ? json_integer((json_int_t)whole) : json_real(values[i]));
    }
    if (failed) {
        json_decref(metrics);
        return NULL;
    }
    return metrics;
}

static json_t *report_json(const Tobogganing__V1__LastReport *report) {
    const Tobogganing__V1__ClientRow *client = report->client;
    const Tobogganing__V1__HeadendRow *headend = report->headend;
    if (client) {
        return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o}", "client_id", client->client_id, "name",
                         client->name, "type", client->type, "headless", client->headless, "last_check_in",
                         seconds_json(client->last_check_in_unix_ms), "metrics", client_metrics(client));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "headend_id", headend->headend_id, "headend_name",
                     headend->name, "region", headend->region, "datacenter", headend->datacenter,
                     "last_check_in", seconds_json(headend->last_check_in_unix_ms), "metrics",
                     headend_metrics(headend));
}

// How many digits the numbers need to be read back as they are: 45.2 and not 45.200000000000003.
static size_t digits_of(const json_t *value) {
    size_t digits = 15;
    const char *name;
    json_t *inner;
    char text[40];
    if (json_is_real(value)) {
        do {
            snprintf(text, sizeof(text), "%.*g", (int)digits, json_real_value(value));
        } while (strtod(text, NULL) != json_real_value(value) && digits++ < 17);
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, inner) {
        size_t inside = digits_of(inner);
        digits = inside > digits ? inside : digits;
    }
    return digits < 17 ? digits : 17;
}

// Reads a LastReport. NULL: it is none.
static const Tobogganing__V1__LastReport *unpack(const search *s, const void *bytes, size_t n) {
    ProtobufCMessage *message = NULL;
    if (tob_arena_unpack(s->worker->arena, &tobogganing__v1__last_report__descriptor, bytes, n, &message)) {
        return NULL;
    }
    const Tobogganing__V1__LastReport *report = (const Tobogganing__V1__LastReport *)message;
    return report->client || report->headend ? report : NULL;
}

static void answer_found(h2o_req_t *req, const search *s) {
    const Tobogganing__V1__LastReport *report = unpack(s, s->best.base, s->best.len);
    json_t *json = report ? report_json(report) : NULL;
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(digits_of(json))) : NULL;
    if (text) {
        tob_http_send(req, 200, "application/json", text, strlen(text));
    } else {
        tob_calls_send_failure(req, TOB_NO_MEMORY, NULL, 0);
    }
    free(text);
    json_decref(json);
    tob_arena_clear(s->worker->arena);
}

static void answer(h2o_req_t *req, const search *s) {
    if (s->best.base) {
        answer_found(req, s);
    } else if (s->error) {
        tob_calls_send_failure(req, s->error, s->text, 0);
    } else {
        tob_calls_send_failure(req, TOB_NOT_FOUND, s->not_found, 0);
    }
}

static void take_report(h2o_req_t *req, search *s, const tob_rpc_result *result) {
    const Tobogganing__V1__LastReport *report = unpack(s, result->body, result->body_len);
    if (!report) {
        s->error = TOB_UNIMPLEMENTED; // 502: it speaks of something else
        snprintf(s->text, sizeof(s->text), "an ingestd's answer can't be read");
    } else {
        uint64_t at =
            report->client ? report->client->last_check_in_unix_ms : report->headend->last_check_in_unix_ms;
        if (!s->best.base || at > s->best_unix_ms) {
            s->best = h2o_strdup(&req->pool, (const char *)result->body, result->body_len);
            s->best_unix_ms = at;
        }
    }
    tob_arena_clear(s->worker->arena);
}

static void ask_next(h2o_req_t *req, search *s);

// What one says of the credential is true for all; what it does not know, another may.
static void on_done(h2o_req_t *req, const tob_rpc_result *result, void *user) {
    search *s = user;
    switch (result->error) {
    case TOB_OK: take_report(req, s, result); break;
    case TOB_NOT_FOUND: snprintf(s->not_found, sizeof(s->not_found), "%s", result->message); break;
    case TOB_UNAUTHENTICATED:
    case TOB_PERMISSION_DENIED:
    case TOB_INVALID:
    case TOB_MALFORMED:
        tob_calls_send_failure(req, result->error, result->message, result->retry_after_ms);
        return;
    case TOB_TOO_LARGE:
    case TOB_ALREADY_EXISTS:
    case TOB_PRECONDITION:
    case TOB_ABORTED:
    case TOB_OUT_OF_RANGE:
    case TOB_UNIMPLEMENTED:
    case TOB_BUSY:
    case TOB_UNAVAILABLE:
    case TOB_DEADLINE:
    case TOB_CANCELLED:
    case TOB_NO_MEMORY:
    case TOB_IO:
    case TOB_DAMAGED:
    case TOB_INTERNAL:
        s->error = result->error;
        snprintf(s->text, sizeof(s->text), "%s", result->message);
        break;
    }
    ask_next(req, s);
}

// A silent one must not take the time of those after it.
static uint64_t time_for_one(const search *s, uint64_t now_ms) {
    uint64_t left_ms = s->deadline_ms > now_ms ? s->deadline_ms - now_ms : 0;
    bool last = s->next + 1 == s->count;
    return last || left_ms < TOB_RPC_SILENT_MS ? left_ms : TOB_RPC_SILENT_MS;
}

static void ask_next(h2o_req_t *req, search *s) {
    uint64_t timeout_ms = time_for_one(s, tob_clock_monotonic_ms());
    if (s->next == s->count || !timeout_ms) {
        answer(req, s);
        return;
    }
    tob_rpc_caller caller = {.address = s->address, .repeatable = true, .server = s->servers[s->next++]};
    tob_error error = tob_calls_start(s->worker->calls, req, &caller, METHOD, s->message.base, s->message.len,
                                      (uint32_t)timeout_ms, on_done, s);
    if (error) {
        tob_calls_send_failure(req, error, error == TOB_BUSY ? "too many requests wait for ingestd" : NULL,
                               0);
    }
}

// All that are connected; when none is, whichever will be first. One that is away may know more than the others.
static bool choose_servers(h2o_req_t *req, search *s) {
    tob_rpc_server_state *all = calloc(TOB_ENDPOINTS_MAX_ADDRESSES, sizeof(*all));
    if (!all) {
        return false;
    }
    size_t n = tob_rpc_client_servers(s->worker->rpc, all, TOB_ENDPOINTS_MAX_ADDRESSES);
    n = n < TOB_ENDPOINTS_MAX_ADDRESSES ? n : TOB_ENDPOINTS_MAX_ADDRESSES;
    s->servers = h2o_mem_alloc_pool(&req->pool, (n + 1) * sizeof(*s->servers));
    for (size_t i = 0; i < n; i++) {
        if (all[i].connected) {
            s->servers[s->count++] = all[i].id;
        }
    }
    free(all);
    if (s->count < n && n > 1) {
        s->error = TOB_UNAVAILABLE;
        snprintf(s->text, sizeof(s->text), "an ingestd that may know it is not connected");
    }
    if (!s->count) {
        s->servers[s->count++] = 0;
    }
    return true;
}

static void pack(h2o_req_t *req, search *s, const Tobogganing__V1__LastRequest *request) {
    size_t n = tobogganing__v1__last_request__get_packed_size(request);
    uint8_t *bytes = h2o_mem_alloc_pool(&req->pool, n + 1);
    s->message = h2o_iovec_init(bytes, tobogganing__v1__last_request__pack(request, bytes));
}

static void begin(h2o_req_t *req, const tob_http_match *match, tob_source_kind kind) {
    Tobogganing__V1__LastRequest request = TOBOGGANING__V1__LAST_REQUEST__INIT;
    search *s = h2o_mem_alloc_pool(&req->pool, sizeof(*s));
    char id[TOB_MAX_ID_BYTES + 1];
    tob_caller caller;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    *s = (search){.worker = tob_http_worker_state(match->worker)};
    const tob_gateway_refused *refused = &s->worker->refused;
    if (!tob_path_id_read(req, match, kind == TOB_SOURCE_CLIENT ? "client_id" : "headend_id", id) ||
        !tob_caller_read(req, kind == TOB_SOURCE_CLIENT ? refused->api_key : refused->jwt, &caller)) {
        return;
    }
    s->deadline_ms = tob_clock_monotonic_ms() + s->worker->request_timeout_ms;
    memcpy(s->address, caller.address, sizeof(s->address));
    *(kind == TOB_SOURCE_CLIENT ? &request.client_id : &request.headend_id) = id;
    request.credential = caller.bearer;
    pack(req, s, &request);
    if (choose_servers(req, s)) {
        ask_next(req, s);
    } else {
        tob_calls_send_failure(req, TOB_NO_MEMORY, NULL, 0);
    }
}

void tob_last_report_client(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)user;
    begin(req, match, TOB_SOURCE_CLIENT);
}

void tob_last_report_headend(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)user;
    begin(req, match, TOB_SOURCE_HEADEND);
}
