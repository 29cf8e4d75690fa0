#include "registry_certificates_rig.h"

static void what_changed_reaches_those_who_show_it(void **state) {
    (void)state;
    tob_expiries *times = NULL;
    tob_expiry found[TOB_EXPIRIES_MAX];
    assert_int_equal(tob_expiries_new(&times), TOB_OK);
    assert_int_equal(tob_expiries_get(times, found), 0);
    add_ok("4a", "server", "gw", NOW_S + 7);
    tob_expiries_set_authority(times, NOW_S + 99);
    assert_int_equal(tob_certificates_changed(times, registry), TOB_OK);
    assert_int_equal(tob_expiries_get(times, found), 2);
    assert_string_equal(found[0].type, "ca");
    assert_int_equal(found[0].not_after_unix_s, NOW_S + 99);
    assert_string_equal(found[1].type, "server");
    assert_int_equal(found[1].not_after_unix_s, NOW_S + 7);
    revoke_ok("4a", "superseded");
    assert_int_equal(tob_certificates_changed(times, registry), TOB_OK);
    assert_int_equal(tob_expiries_get(times, found), 1);
    tob_expiries_free(times);
}

static void the_authority_is_made_once_and_stays(void **state) {
    (void)state;
    tob_ca *made = NULL, *again = NULL;
    tob_ca_problem problem;
    assert_int_equal(tob_certificates_open(registry, NULL, NULL, NOW_S, &made, &problem), TOB_OK);
    assert_int_equal(tob_certificates_open(registry, "", "", NOW_S + 5, &again, &problem), TOB_OK);
    assert_string_equal(tob_ca_pem(made), tob_ca_pem(again));
    assert_string_equal(audit("", 9), "ingestd||authority.make|ca|\n");
    tob_ca_free(again);
    begin();
    assert_int_equal(tob_registry_set_authority(registry, "x", "y"), TOB_ALREADY_EXISTS);
    tob_registry_rollback(registry);
    tob_registry_close(registry);
    registry = open_registry(url);
    assert_int_equal(tob_certificates_open(registry, NULL, NULL, NOW_S, &again, &problem), TOB_OK);
    assert_string_equal(tob_ca_pem(made), tob_ca_pem(again));
    tob_ca_free(made);
    tob_ca_free(again);
}

static void an_authority_that_has_expired_does_not_stop_the_start(void **state) {
    (void)state;
    tob_ca *ca = NULL;
    tob_ca_problem problem;
    assert_int_equal(tob_certificates_open(registry, NULL, NULL, NOW_S, &ca, &problem), TOB_OK);
    tob_ca_free(ca);
    ca = NULL;
    uint64_t later = NOW_S + UINT64_C(3651) * 86400;
    assert_int_equal(tob_certificates_open(registry, NULL, NULL, later, &ca, &problem), TOB_OK);
    assert_string_equal(tob_ca_invalid_at(ca, later), "has expired");
    tob_ca_free(ca);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_changed_reaches_those_who_show_it),
        TEST(the_authority_is_made_once_and_stays),
        TEST(an_authority_that_has_expired_does_not_stop_the_start),
    };
    return RUN_ON_BOTH("certificates", tests);
}
