#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/log.h"

static int saved_stderr = -1;
static FILE *captured;

static void capture(void) {
    fflush(stderr);
    captured = tmpfile();
    assert_non_null(captured);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0);
    assert_int_equal(dup2(fileno(captured), STDERR_FILENO), STDERR_FILENO);
}

// What was logged since capture; free it.
static char *captured_text(void) {
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
    size_t size = 4u << 20;
    char *text = malloc(size);
    assert_non_null(text);
    rewind(captured);
    text[fread(text, 1, size - 1, captured)] = 0;
    fclose(captured);
    return text;
}

static void configure(const char *level, const char *format) {
    assert_int_equal(tob_log_configure("prog", level, format), TOB_OK);
}

static void expect_end(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    if (n < m || strcmp(text + n - m, end) != 0) {
        fail_msg("expected …%s but got: %s", end, text);
    }
}

static void a_logfmt_line_has_time_level_program_event_and_fields(void **state) {
    (void)state;
    configure("info", "logfmt");
    capture();
    tob_info("listening", TOB_STR("url", "tcp://127.0.0.1:1"), TOB_UINT("port", UINT64_MAX),
             TOB_INT("n", INT64_MIN), TOB_DBL("d", 0.25), TOB_ERR(TOB_NOT_FOUND), TOB_STR("null", NULL));
    char *text = captured_text();
    int year = 0, ms = 0;
    assert_int_equal(sscanf(text, "time=%d-%*d-%*dT%*d:%*d:%*d.%dZ", &year, &ms), 2);
    assert_true(year >= 2024);
    expect_end(text,
               " level=info program=prog event=listening url=tcp://127.0.0.1:1 port=18446744073709551615"
               " n=-9223372036854775808 d=0.25 error=\"not found\" null=\"\"\n");
    free(text);
}

static void logfmt_quotes_what_would_be_ambiguous(void **state) {
    (void)state;
    configure("info", "logfmt");
    capture();
    tob_info("e", TOB_STR("a", "two words"), TOB_STR("b", "x=y"), TOB_STR("c", "q\"q\\"),
             TOB_STR("d", "line\nevent=forged"), TOB_STR("e", "\x1b[31m"), TOB_STR("f", "é"));
    char *text = captured_text();
    expect_end(
        text,
        " a=\"two words\" b=\"x=y\" c=\"q\\\"q\\\\\" d=\"line\\u000aevent=forged\" e=\"\\u001b[31m\" f=é\n");
    free(text);
}

static void a_json_line_is_an_object_with_escaped_strings(void **state) {
    (void)state;
    configure("info", "json");
    capture();
    tob_warn("e", TOB_STR("a", "q\"\\\n\x01"), TOB_UINT("n", 7));
    char *text = captured_text();
    assert_memory_equal(text, "{\"time\":\"", 9);
    expect_end(text, ",\"level\":\"warn\",\"program\":\"prog\",\"event\":\"e\",\"a\":"
                     "\"q\\\"\\\\\\u000a\\u0001\",\"n\":7}\n");
    free(text);
}

static void lines_below_the_level_are_not_written(void **state) {
    (void)state;
    configure("warn", "logfmt");
    capture();
    tob_debug("d");
    tob_info("i");
    tob_warn("w");
    tob_err("e");
    char *text = captured_text();
    assert_null(strstr(text, "event=d\n"));
    assert_null(strstr(text, "event=i\n"));
    assert_non_null(strstr(text, "event=w\n"));
    assert_non_null(strstr(text, "event=e\n"));
    free(text);
}

static void a_line_is_cut_at_its_maximum(void **state) {
    (void)state;
    configure("info", "logfmt");
    char *value = malloc(2 * TOB_LOG_MAX_LINE);
    assert_non_null(value);
    memset(value, 'x', 2 * TOB_LOG_MAX_LINE - 1);
    value[2 * TOB_LOG_MAX_LINE - 1] = 0;
    capture();
    tob_info("long", TOB_STR("v", value));
    char *text = captured_text();
    assert_int_equal(strlen(text), TOB_LOG_MAX_LINE);
    assert_int_equal(text[TOB_LOG_MAX_LINE - 1], '\n');
    free(text);
    free(value);
}

static void unknown_levels_and_formats_are_refused(void **state) {
    (void)state;
    assert_int_equal(tob_log_configure("prog", "loud", "logfmt"), TOB_INVALID);
    assert_int_equal(tob_log_configure("prog", "", "logfmt"), TOB_INVALID);
    assert_int_equal(tob_log_configure("prog", "info", "xml"), TOB_INVALID);
}

static void *write_lines(void *arg) {
    for (int i = 0; i < 500; i++) {
        tob_info("line", TOB_STR("who", arg), TOB_STR("end", "END"));
    }
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
    (void)state;
    configure("info", "logfmt");
    capture();
    pthread_t threads[2];
    char names[2][2] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    char *text = captured_text();
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_memory_equal(line, "time=", 5);
        expect_end(line, " end=END");
        assert_null(strstr(line + 5, "time="));
        lines++;
    }
    assert_int_equal(lines, 1000);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logfmt_line_has_time_level_program_event_and_fields),
        cmocka_unit_test(logfmt_quotes_what_would_be_ambiguous),
        cmocka_unit_test(a_json_line_is_an_object_with_escaped_strings),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(a_line_is_cut_at_its_maximum),
        cmocka_unit_test(unknown_levels_and_formats_are_refused),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
