#include "ingestd/registry_service.h"
#include "registry_rig.h"

static void what_is_deleted_is_gone_and_noted_and_its_id_is_free(void **state) {
    fixture *f = *state;
    words none = {.count = 0}, notes = {.count = 0}, later = {.count = 0}, dropped = {.count = 0};
    assert_int_equal(add_cluster(f, "x"), TOB_OK);
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(add_headend(f, "x", ""), TOB_OK);
    uint64_t before = f->change;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "x", false)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "x")), TOB_OK);
    uint64_t middle = f->change;
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "x")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "x", false)), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "x")), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "x")), TOB_NOT_FOUND);
    reopen(f);
    assert_int_equal(tob_registry_get_client(f->registry, "x", note_client, &none), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_get_headend(f->registry, "x", note_headend, &none), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_get_cluster(f->registry, "x", note_cluster, &none), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_deletions(f->registry, before, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "client:x headend:x cluster:x ");
    assert_int_equal(tob_registry_deletions(f->registry, middle, note_deletion, &later), TOB_OK);
    assert_string_equal(later.text, "cluster:x ");
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(add_headend(f, "x", ""), TOB_OK);
    assert_int_equal(add_cluster(f, "x"), TOB_OK);
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &dropped), TOB_OK);
    assert_string_equal(dropped.text, "");
}

static tob_error copy_deletion(void *user, const tob_registry_deletion *deletion) {
    tob_registry_deletion *copy = user;
    *copy = *deletion;
    copy->kind = copy->id = NULL;
    return TOB_OK;
}

static tob_registry_deletion get_deletion(fixture *f, const char *id) {
    tob_registry_deletion deletion = {.change = 0};
    assert_int_equal(tob_registry_get_deletion(f->registry, "client", id, copy_deletion, &deletion), TOB_OK);
    return deletion;
}

static void a_client_can_be_erased_at_once_or_after_it_was_deleted(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    assert_int_equal(add_client(f, "b", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", true)), TOB_OK);
    assert_true(get_deletion(f, "a").erase);
    assert_int_equal(get_deletion(f, "a").change, f->change);
    uint64_t erased = f->change;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", true)), TOB_OK); // again: nothing
    assert_int_equal(get_deletion(f, "a").change, erased);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "b", false)), TOB_OK);
    assert_false(get_deletion(f, "b").erase);
    f->now_unix_ms = T0 + 7;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "b", true)), TOB_OK);
    assert_true(get_deletion(f, "b").erase);
    assert_int_equal(get_deletion(f, "b").change, f->change);
    assert_int_equal(get_deletion(f, "b").deleted_unix_ms, T0 + 7);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "never", true)), TOB_NOT_FOUND);
    tob_registry_deletion none = {.change = 0};
    assert_int_equal(tob_registry_get_deletion(f->registry, "client", "never", copy_deletion, &none),
                     TOB_NOT_FOUND);
    words audit = {.count = 0};
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "b", 0, 10, note_audit, &audit),
                     TOB_OK);
    assert_string_equal(audit.text, "client.erase:b client.delete:b client.add:b ");
}

static void an_erasure_is_remembered_when_the_id_is_registered_again(void **state) {
    fixture *f = *state;
    words notes = {.count = 0}, after = {.count = 0};
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", true)), TOB_OK);
    assert_int_equal(add_client(f, "a", ""), TOB_OK); // others may have been away since
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "client:a:erase ");
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", false)), TOB_OK);
    assert_int_equal(tob_registry_deletions(f->registry, f->change - 1, note_deletion, &after), TOB_OK);
    assert_string_equal(after.text, "client:a:erase ");
}

static tob_error count_certificate(void *user, const tob_registry_certificate *certificate) {
    uint32_t *counts = user;
    counts[certificate->revoked_unix_ms != 0]++;
    return TOB_OK;
}

