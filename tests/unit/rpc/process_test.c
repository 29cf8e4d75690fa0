// A process that reports its counters to real servers, which come and go.
#include "cluster.h"
#include "rpc/process.h"

enum { MAX_IDS = 64 };

#define FAMILY TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS

// What each node knows: it outlives the node, as ingestd's journal does.
static struct {
    pthread_mutex_t lock;
    uint64_t ids[NODES][MAX_IDS];
    uint64_t values[NODES][MAX_IDS];
    size_t counts[NODES];
    bool deaf[NODES]; // takes a report, and does not answer
    tob_error refuses[NODES];
    tob_rpc_call *held[NODES][MAX_HELD];
    size_t held_count[NODES];
} table;

static void on_report(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    node *n = user;
    unsigned who = n->number;
    const Tobogganing__V1__Process *process = (const Tobogganing__V1__Process *)request;
    pthread_mutex_lock(&table.lock);
    tob_error refuse = table.refuses[who];
    bool deaf = table.deaf[who] && table.held_count[who] < MAX_HELD;
    if (!refuse) {
        size_t i = 0;
        while (i < table.counts[who] && table.ids[who][i] != process->id) {
            i++;
        }
        assert_true(i < MAX_IDS);
        table.counts[who] += i == table.counts[who];
        table.ids[who][i] = process->id;
        table.values[who][i] = process->n_counters ? process->counters[0]->value : 0;
    }
    if (!refuse && deaf) {
        table.held[who][table.held_count[who]++] = call;
    }
    pthread_mutex_unlock(&table.lock);
    Tobogganing__V1__ReportResponse response = TOBOGGANING__V1__REPORT_RESPONSE__INIT;
    if (refuse) {
        tob_rpc_fail(call, refuse, 0, "no");
    } else if (!deaf) {
        tob_rpc_reply(call, &response.base);
    }
}

// Refuses what is held, so that the server can stop: the caller is not told that its report has arrived.
static void let_go(unsigned who) {
    pthread_mutex_lock(&table.lock);
    table.deaf[who] = false;
    for (size_t i = 0; i < table.held_count[who]; i++) {
        tob_rpc_fail(table.held[who][i], TOB_UNAVAILABLE, 0, "stopping");
    }
    table.held_count[who] = 0;
    pthread_mutex_unlock(&table.lock);
}

static void extend(node *n) {
    assert_int_equal(tob_rpc_server_add(n->server, &tobogganing__v1__processes__descriptor, "Report",
                                        on_report, n),
                     TOB_OK);
}

static int begin(void **state) {
    memset(&table, 0, sizeof(table));
    pthread_mutex_init(&table.lock, NULL);
    node_extend = extend;
    start_nodes(state);
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].number = i; // instance 0 is none: that node is known by its address
    }
    return 0;
}

static uint64_t known(void) {
    uint64_t sum = 0;
    pthread_mutex_lock(&table.lock);
    for (unsigned n = 0; n < NODES; n++) {
        for (size_t i = 0; i < table.counts[n]; i++) {
            sum += table.values[n][i];
        }
    }
    pthread_mutex_unlock(&table.lock);
    return sum;
}

static void wait_known(uint64_t total) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (known() != total && tob_clock_monotonic_ms() < until) {
        assert_true(known() <= total);
        pause_ms(POLL_MS);
    }
    assert_int_equal(known(), total);
}

// The node that is reported to: the one whose value is the greatest. -1: none.
static int reported_to(void) {
    int best = -1;
    uint64_t most = 0;
    pthread_mutex_lock(&table.lock);
    for (int n = 0; n < NODES; n++) {
        for (size_t i = 0; i < table.counts[n]; i++) {
            if (table.values[n][i] > most) {
                most = table.values[n][i];
                best = n;
            }
        }
    }
    pthread_mutex_unlock(&table.lock);
    return best;
}

