#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/options.h"

typedef struct settings {
    const char *listen;
    const char *token;
    bool quiet;
    uint64_t workers;
    uint64_t max_bytes;
    uint64_t interval_ms;
} settings;

// What one parse gave.
typedef struct outcome {
    int status;
    char out[8192];
    char err[1024];
    char **args;
    size_t arg_count;
    settings got;
} outcome;

static void read_back(FILE *file, char *to, size_t size) {
    rewind(file);
    to[fread(to, 1, size - 1, file)] = 0;
    fclose(file);
}

// Points a descriptor at a temporary file and returns a copy of the old one.
static int redirect(int fd, FILE *to) {
    int saved = dup(fd);
    assert_true(saved >= 0 && dup2(fileno(to), fd) == fd);
    return saved;
}

static void restore(int fd, int saved) {
    assert_int_equal(dup2(saved, fd), fd);
    close(saved);
}

static void run_command(outcome *o, char **argv, size_t max_args, size_t min_args) {
    *o = (outcome){.status = -99};
    const tob_option options[] = {
        {.name = "listen",
         .env = "TEST_LISTEN",
         .value = "HOST:PORT",
         .fallback = "127.0.0.1:80",
         .kind = TOB_OPTION_STRING,
         .target = &o->got.listen,
         .help = "where to listen"},
        {.env = "TEST_TOKEN",
         .value = "TOKEN",
         .kind = TOB_OPTION_STRING,
         .target = &o->got.token,
         .help = "a secret"},
        {.name = "quiet",
         .env = "TEST_QUIET",
         .kind = TOB_OPTION_FLAG,
         .target = &o->got.quiet,
         .help = "say less"},
        {.name = "workers",
         .value = "N",
         .fallback = "4",
         .kind = TOB_OPTION_NUMBER,
         .target = &o->got.workers,
         .min = 1,
         .max = 64,
         .help = "threads"},
        {.name = "max-bytes",
         .env = "TEST_MAX_BYTES",
         .value = "SIZE",
         .fallback = "4MiB",
         .kind = TOB_OPTION_BYTES,
         .target = &o->got.max_bytes,
         .min = 1,
         .help = "cap"},
        {.name = "interval",
         .value = "TIME",
         .fallback = "10s",
         .kind = TOB_OPTION_DURATION,
         .target = &o->got.interval_ms,
         .min = 100,
         .max = 60000,
         .help = "how often"},
    };
    const tob_command command = {.program = "prog",
                                 .name = "sub",
                                 .summary = "does a thing",
                                 .arguments = "ID…",
                                 .description = "One paragraph.\nAnother one.",
                                 .examples = "  prog sub --quiet x",
                                 .options = options,
                                 .option_count = sizeof(options) / sizeof(options[0]),
                                 .min_args = min_args,
                                 .max_args = max_args};
    int argc = 0;
    while (argv[argc]) {
        argc++;
    }
    fflush(stdout);
    fflush(stderr);
    FILE *out = tmpfile(), *err = tmpfile();
    assert_true(out && err);
    int saved_out = redirect(STDOUT_FILENO, out), saved_err = redirect(STDERR_FILENO, err);
    o->status = tob_options_parse(&command, argc, argv, &o->args, &o->arg_count);
    fflush(stdout);
    fflush(stderr);
    restore(STDOUT_FILENO, saved_out);
    restore(STDERR_FILENO, saved_err);
    read_back(out, o->out, sizeof(o->out));
    read_back(err, o->err, sizeof(o->err));
}

#define RUN(o, ...) run_command((o), (char *[]){ARG("prog"), __VA_ARGS__, NULL}, 2, 0)
#define ARG(text)   ((char *)(uintptr_t)(text))

static int clear_environment(void **state) {
    (void)state;
    unsetenv("TEST_LISTEN");
    unsetenv("TEST_TOKEN");
    unsetenv("TEST_QUIET");
    unsetenv("TEST_MAX_BYTES");
    return 0;
}

static void without_anything_the_fallbacks_hold(void **state) {
    (void)state;
    outcome o;
    run_command(&o, (char *[]){ARG("prog"), NULL}, 2, 0);
    assert_int_equal(o.status, -1);
    assert_string_equal(o.got.listen, "127.0.0.1:80");
    assert_null(o.got.token);
    assert_false(o.got.quiet);
    assert_int_equal(o.got.workers, 4);
    assert_int_equal(o.got.max_bytes, 4 << 20);
    assert_int_equal(o.got.interval_ms, 10000);
    assert_int_equal(o.arg_count, 0);
}

static void a_flag_wins_over_the_environment_and_that_over_the_fallback(void **state) {
    (void)state;
    setenv("TEST_LISTEN", "env:1", 1);
    setenv("TEST_TOKEN", "s3cret", 1);
    setenv("TEST_QUIET", "true", 1);
    setenv("TEST_MAX_BYTES", "64KiB", 1);
    outcome o;
    RUN(&o, ARG("--listen"), ARG("flag:2"), ARG("--interval=500ms"));
    assert_int_equal(o.status, -1);
    assert_string_equal(o.got.listen, "flag:2");
    assert_string_equal(o.got.token, "s3cret");
    assert_true(o.got.quiet);
    assert_int_equal(o.got.max_bytes, 65536);
    assert_int_equal(o.got.interval_ms, 500);
}

static void arguments_may_stand_among_flags(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("a"), ARG("--quiet"), ARG("b"));
    assert_int_equal(o.status, -1);
    assert_int_equal(o.arg_count, 2);
    assert_string_equal(o.args[0], "a");
    assert_string_equal(o.args[1], "b");
    assert_true(o.got.quiet);
}

