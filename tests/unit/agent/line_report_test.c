// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <string.h>

#include "agent/line_report.h"

#define NOW UINT64_C(1700000000123)

static const tob_line_defaults own_client = {.kind = TOB_SOURCE_CLIENT,
                                             .id = "me",
                                             .credential = "my-key",
                                             .headless = true};
static const tob_line_defaults own_headend = {.kind = TOB_SOURCE_HEADEND,
                                              .id = "gw",
                                              .credential = "my-jwt",
                                              .name = "my name"};
static const tob_line_defaults no_client = {.kind = TOB_SOURCE_CLIENT};
static const tob_line_defaults no_headend = {.kind = TOB_SOURCE_HEADEND};

static void parse(const tob_line_defaults *defaults, const char *text, tob_line_report *ret) {
    tob_problem problem = {""};
    if (tob_line_report_parse(defaults, text, strlen(text), NOW, ret, &problem)) {
        fail_msg("%s: %s", text, problem.text);
    }
}

static void assert_refused(const tob_line_defaults *defaults, const char *text, const char *reason) {
    tob_line_report r;
    tob_problem problem = {""};
    assert_int_not_equal(tob_line_report_parse(defaults, text, strlen(text), NOW, &r, &problem), TOB_OK);
    assert_string_equal(problem.text, reason);
}

static void a_documented_body_is_the_agents_own_report_now(void **state) {
    (void)state;
    tob_line_report r;
    parse(&own_client, "{\"headless\": false, \"metrics\": {\"bytes_sent\": 5}}", &r);
    assert_string_equal(r.report.id, "me");
    assert_string_equal(r.report.credential, "my-key");
    assert_false(r.report.headless);
    assert_int_equal(r.report.sample.client.time_unix_ms, NOW);
    assert_int_equal(r.report.sample.client.values[TOB_CLIENT_BYTES_SENT], 5);
    tob_line_report_fini(&r);
    parse(&own_client, "{}", &r);
    assert_true(r.report.headless); // --headless
    tob_line_report_fini(&r);
    parse(&own_headend, "{\"headend_name\": \"other\", \"metrics\": {\"cpu_usage\": 1.5}}", &r);
    assert_string_equal(r.report.name, "other");
    assert_true(r.report.sample.headend.values[TOB_HEADEND_CPU_USAGE] == 1.5);
    tob_line_report_fini(&r);
    parse(&own_headend, "{}", &r);
    assert_string_equal(r.report.name, "my name");
    tob_line_report_fini(&r);
}

static void a_line_may_have_its_own_time(void **state) {
    (void)state;
    tob_line_report r;
    parse(&own_client, "{\"time\": 1700000000.5}", &r);
    assert_int_equal(r.report.sample.client.time_unix_ms, 1700000000500);
    tob_line_report_fini(&r);
    parse(&own_headend, "{\"time\": 0}", &r);
    assert_int_equal(r.report.sample.headend.time_unix_ms, 0);
    tob_line_report_fini(&r);
    const char *refused = "time: must be Unix time in seconds";
    assert_refused(&own_client, "{\"time\": -1}", refused);
    assert_refused(&own_client, "{\"time\": 1e30}", refused);
    parse(&own_client, "{\"time\": 1700000300.123}", &r); // 5 minutes ahead of NOW
    tob_line_report_fini(&r);
    assert_refused(&own_client, "{\"time\": 1700000300.124}", "time: more than 5 minutes in the future");
    assert_refused(&own_client, "{\"time\": \"now\"}", refused);
    assert_refused(&own_client, "{\"time\": null}", refused);
}

