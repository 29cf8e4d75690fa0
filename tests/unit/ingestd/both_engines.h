// Tests of a registry, which run on SQLite and on PostgreSQL.
#ifndef TOB_TESTS_BOTH_ENGINES_H
#define TOB_TESTS_BOTH_ENGINES_H

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

#include "ingestd/registry.h"
#include "tests/unit/sql/server.h"

static inline tob_registry *open_registry(const char *url) {
    tob_registry *registry = NULL;
    tob_sql_problem_text problem = {""};
    tob_error err = tob_registry_open(url, NULL, &registry, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    return registry;
}

#define TEST(function) cmocka_unit_test(function)
#define MAX_TESTS      64

// Runs each test on both engines; on SQLite alone when PostgreSQL is not installed. `up` finds the engine in *state.
static inline int run_on_both(const char *group, const struct CMUnitTest *tests, size_t count,
                              CMFixtureFunction up, CMFixtureFunction down) {
    static char names[2 * MAX_TESTS][160];
    static const char *const engines[] = {"sqlite", "postgresql"};
    struct CMUnitTest all[2 * MAX_TESTS];
    size_t n = 0, engine_count = tob_test_postgresql() ? 2 : 1;
    if (count > MAX_TESTS) {
        abort();
    }
    for (size_t e = 0; e < engine_count; e++) {
        for (size_t i = 0; i < count; i++, n++) {
            snprintf(names[n], sizeof(names[n]), "%s (%s)", tests[i].name, engines[e]);
            all[n] = (struct CMUnitTest){.name = names[n],
                                         .test_func = tests[i].test_func,
                                         .setup_func = up,
                                         .teardown_func = down,
                                         .initial_state = (void *)(uintptr_t)engines[e]};
        }
    }
    if (engine_count == 1) {
        print_message("PostgreSQL is not installed: tested on SQLite only\n");
    }
    return _cmocka_run_group_tests(group, all, n, NULL, NULL);
}

// The same with the rig's set_up and tear_down.
#define RUN_ON_BOTH(group, tests)                                                                            \
    run_on_both(group, tests, sizeof(tests) / sizeof((tests)[0]), set_up, tear_down)

#endif
