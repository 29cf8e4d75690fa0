// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"

static tob_client_report client_of(const char *body) {
    tob_client_report report;
    tob_report_problem problem = {""};
    memset(&report, 0xff, sizeof(report));
    tob_error err = tob_report_parse_client(body, strlen(body), &report, &problem);
    if (err) {
        fail_msg("%s: %s", body, problem.text);
    }
    return report;
}

static tob_headend_report headend_of(const char *body) {
    tob_headend_report report;
    tob_report_problem problem = {""};
    memset(&report, 0xff, sizeof(report));
    tob_error err = tob_report_parse_headend(body, strlen(body), &report, &problem);
    if (err) {
        fail_msg("%s: %s", body, problem.text);
    }
    return report;
}

static void assert_client_refused(const char *body, tob_error error, const char *text) {
    tob_client_report report = {.unknown_metrics = 77};
    tob_report_problem problem = {""};
    assert_int_equal(tob_report_parse_client(body, strlen(body), &report, &problem), error);
    assert_string_equal(problem.text, text);
    assert_int_equal(report.unknown_metrics, 77); // not touched
}

static void assert_headend_refused(const char *body, tob_error error, const char *text) {
    tob_headend_report report = {.unknown_metrics = 77};
    tob_report_problem problem = {""};
    assert_int_equal(tob_report_parse_headend(body, strlen(body), &report, &problem), error);
    assert_string_equal(problem.text, text);
    assert_int_equal(report.unknown_metrics, 77);
}

static void the_documented_client_body_is_read(void **state) {
    (void)state;
    tob_client_report r =
        client_of("{\"headless\": true, \"metrics\": {\"bytes_sent\": 1048576, \"bytes_received\": "
                  "2097152, \"packets_sent\": 1000, \"packets_received\": 1500, "
                  "\"connection_uptime\": 3600}}");
    assert_true(r.headless);
    assert_int_equal(r.sample.time_unix_ms, 0);
    assert_int_equal(r.sample.present, 31);
    assert_int_equal(r.sample.values[TOB_CLIENT_BYTES_SENT], 1048576);
    assert_int_equal(r.sample.values[TOB_CLIENT_BYTES_RECEIVED], 2097152);
    assert_int_equal(r.sample.values[TOB_CLIENT_PACKETS_SENT], 1000);
    assert_int_equal(r.sample.values[TOB_CLIENT_PACKETS_RECEIVED], 1500);
    assert_int_equal(r.sample.values[TOB_CLIENT_CONNECTION_UPTIME], 3600000);
    assert_int_equal(r.unknown_metrics, 0);
}

static void the_documented_headend_body_is_read(void **state) {
    (void)state;
    tob_headend_report r =
        headend_of("{\"headend_name\": \"headend-us-east-1\", \"metrics\": "
                   "{\"active_connections\": 150, \"bandwidth_in\": 10485760, \"bandwidth_out\": "
                   "5242880, \"cpu_usage\": 45.2, \"memory_usage\": 2147483648}}");
    assert_string_equal(r.name, "headend-us-east-1");
    assert_int_equal(r.sample.present, 31);
    assert_true(r.sample.values[TOB_HEADEND_ACTIVE_CONNECTIONS] == 150);
    assert_true(r.sample.values[TOB_HEADEND_BANDWIDTH_IN] == 10485760);
    assert_true(r.sample.values[TOB_HEADEND_BANDWIDTH_OUT] == 5242880);
    assert_true(r.sample.values[TOB_HEADEND_CPU_USAGE] == 45.2);
    assert_true(r.sample.values[TOB_HEADEND_MEMORY_USAGE] == 2147483648.0);
}

static void no_metrics_is_a_check_in(void **state) {
    (void)state;
    static const char *const bodies[] = {"{}", "{\"metrics\": {}}", " {\"headless\":false}\n",
                                         "{\"other\": [1, {}]}"};
    for (size_t i = 0; i < 4; i++) {
        tob_client_report r = client_of(bodies[i]);
        assert_int_equal(r.sample.present, 0);
        assert_false(r.headless);
        assert_int_equal(headend_of(bodies[i]).sample.present, 0);
        assert_string_equal(headend_of(bodies[i]).name, "");
    }
}

