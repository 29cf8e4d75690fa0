// The follower over real sockets: PUB sockets and RPC servers in the places of ingestd.
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tobogganing/v1/health.pb-c.h"

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
    const char *_Atomic first; // the ids of its clients
    const char *_Atomic second;
    _Atomic uint64_t instance;
    uint64_t epoch;
    pthread_mutex_t lock;
    uint64_t last[TOB_BUS_BUCKETS]; // under the lock
    atomic_uint pages;
    atomic_uint replays;
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

static bool refuse(ingestd *i, tob_rpc_call *call) {
    const char *token = tob_rpc_call_bearer(call);
    if (token && strcmp(token, "cluster") == 0) {
        return false;
    }
    atomic_fetch_add(&i->refused, 1);
    tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "no cluster token");
    return true;
}

static void on_check(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    ingestd *i = user;
    Tobogganing__V1__HealthCheckResponse health = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    (void)message;
    health.instance = atomic_load(&i->instance);
    health.epoch = i->epoch;
    tob_rpc_reply(call, &health.base);
}

static void on_replay(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    ingestd *i = user;
    const Tobogganing__V1__ReplayRequest *request = (const Tobogganing__V1__ReplayRequest *)message;
    if (refuse(i, call)) {
        return;
    }
    Tobogganing__V1__ReplayResponse page = TOBOGGANING__V1__REPLAY_RESPONSE__INIT;
    Tobogganing__V1__Position end = TOBOGGANING__V1__POSITION__INIT;
    uint64_t last[TOB_BUS_BUCKETS];
    end.segment = 1;
    end.offset = 1000000;
    page.instance = request->instance;
    page.epoch = i->epoch;
    page.next = &end;
    page.end = &end;
    page.version = 1000;
    page.n_last_sequences = TOB_BUS_BUCKETS;
    copy_last(i, last);
    page.last_sequences = last;
    char *removed[] = {(char *)(uintptr_t)i->second};
    page.n_removed_clients = 1;
    page.removed_clients = removed;
    atomic_fetch_add(&i->replays, 1);
    tob_rpc_reply(call, &page.base);
}

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    ingestd *i = user;
    const Tobogganing__V1__SnapshotRequest *request = (const Tobogganing__V1__SnapshotRequest *)message;
    Tobogganing__V1__Position end = TOBOGGANING__V1__POSITION__INIT;
    if (refuse(i, call)) {
        return;
    }
    if (atomic_exchange(&i->failing, false)) {
        tob_rpc_fail(call, TOB_UNAVAILABLE, 1, "not now");
        return;
    }
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    Tobogganing__V1__ClientRow *rows[] = {&row};
    row.client_id = (char *)(uintptr_t)(request->cursor ? i->second : i->first);
    row.type = (char *)"native";
    row.version = 1;
    row.last_check_in_unix_ms = tob_clock_unix_ms();
    row.present = 1;
    row.bytes_sent = 5;
    end.segment = 1;
    end.offset = 40;
    page.position = &end;
    page.instance = atomic_load(&i->instance);
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

static void serve(ingestd *i, const ProtobufCServiceDescriptor *service, const char *method,
                  tob_rpc_handler handler) {
    assert_int_equal(tob_rpc_server_add(i->server, service, method, handler, i), TOB_OK);
}

static void start_ingestd(ingestd *i, uint64_t instance, const char *first, const char *second) {
    nng_listener listener;
    int port = 0;
    *i = (ingestd){.instance = instance, .epoch = 1, .first = first, .second = second};
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
    serve(i, &tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot);
    serve(i, &tobogganing__v1__bus__descriptor, "Replay", on_replay);
    serve(i, &tobogganing__v1__health__descriptor, "Check", on_check);
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
    message->instance = atomic_load(&i->instance);
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

// The first client's new value.
static void publish(ingestd *i, uint64_t version, uint64_t bytes_sent) {
    unsigned bucket = tob_bucket_of(i->first);
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    Tobogganing__V1__ClientRow *rows[] = {&row};
    message.topic = 1 + bucket;
    message.sequence = next_sequence(i, bucket);
    message.n_clients = 1;
    message.clients = rows;
    row.client_id = (char *)(uintptr_t)i->first;
    row.version = version;
    row.last_check_in_unix_ms = tob_clock_unix_ms();
    row.present = 1;
    row.bytes_sent = bytes_sent;
    send_message(i, &message);
}

typedef struct exporter {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_instances *instances;
    tob_follower *follower;
} exporter;

static exporter start_exporter_at(const char *bus_urls, const char *ingest_urls, uint64_t buckets,
                                  const char *token) {
    exporter e = {.mirror = new_mirror(1000, DAY_MS), .manager = new_manager()};
    tob_moment now = {.monotonic_ms = tob_clock_monotonic_ms(), .unix_ms = tob_clock_unix_ms()};
    tob_instances_options instances = {.mirror = e.mirror,
                                       .manager = e.manager,
                                       .buckets = buckets,
                                       .ready_timeout_ms = DAY_MS};
    assert_int_equal(tob_instances_new(&instances, now, &e.instances), TOB_OK);
    tob_follower_options options = {.instances = e.instances,
                                    .bus_urls = bus_urls,
                                    .ingest_urls = ingest_urls,
                                    .buckets = buckets,
                                    .bearer = token};
    const char *at_fault = NULL;
    assert_int_equal(tob_follower_new(&options, &e.follower, &at_fault), TOB_OK);
    assert_int_equal(tob_follower_start(e.follower), TOB_OK);
    return e;
}

static exporter start_exporter(const ingestd *i, const char *token) {
    return start_exporter_at(i->bus_url, i->rpc_url, 0, token);
}

static void stop_exporter(exporter *e) {
    tob_follower_stop(e->follower);
    tob_follower_free(e->follower);
    tob_instances_free(e->instances);
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
    while (!tob_instances_ready(e->instances)) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(i);
        nng_msleep(POLL_MS);
    }
}

