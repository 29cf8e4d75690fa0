// Servers for tests of the client: several in one process, stopped and started again at will. Each says which one it is.
#ifndef TOB_TEST_RPC_CLUSTER_H
#define TOB_TEST_RPC_CLUSTER_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/process.pb-c.h"

#include "rpc/client.h"
#include "rpc/server.h"
#include "util/clock.h"
#include "util/random.h"

#define CHECK          "/tobogganing.v1.Health/Check"
#define NODES          3
#define PATIENCE_MS    20000
#define MAX_HELD       256
#define POLL_MS        2
#define SERVER_THREADS 32

typedef struct node {
    tob_rpc_server *server;
    unsigned host; // 127.0.0.HOST; 0: 1
    uint16_t port; // 0: the first start picks it
    char url[64];
    unsigned number;
    atomic_uint calls;
    _Atomic(tob_error) refuse; // TOB_OK: answers
    atomic_bool hold;          // keeps calls until released
    pthread_mutex_t lock;
    tob_rpc_call *held[MAX_HELD];
    size_t held_count;
} node;

static node nodes[NODES];

static inline void node_answer(const node *n, tob_rpc_call *call) {
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.instance = n->number;
    response.status = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    tob_rpc_reply(call, &response.base);
}

static inline void node_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    node *n = user;
    (void)request;
    atomic_fetch_add(&n->calls, 1);
    tob_error refuse = atomic_load(&n->refuse);
    pthread_mutex_lock(&n->lock);
    bool hold = atomic_load(&n->hold) && n->held_count < MAX_HELD;
    if (hold) {
        n->held[n->held_count++] = call;
    }
    pthread_mutex_unlock(&n->lock);
    if (hold) {
        return;
    }
    if (refuse) {
        tob_rpc_fail(call, refuse, 100 * (n->number + 1), "node %u refuses", n->number);
    } else {
        node_answer(n, call);
    }
}

static inline void node_release(node *n) {
    atomic_store(&n->hold, false);
    pthread_mutex_lock(&n->lock);
    for (size_t i = 0; i < n->held_count; i++) {
        node_answer(n, n->held[i]);
    }
    n->held_count = 0;
    pthread_mutex_unlock(&n->lock);
}

// Adds further methods before the server starts; may be NULL.
static void (*node_extend)(node *n);

static inline void node_start(node *n) {
    char url[64];
    snprintf(url, sizeof(url), "tcp://127.0.0.%u:%u", n->host ? n->host : 1, n->port);
    tob_rpc_server_options options = {.url = url,
                                      .contexts = SERVER_THREADS,
                                      .max_connections = 64,
                                      .max_message_bytes = 1 << 20,
                                      .max_inflated_bytes = 2 << 20,
                                      .max_arena_bytes = 8 << 20};
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    tob_error err = TOB_UNAVAILABLE;
    while (err == TOB_UNAVAILABLE &&
           tob_clock_monotonic_ms() < until) { // the port may be on its way out still
        assert_int_equal(tob_rpc_server_new(&options, &n->server), TOB_OK);
        assert_int_equal(tob_rpc_server_add(n->server, &tobogganing__v1__health__descriptor, "Check",
                                            node_check, n),
                         TOB_OK);
        if (node_extend) {
            node_extend(n);
        }
        err = tob_rpc_server_start(n->server);
        if (err) {
            tob_rpc_server_free(n->server);
            n->server = NULL;
        }
    }
    assert_int_equal(err, TOB_OK);
    n->port = tob_rpc_server_port(n->server);
    snprintf(n->url, sizeof(n->url), "tcp://127.0.0.%u:%u", n->host ? n->host : 1, n->port);
}

static inline void node_stop(node *n) {
    if (n->server) {
        node_release(n);
        tob_rpc_server_stop(n->server);
        tob_rpc_server_free(n->server);
        n->server = NULL;
    }
}

static inline int start_nodes(void **state) {
    (void)state;
    memset(nodes, 0, sizeof(nodes));
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].number = i;
        pthread_mutex_init(&nodes[i].lock, NULL);
        node_start(&nodes[i]);
    }
    return 0;
}

static inline int stop_nodes(void **state) {
    (void)state;
    for (unsigned i = 0; i < NODES; i++) {
        node_stop(&nodes[i]);
        pthread_mutex_destroy(&nodes[i].lock);
    }
    node_extend = NULL;
    return 0;
}

static inline tob_rpc_client *client_of(unsigned count, tob_rpc_client_options options) {
    char urls[NODES * 66] = "";
    for (unsigned i = 0; i < count; i++) {
        size_t n = strlen(urls);
        snprintf(urls + n, sizeof(urls) - n, "%s%.63s", i ? "," : "", nodes[i].url);
    }
    tob_rpc_client *client = NULL;
    options.urls = urls;
    assert_int_equal(tob_rpc_client_new(&options, &client), TOB_OK);
    return client;
}

static inline void pause_ms(unsigned ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static inline void wait_connections(tob_rpc_client *client, unsigned count) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (tob_rpc_client_connections(client) != count && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_int_equal(tob_rpc_client_connections(client), count);
}

static inline void wait_calls(node *n, unsigned count) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(&n->calls) < count && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_true(atomic_load(&n->calls) >= count);
}

// Which node answered, or -1 with the failure.
static inline int check(tob_rpc_client *client, uint32_t timeout_ms, tob_error *ret_error,
                        tob_rpc_failure *ret_failure) {
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    *ret_error = tob_rpc_client_call_wait(client, CHECK, &request.base,
                                          &tobogganing__v1__health_check_response__descriptor, timeout_ms,
                                          &response, ret_failure);
    if (*ret_error) {
        return -1;
    }
    int number = (int)((Tobogganing__V1__HealthCheckResponse *)response)->instance;
    protobuf_c_message_free_unpacked(response, NULL);
    return number;
}

// A call that is not waited for.
typedef struct outcome {
    atomic_bool ended;
    tob_rpc_result result;
    char message[TOB_RPC_MESSAGE_BYTES];
} outcome;

static inline void note_outcome(void *user, const tob_rpc_result *result) {
    outcome *o = user;
    o->result = *result;
    snprintf(o->message, sizeof(o->message), "%s", result->message);
    assert_false(atomic_load(&o->ended));
    atomic_store(&o->ended, true);
}

static inline void start_check(tob_rpc_client *client, uint32_t timeout_ms, outcome *o) {
    assert_int_equal(tob_rpc_client_call(client, CHECK, "", 0, timeout_ms, note_outcome, o), TOB_OK);
}

static inline void wait_outcome(const outcome *o) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (!atomic_load(&o->ended) && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_true(atomic_load(&o->ended));
}

#endif
