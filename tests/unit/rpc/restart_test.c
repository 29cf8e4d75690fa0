// Servers that are stopped and started again at any moment, under load: no call that may be repeated fails.
#include "cluster.h"

// NNG 1.5.2 leaks a listener now and then when it is closed while a client connects. All frames of such an allocation are
// NNG's own, without symbols; what we allocate through it is checked by the other tests.
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libnng.so";
}

enum { ROLLS = 12, CALLERS = 4, STORM_RESTARTS = 150, CALL_TIMEOUT_MS = 30000 };

typedef struct load {
    tob_rpc_client *client;
    atomic_bool stop;
    atomic_uint answered;
    atomic_uint failed;
    char message[TOB_RPC_MESSAGE_BYTES];
} load;

static void *keep_calling(void *arg) {
    load *l = arg;
    while (!atomic_load(&l->stop)) {
        tob_error err = TOB_OK;
        tob_rpc_failure failure = {.message = ""};
        if (check(l->client, CALL_TIMEOUT_MS, &err, &failure) >= 0) {
            atomic_fetch_add(&l->answered, 1);
        } else if (atomic_fetch_add(&l->failed, 1) == 0) {
            snprintf(l->message, sizeof(l->message), "%s: %.200s", tob_error_string(err), failure.message);
        }
    }
    return NULL;
}

static void wait_answered(const load *l, unsigned more) {
    unsigned enough = atomic_load(&l->answered) + more;
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(&l->answered) < enough && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_true(atomic_load(&l->answered) >= enough);
}

static void load_start(load *l, pthread_t *threads) {
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_calling, l), 0);
    }
    wait_answered(l, 100);
}

static void load_stop(load *l, const pthread_t *threads) {
    atomic_store(&l->stop, true);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
    }
    if (atomic_load(&l->failed)) {
        print_error("%u of %u calls failed, the first: %s\n", atomic_load(&l->failed),
                    atomic_load(&l->answered) + atomic_load(&l->failed), l->message);
    }
    assert_int_equal(atomic_load(&l->failed), 0);
}

static void a_rolling_restart_of_two_servers_fails_no_call(void **state) {
    (void)state;
    pthread_t threads[CALLERS];
    load l = {.client = client_of(2, (tob_rpc_client_options){.repeatable = true, .max_in_flight = 64})};
    wait_connections(l.client, 2);
    load_start(&l, threads);
    for (int i = 0; i < ROLLS; i++) {
        node *n = &nodes[i % 2];
        // As ingestd does when it is told to stop: it refuses first.
        atomic_store(&n->refuse, i % 4 < 2 ? TOB_UNAVAILABLE : TOB_OK);
        wait_answered(&l, 20);
        node_stop(n);
        wait_answered(&l, 20);
        atomic_store(&n->refuse, TOB_OK);
        node_start(n); // the other one goes at once, before the client may have connected again
    }
    load_stop(&l, threads);
    tob_rpc_client_free(l.client);
}

static void servers_that_come_and_go_at_random_fail_no_call(void **state) {
    (void)state;
    pthread_t threads[CALLERS];
    load l = {.client = client_of(3, (tob_rpc_client_options){.repeatable = true,
                                                              .max_in_flight = 64,
                                                              .reconnect_max_ms = 200})};
    load_start(&l, threads);
    for (int i = 0; i < STORM_RESTARTS; i++) {
        node *n = &nodes[tob_random_below(NODES)];
        node_stop(n);
        if (tob_random_below(4) == 0) {
            wait_answered(&l, (unsigned)tob_random_below(50));
        }
        node_start(n);
    }
    load_stop(&l, threads);
    tob_rpc_client_free(l.client);
}

static void count_end(void *user, const tob_rpc_result *result) {
    (void)result;
    atomic_fetch_add((atomic_uint *)user, 1);
}

static void every_call_ends_once_whenever_the_client_stops(void **state) {
    (void)state;
    for (int round = 0; round < 40; round++) {
        atomic_uint ended = 0;
        unsigned started = 0;
        tob_rpc_client *client =
            client_of(3, (tob_rpc_client_options){.repeatable = round % 2, .max_in_flight = 64});
        node *n = &nodes[tob_random_below(NODES)];
        if (round % 4 == 0) {
            wait_connections(client, 3);
        }
        for (int i = 0; i < 64; i++) {
            started += tob_rpc_client_call(client, CHECK, "", 0, 60000, count_end, &ended) == TOB_OK;
        }
        node_stop(n);
        tob_rpc_client_stop(client);
        assert_int_equal(atomic_load(&ended), started);
        tob_rpc_client_free(client);
        node_start(n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_rolling_restart_of_two_servers_fails_no_call, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(servers_that_come_and_go_at_random_fail_no_call, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(every_call_ends_once_whenever_the_client_stops, start_nodes,
                                        stop_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