static void missing_metrics_are_not_present(void **state) {
    (void)state;
    tob_client_report r = client_of("{\"metrics\": {\"bytes_received\": 2}}");
    assert_int_equal(r.sample.present, 1u << TOB_CLIENT_BYTES_RECEIVED);
    assert_int_equal(r.sample.values[TOB_CLIENT_BYTES_SENT], 0);
}

static void unknown_metric_names_are_ignored_and_counted(void **state) {
    (void)state;
    tob_client_report c =
        client_of("{\"metrics\": {\"bytes_sent\": 1, \"rtt\": \"text\", \"cpu_usage\": null}}");
    assert_int_equal(c.unknown_metrics, 2);
    assert_int_equal(c.sample.present, 1u << TOB_CLIENT_BYTES_SENT);
    assert_int_equal(headend_of("{\"metrics\": {\"bytes_sent\": 1, \"cpu_usage\": 0}}").unknown_metrics, 1);
}

static void counters_may_be_written_as_integral_decimals(void **state) {
    (void)state;
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": 1048576.0}}").sample.values[0], 1048576);
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": 1e6}}").sample.values[0], 1000000);
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": -0.0}}").sample.values[0], 0);
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": 9007199254740994.0}}").sample.values[0],
                     9007199254740994);
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": 9223372036854774784.0}}").sample.values[0],
                     9223372036854774784);
}

static void counters_reach_to_two_to_63_minus_1_and_not_further(void **state) {
    (void)state;
    assert_int_equal(client_of("{\"metrics\": {\"bytes_sent\": 9223372036854775807}}").sample.values[0],
                     INT64_MAX);
    assert_client_refused("{\"metrics\": {\"bytes_sent\": 9223372036854775808}}", TOB_INVALID,
                          "line 1 column 46: number over 2^63-1");
    assert_client_refused("{\"metrics\": {\"bytes_sent\": 9223372036854775808.0}}", TOB_INVALID,
                          "metrics.bytes_sent: over 2^63-1");
    assert_client_refused("{\"metrics\": {\"bytes_sent\": 1e400}}", TOB_INVALID,
                          "line 1 column 32: number over 2^63-1");
}

static void counters_refuse_fractions_and_negatives(void **state) {
    (void)state;
    assert_client_refused("{\"metrics\": {\"bytes_sent\": 1.5}}", TOB_INVALID,
                          "metrics.bytes_sent: must be a whole number");
    assert_client_refused("{\"metrics\": {\"packets_sent\": -1}}", TOB_INVALID,
                          "metrics.packets_sent: must not be negative");
    assert_client_refused("{\"metrics\": {\"packets_sent\": -0.5}}", TOB_INVALID,
                          "metrics.packets_sent: must not be negative");
    assert_client_refused("{\"metrics\": {\"packets_sent\": -9223372036854775809}}", TOB_INVALID,
                          "line 1 column 49: number must not be negative");
}

static void uptime_is_seconds_with_decimals_kept_to_the_millisecond(void **state) {
    (void)state;
    const unsigned at = TOB_CLIENT_CONNECTION_UPTIME;
    assert_int_equal(client_of("{\"metrics\": {\"connection_uptime\": 12345.67}}").sample.values[at],
                     12345670);
    assert_int_equal(client_of("{\"metrics\": {\"connection_uptime\": 0.0006}}").sample.values[at], 1);
    assert_int_equal(client_of("{\"metrics\": {\"connection_uptime\": 0}}").sample.values[at], 0);
    assert_int_equal(client_of("{\"metrics\": {\"connection_uptime\": 9223372036854775}}").sample.values[at],
                     9223372036854775000);
    const char *over = "metrics.connection_uptime: over (2^63-1)/1000 seconds";
    assert_client_refused("{\"metrics\": {\"connection_uptime\": 9223372036854776}}", TOB_INVALID, over);
    assert_client_refused("{\"metrics\": {\"connection_uptime\": 9.3e15}}", TOB_INVALID, over);
    assert_client_refused("{\"metrics\": {\"connection_uptime\": 1.7e308}}", TOB_INVALID,
                          over); // × 1000 is infinite
    assert_client_refused("{\"metrics\": {\"connection_uptime\": -1.5}}", TOB_INVALID,
                          "metrics.connection_uptime: must not be negative");
}