static void a_line_may_name_its_source_with_its_own_credential(void **state) {
    (void)state;
    tob_line_report r;
    parse(&no_client, "{\"client_id\": \"c1\", \"api_key\": \"k1\"}", &r);
    assert_string_equal(r.report.id, "c1");
    assert_string_equal(r.report.credential, "k1");
    tob_line_report_fini(&r);
    parse(&no_headend, "{\"headend_id\": \"h1\", \"token\": \"j1\"}", &r);
    assert_string_equal(r.report.id, "h1");
    assert_string_equal(r.report.credential, "j1");
    assert_null(r.report.name);
    tob_line_report_fini(&r);
    parse(&own_client, "{\"client_id\": \"me\"}", &r); // itself: its key is known
    assert_string_equal(r.report.credential, "my-key");
    tob_line_report_fini(&r);
}

static void anothers_id_is_never_sent_with_the_agents_own_credential_or_name(void **state) {
    (void)state;
    tob_line_report r;
    assert_refused(&own_client, "{\"client_id\": \"c1\"}", "api_key: missing");
    assert_refused(&own_headend, "{\"headend_id\": \"h1\"}", "token: missing");
    parse(&own_headend, "{\"headend_id\": \"h1\", \"token\": \"t\"}", &r);
    assert_null(r.report.name);
    tob_line_report_fini(&r);
}

static void what_is_wrong_is_named_without_quoting_the_line(void **state) {
    (void)state;
    assert_refused(&no_client, "{}", "client_id: missing");
    assert_refused(&no_client, "{\"client_id\": \"c\"}", "api_key: missing");
    assert_refused(&no_headend, "{}", "headend_id: missing");
    assert_refused(&no_client, "{\"client_id\": \"a b\", \"api_key\": \"k\"}",
                   "client_id: must be 1 to 128 bytes of [A-Za-z0-9._:-]");
    assert_refused(&no_client, "{\"client_id\": 5}", "client_id: must be a string of 1 to 128 bytes");
    assert_refused(&own_client, "{\"api_key\": \"\"}", "api_key: must be a string of 1 to 8192 bytes");
    assert_refused(&own_client, "{\"metrics\": {\"bytes_sent\": -1}}",
                   "metrics.bytes_sent: must not be negative");
    assert_refused(&own_client, "{\"api_key\": \"secret", "line 1 column 19: premature end of input");
    assert_refused(&own_client, "[]", "must be a JSON object");
}

static void ids_and_credentials_have_limits(void **state) {
    (void)state;
    char line[TOB_MAX_CREDENTIAL_BYTES + 64];
    char id[TOB_MAX_ID_BYTES + 2];
    memset(id, 'i', sizeof(id));
    id[TOB_MAX_ID_BYTES + 1] = 0;
    snprintf(line, sizeof(line), "{\"client_id\": \"%s\", \"api_key\": \"k\"}", id);
    assert_refused(&no_client, line, "client_id: must be a string of 1 to 128 bytes");
    id[TOB_MAX_ID_BYTES] = 0;
    snprintf(line, sizeof(line), "{\"client_id\": \"%s\", \"api_key\": \"k\"}", id);
    tob_line_report r;
    parse(&no_client, line, &r);
    tob_line_report_fini(&r);

    char key[TOB_MAX_CREDENTIAL_BYTES + 2];
    memset(key, 'k', sizeof(key));
    key[TOB_MAX_CREDENTIAL_BYTES + 1] = 0;
    snprintf(line, sizeof(line), "{\"api_key\": \"%s\"}", key);
    assert_refused(&own_client, line, "api_key: must be a string of 1 to 8192 bytes");
    key[TOB_MAX_CREDENTIAL_BYTES] = 0;
    snprintf(line, sizeof(line), "{\"api_key\": \"%s\"}", key);
    parse(&own_client, line, &r);
    tob_line_report_fini(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_documented_body_is_the_agents_own_report_now),
        cmocka_unit_test(a_line_may_have_its_own_time),
        cmocka_unit_test(a_line_may_name_its_source_with_its_own_credential),
        cmocka_unit_test(anothers_id_is_never_sent_with_the_agents_own_credential_or_name),
        cmocka_unit_test(what_is_wrong_is_named_without_quoting_the_line),
        cmocka_unit_test(ids_and_credentials_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
