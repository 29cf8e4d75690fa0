#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

static Tobogganing__V1__Process *find(uint64_t id) {
    size_t n = 0;
    Tobogganing__V1__Process **all = tob_process_table_all(table, &n);
    for (size_t i = 0; i < n; i++) {
        if (all[i]->id == id) {
            return all[i];
        }
    }
    return NULL;
}

static void a_counter_that_an_old_report_lacks_stays(void **state) {
    (void)state;
    assert_int_equal(put(7, "a", 10, 1), TOB_OK);
    assert_int_equal(put(7, "b", 5, 2), TOB_OK);
    assert_int_equal(put(7, "a", 11, 3), TOB_OK);
    assert_int_equal(sum("a"), 11);
    assert_int_equal(sum("b"), 5);
    assert_int_equal(find(7)->n_counters, 2);
}

static void silence_of_a_day_and_no_less_retires(void **state) {
    (void)state;
    assert_int_equal(put(7, "a", 10, 1000), TOB_OK);
    assert_int_equal(tob_process_table_retire(table, 1000 + TOB_PROCESS_FORGET_MS), TOB_OK);
    assert_non_null(find(7));
    assert_int_equal(tob_process_table_retire(table, 1001 + TOB_PROCESS_FORGET_MS), TOB_OK);
    assert_null(find(7));
    assert_string_equal(find(TOB_PROCESS_RETIRED)->kind, "retired");
    assert_int_equal(sum("a"), 10);
}

static void in_a_full_table_the_longest_silent_goes_first(void **state) {
    (void)state;
    enum { OTHERS = TOB_PROCESS_TABLE_MAX - 1 }; // a place is kept for the sum
    for (uint64_t id = 2; id < 2 + OTHERS; id++) {
        assert_int_equal(put(id, "a", 1, id == 500 ? 1 : 1000), TOB_OK);
    }
    assert_int_equal(put(2, "a", 2, 1000), TOB_OK); // the first one lives
    assert_int_equal(put(99999, "a", 1, TOB_PROCESS_LIVES_MS), TOB_BUSY);
    assert_int_equal(put(3, "a", 1, TOB_PROCESS_LIVES_MS), TOB_OK);
    assert_int_equal(sum("a"), OTHERS + 1);
    assert_int_equal(put(99999, "a", 1, 1000 + TOB_PROCESS_LIVES_MS), TOB_OK);
    assert_int_equal(sum("a"), OTHERS + 2);
    assert_null(find(4)); // put longest ago: 2 and 3 were put again
    assert_non_null(find(2));
    assert_non_null(find(99999));
    assert_int_equal(find(TOB_PROCESS_RETIRED)->counters[0]->value, 1);
}

static void the_tables_bytes_are_bounded_and_nothing_is_lost(void **state) {
    (void)state;
    static Tobogganing__V1__Counter counters[TOB_PROCESS_MAX_COUNTERS];
    static Tobogganing__V1__Counter *pointers[TOB_PROCESS_MAX_COUNTERS];
    static char labels[TOB_PROCESS_MAX_COUNTERS][TOB_COUNTER_MAX_LABEL_BYTES + 1];
    static char *label_pointers[TOB_PROCESS_MAX_COUNTERS];
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    const char *reason = NULL;
    for (size_t i = 0; i < TOB_PROCESS_MAX_COUNTERS; i++) {
        tobogganing__v1__counter__init(&counters[i]);
        snprintf(labels[i], sizeof(labels[i]), "%064zu", i);
        label_pointers[i] = labels[i];
        counters[i].labels = &label_pointers[i];
        counters[i].n_labels = 1;
        counters[i].value = 1;
        pointers[i] = &counters[i];
    }
    process.kind = (char *)"gateway";
    process.counters = pointers;
    process.n_counters = TOB_PROCESS_MAX_COUNTERS;
    size_t bytes = 0, n = 0;
    enum { PROCESSES = 400 }; // 70 KB each
    for (uint64_t i = 0; i < PROCESSES; i++) {
        process.id = 100 + i;
        assert_int_equal(tob_process_table_put(table, &process, i * TOB_PROCESS_LIVES_MS, &reason), TOB_OK);
    }
    Tobogganing__V1__Process **all = tob_process_table_all(table, &n);
    for (size_t i = 0; i < n; i++) {
        bytes += tobogganing__v1__process__get_packed_size(all[i]);
    }
    assert_true(bytes <= TOB_PROCESS_TABLE_MAX_BYTES);
    assert_true(n < PROCESSES);
    assert_int_equal(sum(labels[7]), PROCESSES);
}

static void what_was_put_since_is_to_be_journalled(void **state) {
    (void)state;
    assert_int_equal(put(7, "a", 1, 1), TOB_OK);
    assert_int_equal(put(8, "a", 1, 1), TOB_OK);
    uint64_t puts = tob_process_table_puts(table);
    assert_int_equal(put(8, "a", 2, 1), TOB_OK);
    tob_process_table_journalled(table, puts);
    assert_false(tob_process_table_unjournalled(table, 0));
    assert_true(tob_process_table_unjournalled(table, 1));
    assert_int_equal(tob_process_table_retire(table, 2 + TOB_PROCESS_FORGET_MS), TOB_OK);
    assert_false(tob_process_table_unjournalled(table, 0)); // the sum
    assert_int_equal(put(8, "a", 2, 1), TOB_OK);
    assert_true(tob_process_table_unjournalled(table, 1));
}

static void only_recovery_knows_the_sum_of_the_retired(void **state) {
    (void)state;
    const char *reason = NULL;
    Tobogganing__V1__Process retired = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Counter *counters[] = {&counter};
    char *labels[] = {(char *)"a"};
    assert_int_equal(put(TOB_PROCESS_RETIRED, "a", 1, 1), TOB_INVALID);
    retired.id = TOB_PROCESS_RETIRED;
    retired.kind = (char *)"retired";
    retired.counters = counters;
    retired.n_counters = 1;
    counter.labels = labels;
    counter.n_labels = 1;
    counter.value = 40;
    assert_int_equal(tob_process_table_restore(table, &retired, 5, &reason), TOB_OK);
    assert_int_equal(put(9, "a", 2, 6), TOB_OK);
    assert_false(tob_process_table_unjournalled(table, 0));
    assert_int_equal(tob_process_table_retire(table, 7 + TOB_PROCESS_FORGET_MS), TOB_OK);
    assert_int_equal(find(TOB_PROCESS_RETIRED)->counters[0]->value, 42);
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
        cmocka_unit_test_setup_teardown(a_counter_that_an_old_report_lacks_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_of_a_day_and_no_less_retires, setup, teardown),
        cmocka_unit_test_setup_teardown(in_a_full_table_the_longest_silent_goes_first, setup, teardown),
        cmocka_unit_test_setup_teardown(the_tables_bytes_are_bounded_and_nothing_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_put_since_is_to_be_journalled, setup, teardown),
        cmocka_unit_test_setup_teardown(only_recovery_knows_the_sum_of_the_retired, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_over_the_limit_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
