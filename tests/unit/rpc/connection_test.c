// One connection to one real server.
#include "cluster.h"

static const uint32_t LONG_MS = 60000;

static tob_rpc_connection *connection_to(const node *n, unsigned max_in_flight) {
    tob_rpc_connection *connection = NULL;
    tob_rpc_connection_options options = {.url = n->url, .max_in_flight = max_in_flight};
    assert_int_equal(tob_rpc_connection_new(&options, &connection), TOB_OK);
    return connection;
}

static tob_error check_on(tob_rpc_connection *connection, uint32_t timeout_ms, tob_rpc_failure *end) {
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    tob_error err = tob_rpc_connection_call_wait(connection, CHECK, &request.base,
                                                 &tobogganing__v1__health_check_response__descriptor,
                                                 timeout_ms, &response, end);
    if (!err) {
        protobuf_c_message_free_unpacked(response, NULL);
    }
    return err;
}

static void start_on(tob_rpc_connection *connection, uint32_t timeout_ms, outcome *o) {
    assert_int_equal(tob_rpc_connection_call(connection, CHECK, "", 0, timeout_ms, note_outcome, o), TOB_OK);
}

static void wait_connected(const tob_rpc_connection *connection, bool want) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (tob_rpc_connection_connected(connection) != want && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_int_equal(tob_rpc_connection_connected(connection), want);
}

static void a_call_waits_for_the_connection_and_says_who_answered(void **state) {
    (void)state;
    tob_rpc_failure end;
    tob_rpc_connection *connection = connection_to(&nodes[0], 0);
    assert_string_equal(tob_rpc_connection_url(connection), nodes[0].url);
    assert_int_equal(check_on(connection, LONG_MS, &end), TOB_OK);
    assert_int_equal(end.server, tob_rpc_server_id(nodes[0].url));
    assert_true(end.answered && end.sent);
    atomic_store(&nodes[0].refuse, TOB_BUSY);
    assert_int_equal(check_on(connection, LONG_MS, &end), TOB_BUSY);
    assert_int_equal(end.retry_after_ms, 100);
    assert_true(end.answered);
    tob_rpc_connection_free(connection);
}

static void a_call_that_was_never_sent_says_so(void **state) {
    (void)state;
    tob_rpc_failure end;
    node_stop(&nodes[0]);
    tob_rpc_connection *connection = connection_to(&nodes[0], 0);
    assert_int_equal(check_on(connection, 50, &end), TOB_DEADLINE);
    assert_string_equal(end.message, "not connected to the server");
    assert_false(end.sent);
    node_start(&nodes[0]);
    atomic_store(&nodes[0].hold, true);
    wait_connected(connection, true);
    assert_int_equal(check_on(connection, 50, &end), TOB_DEADLINE);
    assert_string_equal(end.message, "no answer in time");
    assert_true(end.sent);
    assert_false(end.answered);
    tob_rpc_connection_free(connection);
}

typedef struct seen {
    atomic_uint up;
    atomic_uint down;
} seen;

static void count_changes(void *user, bool connected) {
    seen *s = user;
    atomic_fetch_add(connected ? &s->up : &s->down, 1);
}

static void coming_and_going_is_told_in_turn(void **state) {
    (void)state;
    seen s = {0};
    tob_rpc_connection *connection = NULL;
    tob_rpc_connection_options options = {.url = nodes[0].url,
                                          .reconnect_max_ms = 100,
                                          .on_connected = count_changes,
                                          .user = &s};
    assert_int_equal(tob_rpc_connection_new(&options, &connection), TOB_OK);
    for (unsigned i = 1; i <= 5; i++) {
        wait_connected(connection, true);
        node_stop(&nodes[0]);
        wait_connected(connection, false);
        node_start(&nodes[0]);
        wait_connected(connection, true);
        assert_int_equal(tob_rpc_connection_generation(connection), i + 1);
    }
    tob_rpc_connection_stop(connection);
    assert_int_equal(atomic_load(&s.up), 6);
    assert_int_equal(atomic_load(&s.down), 5);
    tob_rpc_connection_free(connection);
}

