#include "credentials_rig.h"

static int set_up(void **state) {
    judges *j = calloc(1, sizeof(*j));
    assert_non_null(j);
    judges_open(j);
    *state = j;
    return 0;
}

static int tear_down(void **state) {
    judges_close(*state);
    free(*state);
    return 0;
}

static tob_claim client(judges *j, const char *id, const char *key, const char *peer) {
    tob_claim claim = {.id = id, .credential = key, .peer = peer};
    tob_credentials_clients(j->credentials, NULL, &claim, 1);
    return claim;
}

static tob_claim headend(judges *j, const char *id, const char *token, const char *peer) {
    tob_claim claim = {.id = id, .credential = token, .peer = peer};
    tob_credentials_headends(j->credentials, NULL, &claim, 1);
    return claim;
}

static void assert_counted(judges *j, const char *type, uint64_t success, uint64_t failure,
                           uint64_t limited) {
    assert_int_equal(judges_counted(j, type, "success"), success);
    assert_int_equal(judges_counted(j, type, "failure"), failure);
    assert_int_equal(judges_counted(j, type, "limited"), limited);
}

static void assert_refused(const tob_claim *claim, tob_error error, const char *reason) {
    assert_int_equal(claim->error, error);
    assert_string_equal(claim->reason, reason);
    assert_int_equal(claim->retry_after_ms, 0);
}

// Uses up what an address may have wrong.
static void exhaust(judges *j, const char *peer) {
    for (unsigned i = 0; i < BURST; i++) {
        tob_claim claim = client(j, "c-1", "wrong", peer);
        assert_int_equal(claim.retry_after_ms, 0);
    }
}

static void both_live_keys_of_a_client_let_it_in(void **state) {
    judges *j = *state;
    assert_int_equal(client(j, "c-1", KEY, FAR_AWAY).error, TOB_OK);
    assert_int_equal(tob_directory_on_previous_key(j->directory, tob_clock_unix_ms()), 0);
    assert_int_equal(client(j, "c-1", OLD_KEY, FAR_AWAY).error, TOB_OK);
    assert_int_equal(tob_directory_on_previous_key(j->directory, tob_clock_unix_ms()), 1);
    assert_int_equal(client(j, "c-1", KEY, FAR_AWAY).error, TOB_OK);
    assert_int_equal(tob_directory_on_previous_key(j->directory, tob_clock_unix_ms()), 0);
    assert_counted(j, "api_key", 3, 0, 0);
}

