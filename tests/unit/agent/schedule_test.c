// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "agent/schedule.h"

static uint64_t lowest(uint64_t below) {
    assert_true(below > 0);
    return 0;
}

static uint64_t highest(uint64_t below) {
    assert_true(below > 0);
    return below - 1;
}

static void the_first_batch_goes_out_within_5_seconds_or_the_interval(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 0, lowest, 1000);
    assert_int_equal(s.due_ms, 1000);
    tob_schedule_init(&s, 0, highest, 1000);
    assert_int_equal(s.due_ms, 1000 + TOB_SCHEDULE_FIRST_MS);
    tob_schedule_init(&s, 200, highest, 1000);
    assert_int_equal(s.due_ms, 1200);
}

static void after_a_success_the_interval_passes_give_or_take_a_tenth(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 10000, lowest, 0);
    tob_schedule_succeeded(&s, 500, 0);
    assert_int_equal(s.due_ms, 500 + 9000);
    s.random = highest;
    tob_schedule_succeeded(&s, 500, 0);
    assert_int_equal(s.due_ms, 500 + 11000);
}

static void the_server_sets_the_interval_unless_one_was_given(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 0, lowest, 0);
    tob_schedule_succeeded(&s, 0, 0);
    assert_int_equal(s.due_ms, TOB_SCHEDULE_DEFAULT_INTERVAL_MS * 9 / 10);
    tob_schedule_succeeded(&s, 0, 30000);
    assert_int_equal(s.due_ms, 27000);
    tob_schedule_succeeded(&s, 0, 0); // as it asked last
    assert_int_equal(s.due_ms, 27000);
    tob_schedule_succeeded(&s, 0, 1);
    assert_int_equal(s.due_ms, TOB_SCHEDULE_MIN_INTERVAL_MS * 9 / 10);
    tob_schedule_succeeded(&s, 0, UINT32_MAX);
    assert_int_equal(s.due_ms, TOB_SCHEDULE_MAX_INTERVAL_MS / 10 * 9);

    tob_schedule_init(&s, 20000, lowest, 0);
    tob_schedule_succeeded(&s, 0, 30000);
    assert_int_equal(s.due_ms, 18000);
}

static void failures_back_off_from_1_second_to_5_minutes_with_full_jitter(void **state) {
    (void)state;
    static const uint64_t most[] = {1000,  2000,   4000,   8000,   16000, 32000,
                                    64000, 128000, 256000, 300000, 300000};
    tob_schedule s;
    tob_schedule_init(&s, 0, highest, 0);
    for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        tob_schedule_failed(&s, 7, 0);
        assert_int_equal(s.due_ms, 7 + most[i]);
        assert_int_equal(s.failures, i + 1);
    }
    s.random = lowest;
    tob_schedule_failed(&s, 7, 0);
    assert_int_equal(s.due_ms, 7);
}

static void a_success_ends_the_backoff(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 10000, highest, 0);
    for (unsigned i = 0; i < 100; i++) {
        tob_schedule_failed(&s, 0, 0);
    }
    tob_schedule_succeeded(&s, 0, 0);
    assert_int_equal(s.failures, 0);
    tob_schedule_failed(&s, 0, 0);
    assert_int_equal(s.due_ms, 1000);
}

static void the_servers_retry_after_is_waited_for_before_the_jitter(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 0, lowest, 0);
    tob_schedule_failed(&s, 100, 7000);
    assert_int_equal(s.due_ms, 7100);
    s.random = highest;
    tob_schedule_failed(&s, 100, 7000);
    assert_int_equal(s.due_ms, 7100 + 2000);
}

static void hurry_makes_it_due_and_forgets_failures(void **state) {
    (void)state;
    tob_schedule s;
    tob_schedule_init(&s, 0, highest, 0);
    for (unsigned i = 0; i < 12; i++) {
        tob_schedule_failed(&s, 0, 0);
    }
    tob_schedule_hurry(&s, 50);
    assert_int_equal(s.due_ms, 50);
    tob_schedule_failed(&s, 50, 0);
    assert_int_equal(s.due_ms, 1050);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_batch_goes_out_within_5_seconds_or_the_interval),
        cmocka_unit_test(after_a_success_the_interval_passes_give_or_take_a_tenth),
        cmocka_unit_test(the_server_sets_the_interval_unless_one_was_given),
        cmocka_unit_test(failures_back_off_from_1_second_to_5_minutes_with_full_jitter),
        cmocka_unit_test(a_success_ends_the_backoff),
        cmocka_unit_test(the_servers_retry_after_is_waited_for_before_the_jitter),
        cmocka_unit_test(hurry_makes_it_due_and_forgets_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