static void gauges_are_decimals_from_0_to_two_to_63_minus_1(void **state) {
    (void)state;
    tob_headend_report r =
        headend_of("{\"metrics\": {\"memory_usage\": 9223372036854775807, \"cpu_usage\": -0.0}}");
    assert_true(r.sample.values[TOB_HEADEND_MEMORY_USAGE] < 0x1p63); // what the wire's check allows
    assert_true(r.sample.values[TOB_HEADEND_MEMORY_USAGE] >= 0x1p63 - 1024);
    assert_false(signbit(r.sample.values[TOB_HEADEND_CPU_USAGE]));
    assert_headend_refused("{\"metrics\": {\"memory_usage\": 9.3e18}}", TOB_INVALID,
                           "metrics.memory_usage: over 2^63-1");
    assert_headend_refused("{\"metrics\": {\"cpu_usage\": -0.1}}", TOB_INVALID,
                           "metrics.cpu_usage: must not be negative");
}

static void values_of_another_type_are_refused(void **state) {
    (void)state;
    static const char *const values[] = {"\"5\"", "true", "null", "[5]", "{}"};
    for (size_t i = 0; i < 5; i++) {
        char body[64];
        snprintf(body, sizeof(body), "{\"metrics\": {\"bytes_sent\": %s}}", values[i]);
        assert_client_refused(body, TOB_INVALID, "metrics.bytes_sent: must be a number");
        snprintf(body, sizeof(body), "{\"metrics\": {\"cpu_usage\": %s}}", values[i]);
        assert_headend_refused(body, TOB_INVALID, "metrics.cpu_usage: must be a number");
    }
    assert_client_refused("{\"metrics\": []}", TOB_INVALID, "metrics: must be an object");
    assert_client_refused("{\"metrics\": null}", TOB_INVALID, "metrics: must be an object");
    assert_client_refused("{\"headless\": \"false\"}", TOB_INVALID, "headless: must be true or false");
    assert_client_refused("{\"headless\": null}", TOB_INVALID, "headless: must be true or false");
    assert_headend_refused("{\"headend_name\": 5}", TOB_INVALID, "headend_name: must be a string");
    assert_client_refused("[]", TOB_INVALID, "must be a JSON object");
    assert_client_refused("5", TOB_INVALID, "must be a JSON object");
}

static void malformed_json_names_the_place_and_quotes_no_input(void **state) {
    (void)state;
    assert_client_refused("", TOB_MALFORMED, "line 1 column 0: empty where a JSON object is expected");
    assert_client_refused("{\n\"metrics\": {\n\"bytes_sent\": NaN}}", TOB_MALFORMED,
                          "line 3 column 17: invalid token");
    assert_client_refused("{\"metrics\": {\"bytes_sent\": Infinity}}", TOB_MALFORMED,
                          "line 1 column 35: invalid token");
    assert_client_refused("{\"metrics\": {\"bytes_sent\": 1, \"bytes_sent\": 2}}", TOB_MALFORMED,
                          "line 1 column 42: duplicate object key");
    assert_client_refused("{\"api_key\": \"tobk_secret", TOB_MALFORMED,
                          "line 1 column 24: premature end of input");
    assert_client_refused("{} x", TOB_MALFORMED, "line 1 column 4: end of file expected");
    assert_client_refused("{\"headless\": \xff}", TOB_MALFORMED,
                          "line 1 column 13: unable to decode byte 0xff");
}

static void deep_nesting_is_refused_and_not_followed(void **state) {
    (void)state;
    size_t n = 100000;
    char *body = malloc(n);
    assert_non_null(body);
    memset(body, '[', n);
    tob_client_report report;
    tob_report_problem problem = {""};
    assert_int_equal(tob_report_parse_client(body, n, &report, &problem), TOB_MALFORMED);
    assert_string_equal(problem.text, "line 1 column 2049: maximum parsing depth reached");
    free(body);
}