static void after_two_dashes_everything_is_an_argument(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--"), ARG("--help"));
    assert_int_equal(o.status, -1);
    assert_int_equal(o.arg_count, 1);
    assert_string_equal(o.args[0], "--help");
}

static void expect_usage_error(const outcome *o, const char *part) {
    assert_int_equal(o->status, TOB_EXIT_USAGE);
    assert_string_equal(o->out, "");
    if (!strstr(o->err, part)) {
        fail_msg("'%s' is not in: %s", part, o->err);
    }
    assert_ptr_equal(strchr(o->err, '\n'), o->err + strlen(o->err) - 1); // one line
}

static void an_unknown_option_is_named(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--bogus"));
    expect_usage_error(&o, "--bogus");
    RUN(&o, ARG("-x"));
    expect_usage_error(&o, "-x");
}

static void an_abbreviation_is_unknown(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--max-b"), ARG("4KiB"));
    expect_usage_error(&o, "--max-b");
    RUN(&o, ARG("--max-b=4KiB"));
    expect_usage_error(&o, "--max-b");
}

static void a_missing_value_is_named(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--listen"));
    expect_usage_error(&o, "'--listen' needs a value");
}

static void a_bad_value_names_its_option_and_what_is_expected(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--workers"), ARG("many"));
    expect_usage_error(&o, "prog sub: option --workers: 'many' is not a whole number");
    RUN(&o, ARG("--interval"), ARG("1w"));
    expect_usage_error(&o, "--interval: '1w' is not a duration");
    RUN(&o, ARG("--max-bytes"), ARG("4MB"));
    expect_usage_error(&o, "--max-bytes (TEST_MAX_BYTES): '4MB' is not a size");
}

static void a_bad_value_in_the_environment_names_the_variable(void **state) {
    (void)state;
    setenv("TEST_QUIET", "maybe", 1);
    outcome o;
    run_command(&o, (char *[]){ARG("prog"), NULL}, 2, 0);
    expect_usage_error(&o, "--quiet (TEST_QUIET): 'maybe' is not 1, true, 0 or false");
}

static void values_end_exactly_at_their_range(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--workers"), ARG("64"));
    assert_int_equal(o.status, -1);
    RUN(&o, ARG("--workers"), ARG("65"));
    expect_usage_error(&o, "'65' is not between 1 and 64");
    RUN(&o, ARG("--workers"), ARG("0"));
    expect_usage_error(&o, "'0' is not between 1 and 64");
    RUN(&o, ARG("--interval"), ARG("99ms"));
    expect_usage_error(&o, "'99ms' is not between 100 and 60000 ms");
}

static void too_few_and_too_many_arguments_are_errors(void **state) {
    (void)state;
    outcome o;
    run_command(&o, (char *[]){ARG("prog"), NULL}, 1, 1);
    expect_usage_error(&o, "needs ID…");
    run_command(&o, (char *[]){ARG("prog"), ARG("a"), ARG("b"), NULL}, 1, 1);
    expect_usage_error(&o, "unexpected argument 'b'");
}

static void help_shows_every_option_even_when_the_rest_is_wrong(void **state) {
    (void)state;
    setenv("TEST_QUIET", "maybe", 1);
    outcome o;
    RUN(&o, ARG("--bogus"), ARG("--help"));
    assert_int_equal(o.status, 0);
    assert_string_equal(o.err, "");
    static const char *const parts[] = {
        "prog sub - does a thing", "--listen HOST:PORT", "TEST_LISTEN",
        "Default: 127.0.0.1:80",   "TEST_TOKEN=TOKEN",   "--quiet",
        "--interval TIME",         "Another one.",       "prog sub --quiet x"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!strstr(o.out, parts[i])) {
            fail_msg("'%s' is not in the help:\n%s", parts[i], o.out);
        }
    }
}

static void help_lines_have_at_most_80_columns(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--help"));
    for (char *line = strtok(o.out, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 80);
    }
}

static void version_is_printed(void **state) {
    (void)state;
    outcome o;
    RUN(&o, ARG("--version"));
    assert_int_equal(o.status, 0);
    assert_string_equal(o.out, "prog " TOB_VERSION "\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_anything_the_fallbacks_hold, clear_environment),
        cmocka_unit_test_setup(a_flag_wins_over_the_environment_and_that_over_the_fallback,
                               clear_environment),
        cmocka_unit_test_setup(arguments_may_stand_among_flags, clear_environment),
        cmocka_unit_test_setup(after_two_dashes_everything_is_an_argument, clear_environment),
        cmocka_unit_test_setup(an_unknown_option_is_named, clear_environment),
        cmocka_unit_test_setup(an_abbreviation_is_unknown, clear_environment),
        cmocka_unit_test_setup(a_missing_value_is_named, clear_environment),
        cmocka_unit_test_setup(a_bad_value_names_its_option_and_what_is_expected, clear_environment),
        cmocka_unit_test_setup(a_bad_value_in_the_environment_names_the_variable, clear_environment),
        cmocka_unit_test_setup(values_end_exactly_at_their_range, clear_environment),
        cmocka_unit_test_setup(too_few_and_too_many_arguments_are_errors, clear_environment),
        cmocka_unit_test_setup(help_shows_every_option_even_when_the_rest_is_wrong, clear_environment),
        cmocka_unit_test_setup(help_lines_have_at_most_80_columns, clear_environment),
        cmocka_unit_test_setup(version_is_printed, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
