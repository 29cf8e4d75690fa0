// A gateway for tests, between real HTTP peers, a real RPC server in ingestd's place and a real HTTP server in the
// exporter's.
#ifndef TOB_TESTS_GATEWAY_FIXTURE_H
#define TOB_TESTS_GATEWAY_FIXTURE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/process.pb-c.h"

#include "gateway/batcher.h"
#include "gateway/gateway.h"
#include "rpc/server.h"
#include "tests/unit/http/peer.h"
#include "util/clock.h"
#include "util/daemon.h"
#include "wire/batch.h"

#define RPC_CONTEXTS 64
#define MAX_BATCHES  1024
#define MAX_PEERS    8 // that are kept

typedef struct fixture {
    tob_gateway *gateway;
    tob_rpc_server *ingestd;
    tob_http_server *exporter;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    // How ingestd behaves.
    tob_error fails;     // with this, if not TOB_OK
    const char *reject;  // ids with this prefix
    uint32_t limited_ms; // with this time to wait
    bool holds;
    bool not_serving;
    tob_rpc_call *held[RPC_CONTEXTS];
    size_t held_series[RPC_CONTEXTS];
    size_t held_count;
    // What it got.
    size_t batches;
    size_t series;
    size_t largest;
    uint64_t http_requests; // as last reported
    uint64_t unknown_metrics;
    Tobogganing__V1__Batch *last;
    char last_credential[64];
    char last_bearer[64];
    char last_peers[MAX_PEERS][64];
    size_t last_peer_count;
    char exporter_saw[512];
} fixture;

static inline void store(fixture *f, const Tobogganing__V1__SubmitRequest *request,
                         Tobogganing__V1__Batch *batch) {
    size_t n = batch->n_clients + batch->n_headends;
    if (f->last) {
        tobogganing__v1__batch__free_unpacked(f->last, NULL);
    }
    f->last = batch;
    f->batches++;
    f->series += n;
    f->largest = n > f->largest ? n : f->largest;
    snprintf(f->last_credential, sizeof(f->last_credential), "%s", request->credentials[0]);
    f->last_peer_count = request->n_peers;
    for (size_t i = 0; i < request->n_peers && i < MAX_PEERS; i++) {
        snprintf(f->last_peers[i], sizeof(f->last_peers[i]), "%s", request->peers[i]);
    }
    pthread_cond_broadcast(&f->changed);
}

static inline void reply(fixture *f, tob_rpc_call *call, const Tobogganing__V1__Batch *batch) {
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    static Tobogganing__V1__Rejection rejections[TOB_MAX_SERIES_PER_BATCH];
    static Tobogganing__V1__Rejection *pointers[TOB_MAX_SERIES_PER_BATCH];
    response.rejected = pointers;
    for (size_t i = 0; i < batch->n_clients + batch->n_headends; i++) {
        bool client = i < batch->n_clients;
        const char *id =
            client ? batch->clients[i]->client_id : batch->headends[i - batch->n_clients]->headend_id;
        if (!f->reject || strncmp(id, f->reject, strlen(f->reject)) != 0) {
            response.stored_series++;
            continue;
        }
        Tobogganing__V1__Rejection *rejection = &rejections[response.n_rejected];
        tobogganing__v1__rejection__init(rejection);
        rejection->series = (uint32_t)i;
        rejection->code = client ? TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED
                                 : TOBOGGANING__V1__CODE__CODE_PERMISSION_DENIED;
        rejection->retry_after_ms = f->limited_ms;
        rejection->reason = (char *)(client ? "credential: wrong" : "credential: of another");
        pointers[response.n_rejected++] = rejection;
    }
    tob_rpc_reply(call, &response.base);
}

static inline void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    fixture *f = user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    Tobogganing__V1__Batch *batch =
        tobogganing__v1__batch__unpack(NULL, request->batch.len, request->batch.data);
    if (!batch || !request->n_credentials) {
        tob_rpc_fail(call, TOB_MALFORMED, 0, "batch: not well formed");
        return;
    }
    pthread_mutex_lock(&f->mutex);
    store(f, request, batch);
    const char *bearer = tob_rpc_call_bearer(call);
    snprintf(f->last_bearer, sizeof(f->last_bearer), "%s", bearer ? bearer : "");
    if (f->holds) {
        f->held_series[f->held_count] = batch->n_clients + batch->n_headends;
        f->held[f->held_count++] = call;
    } else if (f->fails) {
        tob_rpc_fail(call, f->fails, 3000, "ingestd says no");
    } else {
        reply(f, call, batch);
    }
    pthread_mutex_unlock(&f->mutex);
}

