#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/router.h"

static void handler(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)req;
    (void)match;
    (void)user;
}

static void add(tob_http_router *router, const char *method, const char *pattern) {
    tob_http_route route = {.method = method, .pattern = pattern, .handler = handler};
    assert_int_equal(tob_http_router_add(router, &route), TOB_OK);
}

static tob_http_router *routes(void) {
    static tob_http_router router;
    memset(&router, 0, sizeof(router));
    add(&router, "POST", "/api/v1/clients/{client_id}/metrics");
    add(&router, "GET", "/api/v1/clients/{client_id}/metrics/{name}");
    add(&router, "GET", "/metrics");
    add(&router, "GET", "/both");
    add(&router, "PUT", "/both");
    return &router;
}

static const char *find(const char *method, const char *path, h2o_iovec_t *params, char *allow) {
    h2o_iovec_t at = h2o_iovec_init(path, strlen(path));
    const tob_http_route *route = tob_http_router_find(routes(), method, at, params, allow);
    return route ? route->pattern : NULL;
}

static void a_path_without_parameters_matches_exactly(void **state) {
    h2o_iovec_t params[TOB_HTTP_MAX_PARAMS];
    char allow[TOB_HTTP_ALLOW_BYTES];
    (void)state;
    assert_string_equal(find("GET", "/metrics", params, allow), "/metrics");
    assert_null(find("GET", "/metrics/", params, allow));
    assert_null(find("GET", "/metric", params, allow));
    assert_null(find("GET", "/metricsx", params, allow));
    assert_null(find("GET", "/", params, allow));
    assert_string_equal(allow, "");
}

static void parameters_are_whole_non_empty_segments(void **state) {
    h2o_iovec_t params[TOB_HTTP_MAX_PARAMS];
    char allow[TOB_HTTP_ALLOW_BYTES];
    (void)state;
    assert_string_equal(find("POST", "/api/v1/clients/a.b:c-1/metrics", params, allow),
                        "/api/v1/clients/{client_id}/metrics");
    assert_int_equal(params[0].len, 7);
    assert_memory_equal(params[0].base, "a.b:c-1", 7);
    assert_null(find("POST", "/api/v1/clients//metrics", params, allow));
    assert_null(find("POST", "/api/v1/clients/a/b/metrics", params, allow));
    assert_null(find("POST", "/api/v1/clients/a", params, allow));
    assert_non_null(find("GET", "/api/v1/clients/a/metrics/b", params, allow));
    assert_memory_equal(params[0].base, "a", 1);
    assert_memory_equal(params[1].base, "b", 1);
}

static void another_method_is_told_what_is_allowed(void **state) {
    h2o_iovec_t params[TOB_HTTP_MAX_PARAMS];
    char allow[TOB_HTTP_ALLOW_BYTES];
    (void)state;
    assert_null(find("DELETE", "/metrics", params, allow));
    assert_string_equal(allow, "GET, HEAD");
    assert_null(find("GET", "/api/v1/clients/a/metrics", params, allow));
    assert_string_equal(allow, "POST");
    assert_null(find("POST", "/both", params, allow));
    assert_string_equal(allow, "GET, HEAD, PUT");
}

static void head_follows_get(void **state) {
    h2o_iovec_t params[TOB_HTTP_MAX_PARAMS];
    char allow[TOB_HTTP_ALLOW_BYTES];
    (void)state;
    assert_string_equal(find("HEAD", "/metrics", params, allow), "/metrics");
    assert_null(find("HEAD", "/api/v1/clients/a/metrics", params, allow));
}

static void bad_patterns_are_refused(void **state) {
    static const char *const bad[] = {
        "", "metrics", "/a{b}", "/{a}b", "/{a", "/{a/b}", "/{a}/{b}/{c}/{d}/{e}"};
    static tob_http_router router;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        tob_http_route route = {.method = "GET", .pattern = bad[i], .handler = handler};
        assert_int_equal(tob_http_router_add(&router, &route), TOB_INVALID);
    }
    assert_int_equal(router.count, 0);
}

static void one_route_over_the_limit_is_refused(void **state) {
    static tob_http_router router;
    tob_http_route route = {.method = "GET", .pattern = "/a", .handler = handler};
    (void)state;
    for (int i = 0; i < TOB_HTTP_MAX_ROUTES; i++) {
        assert_int_equal(tob_http_router_add(&router, &route), TOB_OK);
    }
    assert_int_equal(tob_http_router_add(&router, &route), TOB_TOO_LARGE);
}

static void unknown_methods_have_one_name(void **state) {
    (void)state;
    assert_string_equal(tob_http_method(h2o_iovec_init(H2O_STRLIT("GET"))), "GET");
    assert_string_equal(tob_http_method(h2o_iovec_init(H2O_STRLIT("get"))), "OTHER");
    assert_string_equal(tob_http_method(h2o_iovec_init(H2O_STRLIT("BREW"))), "OTHER");
}

static void every_error_has_a_status_and_a_reason(void **state) {
    (void)state;
    for (int error = TOB_INVALID; error < TOB_ERROR_COUNT; error++) {
        int status = tob_http_status((tob_error)error);
        assert_in_range(status, 400, 599);
        assert_string_not_equal(tob_http_reason(status), "Error");
    }
    assert_int_equal(tob_http_status(TOB_OK), 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_without_parameters_matches_exactly),
        cmocka_unit_test(parameters_are_whole_non_empty_segments),
        cmocka_unit_test(another_method_is_told_what_is_allowed),
        cmocka_unit_test(head_follows_get),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(one_route_over_the_limit_is_refused),
        cmocka_unit_test(unknown_methods_have_one_name),
        cmocka_unit_test(every_error_has_a_status_and_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