static void the_snapshot_is_paged_and_the_bus_followed(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i, 1, "first", "second");
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

static void a_loss_on_the_bus_is_replayed(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i, 1, "first", "second");
    exporter e = start_exporter(&i, "cluster");
    await_ready(&i, &e);
    publish(&i, 2, 6);
    await_value(&i, &e, "first", 6);
    next_sequence(&i, 3); // a message that nobody got
    await_value(&i, &e, "second", -1);
    assert_int_equal(atomic_load(&i.replays), 1);
    assert_int_equal(atomic_load(&i.pages), 2); // of the snapshot at the start
    assert_int_equal(bytes_sent_of(e.mirror, "first"), 6);
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void several_ingestd_are_followed_whatever_the_order_of_their_urls(void **state) {
    (void)state;
    ingestd one;
    ingestd two;
    char bus[160];
    char ingest[160];
    start_ingestd(&one, 1, "a1", "b1");
    start_ingestd(&two, 2, "a2", "b2");
    snprintf(bus, sizeof(bus), "%s,%s", one.bus_url, two.bus_url);
    snprintf(ingest, sizeof(ingest), "%s,%s", two.rpc_url, one.rpc_url);
    exporter e = start_exporter_at(bus, ingest, 0, "cluster");
    await_ready(&one, &e);
    assert_int_equal(tob_mirror_count(e.mirror, TOB_SOURCE_CLIENT), 4);
    publish(&two, 2, 8);
    await_value(&two, &e, "a2", 8);
    publish(&one, 2, 9);
    await_value(&one, &e, "a1", 9);
    one.first = "a2"; // the client goes to the other one
    publish(&one, 3, 10);
    await_value(&one, &e, "a2", 10);
    stop_ingestd(&two);
    publish(&one, 4, 11);
    await_value(&one, &e, "a2", 11);
    assert_int_equal(bytes_sent_of(e.mirror, "b2"), 5); // stays
    stop_exporter(&e);
    stop_ingestd(&one);
}

static void a_host_that_listens_at_one_of_its_ip_versions_is_there(void **state) {
    (void)state;
    ingestd i;
    char ingest[160];
    start_ingestd(&i, 1, "first", "second");
    snprintf(ingest, sizeof(ingest), "tcp://[::1]%s,%s", strrchr(i.rpc_url, ':'), i.rpc_url);
    exporter e = start_exporter_at(i.bus_url, ingest, 0, "cluster");
    await_ready(&i, &e);
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void another_instance_behind_the_address_is_found(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i, 1, "first", "second");
    exporter e = start_exporter(&i, "cluster");
    await_ready(&i, &e);
    i.second = "third";
    atomic_store(&i.instance, 2);
    await_value(&i, &e, "third", 5);
    assert_int_equal(bytes_sent_of(e.mirror, "second"), 5); // of the one that is gone
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void a_shard_subscribes_to_its_buckets(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i, 1, "first", "second");
    tob_bus_subscriber *subscriber = NULL;
    const char *addresses[] = {i.bus_url};
    const uint8_t *bytes = NULL;
    size_t n = 0;
    assert_int_equal(tob_bus_subscriber_new(UINT64_C(1) << tob_bucket_of("first"), &subscriber), TOB_OK);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, addresses, 1), TOB_OK);
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (!tob_bus_subscriber_receive(subscriber, &bytes, &n)) { // heartbeats it gets
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&i);
        nng_msleep(POLL_MS);
    }
    assert_int_equal(bytes[1], TOB_BUS_TOPIC_HEARTBEAT);
    i.first = "second";
    publish(&i, 2, 6); // not this
    i.first = "first";
    publish(&i, 2, 6);
    do {
        while (!tob_bus_subscriber_receive(subscriber, &bytes, &n)) {
            assert_true(tob_clock_monotonic_ms() < deadline);
            nng_msleep(POLL_MS);
        }
        assert_int_not_equal(bytes[1], 1 + tob_bucket_of("second"));
    } while (bytes[1] != 1 + tob_bucket_of("first"));
    tob_bus_subscriber_free(subscriber);
    stop_ingestd(&i);
}