static void counters_are_divided_among_the_servers_and_add_up(void **state) {
    (void)state;
    tob_process *process = NULL;
    tob_rpc_client *client =
        client_of(3, (tob_rpc_client_options){.repeatable = true, .reconnect_max_ms = 200});
    assert_int_equal(tob_process_new("gateway", &process), TOB_OK);
    tob_counter *counter = tob_process_counter(process, FAMILY, NULL, NULL, NULL);
    tob_counter_add(counter, 100);
    assert_int_equal(tob_process_report_start(process, client), TOB_OK);
    wait_known(100);
    int first = reported_to();
    assert_true(first >= 0);
    node_stop(&nodes[first]);
    tob_counter_add(counter, 1000);
    wait_known(1100);
    int second = reported_to();
    assert_int_not_equal(second, first);
    node_start(&nodes[first]);
    node_stop(&nodes[second]);
    tob_counter_add(counter, 10000);
    wait_known(11100);
    node_start(&nodes[second]);
    tob_counter_add(counter, 5);
    tob_process_report_stop(process); // sends the rest
    assert_int_equal(known(), 11105);
    assert_int_equal(tob_process_report_error(process), TOB_OK);
    tob_rpc_client_free(client);
    tob_process_free(process);
}

static void a_report_whose_answer_is_lost_is_not_counted_twice(void **state) {
    (void)state;
    tob_process *process = NULL;
    tob_rpc_client *client =
        client_of(2, (tob_rpc_client_options){.repeatable = true, .reconnect_max_ms = 200});
    assert_int_equal(tob_process_new("gateway", &process), TOB_OK);
    tob_counter *counter = tob_process_counter(process, FAMILY, NULL, NULL, NULL);
    tob_counter_add(counter, 1);
    assert_int_equal(tob_process_report_start(process, client), TOB_OK);
    wait_known(1);
    unsigned first = (unsigned)reported_to();
    pthread_mutex_lock(&table.lock);
    table.deaf[first] = true;
    pthread_mutex_unlock(&table.lock);
    tob_counter_add(counter, 10);
    wait_known(11); // it has arrived, and nobody knows
    let_go(first);
    node_stop(&nodes[first]);
    tob_counter_add(counter, 100);
    wait_known(111);
    node_start(&nodes[first]);
    tob_counter_add(counter, 1000);
    wait_known(1111);
    tob_process_report_stop(process);
    assert_int_equal(known(), 1111);
    tob_rpc_client_free(client);
    tob_process_free(process);
}

static void a_refused_report_is_an_error_and_is_made_up_for(void **state) {
    (void)state;
    tob_process *process = NULL;
    tob_rpc_client *client = client_of(1, (tob_rpc_client_options){.repeatable = true});
    assert_int_equal(tob_process_new("gateway", &process), TOB_OK);
    pthread_mutex_lock(&table.lock);
    table.refuses[0] = TOB_UNAUTHENTICATED;
    pthread_mutex_unlock(&table.lock);
    tob_counter_add(tob_process_counter(process, FAMILY, NULL, NULL, NULL), 7);
    assert_int_equal(tob_process_report_start(process, client), TOB_OK);
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    while (tob_process_report_error(process) != TOB_UNAUTHENTICATED && tob_clock_monotonic_ms() < until) {
        pause_ms(POLL_MS);
    }
    assert_int_equal(tob_process_report_error(process), TOB_UNAUTHENTICATED);
    pthread_mutex_lock(&table.lock);
    table.refuses[0] = TOB_OK;
    pthread_mutex_unlock(&table.lock);
    wait_known(7);
    tob_process_report_stop(process);
    assert_int_equal(tob_process_report_error(process), TOB_OK);
    tob_rpc_client_free(client);
    tob_process_free(process);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counters_are_divided_among_the_servers_and_add_up, begin, stop_nodes),
        cmocka_unit_test_setup_teardown(a_report_whose_answer_is_lost_is_not_counted_twice, begin,
                                        stop_nodes),
        cmocka_unit_test_setup_teardown(a_refused_report_is_an_error_and_is_made_up_for, begin, stop_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
