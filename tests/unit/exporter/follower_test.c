// The follower over real sockets: a PUB socket and an RPC server in ingestd's place.
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdatomic.h>

#include "exporter/bus_subscriber.h"
#include "exporter/follower.h"
#include "rpc/nng.h"
#include "rpc/server.h"
#include "support.h"
#include "util/clock.h"

#define DEADLINE_MS 20000
#define POLL_MS     10

typedef struct ingestd {
    nng_socket bus;
    char bus_url[64];
    char rpc_url[64];
    tob_rpc_server *server;
    uint64_t epoch;
    pthread_mutex_t lock;
    uint64_t last[TOB_BUS_BUCKETS]; // under the lock
    atomic_uint pages;
    atomic_uint refused;
    atomic_bool failing;
} ingestd;

static void copy_last(ingestd *i, uint64_t last[TOB_BUS_BUCKETS]) {
    pthread_mutex_lock(&i->lock);
    memcpy(last, i->last, sizeof(i->last));
    pthread_mutex_unlock(&i->lock);
}

static uint64_t next_sequence(ingestd *i, unsigned bucket) {
    pthread_mutex_lock(&i->lock);
    uint64_t sequence = ++i->last[bucket];
    pthread_mutex_unlock(&i->lock);
    return sequence;
}

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    ingestd *i = user;
    const Tobogganing__V1__SnapshotRequest *request = (const Tobogganing__V1__SnapshotRequest *)message;
    const char *token = tob_rpc_call_bearer(call);
    if (!token || strcmp(token, "cluster") != 0) {
        atomic_fetch_add(&i->refused, 1);
        tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "no cluster token");
        return;
    }
    if (atomic_exchange(&i->failing, false)) {
        tob_rpc_fail(call, TOB_UNAVAILABLE, 1, "not now");
        return;
    }
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    Tobogganing__V1__ClientRow *rows[] = {&row};
    row.client_id = (char *)(request->cursor ? "second" : "first");
    row.type = (char *)"native";
    row.version = 1;
    row.last_check_in_unix_ms = tob_clock_unix_ms();
    row.present = 1;
    row.bytes_sent = 5;
    page.instance = 1;
    page.epoch = i->epoch;
    page.version = 1;
    page.next_cursor = request->cursor ? 0 : 1;
    page.n_clients = 1;
    page.clients = rows;
    page.n_last_sequences = TOB_BUS_BUCKETS;
    uint64_t last[TOB_BUS_BUCKETS];
    copy_last(i, last);
    page.last_sequences = last;
    atomic_fetch_add(&i->pages, 1);
    tob_rpc_reply(call, &page.base);
}

static void start_ingestd(ingestd *i) {
    nng_listener listener;
    int port = 0;
    *i = (ingestd){.epoch = 1};
    pthread_mutex_init(&i->lock, NULL);
    assert_int_equal(nng_pub0_open(&i->bus), 0);
    assert_int_equal(nng_listen(i->bus, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(i->bus_url, sizeof(i->bus_url), "tcp://127.0.0.1:%d", port);
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 4,
                                      .max_connections = 10,
                                      .max_message_bytes = 4u << 20,
                                      .max_inflated_bytes = 16u << 20,
                                      .max_arena_bytes = 64u << 20};
    assert_int_equal(tob_rpc_server_new(&options, &i->server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(i->server, &tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot,
                                        i),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(i->server), TOB_OK);
    snprintf(i->rpc_url, sizeof(i->rpc_url), "tcp://127.0.0.1:%u", tob_rpc_server_port(i->server));
}

static void stop_ingestd(ingestd *i) {
    tob_rpc_server_stop(i->server);
    tob_rpc_server_free(i->server);
    assert_true(tob_nng_close(i->bus));
    pthread_mutex_destroy(&i->lock);
}

static void send_bytes(ingestd *i, const void *bytes, size_t n) {
    assert_int_equal(nng_send(i->bus, (void *)(uintptr_t)bytes, n, 0), 0);
}

static void send_message(ingestd *i, Tobogganing__V1__BusMessage *message) {
    uint8_t packed[4096];
    message->instance = 1;
    message->epoch = i->epoch;
    size_t n = tobogganing__v1__bus_message__pack(message, packed);
    assert_true(n <= sizeof(packed));
    send_bytes(i, packed, n);
}

static void beat(ingestd *i) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    message.topic = TOB_BUS_TOPIC_HEARTBEAT;
    message.heartbeat = &heartbeat;
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    uint64_t last[TOB_BUS_BUCKETS];
    copy_last(i, last);
    heartbeat.last_sequences = last;
    send_message(i, &message);
}

static void publish(ingestd *i, uint64_t version, uint64_t bytes_sent) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    Tobogganing__V1__ClientRow *rows[] = {&row};
    message.topic = 1;
    message.sequence = next_sequence(i, 0);
    message.n_clients = 1;
    message.clients = rows;
    row.client_id = (char *)"first";
    row.version = version;
    row.last_check_in_unix_ms = tob_clock_unix_ms();
    row.present = 1;
    row.bytes_sent = bytes_sent;
    send_message(i, &message);
}