static void a_body_is_read_to_its_length_and_not_to_a_nul(void **state) {
    (void)state;
    tob_client_report report;
    tob_report_problem problem = {""};
    assert_int_equal(tob_report_parse_client("{}garbage", 2, &report, &problem), TOB_OK);
    assert_int_equal(tob_report_parse_client("{}\0{}", 5, &report, &problem), TOB_MALFORMED);
}

static void names_of_headends_have_a_limit(void **state) {
    (void)state;
    char body[512];
    char name[TOB_MAX_NAME_BYTES + 2];
    memset(name, 'n', sizeof(name));
    name[TOB_MAX_NAME_BYTES] = 0;
    snprintf(body, sizeof(body), "{\"headend_name\": \"%s\"}", name);
    assert_string_equal(headend_of(body).name, name);
    snprintf(body, sizeof(body), "{\"headend_name\": \"%sn\"}", name);
    const char *refused = "headend_name: must be at most 256 bytes without control characters";
    assert_headend_refused(body, TOB_INVALID, refused);
    assert_headend_refused("{\"headend_name\": \"a\\nb\"}", TOB_INVALID, refused);
    assert_string_equal(headend_of("{\"headend_name\": \"d\\u00fcsseldorf\"}").name, "d\xc3\xbcsseldorf");
}

static void a_report_has_at_most_64_names(void **state) {
    (void)state;
    char body[2048] = "{\"metrics\": {\"bytes_sent\": 1";
    for (unsigned i = 1; i < TOB_REPORT_MAX_METRICS; i++) {
        sprintf(body + strlen(body), ", \"m%u\": 0", i);
    }
    char *end = body + strlen(body);
    strcpy(end, "}}");
    assert_int_equal(client_of(body).unknown_metrics, TOB_REPORT_MAX_METRICS - 1);
    strcpy(end, ", \"one_over\": 0}}");
    assert_client_refused(body, TOB_TOO_LARGE, "metrics: more than 64 names");
}

static void other_keys_stay_readable_beside_the_report(void **state) {
    (void)state;
    const char *line = "{\"client_id\": \"c1\", \"time\": 5.5, \"metrics\": {\"bytes_sent\": 7}}";
    json_t *object = NULL;
    tob_report_problem problem = {""};
    tob_client_report report;
    assert_int_equal(tob_report_load(line, strlen(line), &object, &problem), TOB_OK);
    assert_int_equal(tob_report_read_client(object, &report, &problem), TOB_OK);
    assert_int_equal(report.sample.values[TOB_CLIENT_BYTES_SENT], 7);
    assert_string_equal(json_string_value(json_object_get(object, "client_id")), "c1");
    json_decref(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_client_body_is_read),
        cmocka_unit_test(the_documented_headend_body_is_read),
        cmocka_unit_test(no_metrics_is_a_check_in),
        cmocka_unit_test(missing_metrics_are_not_present),
        cmocka_unit_test(unknown_metric_names_are_ignored_and_counted),
        cmocka_unit_test(counters_may_be_written_as_integral_decimals),
        cmocka_unit_test(counters_reach_to_two_to_63_minus_1_and_not_further),
        cmocka_unit_test(counters_refuse_fractions_and_negatives),
        cmocka_unit_test(uptime_is_seconds_with_decimals_kept_to_the_millisecond),
        cmocka_unit_test(gauges_are_decimals_from_0_to_two_to_63_minus_1),
        cmocka_unit_test(values_of_another_type_are_refused),
        cmocka_unit_test(malformed_json_names_the_place_and_quotes_no_input),
        cmocka_unit_test(deep_nesting_is_refused_and_not_followed),
        cmocka_unit_test(a_body_is_read_to_its_length_and_not_to_a_nul),
        cmocka_unit_test(names_of_headends_have_a_limit),
        cmocka_unit_test(a_report_has_at_most_64_names),
        cmocka_unit_test(other_keys_stay_readable_beside_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