// What a revocation list needs of the two certificates of who was erased, and nothing else.
static tob_error check_revoked(void *user, const tob_registry_certificate *certificate) {
    if (strcmp(certificate->serial, "01") == 0 || strcmp(certificate->serial, "02") == 0) {
        assert_string_equal(certificate->subject, "");
        assert_string_equal(certificate->pem, "");
        assert_string_equal(certificate->fingerprint, "");
        assert_string_not_equal(certificate->reason, "");
        ++*(uint32_t *)user;
    }
    return TOB_OK;
}

static void certificates_are_revoked_with_their_subject_and_only_serials_outlive_its_erasure(void **state) {
    fixture *f = *state;
    uint32_t counts[2] = {0, 0}, left[2] = {0, 0}, revoked = 0;
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(add_headend(f, "x", ""), TOB_OK);
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_certificate(f, "01", "client", "x"), TOB_OK);
    assert_int_equal(add_certificate(f, "02", "client", "x"), TOB_OK);
    assert_int_equal(add_certificate(f, "03", "headend", "x"), TOB_OK);
    assert_int_equal(add_certificate(f, "04", "headend", "k"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "x")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(tob_registry_list_certificates(f->registry, "", "", 10, count_certificate, counts),
                     TOB_OK);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 3);
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "x")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "x", false)), TOB_OK);
    assert_int_equal(get_deletion(f, "x").certificates, 0);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "x", true)), TOB_OK);
    assert_int_equal(get_deletion(f, "x").certificates, 2);
    assert_int_equal(tob_registry_list_certificates(f->registry, "", "", 10, count_certificate, left),
                     TOB_OK);
    assert_int_equal(left[0], 0);
    assert_int_equal(left[1], 4);
    assert_int_equal(tob_registry_revoked_certificates(f->registry, 0, check_revoked, &revoked), TOB_OK);
    assert_int_equal(revoked, 2);
    assert_int_equal(tob_registry_list_certificates(f->registry, "x", "", 10, count_certificate, left),
                     TOB_OK);
    assert_int_equal(left[1], 5); // the headend's
}

static void deletions_are_forgotten_after_a_time_and_that_is_remembered(void **state) {
    fixture *f = *state;
    words notes = {.count = 0};
    uint64_t change = 0, forgotten = 1;
    static const char *const ids[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(add_client(f, ids[i], ""), TOB_OK);
    }
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "b", true)), TOB_OK);
    uint64_t second = f->change;
    f->now_unix_ms = T0 + TOB_REGISTRY_FORGET_MS;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "c", false)), TOB_OK);
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(forgotten, 0);
    f->now_unix_ms++;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "d", false)), TOB_OK);
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(forgotten, second);
    assert_int_equal(change, f->change);
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "client:c client:d ");
}

// Its tokens may be good for ten years: if the id is registered again they have to stay refused.
static void the_note_of_a_deleted_headend_outlives_its_tokens(void **state) {
    fixture *f = *state;
    words notes = {.count = 0}, later = {.count = 0};
    assert_int_equal(add_headend(f, "h", ""), TOB_OK);
    assert_int_equal(add_client(f, "c", ""), TOB_OK);
    assert_int_equal(add_client(f, "d", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "h")), TOB_OK);
    f->now_unix_ms = T0 + TOB_REGISTRY_MAX_TTL_S * 1000;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "c", false)), TOB_OK);
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "headend:h client:c ");
    f->now_unix_ms = T0 + TOB_REGISTRY_FORGET_HEADEND_MS + 1;
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "d", false)), TOB_OK);
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &later), TOB_OK);
    assert_string_equal(later.text, "client:c client:d ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_is_deleted_is_gone_and_noted_and_its_id_is_free),
        TEST(a_client_can_be_erased_at_once_or_after_it_was_deleted),
        TEST(an_erasure_is_remembered_when_the_id_is_registered_again),
        TEST(certificates_are_revoked_with_their_subject_and_only_serials_outlive_its_erasure),
        TEST(deletions_are_forgotten_after_a_time_and_that_is_remembered),
        TEST(the_note_of_a_deleted_headend_outlives_its_tokens),
    };
    return RUN_ON_BOTH("registry_deletions", tests);
}
