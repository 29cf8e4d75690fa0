#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/text.h"

static void ids_are_1_to_128_bytes_of_a_small_alphabet(void **state) {
    (void)state;
    char id[TOB_MAX_ID_BYTES + 1];
    memset(id, 'a', sizeof(id));
    assert_true(tob_id_valid(id, 1));
    assert_true(tob_id_valid(id, TOB_MAX_ID_BYTES));
    assert_false(tob_id_valid(id, TOB_MAX_ID_BYTES + 1));
    assert_false(tob_id_valid(id, 0));
    for (int c = 0; c < 256; c++) {
        bool expected = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c && c < 128 && strchr("._:-", c));
        id[3] = (char)c;
        assert_int_equal(tob_id_valid(id, 8), expected);
    }
}

static void names_are_at_most_256_bytes_of_utf8_without_control_characters(void **state) {
    (void)state;
    char name[TOB_MAX_NAME_BYTES + 1];
    memset(name, 'n', sizeof(name));
    assert_true(tob_name_valid(name, 0));
    assert_true(tob_name_valid(name, TOB_MAX_NAME_BYTES));
    assert_false(tob_name_valid(name, TOB_MAX_NAME_BYTES + 1));
    assert_true(tob_name_valid("Zürich \"1\" \\ 東京", strlen("Zürich \"1\" \\ 東京")));
    assert_false(tob_name_valid("a\nb", 3));
    assert_false(tob_name_valid("a\x7f", 2));
    assert_false(tob_name_valid("a\0b", 3));
    assert_false(tob_name_valid("\xc3", 1));
}

static void utf8_follows_table_3_7_of_unicode(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"\x7f", true},
        {"\xc2\x80", true},         // first of two bytes
        {"\xc1\xbf", false},        // overlong
        {"\xc0\x80", false},        // overlong NUL
        {"\xdf\xbf", true},         // last of two bytes
        {"\xe0\xa0\x80", true},     // first of three bytes
        {"\xe0\x9f\xbf", false},    // overlong
        {"\xed\x9f\xbf", true},     // last before the surrogates
        {"\xed\xa0\x80", false},    // first surrogate
        {"\xed\xbf\xbf", false},    // last surrogate
        {"\xee\x80\x80", true},     // first after the surrogates
        {"\xef\xbf\xbf", true},     // last of three bytes
        {"\xf0\x90\x80\x80", true}, // first of four bytes
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x8f\xbf\xbf", true}, // U+10FFFF
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\x80", false},
        {"\xff", false},
        {"\xe2\x82", false},     // cut short
        {"\xe2\x28\xa1", false}, // bad second byte
        {"\xe2\x82\x28", false}, // bad third byte
        {"\xf0\x90\x80\x28", false},
        {"ok \xe2\x82\xac ok", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (tob_utf8_valid(cases[i].text, strlen(cases[i].text)) != cases[i].valid) {
            fail_msg("case %zu", i);
        }
    }
    assert_false(tob_utf8_valid("a\0", 2));
}

static void one_wrong_byte_is_found_wherever_it_is(void **state) {
    (void)state;
    for (size_t len = 1; len <= 25; len++) {
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                char text[25];
                memset(text, 'a', len);
                text[at] = (char)byte;
                assert_int_equal(tob_utf8_valid(text, len), byte > 0 && byte < 0x80);
            }
        }
    }
}

static void utf8_cut_at_the_end_is_not_read_beyond_it(void **state) {
    (void)state;
    static const char euro[] = {(char)0xe2, (char)0x82, (char)0xac};
    assert_true(tob_utf8_valid(euro, 3));
    assert_false(tob_utf8_valid(euro, 2));
    assert_false(tob_utf8_valid(euro, 1));
}

static void numbers_are_whole_decimal_texts_up_to_the_maximum(void **state) {
    (void)state;
    uint64_t value = 99;
    assert_int_equal(tob_parse_u64("0", 10, &value), TOB_OK);
    assert_int_equal(value, 0);
    assert_int_equal(tob_parse_u64("18446744073709551615", UINT64_MAX, &value), TOB_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(tob_parse_u64("10", 10, &value), TOB_OK);
    value = 99;
    static const char *const bad[] = {"",   "-1",   "+1",  " 1", "1 ",
                                      "1x", "0x10", "1.0", "11", "18446744073709551616"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (tob_parse_u64(bad[i], 10, &value) != TOB_INVALID) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
    assert_int_equal(tob_parse_u64("18446744073709551616", UINT64_MAX, &value), TOB_INVALID);
    assert_int_equal(value, 99); // untouched on failure
}

static void durations_have_units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"500ms", 500}, {"10s", 10000},    {"10", 10000},
                {"5m", 300000}, {"24h", 86400000}, {"7d", 604800000}};
    uint64_t ms = 0;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(tob_parse_duration_ms(good[i].text, &ms), TOB_OK);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"", "s", "1.5s", "-1s", "1 s", "1S", "1w", "18446744073709551615d"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (tob_parse_duration_ms(bad[i], &ms) != TOB_INVALID) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void sizes_have_units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"4096", 4096}, {"64KiB", 65536}, {"4MiB", 4194304}, {"1GiB", 1073741824}};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(tob_parse_bytes(good[i].text, &bytes), TOB_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"", "KiB", "4MB", "4kib", "4 KiB", "99999999999999GiB"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (tob_parse_bytes(bad[i], &bytes) != TOB_INVALID) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void base64url_encodes_the_vectors_of_rfc_4648_without_padding(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        const char *text;
    } cases[] = {{"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
                 {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "-__-"}};
    char to[16];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tob_base64url_encode(cases[i].bytes, strlen(cases[i].bytes), to);
        assert_string_equal(to, cases[i].text);
    }
}

static void an_address_gets_the_port_that_was_bound(void **state) {
    (void)state;
    char address[TOB_ADDRESS_BYTES];
    tob_address_with_port("tcp://127.0.0.1:0", 8010, address);
    assert_string_equal(address, "tcp://127.0.0.1:8010");
    tob_address_with_port("[::1]:0", 65535, address);
    assert_string_equal(address, "[::1]:65535");
    char longer[1000];
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = 0;
    tob_address_with_port(longer, 1, address);
    assert_int_equal(strlen(address), TOB_ADDRESS_BYTES - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_1_to_128_bytes_of_a_small_alphabet),
        cmocka_unit_test(names_are_at_most_256_bytes_of_utf8_without_control_characters),
        cmocka_unit_test(utf8_follows_table_3_7_of_unicode),
        cmocka_unit_test(one_wrong_byte_is_found_wherever_it_is),
        cmocka_unit_test(utf8_cut_at_the_end_is_not_read_beyond_it),
        cmocka_unit_test(numbers_are_whole_decimal_texts_up_to_the_maximum),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(base64url_encodes_the_vectors_of_rfc_4648_without_padding),
        cmocka_unit_test(an_address_gets_the_port_that_was_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
