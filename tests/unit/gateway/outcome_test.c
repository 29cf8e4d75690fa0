#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/outcome.h"

static void a_batch_that_fails_blames_no_sender(void **state) {
    (void)state;
    for (int error = TOB_INVALID; error < TOB_ERROR_COUNT; error++) {
        assert_in_range(tob_outcome_of_batch((tob_error)error, "", 0).status, 500, 599);
    }
}

static void what_may_work_later_says_when(void **state) {
    static const tob_error later[] = {TOB_BUSY, TOB_UNAVAILABLE, TOB_DEADLINE, TOB_CANCELLED, TOB_NO_MEMORY};
    (void)state;
    for (size_t i = 0; i < sizeof(later) / sizeof(*later); i++) {
        assert_int_equal(tob_outcome_of_batch(later[i], "", 0).retry_after_ms, TOB_RETRY_AFTER_MS);
        assert_int_equal(tob_outcome_of_batch(later[i], "", 7000).retry_after_ms, 7000);
        assert_int_equal(tob_outcome_of_call(later[i], "", 7000).retry_after_ms, 7000);
    }
    assert_int_equal(tob_outcome_of_batch(TOB_DEADLINE, "", 0).status, 504);
    assert_int_equal(tob_outcome_of_call(TOB_INVALID, "", 7000).retry_after_ms, 0);
}

static void a_wrong_credential_too_many_is_429_with_a_time_to_wait(void **state) {
    (void)state;
    tob_outcome outcome = tob_outcome_of_call(TOB_UNAUTHENTICATED, "", 0);
    assert_int_equal(outcome.status, 401);
    assert_int_equal(outcome.retry_after_ms, 0);
    outcome = tob_outcome_of_call(TOB_UNAUTHENTICATED, "", 1);
    assert_int_equal(outcome.status, 429);
    assert_int_equal(outcome.retry_after_ms, 1);
    assert_int_equal(tob_outcome_of_batch(TOB_UNAUTHENTICATED, "", 1).status,
                     502); // that is the gateway's own
    Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
    rejection.code = TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED;
    rejection.retry_after_ms = 2500;
    outcome = tob_outcome_of_rejection(&rejection);
    assert_int_equal(outcome.status, 429);
    assert_int_equal(outcome.retry_after_ms, 2500);
}

static void a_call_that_was_not_sent_in_time_is_no_timeout(void **state) {
    tob_rpc_result result = {.error = TOB_DEADLINE, .sent = true};
    (void)state;
    assert_int_equal(tob_call_error(&result), TOB_DEADLINE);
    result.sent = false;
    assert_int_equal(tob_call_error(&result), TOB_UNAVAILABLE);
    result.error = TOB_NOT_FOUND;
    assert_int_equal(tob_call_error(&result), TOB_NOT_FOUND);
}

static void the_text_is_the_servers_or_the_errors(void **state) {
    (void)state;
    assert_string_equal(tob_outcome_of_call(TOB_INVALID, "batch: bad", 0).text, "batch: bad");
    assert_string_equal(tob_outcome_of_call(TOB_INVALID, "", 0).text, tob_error_string(TOB_INVALID));
    assert_string_equal(tob_outcome_of_call(TOB_INVALID, NULL, 0).text, tob_error_string(TOB_INVALID));
}

static void rejections_have_their_own_status(void **state) {
    static const struct {
        Tobogganing__V1__Code code;
        int status;
    } table[] = {{TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED, 401},
                 {TOBOGGANING__V1__CODE__CODE_PERMISSION_DENIED, 403},
                 {TOBOGGANING__V1__CODE__CODE_NOT_FOUND, 404},
                 {TOBOGGANING__V1__CODE__CODE_INVALID_ARGUMENT, 400},
                 {TOBOGGANING__V1__CODE__CODE_OK, 502}};
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
        rejection.code = table[i].code;
        rejection.reason = (char[]){"why"};
        tob_outcome outcome = tob_outcome_of_rejection(&rejection);
        assert_int_equal(outcome.status, table[i].status);
        if (outcome.status < 500) {
            assert_string_equal(outcome.text, "why");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_that_fails_blames_no_sender),
        cmocka_unit_test(what_may_work_later_says_when),
        cmocka_unit_test(a_wrong_credential_too_many_is_429_with_a_time_to_wait),
        cmocka_unit_test(a_call_that_was_not_sent_in_time_is_no_timeout),
        cmocka_unit_test(the_text_is_the_servers_or_the_errors),
        cmocka_unit_test(rejections_have_their_own_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