static void addresses_of_the_bus_come_and_go(void **state) {
    (void)state;
    ingestd one;
    ingestd two;
    tob_bus_subscriber *subscriber = NULL;
    start_ingestd(&one, 1, "a1", "b1");
    start_ingestd(&two, 2, "a2", "b2");
    const char *both[] = {one.bus_url, two.bus_url};
    assert_int_equal(tob_bus_subscriber_new(UINT64_MAX, &subscriber), TOB_OK);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, both, 1), TOB_OK);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, both, 2), TOB_OK);
    bool heard[3] = {false};
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    const uint8_t *bytes = NULL;
    size_t n = 0;
    while (!heard[1] || !heard[2]) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&one);
        beat(&two);
        nng_msleep(POLL_MS);
        while (tob_bus_subscriber_receive(subscriber, &bytes, &n)) {
            heard[bytes[3]] = true; // the instance, least byte first
        }
    }
    assert_int_equal(tob_bus_subscriber_dial(subscriber, &both[1], 1), TOB_OK);
    // What was on its way may still come; then only one is heard.
    unsigned only_two = 0;
    while (only_two < 20) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&one);
        beat(&two);
        nng_msleep(POLL_MS);
        while (tob_bus_subscriber_receive(subscriber, &bytes, &n)) {
            only_two = bytes[3] == 2 ? only_two + 1 : 0;
        }
    }
    tob_bus_subscriber_free(subscriber);
    stop_ingestd(&one);
    stop_ingestd(&two);
}

static void addresses_of_the_bus_are_capped(void **state) {
    (void)state;
    static char text[TOB_BUS_MAX_ADDRESSES + 1][32];
    const char *addresses[TOB_BUS_MAX_ADDRESSES + 1];
    tob_bus_subscriber *subscriber = NULL;
    for (unsigned i = 0; i <= TOB_BUS_MAX_ADDRESSES; i++) {
        snprintf(text[i], sizeof(text[i]), "tcp://127.0.0.1:%u", 1 + i);
        addresses[i] = text[i];
    }
    assert_int_equal(tob_bus_subscriber_new(UINT64_MAX, &subscriber), TOB_OK);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, addresses, TOB_BUS_MAX_ADDRESSES + 1),
                     TOB_TOO_LARGE);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, &addresses[1], TOB_BUS_MAX_ADDRESSES), TOB_OK);
    tob_bus_subscriber_free(subscriber);
}

static void garbage_on_the_bus_does_no_harm(void **state) {
    (void)state;
    ingestd i;
    start_ingestd(&i, 1, "first", "second");
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
    start_ingestd(&i, 1, "first", "second");
    exporter e = start_exporter(&i, "wrong");
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (atomic_load(&i.refused) == 0) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        beat(&i);
        nng_msleep(POLL_MS);
    }
    assert_false(tob_instances_ready(e.instances));
    assert_int_equal(tob_follower_set_bearer(e.follower, "cluster"), TOB_OK);
    await_ready(&i, &e);
    assert_int_equal(bytes_sent_of(e.mirror, "second"), 5);
    stop_exporter(&e);
    stop_ingestd(&i);
}

static void a_url_that_is_none_is_refused_and_named(void **state) {
    (void)state;
    const struct {
        const char *bus, *ingest, *at_fault;
    } bad[] = {{"nonsense", "tcp://127.0.0.1:1", "bus"},
               {"", "tcp://127.0.0.1:1", "bus"},
               {"tcp://127.0.0.1:1", "tcp://127.0.0.1:1,nonsense", "ingest"}};
    tob_follower *follower = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tob_follower_options options = {.bus_urls = bad[i].bus, .ingest_urls = bad[i].ingest};
        const char *at_fault = NULL;
        assert_int_equal(tob_follower_new(&options, &follower, &at_fault), TOB_INVALID);
        assert_string_equal(at_fault, bad[i].at_fault);
    }
    tob_bus_subscriber *subscriber = NULL;
    const char *addresses[] = {"nonsense", "tcp://127.0.0.1:1"};
    assert_int_equal(tob_bus_subscriber_new(UINT64_MAX, &subscriber), TOB_OK);
    assert_int_equal(tob_bus_subscriber_dial(subscriber, addresses, 2), TOB_INVALID);
    tob_bus_subscriber_free(subscriber);
    assert_null(follower);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_snapshot_is_paged_and_the_bus_followed),
        cmocka_unit_test(a_loss_on_the_bus_is_replayed),
        cmocka_unit_test(several_ingestd_are_followed_whatever_the_order_of_their_urls),
        cmocka_unit_test(a_host_that_listens_at_one_of_its_ip_versions_is_there),
        cmocka_unit_test(another_instance_behind_the_address_is_found),
        cmocka_unit_test(a_shard_subscribes_to_its_buckets),
        cmocka_unit_test(addresses_of_the_bus_come_and_go),
        cmocka_unit_test(addresses_of_the_bus_are_capped),
        cmocka_unit_test(garbage_on_the_bus_does_no_harm),
        cmocka_unit_test(another_token_can_be_given_while_it_follows),
        cmocka_unit_test(a_url_that_is_none_is_refused_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
