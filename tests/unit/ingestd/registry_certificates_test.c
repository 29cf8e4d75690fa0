#include "registry_certificates_rig.h"

static void add_client(const char *id) {
    begin();
    tob_registry_client c = {.id = id,
                             .name = id,
                             .type = "native",
                             .cluster_id = "",
                             .public_key = "",
                             .location = "",
                             .created_unix_ms = NOW_MS};
    assert_int_equal(tob_registry_add_client(registry, &c), TOB_OK);
    commit();
}

static tob_error show(void *user, const tob_registry_certificate *c) {
    shown *s = user;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof(s->text) - used, "%s %s %s %llu %llu %llu %s %s\n", c->serial, c->type,
             c->subject, (unsigned long long)(c->not_before_unix_s),
             (unsigned long long)(c->not_after_unix_s), (unsigned long long)c->revoked_unix_ms, c->reason,
             c->fingerprint);
    assert_string_equal(c->pem, "-----BEGIN CERTIFICATE-----\n");
    return ++s->rows == s->stop_at ? TOB_CANCELLED : TOB_OK;
}

static tob_error show_expiry(void *user, const char *type, uint64_t not_after) {
    shown *s = user;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof(s->text) - used, "%s %llu ", type,
             (unsigned long long)(not_after - NOW_S));
    return TOB_OK;
}

static const char *expiries(void) {
    static shown s;
    memset(&s, 0, sizeof(s));
    assert_int_equal(tob_registry_certificate_expiries(registry, show_expiry, &s), TOB_OK);
    return s.text;
}

static uint64_t last_change(void) {
    uint64_t change = 0;
    assert_int_equal(tob_registry_certificates_change(registry, &change), TOB_OK);
    return change;
}

static void a_certificate_is_read_back_as_it_was_added(void **state) {
    (void)state;
    shown s = {.text = ""};
    add_ok("4a01", "client", "laptop-1", NOW_S + 100);
    assert_int_equal(tob_registry_get_certificate(registry, "4a01", show, &s), TOB_OK);
    assert_string_equal(s.text, "4a01 client laptop-1 1799999700 1800000100 0  ab12\n");
    assert_int_equal(tob_registry_get_certificate(registry, "4a02", show, &s), TOB_NOT_FOUND);
    assert_string_equal(audit("4a01", 9), "admin alice|192.0.2.1|certificate.issue|4a01|client laptop-1\n");
}

static void a_serial_is_taken_once(void **state) {
    (void)state;
    add_ok("4a01", "client", "a", NOW_S + 100);
    begin();
    assert_int_equal(add("4a01", "server", "b", NOW_S + 100), TOB_ALREADY_EXISTS);
    tob_registry_rollback(registry);
    assert_string_equal(list("", "", 9), "4a01 ");
    assert_string_equal(list("b", "", 9), "");
}

static void types_are_three(void **state) {
    (void)state;
    begin();
    assert_int_equal(add("4a01", "ca", "a", NOW_S), TOB_PRECONDITION);
    tob_registry_rollback(registry);
}

static void lists_are_in_the_order_of_serials_and_paged(void **state) {
    (void)state;
    add_ok("7b", "client", "b", NOW_S);
    add_ok("4c", "client", "a", NOW_S);
    add_ok("5d", "server", "a", NOW_S);
    assert_string_equal(list("", "", 9), "4c 5d 7b ");
    assert_string_equal(list("", "", 2), "4c 5d ");
    assert_string_equal(list("", "5d", 2), "7b ");
    assert_string_equal(list("a", "", 9), "4c 5d ");
    assert_string_equal(list("a", "4c", 9), "5d ");
    assert_string_equal(list("c", "", 9), "");
    shown s = {.stop_at = 2};
    assert_int_equal(tob_registry_list_certificates(registry, "", "", 9, show, &s), TOB_CANCELLED);
    assert_int_equal(s.rows, 2);
}

static void text_of_sql_in_a_subject_is_only_text(void **state) {
    (void)state;
    const char *hostile = "x'; DROP TABLE certificates; --";
    uint32_t count = 0;
    add_ok("4a", "server", hostile, NOW_S);
    assert_string_equal(list(hostile, "", 9), "4a ");
    begin();
    assert_int_equal(tob_registry_revoke_certificates_of(registry, "server", hostile, "superseded", &count),
                     TOB_OK);
    commit();
    assert_int_equal(count, 1);
}

