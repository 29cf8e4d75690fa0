#include "registry_service_rig.h"

// How a headend's token is judged.
static tob_error judge(fixture *f, const char *id, const char *token) {
    tob_claim claim = {.id = id, .credential = token, .peer = "192.0.2.1"};
    tob_credentials_headends(f->credentials, NULL, &claim, 1);
    return claim.error;
}

static void every_field_of_a_headend_comes_back(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    Tobogganing__V1__AddHeadendRequest request = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    Tobogganing__V1__AddHeadendResponse *added = NULL;
    Tobogganing__V1__Headend *got = NULL;
    Tobogganing__V1__HeadendId id = headend_id("h");
    request.headend_id = (char *)"h";
    request.name = (char *)"'); DELETE FROM headends; --";
    request.cluster_id = (char *)"k";
    expect_ok(f, CALL(f, "AddHeadend", &request, add_headend_response, &added));
    expect_ok(f, CALL(f, "GetHeadend", &id, headend, &got));
    assert_string_equal(got->name, request.name);
    assert_string_equal(got->cluster_id, "k");
    assert_int_equal(got->created_unix_ms, added->headend->created_unix_ms);
    assert_int_equal(got->revoked_unix_ms, 0);
    assert_int_equal(got->tokens_not_before_unix_s, 0);
    drop(got);
    drop(added);
    FAILS(f, "AddHeadend", &request, TOB_ALREADY_EXISTS, "headend_id: is taken");
    request.headend_id = (char *)"i";
    request.cluster_id = (char *)"nowhere";
    FAILS(f, "AddHeadend", &request, TOB_NOT_FOUND, "cluster_id: no such cluster");
    request.headend_id = request.name = request.cluster_id = (char *)"";
    expect_ok(f, CALL(f, "AddHeadend", &request, add_headend_response, &added));
    assert_int_equal(strncmp(added->headend->headend_id, "h-", 2), 0);
    assert_string_equal(added->headend->name, added->headend->headend_id);
    drop(added);
    assert_int_equal(tob_directory_headends(f->directory), 2);
    id = headend_id("nobody");
    static const char *const methods[] = {METHOD("GetHeadend"), METHOD("RevokeHeadend"),
                                          METHOD("DeleteHeadend"), METHOD("RevokeHeadendTokens"),
                                          METHOD("IssueHeadendToken")};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        void *none = NULL;
        assert_int_equal(call_as(f, f->client, methods[i], &id, &tobogganing__v1__headend__descriptor, &none),
                         TOB_NOT_FOUND);
        assert_string_equal(f->failure.message, "headend_id: no such headend");
    }
}

static void headends_take_region_and_datacenter_from_their_cluster(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h1", "k");
    add_headend_ok(f, "h2", "");
    tob_directory_read_lock(f->directory);
    const tob_directory_headend *h1 = tob_directory_find_headend(f->directory, "h1", 2);
    assert_string_equal(h1->region, "eu");
    assert_string_equal(h1->datacenter, "fra1");
    assert_string_equal(tob_directory_find_headend(f->directory, "h2", 2)->region, "");
    tob_directory_read_unlock(f->directory);
    Tobogganing__V1__UpdateHeadendRequest request = TOBOGGANING__V1__UPDATE_HEADEND_REQUEST__INIT;
    Tobogganing__V1__Headend *headend = NULL;
    char *mask[] = {(char *)"cluster_id"};
    request.headend_id = (char *)"h2";
    request.cluster_id = (char *)"k";
    request.update_mask = mask;
    request.n_update_mask = 1;
    expect_ok(f, CALL(f, "UpdateHeadend", &request, headend, &headend));
    assert_string_equal(headend->cluster_id, "k");
    assert_string_equal(headend->name, "h2");
    drop(headend);
    tob_directory_read_lock(f->directory);
    assert_string_equal(tob_directory_find_headend(f->directory, "h2", 2)->region, "eu");
    tob_directory_read_unlock(f->directory);
    request.cluster_id = (char *)"nowhere";
    FAILS(f, "UpdateHeadend", &request, TOB_NOT_FOUND, "cluster_id: no such cluster");
    request.headend_id = (char *)"nobody";
    FAILS(f, "UpdateHeadend", &request, TOB_NOT_FOUND, "headend_id: no such headend");
    mask[0] = (char *)"revoked_unix_ms";
    FAILS(f, "UpdateHeadend", &request, TOB_INVALID,
          "update_mask[0]: revoked_unix_ms is not a field that can be changed");
}

static void a_headends_token_verifies_as_its_own(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "h1", "");
    Tobogganing__V1__IssueHeadendTokenRequest request = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    Tobogganing__V1__IssueHeadendTokenResponse *response = NULL;
    static const uint64_t asked[] = {0, 1, TOB_REGISTRY_MAX_TTL_S};
    static const uint64_t given[] = {UINT64_C(30) * 86400, 1, TOB_REGISTRY_MAX_TTL_S};
    request.headend_id = (char *)"h1";
    for (size_t i = 0; i < 3; i++) {
        uint64_t now = tob_clock_unix_ms() / 1000;
        request.ttl_s = asked[i];
        expect_ok(f, CALL(f, "IssueHeadendToken", &request, issue_headend_token_response, &response));
        assert_in_range(response->expires_unix_s, now + given[i], now + given[i] + 10);
        assert_int_equal(strlen(response->kid), TOB_JWT_KID_BYTES - 1);
        assert_int_equal(judge(f, "h1", response->token), TOB_OK);
        assert_int_equal(judge(f, "h2", response->token), TOB_PERMISSION_DENIED);
        char *audit = audit_ok(f, "h1");
        assert_non_null(strstr(audit, response->kid));
        assert_null(strstr(audit, response->token));
        free(audit);
        drop(response);
    }
    expect_audit(f, "h1", "admin token b20ec6b0", "headend.issue_token");
    request.ttl_s = TOB_REGISTRY_MAX_TTL_S + 1;
    FAILS(f, "IssueHeadendToken", &request, TOB_INVALID, "ttl_s: must be at most 315532800");
}

