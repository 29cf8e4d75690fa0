#include "gateway/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http_counters.h"
#include "gateway/last_report.h"
#include "gateway/openapi.h"
#include "gateway/submit.h"
#include "gateway/worker.h"
#include "rpc/endpoints.h"
#include "util/random.h"
#include "wire/batch.h"

#define OTHER_CALLS   (8 + TOB_ENDPOINTS_MAX_ADDRESSES) // counters, and the health of each
#define IDLE_MS       60000
#define AGENT_ID_SIZE 32

struct tob_gateway {
    tob_gateway_options options; // its strings are not kept
    tob_relay_target exporter;
    char agent_id[AGENT_ID_SIZE];
    tob_process *process;
    tob_http_counters *counters;
    tob_counter *unknown_metrics;
    tob_gateway_refused refused;
    tob_rpc_client *rpc;
    bool reporting;
    tob_readiness *readiness;
    tob_http_server *server;
    tob_gateway_worker *workers[TOB_HTTP_MAX_WORKERS]; // freed last: calls under way point to them
};

static void worker_free(tob_gateway_worker *worker) {
    if (worker) {
        tob_batcher_free(worker->batcher);
        tob_calls_free(worker->batches);
        tob_calls_free(worker->calls);
        tob_admin_free(worker->admin);
        tob_arena_free(worker->arena);
        tob_buffer_fini(&worker->inflated);
        free(worker);
    }
}

// A worker that can't be made is out of memory at the start: h2o itself aborts then.
static void *on_worker_start(void *user, tob_http_worker *http_worker) {
    tob_gateway *gateway = user;
    uint64_t timeout_ms = gateway->options.request_timeout_ms;
    tob_gateway_worker *worker = h2o_mem_alloc(sizeof(*worker));
    *worker = (tob_gateway_worker){.unknown_metrics = gateway->unknown_metrics,
                                   .refused = gateway->refused,
                                   .rpc = gateway->rpc,
                                   .max_body_bytes = gateway->options.max_body_bytes,
                                   .request_timeout_ms = (uint32_t)timeout_ms};
    tob_buffer_init(&worker->inflated, TOB_MAX_INFLATED_BYTES);
    if (tob_batcher_new(http_worker, gateway->rpc, gateway->agent_id, timeout_ms, &worker->batcher) ||
        tob_calls_new(http_worker, gateway->rpc, TOB_INGEST_PROXY_IN_FLIGHT, &worker->batches) ||
        tob_calls_new(http_worker, gateway->rpc, TOB_WORKER_MAX_CALLS, &worker->calls) ||
        tob_admin_new(&worker->admin) || tob_arena_new(TOB_WORKER_ARENA_BYTES, &worker->arena) ||
        tob_relay_new(http_worker, &gateway->exporter, &worker->relay)) {
        h2o_fatal("no memory");
    }
    gateway->workers[tob_http_worker_index(http_worker)] = worker;
    return worker;
}

static void on_worker_stop(void *user, tob_http_worker *http_worker, void *state) {
    tob_gateway_worker *worker = state;
    (void)user;
    (void)http_worker;
    tob_batcher_stop(worker->batcher);
    tob_relay_free(worker->relay);
}

static void on_response(void *user, const char *method, const char *pattern, int status) {
    tob_http_counters_add(((tob_gateway *)user)->counters, method, pattern, status);
}

static tob_counter *failures(tob_process *process, const char *type) {
    return tob_process_counter(process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, type,
                               "failure", NULL);
}

static tob_error make_process(tob_gateway *gateway) {
    tob_error error = tob_process_new("gateway", &gateway->process);
    if (error) {
        return error;
    }
    gateway->unknown_metrics =
        tob_process_counter(gateway->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS,
                            NULL, NULL, NULL);
    gateway->refused = (tob_gateway_refused){.api_key = failures(gateway->process, "api_key"),
                                             .jwt = failures(gateway->process, "jwt"),
                                             .admin = failures(gateway->process, "admin")};
    return tob_http_counters_new(gateway->process, &gateway->counters);
}

static tob_error make_server(tob_gateway *gateway) {
    size_t max_body = gateway->options.max_body_bytes > TOB_GATEWAY_MAX_PROTOBUF_BYTES
                          ? gateway->options.max_body_bytes
                          : TOB_GATEWAY_MAX_PROTOBUF_BYTES;
    tob_http_server_options options = {.listen = gateway->options.listen,
                                       .workers = gateway->options.workers,
                                       .max_connections = gateway->options.max_connections,
                                       .max_body_bytes = max_body,
                                       .idle_timeout_ms = IDLE_MS,
                                       .on_response = on_response,
                                       .on_worker_start = on_worker_start,
                                       .on_worker_stop = on_worker_stop,
                                       .user = gateway};
    return tob_http_server_new(&options, &gateway->server);
}

static tob_error make_rpc(tob_gateway *gateway) {
    unsigned each = TOB_BATCHER_IN_FLIGHT + TOB_INGEST_PROXY_IN_FLIGHT + TOB_WORKER_MAX_CALLS;
    tob_rpc_client_options options = {
        .urls = gateway->options.ingest,
        .max_in_flight = tob_http_server_workers(gateway->server) * each + OTHER_CALLS,
        .repeatable = true, // Submit, Health.Check, Processes.Report; those for callers say it for each
        .bearer = gateway->options.cluster_token,
    };
    return tob_rpc_client_new(&options, &gateway->rpc);
}

