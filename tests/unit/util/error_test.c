#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/error.h"

static void every_error_has_its_own_text(void **state) {
    (void)state;
    for (int a = 0; a < TOB_ERROR_COUNT; a++) {
        const char *text = tob_error_string((tob_error)a);
        assert_string_not_equal(text, "unknown error");
        for (int b = 0; b < a; b++) {
            assert_string_not_equal(text, tob_error_string((tob_error)b));
        }
    }
}

static void a_number_that_is_no_error_has_a_text_too(void **state) {
    (void)state;
    assert_string_equal(tob_error_string((tob_error)TOB_ERROR_COUNT), "unknown error");
}

static void errno_is_translated_at_the_edge(void **state) {
    (void)state;
    assert_int_equal(tob_error_from_errno(0), TOB_OK);
    assert_int_equal(tob_error_from_errno(ENOMEM), TOB_NO_MEMORY);
    assert_int_equal(tob_error_from_errno(ENOENT), TOB_NOT_FOUND);
    assert_int_equal(tob_error_from_errno(EEXIST), TOB_ALREADY_EXISTS);
    assert_int_equal(tob_error_from_errno(EACCES), TOB_PERMISSION_DENIED);
    assert_int_equal(tob_error_from_errno(EADDRINUSE), TOB_UNAVAILABLE);
    assert_int_equal(tob_error_from_errno(ENOSPC), TOB_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_own_text),
        cmocka_unit_test(a_number_that_is_no_error_has_a_text_too),
        cmocka_unit_test(errno_is_translated_at_the_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