static inline void on_check(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    fixture *f = user;
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    (void)message;
    pthread_mutex_lock(&f->mutex);
    response.status = f->not_serving ? TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_NOT_SERVING
                                     : TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    pthread_mutex_unlock(&f->mutex);
    response.reason = (char *)"the disk is full";
    tob_rpc_reply(call, &response.base);
}

static inline void on_report(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    fixture *f = user;
    const Tobogganing__V1__Process *process = (const Tobogganing__V1__Process *)message;
    Tobogganing__V1__ReportResponse response = TOBOGGANING__V1__REPORT_RESPONSE__INIT;
    const char *bearer = tob_rpc_call_bearer(call);
    pthread_mutex_lock(&f->mutex);
    assert_string_equal(bearer ? bearer : "", "cluster-secret");
    f->http_requests = 0;
    for (size_t i = 0; i < process->n_counters; i++) {
        const Tobogganing__V1__Counter *counter = process->counters[i];
        if (counter->family == TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS) {
            f->unknown_metrics = counter->value;
        } else if (strcmp(counter->labels[1], "/api/v1/clients/{client_id}/metrics") == 0 &&
                   strcmp(counter->labels[0], "POST") == 0 && strcmp(counter->labels[2], "200") == 0) {
            f->http_requests = counter->value;
        }
    }
    pthread_mutex_unlock(&f->mutex);
    tob_rpc_reply(call, &response.base);
}

typedef struct big_answer {
    h2o_generator_t super;
    size_t left;
} big_answer;

static inline void big_proceed(h2o_generator_t *self, h2o_req_t *req) {
    static char piece[65536];
    big_answer *big = (big_answer *)self;
    h2o_iovec_t buf = h2o_iovec_init(piece, sizeof(piece));
    memset(piece, 'x', sizeof(piece));
    big->left--;
    h2o_send(req, &buf, 1, big->left ? H2O_SEND_STATE_IN_PROGRESS : H2O_SEND_STATE_FINAL);
}

static inline void on_metrics(h2o_req_t *req, const tob_http_match *match, void *user) {
    fixture *f = user;
    h2o_iovec_t token = tob_http_header(req, "authorization");
    h2o_iovec_t query = tob_http_query(req);
    h2o_iovec_t accept = tob_http_header(req, "accept");
    h2o_iovec_t encoding = tob_http_header(req, "accept-encoding");
    h2o_iovec_t cookie = tob_http_header(req, "cookie");
    (void)match;
    pthread_mutex_lock(&f->mutex);
    snprintf(f->exporter_saw, sizeof(f->exporter_saw), "[%.*s] [%.*s] [%.*s] [%.*s] [%.*s] [%.*s]",
             (int)token.len, token.base, (int)query.len, query.base, (int)accept.len, accept.base,
             (int)encoding.len, encoding.base, (int)req->authority.len, req->authority.base, (int)cookie.len,
             cookie.base);
    pthread_mutex_unlock(&f->mutex);
    if (!token.len) {
        tob_http_send_error(req, 401, 0, "no token");
    } else if (query.len && memcmp(query.base, "big", 3) == 0) {
        big_answer *big = h2o_mem_alloc_pool(&req->pool, sizeof(*big));
        *big = (big_answer){.super = {.proceed = big_proceed}, .left = 100};
        req->res.status = 200;
        h2o_start_response(req, &big->super);
        big_proceed(&big->super, req);
    } else {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_ENCODING, NULL, H2O_STRLIT("gzip"));
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-internal"), 0, NULL,
                              H2O_STRLIT("1"));
        tob_http_send(req, 200, "text/plain; version=0.0.4", "metrics\n", 8);
    }
}

static inline void start_ingestd(fixture *f) {
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = RPC_CONTEXTS,
                                      .max_connections = 16,
                                      .max_message_bytes = TOB_MAX_BATCH_BYTES,
                                      .max_inflated_bytes = TOB_MAX_INFLATED_BYTES,
                                      .max_arena_bytes = 64u << 20};
    assert_int_equal(tob_rpc_server_new(&options, &f->ingestd), TOB_OK);
    assert_int_equal(tob_rpc_server_add(f->ingestd, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        f),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_add(f->ingestd, &tobogganing__v1__health__descriptor, "Check", on_check,
                                        f),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_add(f->ingestd, &tobogganing__v1__processes__descriptor, "Report",
                                        on_report, f),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->ingestd), TOB_OK);
}

