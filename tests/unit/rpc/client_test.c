// A client and several real servers over loopback TCP, which refuse, hang, stop and start again.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster.h"
#include "rpc/endpoints.h"

static const tob_rpc_client_options REPEATABLE = {.repeatable = true, .max_in_flight = 64};
static const tob_rpc_client_options ONCE = {.repeatable = false, .max_in_flight = 64};

static void one_call_at_a_time_stays_with_one_server(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    int first = check(client, 5000, &err, NULL);
    assert_true(first >= 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(check(client, 5000, &err, NULL), first);
    }
    tob_rpc_client_free(client);
}

static void many_calls_spread_over_the_servers(void **state) {
    (void)state;
    outcome outcomes[30] = {0};
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    for (int i = 0; i < 3; i++) {
        atomic_store(&nodes[i].hold, true);
    }
    for (int i = 0; i < 30; i++) {
        start_check(client, 60000, &outcomes[i]);
    }
    for (int i = 0; i < 3; i++) {
        wait_calls(&nodes[i], 10);
        assert_int_equal(atomic_load(&nodes[i].calls), 10);
        node_release(&nodes[i]);
    }
    for (int i = 0; i < 30; i++) {
        wait_outcome(&outcomes[i]);
        assert_int_equal(outcomes[i].result.error, TOB_OK);
    }
    tob_rpc_client_free(client);
}

// A server that takes connections and requests, and hangs up on each request.
typedef struct breaker {
    int listener;
    char url[64];
    atomic_uint requests;
    pthread_t thread;
} breaker;

static void *break_connections(void *arg) {
    static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x31, 0, 0}; // SP over TCP: REP, version 0
    breaker *b = arg;
    uint8_t bytes[256];
    for (int fd = accept(b->listener, NULL, NULL); fd >= 0; fd = accept(b->listener, NULL, NULL)) {
        if (send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello) &&
            recv(fd, bytes, sizeof(hello), MSG_WAITALL) == (ssize_t)sizeof(hello) &&
            recv(fd, bytes, sizeof(bytes), 0) > 0) {
            atomic_fetch_add(&b->requests, 1);
        }
        close(fd);
    }
    return NULL;
}

static void breaker_start(breaker *b) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    atomic_init(&b->requests, 0);
    b->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(b->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(b->listener, 16), 0);
    assert_int_equal(getsockname(b->listener, (struct sockaddr *)&at, &len), 0);
    snprintf(b->url, sizeof(b->url), "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&b->thread, NULL, break_connections, b), 0);
}

static void breaker_stop(breaker *b) {
    shutdown(b->listener, SHUT_RDWR);
    pthread_join(b->thread, NULL);
    close(b->listener);
}

static void a_call_moves_on_when_its_connection_breaks(void **state) {
    (void)state;
    breaker b;
    breaker_start(&b);
    char urls[160];
    snprintf(urls, sizeof(urls), "%s,%s", b.url, nodes[0].url);
    tob_rpc_client *client = NULL;
    assert_int_equal(
        tob_rpc_client_new(&(tob_rpc_client_options){.urls = urls, .repeatable = true, .max_in_flight = 64},
                           &client),
        TOB_OK);
    wait_connections(client, 2);
    outcome outcomes[16] = {0};
    uint64_t before = tob_clock_monotonic_ms();
    for (int i = 0; i < 16; i++) {
        start_check(client, 60000, &outcomes[i]);
    }
    for (int i = 0; i < 16; i++) {
        wait_outcome(&outcomes[i]);
        assert_int_equal(outcomes[i].result.error, TOB_OK);
        assert_int_equal(outcomes[i].result.server, tob_rpc_server_id(nodes[0].url));
    }
    assert_true(tob_clock_monotonic_ms() - before < TOB_RPC_SILENT_MS); // at once, not by the silence
    assert_true(atomic_load(&b.requests) >= 1);
    tob_rpc_client_free(client);
    breaker_stop(&b);
}

static void a_call_that_may_not_be_repeated_ends_when_its_connection_breaks(void **state) {
    (void)state;
    breaker b;
    breaker_start(&b);
    tob_rpc_client *client = NULL;
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = b.url}, &client), TOB_OK);
    outcome o = {.message = ""};
    start_check(client, 60000, &o);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_UNAVAILABLE);
    assert_true(o.result.sent);
    assert_false(o.result.answered);
    assert_string_equal(o.message, "the connection to the server broke; the call may have been carried out");
    assert_int_equal(atomic_load(&b.requests), 1); // neither by us nor by NNG again
    tob_rpc_client_free(client);
    breaker_stop(&b);
}

