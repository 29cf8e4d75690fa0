#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "util/clock.h"

static void unix_time_is_that_of_the_system(void **state) {
    (void)state;
    uint64_t before = (uint64_t)time(NULL);
    uint64_t ms = tob_clock_unix_ms();
    uint64_t after = (uint64_t)time(NULL);
    // time(2) may lag behind clock_gettime(2) by a tick.
    assert_in_range(ms, before * 1000, (after + 2) * 1000);
}

static void monotonic_time_does_not_go_back(void **state) {
    (void)state;
    uint64_t last = tob_clock_monotonic_ns();
    for (int i = 0; i < 10000; i++) {
        uint64_t now = tob_clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void milliseconds_and_nanoseconds_are_one_clock(void **state) {
    (void)state;
    uint64_t before = tob_clock_monotonic_ns() / 1000000;
    uint64_t ms = tob_clock_monotonic_ms();
    uint64_t after = tob_clock_monotonic_ns() / 1000000;
    assert_in_range(ms, before, after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unix_time_is_that_of_the_system),
        cmocka_unit_test(monotonic_time_does_not_go_back),
        cmocka_unit_test(milliseconds_and_nanoseconds_are_one_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
