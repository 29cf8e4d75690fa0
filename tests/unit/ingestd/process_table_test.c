#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/process_table.h"
#include "rpc/process.h"

static tob_process_table *table;

static int setup(void **state) {
    (void)state;
    return tob_process_table_new(&table);
}

static int teardown(void **state) {
    (void)state;
    tob_process_table_free(table);
    return 0;
}

static tob_error put(uint64_t id, const char *label, uint64_t value, uint64_t now) {
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Counter *counters[] = {&counter};
    char *labels[] = {(char *)label};
    const char *reason = NULL;
    process.id = id;
    process.kind = (char *)"gateway";
    process.counters = counters;
    process.n_counters = 1;
    counter.labels = labels;
    counter.n_labels = 1;
    counter.value = value;
    return tob_process_table_put(table, &process, now, &reason);
}

// The sum of a label over all processes.
static uint64_t sum(const char *label) {
    size_t n = 0;
    uint64_t total = 0;
    Tobogganing__V1__Process **all = tob_process_table_all(table, &n);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < all[i]->n_counters; c++) {
            total += strcmp(all[i]->counters[c]->labels[0], label) == 0 ? all[i]->counters[c]->value : 0;
        }
    }
    return total;
}

static void a_report_replaces_the_one_before_and_never_goes_back(void **state) {
    (void)state;
    assert_int_equal(put(7, "a", 10, 1), TOB_OK);
    assert_int_equal(put(7, "a", 15, 2), TOB_OK);
    assert_int_equal(put(7, "a", 12, 3), TOB_OK);
    assert_int_equal(sum("a"), 15);
}

static void what_the_silent_counted_is_kept(void **state) {
    (void)state;
    for (uint64_t id = 10; id < 20; id++) {
        assert_int_equal(put(id, id % 2 ? "odd" : "even", id, 1000), TOB_OK);
    }
    assert_int_equal(put(20, "even", 5, TOB_PROCESS_FORGET_MS), TOB_OK);
    uint64_t odd = sum("odd"), even = sum("even");
    assert_int_equal(tob_process_table_retire(table, TOB_PROCESS_FORGET_MS + 1001), TOB_OK);
    size_t n = 0;
    tob_process_table_all(table, &n);
    assert_int_equal(n, 2); // the one that lives, and the sum
    assert_int_equal(sum("odd"), odd);
    assert_int_equal(sum("even"), even);
}

static void a_full_table_is_busy_until_the_silent_are_retired(void **state) {
    (void)state;
    for (uint64_t id = 2; id < TOB_PROCESS_TABLE_MAX + 1; id++) {
        assert_int_equal(put(id, "a", 1, 1), TOB_OK);
    }
    assert_int_equal(put(99999, "a", 1, 1), TOB_BUSY);
    assert_int_equal(tob_process_table_retire(table, TOB_PROCESS_FORGET_MS + 2), TOB_OK);
    assert_int_equal(sum("a"), TOB_PROCESS_TABLE_MAX - 1);
    assert_int_equal(put(99999, "a", 1, TOB_PROCESS_FORGET_MS + 2), TOB_OK);
}

static void labels_over_the_limit_are_refused(void **state) {
    (void)state;
    char label[TOB_COUNTER_MAX_LABEL_BYTES + 2];
    memset(label, 'x', sizeof(label));
    label[TOB_COUNTER_MAX_LABEL_BYTES + 1] = 0;
    assert_int_equal(put(5, label, 1, 1), TOB_INVALID);
    label[TOB_COUNTER_MAX_LABEL_BYTES] = 0;
    assert_int_equal(put(5, label, 1, 1), TOB_OK);
    assert_int_equal(put(0, "a", 1, 1), TOB_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_report_replaces_the_one_before_and_never_goes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_silent_counted_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_table_is_busy_until_the_silent_are_retired, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_over_the_limit_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