static void one_call_too_many_is_busy(void **state) {
    (void)state;
    outcome outcomes[3] = {0};
    tob_rpc_connection *connection = connection_to(&nodes[0], 2);
    atomic_store(&nodes[0].hold, true);
    start_on(connection, LONG_MS, &outcomes[0]);
    start_on(connection, LONG_MS, &outcomes[1]);
    assert_int_equal(tob_rpc_connection_call(connection, CHECK, "", 0, LONG_MS, note_outcome, &outcomes[2]),
                     TOB_BUSY);
    wait_calls(&nodes[0], 2);
    node_release(&nodes[0]);
    wait_outcome(&outcomes[0]);
    wait_outcome(&outcomes[1]);
    assert_false(atomic_load(&outcomes[2].ended));
    tob_rpc_connection_free(connection);
}

static void stopping_ends_the_calls_and_takes_no_more(void **state) {
    (void)state;
    outcome outcomes[4] = {0};
    tob_rpc_connection *connection = connection_to(&nodes[0], 4);
    atomic_store(&nodes[0].hold, true);
    for (int i = 0; i < 4; i++) {
        start_on(connection, LONG_MS, &outcomes[i]);
    }
    wait_calls(&nodes[0], 4);
    tob_rpc_connection_stop(connection);
    for (int i = 0; i < 4; i++) {
        assert_true(atomic_load(&outcomes[i].ended));
        assert_int_equal(outcomes[i].result.error, TOB_CANCELLED);
    }
    outcome o = {.message = ""};
    assert_int_equal(tob_rpc_connection_call(connection, CHECK, "", 0, LONG_MS, note_outcome, &o),
                     TOB_CANCELLED);
    tob_rpc_connection_stop(connection); // again
    tob_rpc_connection_free(connection);
}

static void a_body_over_the_limit_is_refused_before_it_is_sent(void **state) {
    (void)state;
    outcome o = {.message = ""};
    size_t n = (4u << 20) + 1;
    char *body = calloc(1, n);
    tob_rpc_connection *connection = connection_to(&nodes[0], 0);
    assert_int_equal(tob_rpc_connection_call(connection, CHECK, body, n, LONG_MS, note_outcome, &o),
                     TOB_TOO_LARGE);
    assert_int_equal(check_on(connection, LONG_MS, NULL), TOB_OK);
    free(body);
    tob_rpc_connection_free(connection);
}

static void an_ipv6_address_is_dialled(void **state) {
    (void)state;
    tob_rpc_server *server = NULL;
    tob_rpc_server_options options = {.url = "tcp://[::1]:0",
                                      .contexts = 1,
                                      .max_connections = 4,
                                      .max_message_bytes = 1 << 20,
                                      .max_inflated_bytes = 1 << 20,
                                      .max_arena_bytes = 1 << 20};
    node n = {.number = 7};
    pthread_mutex_init(&n.lock, NULL);
    assert_int_equal(tob_rpc_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__health__descriptor, "Check", node_check,
                                        &n),
                     TOB_OK);
    if (tob_rpc_server_start(server) != TOB_OK) {
        tob_rpc_server_free(server);
        skip(); // a machine without IPv6
    }
    snprintf(n.url, sizeof(n.url), "tcp://[::1]:%u", tob_rpc_server_port(server));
    tob_rpc_connection *connection = connection_to(&n, 0);
    assert_int_equal(check_on(connection, LONG_MS, NULL), TOB_OK);
    tob_rpc_connection_free(connection);
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    pthread_mutex_destroy(&n.lock);
}

static void what_is_no_url_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "nonsense", "ipc:///tmp/x", "tcp://", "tcp://127.0.0.1:99999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        tob_rpc_connection *connection = NULL;
        if (tob_rpc_connection_new(&(tob_rpc_connection_options){.url = bad[i]}, &connection) !=
            TOB_INVALID) {
            fail_msg("'%s' was taken for a URL", bad[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_waits_for_the_connection_and_says_who_answered, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(a_call_that_was_never_sent_says_so, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(coming_and_going_is_told_in_turn, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(one_call_too_many_is_busy, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(stopping_ends_the_calls_and_takes_no_more, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(a_body_over_the_limit_is_refused_before_it_is_sent, start_nodes,
                                        stop_nodes),
        cmocka_unit_test(an_ipv6_address_is_dialled),
        cmocka_unit_test(what_is_no_url_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