static void the_key_before_ends_with_its_overlap(void **state) {
    judges *j = *state;
    judges_put_client(j, "c-1", KEY, OLD_KEY, tob_clock_unix_ms() - 1, false);
    tob_claim claim = client(j, "c-1", OLD_KEY, FAR_AWAY);
    assert_refused(&claim, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    assert_int_equal(client(j, "c-1", KEY, FAR_AWAY).error, TOB_OK);
    assert_counted(j, "api_key", 1, 1, 0);
}

static void an_unknown_client_is_answered_like_a_wrong_key(void **state) {
    judges *j = *state;
    tob_claim unknown = client(j, "nobody", KEY, FAR_AWAY), wrong = client(j, "c-1", "wrong", FAR_AWAY);
    assert_refused(&unknown, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    assert_refused(&wrong, TOB_UNAUTHENTICATED, unknown.reason);
    tob_claim empty = client(j, "", "", FAR_AWAY);
    assert_refused(&empty, TOB_UNAUTHENTICATED, unknown.reason);
    assert_counted(j, "api_key", 0, 3, 0);
}

static void a_revoked_key_is_told_so_and_a_wrong_one_of_a_revoked_client_is_not(void **state) {
    judges *j = *state;
    tob_claim revoked = client(j, "c-revoked", KEY, FAR_AWAY);
    assert_refused(&revoked, TOB_UNAUTHENTICATED, "credential: this client's API key is revoked");
    tob_claim wrong = client(j, "c-revoked", "wrong", FAR_AWAY);
    assert_refused(&wrong, TOB_UNAUTHENTICATED, "credential: not this client's API key");
}

static void a_credential_over_the_limit_is_not_looked_at(void **state) {
    judges *j = *state;
    char *text = calloc(1, 8194);
    assert_non_null(text);
    memset(text, 'k', 8192);
    judges_put_client(j, "c-long", text, NULL, 0, false);
    assert_int_equal(client(j, "c-long", text, FAR_AWAY).error, TOB_OK);
    text[8192] = 'k';
    judges_put_client(j, "c-long", text, NULL, 0, false);
    tob_claim claim = client(j, "c-long", text, FAR_AWAY);
    assert_refused(&claim, TOB_UNAUTHENTICATED, "credential: over 8192 bytes");
    claim = headend(j, "h-1", text, FAR_AWAY);
    assert_refused(&claim, TOB_UNAUTHENTICATED, "credential: over 8192 bytes");
    assert_counted(j, "api_key", 1, 1, 0);
    assert_counted(j, "jwt", 0, 1, 0);
    free(text);
}

static void in_a_batch_each_series_is_judged_by_itself(void **state) {
    judges *j = *state;
    const char *shared = KEY;
    tob_claim claims[] = {
        {.id = "c-1", .credential = shared, .peer = FAR_AWAY},
        {.id = "nobody", .credential = shared, .peer = FAR_AWAY},
        {.id = "c-1", .credential = "wrong", .peer = FAR_AWAY},
        {.id = "c-revoked", .credential = shared, .peer = FAR_AWAY},
        {.id = "c-1", .credential = OLD_KEY, .peer = FAR_AWAY},
    };
    tob_credentials_clients(j->credentials, NULL, claims, 5);
    assert_int_equal(claims[0].error, TOB_OK);
    assert_int_equal(claims[1].error, TOB_UNAUTHENTICATED);
    assert_int_equal(claims[2].error, TOB_UNAUTHENTICATED);
    assert_int_equal(claims[3].error, TOB_UNAUTHENTICATED);
    assert_int_equal(claims[4].error, TOB_OK);
    assert_counted(j, "api_key", 2, 3, 0);
    tob_credentials_clients(j->credentials, NULL, claims, 0);
}

// How many attempts may have come back since then: the machine may be slow.
static uint64_t refilled(uint64_t since_ms) {
    return (tob_clock_monotonic_ms() - since_ms) / TOB_LIMITER_REFILL_MS + 1;
}

static void assert_limited(judges *j, const char *type, uint64_t attempts, uint64_t since_ms) {
    uint64_t failure = judges_counted(j, type, "failure"), limited = judges_counted(j, type, "limited");
    assert_int_equal(failure + limited, attempts);
    assert_in_range(failure, BURST, BURST + refilled(since_ms));
}

static void wrong_keys_are_limited_by_address_and_right_ones_never(void **state) {
    judges *j = *state;
    uint64_t since_ms = tob_clock_monotonic_ms();
    exhaust(j, FAR_AWAY);
    for (unsigned i = 0; i < 100; i++) {
        tob_claim wrong = client(j, "c-1", "wrong", FAR_AWAY);
        tob_claim unknown = client(j, "nobody", "wrong", FAR_AWAY);
        assert_int_equal(wrong.error, TOB_UNAUTHENTICATED);
        assert_int_equal(unknown.error, TOB_UNAUTHENTICATED);
        if (wrong.retry_after_ms && unknown.retry_after_ms) {
            assert_in_range(wrong.retry_after_ms, 1, TOB_LIMITER_REFILL_MS);
            assert_non_null(strstr(wrong.reason, "too many"));
            assert_string_equal(unknown.reason, wrong.reason); // still nobody learns who is registered
        }
        assert_int_equal(client(j, "c-1", KEY, FAR_AWAY).error, TOB_OK);
        assert_int_equal(client(j, "c-1", OLD_KEY, FAR_AWAY).error, TOB_OK);
    }
    assert_int_equal(judges_counted(j, "api_key", "success"), 200);
    assert_limited(j, "api_key", BURST + 200, since_ms);
    tob_claim elsewhere = client(j, "c-1", "wrong", "192.0.2.2");
    assert_refused(&elsewhere, TOB_UNAUTHENTICATED, "credential: not this client's API key");
}

static void the_limit_holds_within_one_batch(void **state) {
    enum { SERIES = 3 * BURST };
    judges *j = *state;
    tob_claim claims[SERIES];
    uint64_t since_ms = tob_clock_monotonic_ms();
    for (size_t i = 0; i < SERIES; i++) {
        claims[i] = (tob_claim){.id = "c-1", .credential = "wrong", .peer = FAR_AWAY};
    }
    tob_credentials_clients(j->credentials, NULL, claims, SERIES);
    assert_limited(j, "api_key", SERIES, since_ms);
    for (size_t i = 0; i < SERIES; i++) { // with bad signatures
        claims[i] = (tob_claim){.id = "h-1", .credential = j->token, .peer = "192.0.2.9"};
    }
    j->token[strlen(j->token) - 4] ^= 1;
    since_ms = tob_clock_monotonic_ms();
    tob_credentials_headends(j->credentials, NULL, claims, SERIES);
    assert_limited(j, "jwt", SERIES, since_ms);
}

static void a_token_lets_its_headend_in_and_no_other(void **state) {
    judges *j = *state;
    judges_put_headend(j, "h-2", 0, false);
    assert_int_equal(headend(j, "h-1", j->token, FAR_AWAY).error, TOB_OK);
    tob_claim other = headend(j, "h-2", j->token, FAR_AWAY);
    assert_refused(&other, TOB_PERMISSION_DENIED, "credential: the token is for another headend");
    char *stranger = judges_token(j, "h-3", j->now_unix_s);
    tob_claim unknown = headend(j, "h-3", stranger, FAR_AWAY);
    assert_refused(&unknown, TOB_NOT_FOUND, "headend_id: no such headend is registered");
    tob_claim wrong = headend(j, "h-1", "a.b.c", FAR_AWAY);
    assert_int_equal(wrong.error, TOB_UNAUTHENTICATED);
    assert_counted(j, "jwt", 1, 3, 0);
    free(stranger);
}

static void a_batch_of_one_headend_is_judged_by_its_one_token(void **state) {
    judges *j = *state;
    judges_put_headend(j, "h-2", 0, false);
    const char *ids[] = {"h-1", "h-1", "h-2", "h-1", "h-9"};
    const tob_error want[] = {TOB_OK, TOB_OK, TOB_PERMISSION_DENIED, TOB_OK, TOB_PERMISSION_DENIED};
    tob_claim claims[5];
    for (size_t i = 0; i < 5; i++) {
        claims[i] = (tob_claim){.id = ids[i], .credential = j->token, .peer = FAR_AWAY};
    }
    tob_credentials_headends(j->credentials, NULL, claims, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(claims[i].error, want[i]);
    }
    assert_counted(j, "jwt", 3, 2, 0);
}

static void a_good_token_for_somebody_else_slows_nobody(void **state) {
    judges *j = *state;
    uint64_t retry_ms = 0;
    judges_put_headend(j, "h-2", 0, false);
    for (unsigned i = 0; i < 2 * BURST; i++) {
        assert_int_equal(headend(j, "h-2", j->token, FAR_AWAY).error, TOB_PERMISSION_DENIED);
    }
    assert_false(tob_limiter_full(j->limiter, FAR_AWAY, tob_clock_monotonic_ms(), &retry_ms));
    assert_counted(j, "jwt", 0, 2 * BURST, 0);
}

static void a_revoked_headend_and_tokens_from_before_are_refused(void **state) {
    judges *j = *state;
    char *later = judges_token(j, "h-1", j->now_unix_s + 1);
    assert_int_equal(headend(j, "h-1", j->token, FAR_AWAY).error, TOB_OK); // remembered from here on
    judges_put_headend(j, "h-1", j->now_unix_s + 1, false);
    tob_claim before = headend(j, "h-1", j->token, FAR_AWAY);
    assert_refused(&before, TOB_UNAUTHENTICATED,
                   "credential: this headend's tokens of that time are revoked");
    assert_int_equal(headend(j, "h-1", later, FAR_AWAY).error, TOB_OK);
    judges_put_headend(j, "h-1", j->now_unix_s + 1, true);
    tob_claim revoked = headend(j, "h-1", later, FAR_AWAY);
    assert_refused(&revoked, TOB_UNAUTHENTICATED, "credential: this headend, or its cluster, is revoked");
    assert_counted(j, "jwt", 2, 2, 0);
    free(later);
}

static void a_remembered_token_passes_where_others_are_not_looked_at(void **state) {
    judges *j = *state;
    char *fresh = judges_token(j, "h-1", j->now_unix_s - 1);
    assert_int_equal(headend(j, "h-1", j->token, "192.0.2.2").error, TOB_OK);
    exhaust(j, FAR_AWAY);
    assert_int_equal(headend(j, "h-1", j->token, FAR_AWAY).error, TOB_OK);
    tob_claim not_looked_at = headend(j, "h-1", fresh, FAR_AWAY);
    assert_int_equal(not_looked_at.error, TOB_UNAUTHENTICATED);
    assert_in_range(not_looked_at.retry_after_ms, 1, TOB_LIMITER_REFILL_MS);
    assert_int_equal(headend(j, "h-1", fresh, "192.0.2.2").error, TOB_OK);
    assert_counted(j, "jwt", 3, 0, 1);
    free(fresh);
}

static void a_token_alone_tells_who_it_is(void **state) {
    judges *j = *state;
    char id[TOB_MAX_ID_BYTES + 1] = "untouched";
    tob_claim claim = {.credential = "a.b.c", .peer = FAR_AWAY};
    tob_credentials_token(j->credentials, NULL, &claim, id);
    assert_int_equal(claim.error, TOB_UNAUTHENTICATED);
    assert_string_equal(id, "untouched");
    claim.credential = j->token;
    tob_credentials_token(j->credentials, NULL, &claim, id);
    assert_int_equal(claim.error, TOB_OK);
    assert_string_equal(id, "h-1");
    judges_put_headend(j, "h-1", 0, true);
    tob_credentials_token(j->credentials, NULL, &claim, id);
    assert_int_equal(claim.error, TOB_UNAUTHENTICATED);
    assert_counted(j, "jwt", 1, 2, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(both_live_keys_of_a_client_let_it_in),
        TEST(the_key_before_ends_with_its_overlap),
        TEST(an_unknown_client_is_answered_like_a_wrong_key),
        TEST(a_revoked_key_is_told_so_and_a_wrong_one_of_a_revoked_client_is_not),
        TEST(a_credential_over_the_limit_is_not_looked_at),
        TEST(in_a_batch_each_series_is_judged_by_itself),
        TEST(wrong_keys_are_limited_by_address_and_right_ones_never),
        TEST(the_limit_holds_within_one_batch),
        TEST(a_token_lets_its_headend_in_and_no_other),
        TEST(a_batch_of_one_headend_is_judged_by_its_one_token),
        TEST(a_good_token_for_somebody_else_slows_nobody),
        TEST(a_revoked_headend_and_tokens_from_before_are_refused),
        TEST(a_remembered_token_passes_where_others_are_not_looked_at),
        TEST(a_token_alone_tells_who_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
