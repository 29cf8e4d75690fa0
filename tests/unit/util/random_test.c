#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/random.h"

static void bytes_fill_the_whole_buffer_and_nothing_after_it(void **state) {
    (void)state;
    uint8_t seen[64] = {0}, bytes[66];
    for (int round = 0; round < 20; round++) {
        memset(bytes, 0, sizeof(bytes));
        tob_random_bytes(bytes + 1, 64);
        assert_int_equal(bytes[0], 0);
        assert_int_equal(bytes[65], 0);
        for (int i = 0; i < 64; i++) {
            seen[i] |= bytes[i + 1];
        }
    }
    for (int i = 0; i < 64; i++) {
        assert_int_not_equal(seen[i], 0); // 20 zeros in a row: once in 2^160
    }
}

static void u64_is_not_zero_and_not_the_same_twice(void **state) {
    (void)state;
    uint64_t a = tob_random_u64(), b = tob_random_u64();
    assert_true(a != 0 && b != 0 && a != b);
}

static void below_stays_below_and_reaches_every_value(void **state) {
    (void)state;
    unsigned seen[7] = {0};
    for (int i = 0; i < 2000; i++) {
        uint64_t value = tob_random_below(7);
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_true(seen[i] > 100); // 286 expected; below 100 by chance: never in practice
    }
    assert_int_equal(tob_random_below(1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_fill_the_whole_buffer_and_nothing_after_it),
        cmocka_unit_test(u64_is_not_zero_and_not_the_same_twice),
        cmocka_unit_test(below_stays_below_and_reaches_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