static void a_refused_call_goes_to_a_server_that_has_not_refused_it(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    atomic_store(&nodes[0].refuse, TOB_BUSY);
    atomic_store(&nodes[2].refuse, TOB_UNAVAILABLE);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(check(client, 5000, &err, NULL), 1);
    }
    tob_rpc_client_free(client);
}

static void when_all_refuse_the_last_answer_is_the_result(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_failure failure;
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    for (int i = 0; i < 3; i++) {
        atomic_store(&nodes[i].refuse, i == 0 ? TOB_UNAVAILABLE : TOB_BUSY);
    }
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(check(client, 60000, &err, &failure), -1);
    assert_true(tob_clock_monotonic_ms() - before < 10000);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&nodes[i].calls), 1);
        if (failure.server == tob_rpc_server_id(nodes[i].url)) {
            char text[64];
            snprintf(text, sizeof(text), "node %u refuses", i);
            assert_string_equal(failure.message, text);
            assert_int_equal(failure.retry_after_ms, 100 * (i + 1));
            assert_int_equal(err, i == 0 ? TOB_UNAVAILABLE : TOB_BUSY);
        }
    }
    tob_rpc_client_free(client);
}

static void a_refusal_waits_for_a_server_that_was_there_a_moment_ago(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_error err;
    tob_rpc_client *client = client_of(2, REPEATABLE);
    wait_connections(client, 2);
    node_stop(&nodes[0]);
    wait_connections(client, 1);
    atomic_store(&nodes[1].refuse, TOB_UNAVAILABLE);
    start_check(client, 60000, &o);
    wait_calls(&nodes[1], 1);
    node_start(&nodes[0]);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_OK);
    assert_int_equal(o.result.server, tob_rpc_server_id(nodes[0].url));
    // It does not wait for ever.
    node_stop(&nodes[0]);
    wait_connections(client, 1);
    assert_int_equal(check(client, 60000, &err, NULL), -1);
    assert_int_equal(err, TOB_UNAVAILABLE);
    tob_rpc_client_free(client);
}

static void other_errors_are_not_tried_elsewhere(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    for (int i = 0; i < 3; i++) {
        atomic_store(&nodes[i].refuse, TOB_INVALID);
    }
    assert_int_equal(check(client, 5000, &err, NULL), -1);
    assert_int_equal(err, TOB_INVALID);
    assert_int_equal(atomic_load(&nodes[0].calls) + atomic_load(&nodes[1].calls) +
                         atomic_load(&nodes[2].calls),
                     1);
    tob_rpc_client_free(client);
}

static void a_silent_server_does_not_eat_the_deadline(void **state) {
    (void)state;
    tob_error err;
    tob_rpc_client *client = client_of(2, REPEATABLE);
    wait_connections(client, 2);
    int silent = check(client, 5000, &err, NULL);
    assert_true(silent >= 0);
    atomic_store(&nodes[silent].hold, true);
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(check(client, 1000, &err, NULL), 1 - silent);
    uint64_t took = tob_clock_monotonic_ms() - before;
    assert_true(took >= 500 && took < 1000);
    // The next calls don't wait for it again.
    before = tob_clock_monotonic_ms();
    assert_int_equal(check(client, 1000, &err, NULL), 1 - silent);
    assert_true(tob_clock_monotonic_ms() - before < 400);
    node_release(&nodes[silent]); // late: nobody listens
    assert_true(check(client, 1000, &err, NULL) >= 0);
    tob_rpc_client_free(client);
}

static void the_late_answer_of_a_silent_server_counts_when_it_is_the_first(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_error err;
    tob_rpc_client *client = client_of(2, REPEATABLE);
    wait_connections(client, 2);
    int first = check(client, 5000, &err, NULL);
    atomic_store(&nodes[0].hold, true);
    atomic_store(&nodes[1].hold, true);
    unsigned before = atomic_load(&nodes[1 - first].calls);
    start_check(client, 6000, &o);
    wait_calls(&nodes[1 - first], before + 1);
    node_release(&nodes[first]);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_OK);
    assert_int_equal(o.result.server, tob_rpc_server_id(nodes[first].url));
    node_release(&nodes[1 - first]);
    tob_rpc_client_free(client);
}

static void without_another_server_a_silent_one_is_waited_for(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_error err;
    tob_rpc_failure failure;
    tob_rpc_client *client = client_of(1, REPEATABLE);
    wait_connections(client, 1);
    atomic_store(&nodes[0].hold, true);
    assert_int_equal(check(client, 200, &err, &failure), -1);
    assert_int_equal(err, TOB_DEADLINE);
    assert_string_equal(failure.message, "no answer in time");
    start_check(client, 60000, &o);
    wait_calls(&nodes[0], 2);
    node_release(&nodes[0]);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_OK);
    assert_int_equal(atomic_load(&nodes[0].calls), 2);
    tob_rpc_client_free(client);
}