static void a_revocation_keeps_its_time_and_reason(void **state) {
    (void)state;
    shown s = {.text = ""};
    add_ok("4a", "client", "a", NOW_S + 9);
    revoke_ok("4a", "key_compromise");
    assert_int_equal(tob_registry_begin(registry, &admin, NOW_MS + 5000), TOB_OK);
    assert_int_equal(tob_registry_revoke_certificate(registry, "4a", "superseded"), TOB_OK);
    commit();
    assert_int_equal(tob_registry_get_certificate(registry, "4a", show, &s), TOB_OK);
    assert_string_equal(s.text, "4a client a 1799999700 1800000009 1800000000000 key_compromise ab12\n");
    assert_string_equal(audit("4a", 9),
                        "admin alice|192.0.2.1|certificate.revoke|4a|client a: key_compromise\n"
                        "admin alice|192.0.2.1|certificate.issue|4a|client a\n");
    begin();
    assert_int_equal(tob_registry_revoke_certificate(registry, "4b", "superseded"), TOB_NOT_FOUND);
    tob_registry_rollback(registry);
}

static void all_of_a_subject_are_revoked_and_no_others(void **state) {
    (void)state;
    uint32_t count = 99;
    add_ok("4a", "headend", "h", NOW_S + 9);
    add_ok("4b", "headend", "h", NOW_S + 9);
    add_ok("4c", "client", "h", NOW_S + 9);
    add_ok("4d", "headend", "other", NOW_S + 9);
    revoke_ok("4b", "superseded");
    begin();
    assert_int_equal(tob_registry_revoke_certificates_of(registry, "headend", "h", "privilege_withdrawn",
                                                         &count),
                     TOB_OK);
    assert_int_equal(count, 1);
    assert_int_equal(tob_registry_revoke_certificates_of(registry, "headend", "h", "privilege_withdrawn",
                                                         &count),
                     TOB_OK);
    assert_int_equal(count, 0);
    commit();
    shown s = {.text = ""};
    assert_int_equal(tob_registry_revoked_certificates(registry, NOW_S, show, &s), TOB_OK);
    assert_string_equal(s.text, "4a headend h 1799999700 1800000009 1800000000000 privilege_withdrawn ab12\n"
                                "4b headend h 1799999700 1800000009 1800000000000 superseded ab12\n");
    assert_string_equal(audit("4a", 1),
                        "admin alice|192.0.2.1|certificate.revoke|4a|headend h: privilege_withdrawn\n");
}

static void very_many_of_a_subject_are_revoked_too(void **state) {
    (void)state;
    char serial[16];
    uint32_t count = 0;
    begin();
    for (int i = 0; i < 600; i++) {
        snprintf(serial, sizeof(serial), "4%07x", i);
        assert_int_equal(add(serial, "client", "a", NOW_S + 9), TOB_OK);
    }
    commit();
    begin();
    assert_int_equal(tob_registry_revoke_certificates_of(registry, "client", "a", "superseded", &count),
                     TOB_OK);
    commit();
    assert_int_equal(count, 600);
    assert_string_equal(expiries(), "");
}

static void a_revocation_that_is_rolled_back_did_not_happen(void **state) {
    (void)state;
    shown s = {.text = ""};
    add_ok("4a", "server", "a", NOW_S + 9);
    begin();
    assert_int_equal(tob_registry_revoke_certificate(registry, "4a", "superseded"), TOB_OK);
    tob_registry_rollback(registry);
    assert_int_equal(tob_registry_revoked_certificates(registry, NOW_S, show, &s), TOB_OK);
    assert_int_equal(s.rows, 0);
    assert_string_equal(expiries(), "server 9 ");
    assert_string_equal(audit("4a", 9), "admin alice|192.0.2.1|certificate.issue|4a|server a\n");
}

static void what_has_expired_is_not_among_the_revoked(void **state) {
    (void)state;
    shown s = {.text = ""};
    add_ok("4a", "server", "a", NOW_S - 1);
    add_ok("4b", "server", "b", NOW_S);
    revoke_ok("4a", "");
    revoke_ok("4b", "unspecified");
    assert_int_equal(tob_registry_revoked_certificates(registry, NOW_S, show_serial, &s), TOB_OK);
    assert_string_equal(s.text, "4b ");
}

static void a_change_of_certificates_is_told_by_its_number(void **state) {
    (void)state;
    begin();
    tob_registry_rollback(registry);
    assert_int_equal(last_change(), 0);
    add_ok("4a", "client", "a", NOW_S);
    uint64_t first = last_change(), all = 0, forgotten = 0;
    assert_true(first > 0);
    add_client("a");
    assert_int_equal(last_change(), first);
    revoke_ok("4a", "superseded");
    assert_true(last_change() > first);
    assert_int_equal(tob_registry_last_change(registry, &all, &forgotten), TOB_OK);
    assert_int_equal(last_change(), all);
}

