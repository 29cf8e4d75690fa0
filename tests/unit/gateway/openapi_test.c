#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "gateway/gateway.h"
#include "gateway/openapi.h"

static json_t *load(void) {
    json_error_t problem;
    json_t *document =
        json_loadb(tob_openapi_document, tob_openapi_document_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!document) {
        fail_msg("line %d: %s", problem.line, problem.text);
    }
    return document;
}

static json_t *operation(json_t *document, const char *method, const char *pattern) {
    char name[8] = "";
    for (size_t i = 0; method[i] && i + 1 < sizeof(name); i++) {
        name[i] = (char)(method[i] | 0x20);
    }
    return json_object_get(json_object_get(json_object_get(document, "paths"), pattern), name);
}

static void every_route_is_in_the_document(void **state) {
    json_t *document = load();
    const char *method = NULL;
    const char *pattern = NULL;
    (void)state;
    for (size_t i = 0; tob_gateway_route(i, &method, &pattern); i++) {
        if (!operation(document, method, pattern)) {
            fail_msg("%s %s is not in openapi.json", method, pattern);
        }
    }
    json_decref(document);
}

static bool is_route(const char *name, const char *path) {
    const char *method = NULL;
    const char *pattern = NULL;
    for (size_t i = 0; tob_gateway_route(i, &method, &pattern); i++) {
        if (strcasecmp(method, name) == 0 && strcmp(pattern, path) == 0) {
            return true;
        }
    }
    return false;
}

static void everything_in_the_document_is_a_route(void **state) {
    json_t *document = load();
    const char *path;
    const char *method;
    json_t *item;
    json_t *operation_;
    (void)state;
    json_object_foreach(json_object_get(document, "paths"), path, item) {
        json_object_foreach(item, method, operation_) {
            if (!is_route(method, path)) {
                fail_msg("%s %s of openapi.json is no route", method, path);
            }
        }
    }
    json_decref(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_in_the_document),
        cmocka_unit_test(everything_in_the_document_is_a_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