typedef struct exporter {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_follow *follow;
    tob_follower *follower;
    tob_rpc_client *client;
} exporter;

static void connect_exporter(exporter *e, const ingestd *i, const char *token) {
    tob_rpc_client_options options = {.urls = i->rpc_url, .bearer = token};
    assert_int_equal(tob_rpc_client_new(&options, &e->client), TOB_OK);
    assert_int_equal(tob_follower_start(e->follower, e->client), TOB_OK);
}

static void disconnect_exporter(exporter *e) {
    tob_rpc_client_stop(e->client);
    tob_follower_stop(e->follower);
    tob_rpc_client_free(e->client);
}

static exporter start_exporter(const ingestd *i, const char *token) {
    exporter e = {.mirror = new_mirror(1000, DAY_MS), .manager = new_manager()};
    tob_moment now = {.monotonic_ms = tob_clock_monotonic_ms(), .unix_ms = tob_clock_unix_ms()};
    assert_int_equal(tob_follow_new(e.mirror, e.manager, now, &e.follow), TOB_OK);
    assert_int_equal(tob_follower_new(e.follow, i->bus_url, &e.follower), TOB_OK);
    connect_exporter(&e, i, token);
    return e;
}

static void stop_exporter(exporter *e) {
    disconnect_exporter(e);
    tob_follower_free(e->follower);
    tob_follow_free(e->follow);
    tob_manager_free(e->manager);
    tob_mirror_free(e->mirror);
}

// Beats until the client shows the value.
static void await_value(ingestd *i, exporter *e, const char *id, long long value) {
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (bytes_sent_of(e->mirror, id) != value) {
        if (tob_clock_monotonic_ms() > deadline) {
            fail_msg("%s is %lld, not %lld", id, bytes_sent_of(e->mirror, id), value);
        }
        beat(i);
        nng_msleep(POLL_MS);
    }
}

static void await_ready(ingestd *i, exporter *e) {
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (!tob_follow_ready(e->follow)) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(i);
        nng_msleep(POLL_MS);
    }
}

static void the_snapshot_is_paged_and_the_bus_followed(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i);
    atomic_store(&i.failing, true); // the first page has to be asked for twice
    exporter e = start_exporter(&i, "cluster");
    await_ready(&i, &e);
    assert_int_equal(bytes_sent_of(e.mirror, "first"), 5);
    assert_int_equal(bytes_sent_of(e.mirror, "second"), 5);
    assert_int_equal(atomic_load(&i.pages), 2);
    publish(&i, 2, 6);
    await_value(&i, &e, "first", 6);
    assert_int_equal(atomic_load(&i.pages), 2); // by the bus
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void a_loss_on_the_bus_is_made_good(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i);
    exporter e = start_exporter(&i, "cluster");
    await_ready(&i, &e);
    next_sequence(&i, 3); // a message that nobody got
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (atomic_load(&i.pages) < 4) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&i);
        nng_msleep(POLL_MS);
    }
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void garbage_on_the_bus_does_no_harm(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i);
    exporter e = start_exporter(&i, "cluster");
    await_ready(&i, &e);
    static const uint8_t garbage[] = {0x08, 0x01, 0x32, 0xff, 0xff, 0xff, 0x7f};
    static const uint8_t no_topic[] = {0x42};
    for (int n = 0; n < 100; n++) {
        send_bytes(&i, garbage, sizeof(garbage));
        send_bytes(&i, no_topic, sizeof(no_topic));
    }
    publish(&i, 2, 8);
    await_value(&i, &e, "first", 8);
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void another_token_can_be_given_while_it_follows(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i);
    exporter e = start_exporter(&i, "wrong");
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (atomic_load(&i.refused) == 0) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&i);
        nng_msleep(POLL_MS);
    }
    assert_false(tob_follow_ready(e.follow));
    disconnect_exporter(&e);
    connect_exporter(&e, &i, "cluster");
    await_ready(&i, &e);
    assert_int_equal(bytes_sent_of(e.mirror, "second"), 5);
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void a_url_that_is_none_is_refused(void **state) {
    (void)state;
    tob_bus_subscriber *subscriber = NULL;
    assert_int_equal(tob_bus_subscriber_new("nonsense", &subscriber), TOB_INVALID);
    assert_int_equal(tob_bus_subscriber_new("", &subscriber), TOB_INVALID);
    assert_int_equal(tob_bus_subscriber_new("tcp://127.0.0.1:1,nonsense", &subscriber), TOB_INVALID);
    assert_null(subscriber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_snapshot_is_paged_and_the_bus_followed),
        cmocka_unit_test(a_loss_on_the_bus_is_made_good),
        cmocka_unit_test(garbage_on_the_bus_does_no_harm),
        cmocka_unit_test(another_token_can_be_given_while_it_follows),
        cmocka_unit_test(a_url_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
