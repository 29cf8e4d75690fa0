#include <math.h>

#include "exporter/number.h"
#include "support.h"

static const char *u64(uint64_t n) {
    static char text[TOB_NUMBER_MAX_BYTES + 1];
    *tob_write_u64(text, n) = 0;
    return text;
}

static const char *thousandths(uint64_t n) {
    static char text[TOB_NUMBER_MAX_BYTES + 1];
    *tob_write_thousandths(text, n) = 0;
    return text;
}

static const char *real(double d) {
    static char text[TOB_NUMBER_MAX_BYTES + 1];
    *tob_write_double(text, d) = 0;
    return text;
}

static void integers_are_exact_to_the_last_digit(void **state) {
    (void)state;
    assert_string_equal(u64(0), "0");
    assert_string_equal(u64(9), "9");
    assert_string_equal(u64(10), "10");
    assert_string_equal(u64(99), "99");
    assert_string_equal(u64(100), "100");
    assert_string_equal(u64(1048576), "1048576");
    assert_string_equal(u64(9007199254740993), "9007199254740993");
    assert_string_equal(u64(9223372036854775807), "9223372036854775807");
    assert_string_equal(u64(UINT64_MAX), "18446744073709551615");
    char expected[32];
    for (uint64_t n = 1; n < UINT64_MAX / 7; n = n * 7 + 3) {
        snprintf(expected, sizeof(expected), "%llu", (unsigned long long)n);
        assert_string_equal(u64(n), expected);
    }
}

static void milliseconds_are_seconds_without_trailing_zeros(void **state) {
    (void)state;
    assert_string_equal(thousandths(0), "0");
    assert_string_equal(thousandths(1), "0.001");
    assert_string_equal(thousandths(10), "0.01");
    assert_string_equal(thousandths(100), "0.1");
    assert_string_equal(thousandths(101), "0.101");
    assert_string_equal(thousandths(110), "0.11");
    assert_string_equal(thousandths(1000), "1");
    assert_string_equal(thousandths(3600000), "3600");
    assert_string_equal(thousandths(12345670), "12345.67");
    assert_string_equal(thousandths(1700000000123), "1700000000.123");
    assert_string_equal(thousandths(9223372036854775807), "9223372036854775.807");
}

static void doubles_are_short(void **state) {
    (void)state;
    assert_string_equal(real(0), "0");
    assert_string_equal(real(-0.0), "0");
    assert_string_equal(real(45.2), "45.2");
    assert_string_equal(real(0.1), "0.1");
    assert_string_equal(real(99.999), "99.999");
    assert_string_equal(real(2147483648), "2147483648");
    assert_string_equal(real(9223372036854775807.0), "9223372036854775808");
    assert_string_equal(real(0x1p64), "1.8446744073709552e+19");
    assert_string_equal(real(0.30000000000000004), "0.30000000000000004");
    assert_string_equal(real(12.3456), "12.3456");
    assert_string_equal(real(5e-324), "4.94065645841247e-324");
    assert_string_equal(real(1.7976931348623157e308), "1.7976931348623157e+308");
    assert_string_equal(real(-1.5), "-1.5");
    assert_string_equal(real((double)NAN), "NaN");
    assert_string_equal(real((double)INFINITY), "+Inf");
    assert_string_equal(real((double)-INFINITY), "-Inf");
}

static void every_double_reads_back_the_same(void **state) {
    (void)state;
    uint64_t seed = 88172645463325252u; // xorshift64 (Marsaglia 2003)
    for (int i = 0; i < 100000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        double any = 0;
        memcpy(&any, &seed, sizeof(any));
        double decimal = (double)(seed % 100000000) / 1000;
        double large = (double)(seed >> 1);
        double fraction = (double)(seed >> 11) * 0x1p-43;
        if (isfinite(any)) {
            assert_true(strtod(real(any), NULL) == any);
        }
        assert_true(strtod(real(decimal), NULL) == decimal);
        assert_true(strtod(real(large), NULL) == large);
        assert_true(strtod(real(fraction), NULL) == fraction);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_exact_to_the_last_digit),
        cmocka_unit_test(milliseconds_are_seconds_without_trailing_zeros),
        cmocka_unit_test(doubles_are_short),
        cmocka_unit_test(every_double_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