static inline void start_exporter(fixture *f) {
    tob_http_server_options options = {.listen = "127.0.0.1:0", .workers = 1};
    assert_int_equal(tob_http_server_new(&options, &f->exporter), TOB_OK);
    assert_int_equal(tob_http_server_route(f->exporter, "GET", "/metrics", on_metrics, f), TOB_OK);
    assert_int_equal(tob_http_server_start(f->exporter), TOB_OK);
}

static inline fixture *start_with(uint64_t request_timeout_ms) {
    fixture *f = calloc(1, sizeof(*f));
    char ingest[64];
    char exporter[64];
    const char *option = NULL;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    start_ingestd(f);
    start_exporter(f);
    snprintf(ingest, sizeof(ingest), "tcp://127.0.0.1:%u", tob_rpc_server_port(f->ingestd));
    snprintf(exporter, sizeof(exporter), "http://127.0.0.1:%u", tob_http_server_port(f->exporter));
    tob_gateway_options options = {.listen = "127.0.0.1:0",
                                   .ingest = ingest,
                                   .exporter = exporter,
                                   .cluster_token = "cluster-secret",
                                   .workers = 1,
                                   .max_connections = 2000,
                                   .max_body_bytes = 2000,
                                   .request_timeout_ms = request_timeout_ms};
    assert_int_equal(tob_gateway_new(&options, &option, &f->gateway), TOB_OK);
    assert_int_equal(tob_gateway_start(f->gateway), TOB_OK);
    return f;
}

static inline fixture *start(void) {
    return start_with(PEER_DEADLINE_MS);
}

static inline void release_held(fixture *f) {
    pthread_mutex_lock(&f->mutex);
    f->holds = false;
    for (size_t i = 0; i < f->held_count; i++) {
        Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
        response.stored_series = (uint32_t)f->held_series[i];
        tob_rpc_reply(f->held[i], &response.base);
    }
    f->held_count = 0;
    pthread_mutex_unlock(&f->mutex);
}

static inline void stop(fixture *f) {
    release_held(f);
    tob_gateway_stop(f->gateway, PEER_DEADLINE_MS);
    tob_gateway_free(f->gateway);
    tob_http_server_stop(f->exporter, 0);
    tob_http_server_free(f->exporter);
    tob_rpc_server_stop(f->ingestd);
    tob_rpc_server_free(f->ingestd);
    if (f->last) {
        tobogganing__v1__batch__free_unpacked(f->last, NULL);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

static inline const char *ask(const fixture *f, const char *request) {
    return peer_ask(tob_gateway_port(f->gateway), request, strlen(request));
}

// A POST with the given header lines and body.
static inline size_t compose(char *to, size_t size, const char *path, const char *headers, const void *body,
                             size_t n) {
    int len =
        snprintf(to, size, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n%s\r\n", path, n, headers);
    assert_true((size_t)len + n <= size);
    memcpy(to + len, body, n);
    return (size_t)len + n;
}

static inline const char *post_bytes(const fixture *f, const char *path, const char *headers,
                                     const void *body, size_t n) {
    size_t size = n + 1000;
    char *request = malloc(size);
    size = compose(request, size, path, headers, body, n);
    const char *text = peer_ask(tob_gateway_port(f->gateway), request, size);
    free(request);
    return text;
}

#define CLIENT  "/api/v1/clients/c1/metrics"
#define HEADEND "/api/v1/headends/h1/metrics"
#define TOKEN   "Authorization: Bearer tobk_x\r\n"
#define JSON    TOKEN "Content-Type: application/json\r\n"

static inline const char *post(const fixture *f, const char *path, const char *body) {
    return post_bytes(f, path, JSON, body, strlen(body));
}

static inline const Tobogganing__V1__ClientSeries *last_client(const fixture *f) {
    assert_non_null(f->last);
    assert_int_equal(f->last->n_clients, 1);
    return f->last->clients[0];
}

static inline size_t gzip(const void *bytes, size_t n, uint8_t *to, size_t size) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (uint8_t *)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = to;
    z.avail_out = (unsigned)size;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t len = z.total_out;
    deflateEnd(&z);
    return len;
}

#endif
