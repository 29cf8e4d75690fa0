// A client whose servers are the addresses of one name, which come and go.
#include "cluster.h"
#include "rpc/resolver.h"

enum { CALLERS = 3, CHANGES = 120, CALL_TIMEOUT_MS = 30000 };

// Which nodes the name has now, as bits.
static atomic_uint present;

static tob_error lookup(void *user, const char *host, tob_resolver_address *ret, size_t *ret_count) {
    (void)user;
    (void)host;
    size_t count = 0;
    unsigned bits = atomic_load(&present);
    for (unsigned i = 0; i < NODES; i++) {
        if (bits & (1u << i)) {
            snprintf(ret[count++], sizeof(ret[0]), "127.0.0.%u", i + 1);
        }
    }
    *ret_count = count;
    return count ? TOB_OK : TOB_UNAVAILABLE;
}

static const tob_resolver quick = {.lookup = lookup, .resolve_ms = 5, .retry_ms = 1};

// All nodes have the same port, each an address of its own.
static int begin(void **state) {
    (void)state;
    memset(nodes, 0, sizeof(nodes));
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].number = i;
        nodes[i].host = i + 1;
        nodes[i].port = nodes[0].port;
        pthread_mutex_init(&nodes[i].lock, NULL);
        node_start(&nodes[i]);
    }
    atomic_store(&present, 1);
    return 0;
}

static tob_rpc_client *client_of_name(void) {
    char urls[64];
    tob_rpc_client *client = NULL;
    snprintf(urls, sizeof(urls), "tcp://ingestd:%u", nodes[0].port);
    tob_rpc_client_options options = {.urls = urls, .repeatable = true, .max_in_flight = 64};
    assert_int_equal(tob_rpc_client_new_with(&quick, &options, &client), TOB_OK);
    return client;
}

static void servers_are_found_and_left_with_their_addresses(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_client *client = client_of_name();
    assert_int_equal(check(client, 5000, &err, NULL), 0);
    atomic_store(&present, 7);
    wait_connections(client, 3);
    atomic_store(&present, 4);
    wait_connections(client, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(check(client, 5000, &err, NULL), 2);
    }
    tob_rpc_client_free(client);
}

static void a_call_on_a_server_that_is_left_ends_first(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_rpc_client *client = client_of_name();
    wait_connections(client, 1);
    atomic_store(&nodes[0].hold, true);
    atomic_store(&nodes[1].hold, true); // in case it is asked as well, because of the silence
    start_check(client, 60000, &o);
    wait_calls(&nodes[0], 1);
    atomic_store(&present, 2);
    tob_rpc_server_state servers[NODES];
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    bool left = false;
    while (!left && tob_clock_monotonic_ms() < until) {
        left = tob_rpc_client_servers(client, servers, NODES) == 1 &&
               strcmp(servers[0].address, nodes[1].url) == 0;
    }
    assert_true(left);
    assert_false(atomic_load(&o.ended));
    node_release(&nodes[0]);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_OK);
    assert_int_equal(o.result.server, tob_rpc_server_id(nodes[0].url));
    node_release(&nodes[1]);
    tob_rpc_client_free(client);
}

typedef struct load {
    tob_rpc_client *client;
    atomic_bool stop;
    atomic_uint answered;
    atomic_uint failed;
} load;

static void *keep_calling(void *arg) {
    load *l = arg;
    tob_error err;
    while (!atomic_load(&l->stop)) {
        atomic_fetch_add(check(l->client, CALL_TIMEOUT_MS, &err, NULL) >= 0 ? &l->answered : &l->failed, 1);
    }
    return NULL;
}

static void addresses_that_change_under_load_fail_no_call(void **state) {
    (void)state;
    pthread_t threads[CALLERS];
    load l = {.client = client_of_name()};
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_calling, &l), 0);
    }
    for (int i = 0; i < CHANGES; i++) {
        unsigned before = atomic_load(&l.answered);
        atomic_store(&present, 1 + (unsigned)tob_random_below(7));
        uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
        while (atomic_load(&l.answered) < before + 20 && tob_clock_monotonic_ms() < until) {
            pause_ms(POLL_MS);
        }
        assert_true(atomic_load(&l.answered) >= before + 20);
    }
    atomic_store(&l.stop, true);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&l.failed), 0);
    tob_rpc_client_free(l.client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(servers_are_found_and_left_with_their_addresses, begin, stop_nodes),
        cmocka_unit_test_setup_teardown(a_call_on_a_server_that_is_left_ends_first, begin, stop_nodes),
        cmocka_unit_test_setup_teardown(addresses_that_change_under_load_fail_no_call, begin, stop_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