static void a_call_waits_for_a_connection_until_its_deadline(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_error err;
    tob_rpc_failure failure;
    node_stop(&nodes[0]);
    tob_rpc_client *client = client_of(1, REPEATABLE);
    assert_int_equal(check(client, 100, &err, &failure), -1);
    assert_int_equal(err, TOB_DEADLINE);
    assert_string_equal(failure.message, "not connected to the server");
    start_check(client, 60000, &o);
    node_start(&nodes[0]);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_OK);
    tob_rpc_client_free(client);
}

static void calls_that_may_not_be_repeated_are_sent_once(void **state) {
    (void)state;
    outcome o = {.message = ""};
    tob_error err;
    tob_rpc_client *client = client_of(2, ONCE);
    wait_connections(client, 2);
    atomic_store(&nodes[0].refuse, TOB_UNAVAILABLE);
    atomic_store(&nodes[1].refuse, TOB_UNAVAILABLE);
    assert_int_equal(check(client, 5000, &err, NULL), -1);
    assert_int_equal(err, TOB_UNAVAILABLE);
    assert_int_equal(atomic_load(&nodes[0].calls) + atomic_load(&nodes[1].calls), 1);
    // Nor is another server asked when one is silent.
    atomic_store(&nodes[0].hold, true);
    atomic_store(&nodes[1].hold, true);
    start_check(client, 300, &o);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_DEADLINE);
    assert_true(o.result.sent);
    assert_int_equal(atomic_load(&nodes[0].calls) + atomic_load(&nodes[1].calls), 2);
    tob_rpc_client_free(client);
}

static void a_chosen_server_answers_or_nobody(void **state) {
    (void)state;
    tob_rpc_server_state servers[NODES];
    tob_rpc_client *client = client_of(3, REPEATABLE);
    wait_connections(client, 3);
    assert_int_equal(tob_rpc_client_servers(client, servers, NODES), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(servers[i].address, nodes[i].url);
        assert_true(servers[i].connected);
        assert_int_equal(servers[i].generation, 1);
        outcome o = {.message = ""};
        assert_int_equal(tob_rpc_client_call_to(client, servers[i].id, CHECK, "", 0, 5000, note_outcome, &o),
                         TOB_OK);
        wait_outcome(&o);
        assert_int_equal(o.result.error, TOB_OK);
        assert_int_equal(o.result.server, servers[i].id);
        assert_int_equal(atomic_load(&nodes[i].calls), 1);
    }
    node_stop(&nodes[1]);
    wait_connections(client, 2);
    outcome o = {.message = ""};
    assert_int_equal(tob_rpc_client_call_to(client, servers[1].id, CHECK, "", 0, 5000, note_outcome, &o),
                     TOB_OK);
    wait_outcome(&o);
    assert_int_equal(o.result.error, TOB_UNAVAILABLE);
    assert_false(o.result.sent);
    tob_rpc_client_free(client);
}

static void too_many_servers_are_refused(void **state) {
    (void)state;
    char urls[(TOB_ENDPOINTS_MAX_URLS + 1) * 24] = "";
    for (unsigned i = 0; i <= TOB_ENDPOINTS_MAX_URLS; i++) {
        size_t n = strlen(urls);
        snprintf(urls + n, sizeof(urls) - n, "%stcp://127.0.0.1:%u", i ? "," : "", i + 1);
    }
    tob_rpc_client *client = NULL;
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = urls}, &client), TOB_TOO_LARGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_call_at_a_time_stays_with_one_server, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(many_calls_spread_over_the_servers, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(a_call_moves_on_when_its_connection_breaks, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(a_call_that_may_not_be_repeated_ends_when_its_connection_breaks,
                                        start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(a_refused_call_goes_to_a_server_that_has_not_refused_it, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(when_all_refuse_the_last_answer_is_the_result, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(a_refusal_waits_for_a_server_that_was_there_a_moment_ago, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(other_errors_are_not_tried_elsewhere, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(a_silent_server_does_not_eat_the_deadline, start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(the_late_answer_of_a_silent_server_counts_when_it_is_the_first,
                                        start_nodes, stop_nodes),
        cmocka_unit_test_setup_teardown(without_another_server_a_silent_one_is_waited_for, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(a_call_waits_for_a_connection_until_its_deadline, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(calls_that_may_not_be_repeated_are_sent_once, start_nodes,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(a_chosen_server_answers_or_nobody, start_nodes, stop_nodes),
        cmocka_unit_test(too_many_servers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