tob_error tob_gateway_report_error(const tob_gateway *gateway) {
    return tob_process_report_error(gateway->process);
}

tob_error tob_gateway_set_cluster_token(tob_gateway *gateway, const char *token) {
    return tob_rpc_client_set_bearer(gateway->rpc, token);
}

static const struct {
    const char *method;
    const char *pattern;
    tob_http_handler handler;
} own_routes[] = {
    {"POST", "/api/v1/clients/{client_id}/metrics", tob_submit_client},
    {"POST", "/api/v1/headends/{headend_id}/metrics", tob_submit_headend},
    {"POST", TOB_INGEST_PROXY_PATH, tob_ingest_proxy_submit},
    {"GET", "/api/v1/clients/{client_id}/metrics", tob_last_report_client},
    {"GET", "/api/v1/headends/{headend_id}/metrics", tob_last_report_headend},
    {"GET", "/metrics", tob_relay_metrics},
    {"GET", "/healthz", tob_health_live},
    {"GET", "/readyz", tob_health_ready},
    {"GET", "/openapi.json", tob_openapi_send},
};
#define OWN_ROUTES (sizeof(own_routes) / sizeof(own_routes[0]))

bool tob_gateway_route(size_t i, const char **ret_method, const char **ret_pattern) {
    if (i < OWN_ROUTES) {
        *ret_method = own_routes[i].method;
        *ret_pattern = own_routes[i].pattern;
        return true;
    }
    if (i - OWN_ROUTES < tob_admin_route_count) {
        *ret_method = tob_admin_routes[i - OWN_ROUTES].method;
        *ret_pattern = tob_admin_routes[i - OWN_ROUTES].pattern;
        return true;
    }
    return false;
}

static tob_error add_admin_route(tob_gateway *gateway, const tob_admin_route *route) {
    void *user = (void *)(uintptr_t)route;
    if (tob_admin_needs_body(route)) {
        return tob_http_server_route(gateway->server, route->method, route->pattern, tob_admin_handle, user);
    }
    return tob_http_server_route_without_body(gateway->server, route->method, route->pattern,
                                              tob_admin_handle, user);
}

static tob_error add_routes(tob_gateway *gateway) {
    tob_error error = TOB_OK;
    for (size_t i = 0; i < OWN_ROUTES && !error; i++) {
        error = tob_http_server_route(gateway->server, own_routes[i].method, own_routes[i].pattern,
                                      own_routes[i].handler, gateway->readiness);
    }
    for (size_t i = 0; i < tob_admin_route_count && !error; i++) {
        error = add_admin_route(gateway, &tob_admin_routes[i]);
    }
    return error;
}

tob_error tob_gateway_new(const tob_gateway_options *options, const char **ret_option, tob_gateway **ret) {
    tob_gateway *gateway = calloc(1, sizeof(*gateway));
    if (!gateway) {
        return TOB_NO_MEMORY;
    }
    gateway->options = *options;
    snprintf(gateway->agent_id, sizeof(gateway->agent_id), "gateway-%016llx",
             (unsigned long long)tob_random_u64());
    tob_error error = tob_relay_target_parse(options->exporter, &gateway->exporter);
    if (error == TOB_INVALID) {
        *ret_option = "exporter";
    }
    if (!error) {
        error = make_process(gateway);
    }
    if (!error) {
        error = make_server(gateway);
    }
    if (!error) {
        error = make_rpc(gateway);
        if (error == TOB_INVALID) {
            *ret_option = "ingest";
        }
    }
    if (!error) {
        error = tob_readiness_new(gateway->rpc, &gateway->readiness);
    }
    if (!error) {
        error = add_routes(gateway);
    }
    if (error) {
        tob_gateway_free(gateway);
        return error;
    }
    *ret = gateway;
    return TOB_OK;
}

tob_error tob_gateway_start(tob_gateway *gateway) {
    tob_error error = tob_http_server_start(gateway->server);
    if (error) {
        return error;
    }
    tob_readiness_check(gateway->readiness);
    error = tob_process_report_start(gateway->process, gateway->rpc);
    gateway->reporting = !error;
    return error;
}

uint16_t tob_gateway_port(const tob_gateway *gateway) {
    return tob_http_server_port(gateway->server);
}

void tob_gateway_tick(tob_gateway *gateway) {
    tob_readiness_check(gateway->readiness);
}

tob_readiness *tob_gateway_readiness(tob_gateway *gateway) {
    return gateway->readiness;
}

void tob_gateway_stop(tob_gateway *gateway, uint64_t grace_ms) {
    tob_http_server_stop(gateway->server, grace_ms);
    if (gateway->reporting) {
        tob_process_report_stop(gateway->process);
        gateway->reporting = false;
    }
    tob_readiness_stop(gateway->readiness);
    tob_rpc_client_stop(gateway->rpc);
}

void tob_gateway_free(tob_gateway *gateway) {
    if (!gateway) {
        return;
    }
    tob_rpc_client_free(gateway->rpc);
    for (size_t i = 0; i < TOB_HTTP_MAX_WORKERS; i++) {
        worker_free(gateway->workers[i]);
    }
    tob_http_server_free(gateway->server);
    tob_readiness_free(gateway->readiness);
    tob_http_counters_free(gateway->counters);
    tob_process_free(gateway->process);
    free(gateway);
}