static void revoked_tokens_are_refused_at_once_and_new_ones_are_good(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "h", "");
    add_headend_ok(f, "other", "");
    char *others = token_ok(f, "other");
    Tobogganing__V1__HeadendId id = headend_id("h");
    for (int i = 0; i < 3; i++) { // within one second
        char *token = token_ok(f, "h");
        Tobogganing__V1__Headend *headend = NULL;
        assert_int_equal(judge(f, "h", token), TOB_OK);
        expect_ok(f, CALL(f, "RevokeHeadendTokens", &id, headend, &headend));
        assert_true(headend->tokens_not_before_unix_s > 0);
        drop(headend);
        assert_int_equal(judge(f, "h", token), TOB_UNAUTHENTICATED);
        free(token);
        token = token_ok(f, "h");
        assert_int_equal(judge(f, "h", token), TOB_OK);
        free(token);
    }
    assert_int_equal(judge(f, "other", others), TOB_OK);
    free(others);
    expect_audit(f, "h", "admin token b20ec6b0", "headend.issue_token");
}

static void a_revoked_headend_gets_no_token_and_its_old_ones_are_refused(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "h", "");
    char *token = token_ok(f, "h");
    Tobogganing__V1__HeadendId id = headend_id("h");
    uint64_t first = 0;
    for (int i = 0; i < 2; i++) {
        Tobogganing__V1__Headend *headend = NULL;
        expect_ok(f, CALL(f, "RevokeHeadend", &id, headend, &headend));
        first = first ? first : headend->revoked_unix_ms;
        assert_true(headend->revoked_unix_ms > 0);
        assert_int_equal(headend->revoked_unix_ms, first);
        drop(headend);
        assert_int_equal(judge(f, "h", token), TOB_UNAUTHENTICATED);
    }
    FAILS(f, "IssueHeadendToken", &id, TOB_PRECONDITION, "headend_id: the headend is revoked");
    free(token);
}

static void a_deleted_headend_is_unknown_and_may_come_back(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "h", "");
    char *token = token_ok(f, "h");
    Tobogganing__V1__HeadendId id = headend_id("h");
    void *none = NULL;
    expect_ok(f, CALL(f, "DeleteHeadend", &id, delete_response, &none));
    drop(none);
    assert_false(is_known(f, "h"));
    assert_int_not_equal(judge(f, "h", token), TOB_OK);
    assert_int_equal(tob_directory_headends(f->directory), 0);
    FAILS(f, "DeleteHeadend", &id, TOB_NOT_FOUND, "headend_id: no such headend");
    add_headend_ok(f, "h", "");
    assert_int_equal(judge(f, "h", token), TOB_UNAUTHENTICATED); // that was another headend
    free(token);
    token = token_ok(f, "h");
    assert_int_equal(judge(f, "h", token), TOB_OK);
    free(token);
}

static void headends_are_listed_in_pages(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "b", "");
    add_headend_ok(f, "a", "");
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    Tobogganing__V1__ListHeadendsResponse *page = NULL;
    request.page_size = 1;
    expect_ok(f, CALL(f, "ListHeadends", &request, list_headends_response, &page));
    assert_int_equal(page->n_headends, 1);
    assert_string_equal(page->headends[0]->headend_id, "a");
    assert_string_equal(page->next_page, "a");
    drop(page);
    request.page = (char *)"a";
    expect_ok(f, CALL(f, "ListHeadends", &request, list_headends_response, &page));
    assert_string_equal(page->headends[0]->headend_id, "b");
    assert_string_equal(page->next_page, "");
    drop(page);
}

static void a_certificate_comes_with_a_headend(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CertificateOrder order = TOBOGGANING__V1__CERTIFICATE_ORDER__INIT;
    Tobogganing__V1__AddHeadendRequest request = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    Tobogganing__V1__AddHeadendResponse *added = NULL;
    request.headend_id = (char *)"edge-1.example.com";
    request.certificate = &order;
    expect_ok(f, CALL(f, "AddHeadend", &request, add_headend_response, &added));
    assert_string_equal(added->certificate->certificate->type, "headend");
    assert_string_equal(added->certificate->certificate->subject, "edge-1.example.com");
    drop(added);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_field_of_a_headend_comes_back),
        TEST(headends_take_region_and_datacenter_from_their_cluster),
        TEST(a_headends_token_verifies_as_its_own),
        TEST(revoked_tokens_are_refused_at_once_and_new_ones_are_good),
        TEST(a_revoked_headend_gets_no_token_and_its_old_ones_are_refused),
        TEST(a_deleted_headend_is_unknown_and_may_come_back),
        TEST(headends_are_listed_in_pages),
        TEST(a_certificate_comes_with_a_headend),
    };
    return RUN_ON_BOTH("headend_methods", tests);
}
