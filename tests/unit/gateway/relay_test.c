#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/body.h"
#include "gateway/relay.h"

static void the_exporters_url_is_a_host_and_a_port(void **state) {
    tob_relay_target target;
    (void)state;
    assert_int_equal(tob_relay_target_parse("http://127.0.0.1:8001", &target), TOB_OK);
    assert_string_equal(target.host, "127.0.0.1");
    assert_string_equal(target.authority, "127.0.0.1:8001");
    assert_int_equal(target.port, 8001);
    assert_int_equal(tob_relay_target_parse("http://exporter/", &target), TOB_OK);
    assert_string_equal(target.host, "exporter");
    assert_int_equal(target.port, 80);
    assert_int_equal(tob_relay_target_parse("http://[::1]:9", &target), TOB_OK);
    assert_string_equal(target.host, "::1");
    assert_string_equal(target.authority, "[::1]:9");
}

static void other_urls_are_refused(void **state) {
    static const char *const wrong[] = {"",           "127.0.0.1:8001",   "https://a:1", "http://",
                                        "http://:80", "http://a/metrics", "tcp://a:1",   "http://u@a:1",
                                        "http://a:0", "http://a:99999",   "http://a?x"};
    tob_relay_target target;
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        if (tob_relay_target_parse(wrong[i], &target) != TOB_INVALID) {
            fail_msg("taken: %s", wrong[i]);
        }
    }
    assert_int_equal(tob_relay_target_parse(NULL, &target), TOB_INVALID);
}

static void a_host_one_byte_over_the_limit_is_refused(void **state) {
    char url[TOB_RELAY_MAX_HOST + 64];
    tob_relay_target target;
    (void)state;
    snprintf(url, sizeof(url), "http://%0*d:80", TOB_RELAY_MAX_HOST, 0);
    assert_int_equal(tob_relay_target_parse(url, &target), TOB_OK);
    snprintf(url, sizeof(url), "http://%0*d:80", TOB_RELAY_MAX_HOST + 1, 0);
    assert_int_equal(tob_relay_target_parse(url, &target), TOB_INVALID);
}

static bool is_json(const char *content_type) {
    return tob_media_type_is(h2o_iovec_init(content_type, strlen(content_type)), "application/json");
}

static void media_types_are_compared_without_parameters_and_case(void **state) {
    (void)state;
    assert_true(is_json("application/json"));
    assert_true(is_json("Application/JSON"));
    assert_true(is_json("application/json; charset=utf-8"));
    assert_true(is_json("application/json ;charset=utf-8"));
    assert_false(is_json("application/jsonx"));
    assert_false(is_json("application/jso"));
    assert_false(is_json("text/json"));
    assert_false(is_json(""));
    assert_false(is_json("; application/json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exporters_url_is_a_host_and_a_port),
        cmocka_unit_test(other_urls_are_refused),
        cmocka_unit_test(a_host_one_byte_over_the_limit_is_refused),
        cmocka_unit_test(media_types_are_compared_without_parameters_and_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
