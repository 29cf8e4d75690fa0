// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/settings.h"

enum { MAX_ARGS = 16 };

static int clear_environment(void **state) {
    (void)state;
    static const char *const names[] = {"CLIENT_ID",
                                        "API_KEY",
                                        "API_KEY_FILE",
                                        "HEADEND_ID",
                                        "HEADEND_TOKEN",
                                        "HEADEND_TOKEN_FILE",
                                        "HEADEND_NAME",
                                        "INGEST_URL",
                                        "TOBOGGANING_INTERFACE",
                                        "TOBOGGANING_BATCH_INTERVAL"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unsetenv(names[i]);
    }
    return 0;
}

// Parses words without quotes; they live until the next call.
static int parse(tob_source_kind kind, const char *arguments, tob_agent_settings *ret) {
    static char words[512];
    static char *argv[MAX_ARGS + 1];
    int argc = 1;
    argv[0] = (char *)"mode";
    snprintf(words, sizeof(words), "%s", arguments);
    char *rest = words;
    for (char *word = strsep(&rest, " "); word && argc < MAX_ARGS; word = strsep(&rest, " ")) {
        if (*word) {
            argv[argc++] = word;
        }
    }
    argv[argc] = NULL;
    return tob_agent_settings_parse(kind, argc, argv, ret);
}

static void assert_refused(tob_source_kind kind, const char *arguments) {
    tob_agent_settings s;
    assert_int_equal(parse(kind, arguments, &s), TOB_EXIT_USAGE);
    tob_agent_settings_fini(&s);
}

static void the_environment_is_enough(void **state) {
    (void)state;
    tob_agent_settings s;
    setenv("CLIENT_ID", "laptop", 1);
    setenv("API_KEY", "tobk_x", 1);
    setenv("INGEST_URL", "tcp://ingest:8010", 1);
    setenv("TOBOGGANING_INTERFACE", "tun0", 1);
    assert_int_equal(parse(TOB_SOURCE_CLIENT, "", &s), -1);
    assert_string_equal(s.id, "laptop");
    assert_string_equal(s.credential, "tobk_x");
    assert_string_equal(s.server, "tcp://ingest:8010");
    assert_string_equal(s.interface, "tun0");
    assert_string_equal(s.agent_id, "agent-laptop");
    assert_int_equal(s.sample_interval_ms, 10000);
    assert_int_equal(s.batch_interval_ms, 0); // as the server asks
    tob_agent_settings_fini(&s);
    setenv("HEADEND_ID", "gw", 1);
    setenv("HEADEND_TOKEN", "a.b.c", 1);
    setenv("HEADEND_NAME", "", 1);
    assert_int_equal(parse(TOB_SOURCE_HEADEND, "--batch-interval 30s", &s), -1);
    assert_string_equal(s.credential, "a.b.c");
    assert_null(s.name);
    assert_int_equal(s.batch_interval_ms, 30000);
    tob_agent_settings_fini(&s);
}

static void what_is_missing_or_wrong_exits_2(void **state) {
    (void)state;
    assert_refused(TOB_SOURCE_CLIENT, "");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a");
    setenv("API_KEY", "k", 1);
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a/b");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --sample-interval 1ms");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --log-level loud");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --once --from-stdin");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --agent-id a/b");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --ports 443");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --api-key k"); // never by flag value
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a extra");
    unsetenv("API_KEY");
    assert_refused(TOB_SOURCE_CLIENT, "--client-id a --api-key-file /nowhere/key");
    setenv("HEADEND_TOKEN", "t", 1);
    setenv("HEADEND_NAME", "a\nb", 1);
    assert_refused(TOB_SOURCE_HEADEND, "--headend-id a");
}

static void relaying_for_others_needs_no_id_of_its_own(void **state) {
    (void)state;
    tob_agent_settings s;
    assert_int_equal(parse(TOB_SOURCE_CLIENT, "--from-stdin", &s), -1);
    assert_null(s.id);
    assert_null(s.credential);
    assert_true(tob_id_valid(s.agent_id, strlen(s.agent_id)));
    tob_agent_settings_fini(&s);
}

static void the_agents_id_always_fits(void **state) {
    (void)state;
    char arguments[256];
    char id[TOB_MAX_ID_BYTES + 1];
    tob_agent_settings s;
    memset(id, 'i', sizeof(id));
    id[TOB_MAX_ID_BYTES] = 0;
    setenv("API_KEY", "k", 1);
    snprintf(arguments, sizeof(arguments), "--client-id %s", id);
    assert_int_equal(parse(TOB_SOURCE_CLIENT, arguments, &s), -1);
    assert_string_equal(s.agent_id, id);
    tob_agent_settings_fini(&s);
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void a_credential_file_can_be_read_again(void **state) {
    (void)state;
    char path[] = "/tmp/tob-key-XXXXXX";
    char arguments[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "first\n");
    snprintf(arguments, sizeof(arguments), "--client-id a --api-key-file %s", path);
    tob_agent_settings s;
    assert_int_equal(parse(TOB_SOURCE_CLIENT, arguments, &s), -1);
    assert_string_equal(s.credential, "first");
    write_file(path, "second\n");
    assert_int_equal(tob_agent_settings_reload(&s), TOB_OK);
    assert_string_equal(s.credential, "second");
    unlink(path);
    assert_int_equal(tob_agent_settings_reload(&s), TOB_NOT_FOUND);
    assert_string_equal(s.credential, "second"); // stays
    tob_agent_settings_fini(&s);
}

#define FRESH(name) cmocka_unit_test_setup(name, clear_environment)

int main(void) {
    const struct CMUnitTest tests[] = {
        FRESH(the_environment_is_enough),
        FRESH(what_is_missing_or_wrong_exits_2),
        FRESH(relaying_for_others_needs_no_id_of_its_own),
        FRESH(the_agents_id_always_fits),
        FRESH(a_credential_file_can_be_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
