// Connections to ingestd that come and go: an RPC server in its place, which answers a page when it is told to.
#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tobogganing/v1/health.pb-c.h"

#include "exporter/peers.h"
#include "rpc/server.h"
#include "support.h"
#include "util/clock.h"

#define DEADLINE_MS 20000
#define POLL_MS     5
#define INSTANCE    7u

typedef struct ingestd {
    tob_rpc_server *server;
    char url[64];
    _Atomic(tob_rpc_call *) waiting; // for its page
} ingestd;

static void on_check(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    Tobogganing__V1__HealthCheckResponse health = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    (void)message;
    (void)user;
    health.instance = INSTANCE;
    health.epoch = 3;
    tob_rpc_reply(call, &health.base);
}

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    ingestd *i = user;
    (void)message;
    atomic_store(&i->waiting, call);
}

static void start_ingestd(ingestd *i) {
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 4,
                                      .max_connections = 10,
                                      .max_message_bytes = 4u << 20,
                                      .max_inflated_bytes = 16u << 20,
                                      .max_arena_bytes = 64u << 20};
    *i = (ingestd){.server = NULL};
    assert_int_equal(tob_rpc_server_new(&options, &i->server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(i->server, &tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot,
                                        i),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_add(i->server, &tobogganing__v1__health__descriptor, "Check", on_check,
                                        i),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(i->server), TOB_OK);
    snprintf(i->url, sizeof(i->url), "tcp://127.0.0.1:%u", tob_rpc_server_port(i->server));
}

static void answer(ingestd *i) {
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    tob_rpc_call *call = atomic_exchange(&i->waiting, NULL);
    if (call) {
        page.instance = INSTANCE;
        tob_rpc_reply(call, &page.base);
    }
}

static void stop_ingestd(ingestd *i) {
    answer(i);
    tob_rpc_server_stop(i->server);
    tob_rpc_server_free(i->server);
}

static void on_wake(void *user) {
    atomic_fetch_add((atomic_uint *)user, 1);
}

// Ticks until there is an answer of the kind.
static tob_peer_answer await(tob_peers *peers, tob_resync_kind kind) {
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    for (;;) {
        tob_peer_answer a;
        tob_peers_tick(peers, tob_clock_monotonic_ms());
        if (tob_peers_take(peers, &a)) {
            if (a.kind == kind) {
                return a;
            }
            tob_peer_answer_clear(&a);
        } else {
            assert_true(tob_clock_monotonic_ms() < deadline);
            nng_msleep(POLL_MS);
        }
    }
}

static void await_call(ingestd *i) {
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_MS;
    while (!atomic_load(&i->waiting)) {
        assert_true(tob_clock_monotonic_ms() < deadline);
        nng_msleep(POLL_MS);
    }
}

static tob_peers *connect_to(const ingestd *i, atomic_uint *wakes) {
    tob_peers *peers = NULL;
    const char *addresses[] = {i->url};
    assert_int_equal(tob_peers_new("cluster", on_wake, wakes, &peers), TOB_OK);
    assert_int_equal(tob_peers_set_addresses(peers, addresses, 1), TOB_OK);
    tob_peer_answer a = await(peers, TOB_RESYNC_NONE);
    assert_int_equal(a.instance, INSTANCE);
    assert_int_equal(a.epoch, 3);
    tob_peer_answer_clear(&a);
    return peers;
}

static void ask(tob_peers *peers, ingestd *i) {
    tob_page_request request = {.kind = TOB_RESYNC_SNAPSHOT};
    tobogganing__v1__snapshot_request__init(&request.snapshot);
    assert_int_equal(tob_peers_call(peers, INSTANCE, &request), TOB_OK);
    await_call(i);
}

static void an_instance_is_asked_for_one_page_at_a_time(void **state) {
    (void)state;
    ingestd i;
    atomic_uint wakes = 0;
    tob_behind behind[TOB_PEERS_MAX];
    start_ingestd(&i);
    tob_peers *peers = connect_to(&i, &wakes);
    tob_page_request request = {.kind = TOB_RESYNC_SNAPSHOT};
    tobogganing__v1__snapshot_request__init(&request.snapshot);
    assert_int_equal(tob_peers_call(peers, INSTANCE + 1, &request), TOB_UNAVAILABLE); // is nowhere
    assert_int_equal(tob_peers_behind(peers, behind), 1);
    assert_true(behind[0].known && behind[0].idle && behind[0].instance == INSTANCE);
    ask(peers, &i);
    assert_int_equal(tob_peers_call(peers, INSTANCE, &request), TOB_UNAVAILABLE);
    tob_peers_behind(peers, behind);
    assert_true(behind[0].known && !behind[0].idle);
    unsigned before = atomic_load(&wakes);
    answer(&i);
    tob_peer_answer a = await(peers, TOB_RESYNC_SNAPSHOT);
    assert_int_equal(a.error, TOB_OK);
    assert_int_equal(a.instance, INSTANCE);
    assert_true(a.body_len > 0);
    tob_peer_answer_clear(&a);
    assert_true(atomic_load(&wakes) > before);
    tob_peers_behind(peers, behind);
    assert_true(behind[0].idle);
    tob_peers_free(peers);
    stop_ingestd(&i);
}

static void a_page_of_an_address_that_went_away_is_answered_all_the_same(void **state) {
    (void)state;
    ingestd i;
    atomic_uint wakes = 0;
    tob_behind behind[TOB_PEERS_MAX];
    start_ingestd(&i);
    tob_peers *peers = connect_to(&i, &wakes);
    ask(peers, &i);
    assert_int_equal(tob_peers_set_addresses(peers, NULL, 0), TOB_OK);
    assert_int_equal(tob_peers_behind(peers, behind), 0);
    tob_peer_answer a = await(peers, TOB_RESYNC_SNAPSHOT);
    assert_int_equal(a.error, TOB_CANCELLED);
    assert_int_equal(a.instance, INSTANCE);
    tob_peer_answer_clear(&a);
    tob_peers_free(peers);
    stop_ingestd(&i);
}

static void calls_that_nobody_waits_for_any_more_are_freed(void **state) {
    (void)state;
    ingestd i;
    atomic_uint wakes = 0;
    start_ingestd(&i);
    tob_peers *peers = connect_to(&i, &wakes);
    ask(peers, &i);
    tob_peers_stop(peers);
    tob_peers_free(peers); // the sanitizers look for what is left
    stop_ingestd(&i);
}

static void bad_addresses_are_refused_and_the_others_connected(void **state) {
    (void)state;
    const char *bad[] = {"nonsense", "tcp://127.0.0.1:1"};
    atomic_uint wakes = 0;
    tob_behind behind[TOB_PEERS_MAX];
    tob_peers *peers = NULL;
    assert_int_equal(tob_peers_new(NULL, on_wake, &wakes, &peers), TOB_OK);
    assert_int_equal(tob_peers_set_addresses(peers, bad, 2), TOB_INVALID);
    assert_int_equal(tob_peers_behind(peers, behind), 1);
    assert_false(behind[0].known);
    tob_peers_free(peers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_instance_is_asked_for_one_page_at_a_time),
        cmocka_unit_test(a_page_of_an_address_that_went_away_is_answered_all_the_same),
        cmocka_unit_test(calls_that_nobody_waits_for_any_more_are_freed),
        cmocka_unit_test(bad_addresses_are_refused_and_the_others_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
