// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "agent/lines.h"

static void feed(tob_lines *lines, const char *bytes, size_t n) {
    size_t room = 0;
    char *to = tob_lines_room(lines, &room);
    assert_true(room >= n);
    memcpy(to, bytes, n);
    tob_lines_added(lines, n);
}

static void assert_line(tob_lines *lines, uint64_t number, const char *text) {
    tob_line line = {NULL};
    assert_true(tob_lines_next(lines, &line));
    assert_int_equal(line.number, number);
    assert_false(line.too_long);
    assert_int_equal(line.len, strlen(text));
    assert_memory_equal(line.text, text, line.len);
}

static void assert_too_long(tob_lines *lines, uint64_t number) {
    tob_line line = {NULL};
    assert_true(tob_lines_next(lines, &line));
    assert_int_equal(line.number, number);
    assert_true(line.too_long);
    assert_int_equal(line.len, 0);
}

static void assert_none(tob_lines *lines) {
    tob_line line;
    assert_false(tob_lines_next(lines, &line));
}

static tob_lines new_lines(void) {
    tob_lines lines;
    assert_int_equal(tob_lines_init(&lines), TOB_OK);
    return lines;
}

static void lines_are_numbered_and_the_last_needs_no_newline(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    feed(&lines, "one\n\nthr", 8);
    assert_line(&lines, 1, "one");
    assert_line(&lines, 2, "");
    assert_none(&lines);
    feed(&lines, "ee\nfour", 7);
    assert_line(&lines, 3, "three");
    assert_none(&lines);
    tob_lines_added(&lines, 0);
    assert_line(&lines, 4, "four");
    assert_none(&lines);
    tob_lines_fini(&lines);
}

static void an_input_that_ends_with_a_newline_has_no_empty_last_line(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    feed(&lines, "one\n", 4);
    tob_lines_added(&lines, 0);
    assert_line(&lines, 1, "one");
    assert_none(&lines);
    tob_lines_fini(&lines);
}

static void bytes_may_come_one_by_one(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    for (const char *c = "ab\ncd\n"; *c; c++) {
        feed(&lines, c, 1);
        tob_line line;
        if (*c == '\n') {
            assert_true(tob_lines_next(&lines, &line));
            assert_int_equal(line.len, 2);
        }
        assert_none(&lines);
    }
    tob_lines_fini(&lines);
}

static void a_line_at_the_limit_is_read_and_one_over_is_not_but_the_next_is(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    char *text = malloc(TOB_MAX_LINE_BYTES + 2);
    assert_non_null(text);
    memset(text, 'x', TOB_MAX_LINE_BYTES + 2);
    text[TOB_MAX_LINE_BYTES] = '\n';
    feed(&lines, text, TOB_MAX_LINE_BYTES + 1);
    tob_line line;
    assert_true(tob_lines_next(&lines, &line));
    assert_int_equal(line.len, TOB_MAX_LINE_BYTES);
    text[TOB_MAX_LINE_BYTES] = 'x';
    text[TOB_MAX_LINE_BYTES + 1] = '\n';
    feed(&lines, text, TOB_MAX_LINE_BYTES + 2);
    feed(&lines, "next\n", 5);
    assert_too_long(&lines, 2);
    assert_line(&lines, 3, "next");
    free(text);
    tob_lines_fini(&lines);
}

static void a_line_of_any_length_is_skipped_in_bounded_memory(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    for (int i = 0; i < 100; i++) {
        size_t room = 0;
        char *to = tob_lines_room(&lines, &room);
        assert_true(room > 0);
        memset(to, 'x', room);
        tob_lines_added(&lines, room);
        assert_none(&lines);
    }
    feed(&lines, "x\nnext\n", 7);
    assert_too_long(&lines, 1);
    assert_line(&lines, 2, "next");
    tob_lines_fini(&lines);
}

static void a_too_long_line_at_the_end_is_told(void **state) {
    (void)state;
    tob_lines lines = new_lines();
    size_t room = 0;
    char *to = tob_lines_room(&lines, &room);
    memset(to, 'x', room);
    tob_lines_added(&lines, room);
    assert_none(&lines);
    tob_lines_added(&lines, 0);
    assert_too_long(&lines, 1);
    assert_none(&lines);
    tob_lines_fini(&lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_numbered_and_the_last_needs_no_newline),
        cmocka_unit_test(an_input_that_ends_with_a_newline_has_no_empty_last_line),
        cmocka_unit_test(bytes_may_come_one_by_one),
        cmocka_unit_test(a_line_at_the_limit_is_read_and_one_over_is_not_but_the_next_is),
        cmocka_unit_test(a_line_of_any_length_is_skipped_in_bounded_memory),
        cmocka_unit_test(a_too_long_line_at_the_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
