#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/consumers.h"

static tob_consumers *consumers;

static int setup(void **state) {
    (void)state;
    return tob_consumers_new(&consumers);
}

static int teardown(void **state) {
    (void)state;
    tob_consumers_free(consumers);
    return 0;
}

static tob_error put(const char *name, uint64_t offset) {
    return tob_consumers_put(consumers, name, (tob_position){1, offset});
}

static void they_are_found_and_listed_by_name(void **state) {
    (void)state;
    const char *names[] = {"m", "a", "z", "b"};
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(put(names[i], i), TOB_OK);
    }
    assert_int_equal(put("z", 9), TOB_OK);
    const tob_consumer *all = tob_consumers_all(consumers, &n);
    assert_int_equal(n, 4);
    assert_string_equal(all[0].name, "a");
    assert_string_equal(all[3].name, "z");
    assert_int_equal(all[3].position.offset, 9);
    assert_int_equal(tob_consumers_find(consumers, "b")->position.offset, 3);
    assert_null(tob_consumers_find(consumers, "c"));
    tob_consumers_forget(consumers, "b");
    tob_consumers_forget(consumers, "c");
    assert_null(tob_consumers_find(consumers, "b"));
    assert_int_equal(tob_consumers_find(consumers, "m")->position.offset, 0);
}

static void one_over_the_limit_is_refused(void **state) {
    (void)state;
    char name[16];
    for (int i = 0; i < TOB_CONSUMERS_MAX; i++) {
        snprintf(name, sizeof(name), "c%02d", i);
        assert_int_equal(put(name, 1), TOB_OK);
    }
    assert_int_equal(put("one-more", 1), TOB_BUSY);
    assert_int_equal(put("zzz", 1), TOB_BUSY);
    assert_int_equal(put("c00", 2), TOB_OK);
    tob_consumers_forget(consumers, "c63");
    assert_int_equal(put("one-more", 1), TOB_OK);
}

static void names_that_can_not_be_are_refused(void **state) {
    (void)state;
    char name[TOB_MAX_ID_BYTES + 2];
    memset(name, 'n', sizeof(name));
    name[TOB_MAX_ID_BYTES + 1] = 0;
    assert_int_equal(put(name, 1), TOB_INVALID);
    name[TOB_MAX_ID_BYTES] = 0;
    assert_int_equal(put(name, 1), TOB_OK);
    assert_int_equal(put("", 1), TOB_INVALID);
    assert_int_equal(put("a b", 1), TOB_INVALID);
}

static void a_lease_is_one_holders_until_it_ends_or_is_given_up(void **state) {
    (void)state;
    uint64_t wait = 0;
    assert_int_equal(tob_consumers_lease(consumers, "c", 1, 100, 200, &wait), TOB_NOT_FOUND);
    assert_int_equal(put("c", 5), TOB_OK);
    assert_int_equal(tob_consumers_lease(consumers, "c", 1, 100, 200, &wait), TOB_OK);
    assert_int_equal(tob_consumers_lease(consumers, "c", 2, 150, 250, &wait), TOB_ABORTED);
    assert_int_equal(wait, 50);
    assert_int_equal(tob_consumers_lease(consumers, "c", 1, 150, 300, &wait), TOB_OK);
    assert_int_equal(tob_consumers_lease(consumers, "c", 2, 299, 400, &wait), TOB_ABORTED);
    assert_int_equal(wait, 1);
    assert_int_equal(tob_consumers_lease(consumers, "c", 2, 300, 400, &wait), TOB_OK);
    assert_int_equal(tob_consumers_find(consumers, "c")->holder, 2);
    assert_int_equal(tob_consumers_lease(consumers, "c", 1, 310, 0, &wait), TOB_ABORTED);
    assert_int_equal(put("c", 6), TOB_OK); // a position leaves the lease alone
    assert_int_equal(tob_consumers_find(consumers, "c")->holder, 2);
    assert_int_equal(tob_consumers_lease(consumers, "c", 2, 310, 0, &wait), TOB_OK);
    assert_int_equal(tob_consumers_find(consumers, "c")->holder, 0);
    assert_int_equal(tob_consumers_lease(consumers, "c", 1, 311, 500, &wait), TOB_OK);
    assert_int_equal(tob_consumers_find(consumers, "c")->position.offset, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_are_found_and_listed_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(one_over_the_limit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(names_that_can_not_be_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lease_is_one_holders_until_it_ends_or_is_given_up, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
