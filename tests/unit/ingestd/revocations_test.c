#include "registry_certificates_rig.h"

static const tob_ca_list *get_list(tob_revocations *revocations, uint64_t now) {
    const tob_ca_list *found = NULL;
    tob_ca_problem problem;
    assert_int_equal(tob_revocations_get(revocations, now, &found, &problem), TOB_OK);
    return found;
}

static void a_revocation_list_is_made_anew_when_something_changed_or_half_of_its_day_is_over(void **state) {
    (void)state;
    tob_ca *ca = NULL;
    tob_ca_problem problem;
    tob_revocations *revocations = NULL;
    char before[4096];
    add_ok("4a", "server", "gw", NOW_S + 3600);
    assert_int_equal(tob_certificates_open(registry, NULL, NULL, NOW_S, &ca, &problem), TOB_OK);
    assert_int_equal(tob_revocations_new(registry, ca, &revocations), TOB_OK);
    const tob_ca_list *now = get_list(revocations, NOW_S);
    assert_int_equal(now->next_update_unix_s, NOW_S + 86400);
    snprintf(before, sizeof(before), "%s", now->pem);
    now = get_list(revocations, NOW_S + 43199);
    assert_string_equal(now->pem, before); // the same, without a new signature
    now = get_list(revocations, NOW_S + 43200);
    assert_int_equal(now->next_update_unix_s, NOW_S + 43200 + 86400);
    assert_string_not_equal(now->pem, before);
    size_t empty = now->der_len;
    revoke_ok("4a", "key_compromise");
    now = get_list(revocations, NOW_S + 43201);
    assert_true(now->der_len > empty + 20); // signatures differ by a few bytes
    // The certificate ended at NOW + 3600; its entry stays until a list was made after that, a day at least.
    now = get_list(revocations, NOW_S + 3600 + 86400);
    assert_true(now->der_len > empty + 20); // signatures differ by a few bytes
    now = get_list(revocations, NOW_S + 3600 + 86400 + 43200);
    assert_true(now->der_len < empty + 20);
    now = get_list(revocations, NOW_S - 7200); // the clock was set back
    assert_int_equal(now->next_update_unix_s, NOW_S - 7200 + 86400);
    tob_revocations_free(revocations);
    tob_ca_free(ca);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_revocation_list_is_made_anew_when_something_changed_or_half_of_its_day_is_over),
    };
    return RUN_ON_BOTH("revocations", tests);
}