static void certificates_of_an_erased_client_stay_revoked_and_nobodys(void **state) {
    (void)state;
    shown s = {.text = ""};
    add_client("a");
    add_ok("4a", "client", "a", NOW_S + 9);
    add_ok("4b", "server", "a", NOW_S + 9);
    uint64_t before = last_change();
    begin();
    assert_int_equal(tob_registry_delete_client(registry, "a", true), TOB_OK);
    commit();
    assert_true(last_change() > before);
    assert_string_equal(list("", "", 9), "4a 4b ");
    assert_string_equal(list("a", "", 9), "4b ");
    assert_int_equal(tob_registry_revoked_certificates(registry, NOW_S, show_serial, &s), TOB_OK);
    assert_string_equal(s.text, "4a ");
    assert_non_null(strstr(audit("a", 9), "|certificate.erase|a|1 of type client\n"));
}

static void the_newest_certificate_of_each_subject_decides_when_its_type_ends(void **state) {
    (void)state;
    add_client("a");
    add_client("b");
    assert_string_equal(expiries(), "");
    add_ok("4a", "client", "a", NOW_S + 50);
    add_ok("4b", "client", "b", NOW_S + 70);
    assert_string_equal(expiries(), "client 50 ");
    add_ok("4c", "client", "a", NOW_S + 900); // renewed
    assert_string_equal(expiries(), "client 70 ");
    add_ok("4d", "client", "b", NOW_S + 20); // a shorter one: it is what the client uses now
    assert_string_equal(expiries(), "client 20 ");
    revoke_ok("4d", "superseded"); // so the one before is its newest again
    assert_string_equal(expiries(), "client 70 ");
    revoke_ok("4b", "superseded");
    assert_string_equal(expiries(), "client 900 ");
}

static void an_older_one_that_is_revoked_changes_nothing(void **state) {
    (void)state;
    add_ok("4a", "server", "a", NOW_S + 50);
    add_ok("4b", "server", "a", NOW_S + 70);
    revoke_ok("4a", "superseded");
    assert_string_equal(expiries(), "server 70 ");
    add_ok("4c", "server", "a", NOW_S + 10);
    assert_string_equal(expiries(), "server 10 ");
}

static void only_registered_clients_and_headends_have_an_end(void **state) {
    (void)state;
    add_ok("4a", "client", "nobody", NOW_S + 1);
    add_ok("4b", "headend", "nobody", NOW_S + 1);
    add_ok("4c", "server", "gateway", NOW_S + 1);
    assert_string_equal(expiries(), "server 1 ");
    begin();
    const tob_registry_cluster cluster = {.id = "cl",
                                          .name = "cl",
                                          .region = "",
                                          .datacenter = "",
                                          .headend_url = "",
                                          .created_unix_ms = NOW_MS};
    const tob_registry_headend headend = {.id = "h",
                                          .name = "h",
                                          .cluster_id = "cl",
                                          .created_unix_ms = NOW_MS};
    assert_int_equal(tob_registry_add_cluster(registry, &cluster), TOB_OK);
    assert_int_equal(tob_registry_add_headend(registry, &headend), TOB_OK);
    commit();
    add_ok("4d", "headend", "h", NOW_S + 30);
    assert_string_equal(expiries(), "headend 30 server 1 ");
    add_ok("4e", "headend", "cl", NOW_S + 20);
    assert_string_equal(expiries(), "headend 20 server 1 ");
    begin();
    assert_int_equal(tob_registry_revoke_cluster(registry, "cl"), TOB_OK);
    commit();
    assert_string_equal(expiries(), "headend 30 server 1 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_certificate_is_read_back_as_it_was_added),
        TEST(a_serial_is_taken_once),
        TEST(types_are_three),
        TEST(lists_are_in_the_order_of_serials_and_paged),
        TEST(text_of_sql_in_a_subject_is_only_text),
        TEST(a_revocation_keeps_its_time_and_reason),
        TEST(all_of_a_subject_are_revoked_and_no_others),
        TEST(very_many_of_a_subject_are_revoked_too),
        TEST(a_revocation_that_is_rolled_back_did_not_happen),
        TEST(what_has_expired_is_not_among_the_revoked),
        TEST(a_change_of_certificates_is_told_by_its_number),
        TEST(certificates_of_an_erased_client_stay_revoked_and_nobodys),
        TEST(the_newest_certificate_of_each_subject_decides_when_its_type_ends),
        TEST(an_older_one_that_is_revoked_changes_nothing),
        TEST(only_registered_clients_and_headends_have_an_end),
    };
    return RUN_ON_BOTH("registry_certificates", tests);
}
