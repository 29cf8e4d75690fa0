// The gateway of fixture.h with an ingestd that takes down the admin calls and answers what a test wants.
#ifndef TOB_TESTS_GATEWAY_ADMIN_FIXTURE_H
#define TOB_TESTS_GATEWAY_ADMIN_FIXTURE_H

#include "gateway/admin.h"
#include "gateway/worker.h"
#include "report/message_json.h"
#include "tests/unit/gateway/fixture.h"

#define SAW_BYTES 4096

typedef struct admin_fixture {
    tob_rpc_server *ingestd; // the gateway's, instead of the fixture's
    tob_secrets *cluster_secrets;
    tob_gateway *gateway;
    pthread_mutex_t mutex;
    // How it answers.
    const ProtobufCMessage *response;
    tob_error fails;
    uint32_t retry_ms;
    const char *text;
    bool silent;
    tob_rpc_call *silenced;
    // What it saw.
    unsigned calls;
    char saw[SAW_BYTES]; // the last: JSON of the request
    char bearer[64];
    char peer[64];
} admin_fixture;

static inline void on_admin(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    admin_fixture *a = user;
    const char *bearer = tob_rpc_call_bearer(call);
    json_t *json = tob_message_json(request, TOB_MESSAGE_JSON_PLAIN);
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    pthread_mutex_lock(&a->mutex);
    a->calls++;
    snprintf(a->saw, sizeof(a->saw), "%s %s", request->descriptor->short_name, text);
    snprintf(a->bearer, sizeof(a->bearer), "%s", bearer ? bearer : "none");
    snprintf(a->peer, sizeof(a->peer), "%s", tob_rpc_call_peer(call));
    if (a->silent) {
        a->silenced = call;
    } else if (a->fails) {
        tob_rpc_fail(call, a->fails, a->retry_ms, "%s", a->text);
    } else {
        tob_rpc_reply(call, a->response);
    }
    pthread_mutex_unlock(&a->mutex);
    free(text);
    json_decref(json);
}

static inline void admin_start_ingestd(admin_fixture *a) {
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = RPC_CONTEXTS,
                                      .max_connections = 16,
                                      .max_message_bytes = TOB_MAX_BATCH_BYTES,
                                      .max_inflated_bytes = TOB_MAX_INFLATED_BYTES,
                                      .max_arena_bytes = 64u << 20,
                                      .forwarder_secrets = a->cluster_secrets};
    assert_int_equal(tob_rpc_server_new(&options, &a->ingestd), TOB_OK);
    assert_int_equal(tob_rpc_server_add(a->ingestd, &tobogganing__v1__ingest__descriptor, "Submit", on_admin,
                                        a),
                     TOB_OK);
    for (size_t i = 0; i < tob_admin_route_count; i++) {
        const tob_admin_route *route = &tob_admin_routes[i];
        bool again = i && strcmp(tob_admin_routes[i - 1].call, route->call) == 0;
        if (!again) {
            assert_int_equal(tob_rpc_server_add(a->ingestd, route->service, route->call, on_admin, a),
                             TOB_OK);
        }
    }
    assert_int_equal(tob_rpc_server_start(a->ingestd), TOB_OK);
}

static inline admin_fixture *admin_start_with(uint64_t request_timeout_ms) {
    admin_fixture *a = calloc(1, sizeof(*a));
    char ingest[64];
    const char *option = NULL;
    pthread_mutex_init(&a->mutex, NULL);
    a->text = "ingestd says no";
    assert_int_equal(tob_secrets_new("cluster-secret", NULL, &a->cluster_secrets), TOB_OK);
    admin_start_ingestd(a);
    snprintf(ingest, sizeof(ingest), "tcp://127.0.0.1:%u", tob_rpc_server_port(a->ingestd));
    tob_gateway_options options = {.listen = "127.0.0.1:0",
                                   .ingest = ingest,
                                   .exporter = "http://127.0.0.1:1",
                                   .cluster_token = "cluster-secret",
                                   .workers = 1,
                                   .max_connections = 200,
                                   .max_body_bytes = 2000,
                                   .request_timeout_ms = request_timeout_ms};
    assert_int_equal(tob_gateway_new(&options, &option, &a->gateway), TOB_OK);
    assert_int_equal(tob_gateway_start(a->gateway), TOB_OK);
    return a;
}

static inline admin_fixture *admin_start(void) {
    return admin_start_with(PEER_DEADLINE_MS);
}

static inline void admin_stop(admin_fixture *a) {
    pthread_mutex_lock(&a->mutex);
    if (a->silenced) {
        tob_rpc_fail(a->silenced, TOB_CANCELLED, 0, "over");
    }
    pthread_mutex_unlock(&a->mutex);
    tob_gateway_stop(a->gateway, PEER_DEADLINE_MS);
    tob_gateway_free(a->gateway);
    tob_rpc_server_stop(a->ingestd);
    tob_rpc_server_free(a->ingestd);
    tob_secrets_free(a->cluster_secrets);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

#define ADMIN      "Authorization: Bearer admin-1\r\n"
#define ADMIN_JSON ADMIN "Content-Type: application/json\r\n"

// One request; `body` NULL: none, and no length either.
static inline const char *admin_ask(admin_fixture *a, const char *method, const char *path,
                                    const char *headers, const char *body) {
    static char request[16384];
    char length[64] = "";
    if (body) {
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body));
    }
    int n = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n%s", method, path,
                     length, headers, body ? body : "");
    assert_in_range(n, 1, sizeof(request) - 1);
    a->saw[0] = 0;
    return peer_ask(tob_gateway_port(a->gateway), request, (size_t)n);
}

// The body of an answer.
static inline const char *body_of(const char *text) {
    const char *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

#endif
