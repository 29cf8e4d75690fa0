#include "ingestd/registry_service.h"
#include "registry_rig.h"

// ---- rows

static void what_was_added_is_listed_in_order_of_ids_a_page_at_a_time(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    static const char *const names[] = {"b", "a", "B", "c-10", "c-9", "_", "z"};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(add_client(f, names[i], i % 2 ? "k" : ""), TOB_OK);
        assert_int_equal(add_headend(f, names[i], i % 2 ? "k" : ""), TOB_OK);
        if (strcmp(names[i], "z") != 0) {
            assert_int_equal(add_cluster(f, names[i]), TOB_OK);
        }
    }
    words all = {.count = 0}, page = {.count = 0}, headends = {.count = 0}, clusters = {.count = 0},
          none = {.count = 0};
    assert_int_equal(tob_registry_list_clients(f->registry, "", UINT32_MAX, note_client, &all), TOB_OK);
    assert_string_equal(all.text, "B _ a b c-10 c-9 z "); // by their bytes
    assert_int_equal(tob_registry_list_clients(f->registry, "a", 2, note_client, &page), TOB_OK);
    assert_string_equal(page.text, "b c-10 ");
    assert_int_equal(tob_registry_list_headends(f->registry, "b", 10, note_headend, &headends), TOB_OK);
    assert_string_equal(headends.text, "c-10 c-9 z ");
    assert_int_equal(tob_registry_list_clusters(f->registry, "", 3, note_cluster, &clusters), TOB_OK);
    assert_string_equal(clusters.text, "B _ a ");
    assert_int_equal(tob_registry_list_clients(f->registry, "z", 10, note_client, &none), TOB_OK);
    assert_int_equal(none.count, 0);
}

static void what_the_reader_refuses_is_returned_and_the_next_reading_begins_anew(void **state) {
    fixture *f = *state;
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    assert_int_equal(add_client(f, "b", ""), TOB_OK);
    words w = {.refuse = TOB_TOO_LARGE};
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &w), TOB_TOO_LARGE);
    w.refuse = TOB_OK;
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &w), TOB_OK);
    assert_int_equal(w.count, 2);
}

static void a_client_keeps_all_its_fields_over_a_restart(void **state) {
    fixture *f = *state;
    client_copy copy;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    reopen(f);
    tob_registry_client c = get_client(f, "c", &copy), expected = a_client("c", "k");
    assert_string_equal(c.id, "c");
    assert_string_equal(c.name, expected.name);
    assert_string_equal(c.type, "docker");
    assert_string_equal(c.cluster_id, "k");
    assert_string_equal(c.public_key, expected.public_key);
    assert_string_equal(c.location, expected.location);
    assert_memory_equal(c.key_hash, expected.key_hash, TOB_SHA256_BYTES);
    assert_int_equal(c.created_unix_ms, T0 + 123);
    assert_int_equal(c.key_created_unix_ms, T0 + 123);
    assert_int_equal(c.key_generation, 1);
    assert_int_equal(c.revoked_unix_ms, 0);
    assert_int_equal(c.previous_key_expires_unix_ms, 0);
}

static void an_id_that_is_taken_is_refused(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        tob_error expected = i ? TOB_ALREADY_EXISTS : TOB_OK;
        assert_int_equal(add_cluster(f, "x"), expected);
        assert_int_equal(add_client(f, "x", ""), expected);
        assert_int_equal(add_headend(f, "x", ""), expected);
    }
}

static void a_cluster_that_does_not_exist_is_refused_and_named(void **state) {
    fixture *f = *state;
    words none = {.count = 0};
    assert_int_equal(add_client(f, "x", "nowhere"), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such cluster: nowhere");
    assert_int_equal(add_headend(f, "x", "nowhere"), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such cluster: nowhere");
    assert_int_equal(tob_registry_get_client(f->registry, "x", note_client, &none), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such client: x");
    assert_int_equal(tob_registry_get_headend(f->registry, "x", note_headend, &none), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such headend: x");
    assert_int_equal(tob_registry_get_cluster(f->registry, "x", note_cluster, &none), TOB_NOT_FOUND);
    assert_int_equal(none.count, 0);
}

static void an_update_replaces_the_fields_and_says_what_was_not_found(void **state) {
    fixture *f = *state;
    client_copy copy;
    words audit = {.count = 0};
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_cluster(f, "l"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    tob_registry_client c = a_client("c", "l");
    c.name = "new";
    c.type = "mobile";
    c.public_key = c.location = "";
    c.key_hash[0] = 0; // is not looked at
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    tob_registry_client now = get_client(f, "c", &copy);
    assert_string_equal(now.name, "new");
    assert_string_equal(now.type, "mobile");
    assert_string_equal(now.cluster_id, "l");
    assert_string_equal(now.public_key, "");
    assert_string_equal(now.location, "");
    assert_int_equal(now.key_hash[0], 0xab);
    assert_int_equal(now.created_unix_ms, T0 + 123);
    c.cluster_id = "nowhere";
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such cluster: nowhere");
    c.id = "nobody";
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such client: nobody");
    tob_registry_headend h = a_headend("h", "nowhere");
    assert_int_equal(add_headend(f, "h", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_update_headend(f->registry, &h)), TOB_NOT_FOUND);
    assert_string_equal(tob_registry_last_problem(f->registry), "no such cluster: nowhere");
    h.cluster_id = "k";
    assert_int_equal(CHANGE(f, tob_registry_update_headend(f->registry, &h)), TOB_OK);
    tob_registry_cluster k = a_cluster("nowhere");
    assert_int_equal(CHANGE(f, tob_registry_update_cluster(f->registry, &k)), TOB_NOT_FOUND);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 3, note_audit, &audit), TOB_OK);
    assert_string_equal(audit.text, "headend.update:h headend.add:h client.update:c ");
}

static void a_type_that_there_is_not_is_refused_by_the_database(void **state) {
    fixture *f = *state;
    tob_registry_client c = a_client("c", "");
    c.type = "toaster";
    assert_int_equal(CHANGE(f, tob_registry_add_client(f->registry, &c)), TOB_PRECONDITION);
}

static tob_error see_headend(void *user, const tob_registry_headend *headend) {
    snprintf(user, 128, "%s %s %s %s%s%s", headend->name, headend->cluster_id, headend->region,
             headend->datacenter, headend->revoked_unix_ms ? " revoked" : "",
             headend->cluster_revoked ? " cluster revoked" : "");
    return TOB_OK;
}

static void a_headend_has_the_labels_of_its_cluster(void **state) {
    fixture *f = *state;
    char seen[128];
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_headend(f, "h", "k"), TOB_OK);
    assert_int_equal(add_headend(f, "alone", ""), TOB_OK);
    assert_int_equal(tob_registry_get_headend(f->registry, "h", see_headend, seen), TOB_OK);
    assert_string_equal(seen, "edge k eu fra1");
    assert_int_equal(tob_registry_get_headend(f->registry, "alone", see_headend, seen), TOB_OK);
    assert_string_equal(seen, "edge   ");
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_headend(f->registry, "h")), TOB_OK);
    assert_int_equal(tob_registry_get_headend(f->registry, "h", see_headend, seen), TOB_OK);
    assert_string_equal(seen, "edge k eu fra1 revoked cluster revoked");
}

static tob_error see_not_before(void *user, const tob_registry_headend *headend) {
    *(uint64_t *)user = headend->tokens_not_before_unix_s;
    return TOB_OK;
}

static void revoked_tokens_stay_revoked_when_the_clock_goes_back(void **state) {
    fixture *f = *state;
    uint64_t not_before = 1;
    assert_int_equal(add_headend(f, "h", ""), TOB_OK);
    assert_int_equal(tob_registry_get_headend(f->registry, "h", see_not_before, &not_before), TOB_OK);
    assert_int_equal(not_before, 0);
    assert_int_equal(CHANGE(f, tob_registry_revoke_headend_tokens(f->registry, "h", 2000)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_headend_tokens(f->registry, "h", 1000)), TOB_OK);
    assert_int_equal(tob_registry_get_headend(f->registry, "h", see_not_before, &not_before), TOB_OK);
    assert_int_equal(not_before, 2000);
    assert_int_equal(CHANGE(f, tob_registry_revoke_headend_tokens(f->registry, "nobody", 1)), TOB_NOT_FOUND);
}

// ---- keys

static tob_error rotate(fixture *f, const char *id, uint8_t key, uint64_t previous_expires) {
    uint8_t hash[TOB_SHA256_BYTES];
    memset(hash, key, sizeof(hash));
    return CHANGE(f, tob_registry_rotate_client_key(f->registry, id, hash, previous_expires));
}

static void a_rotated_key_is_the_previous_one_until_the_next_rotation(void **state) {
    fixture *f = *state;
    client_copy copy;
    assert_int_equal(add_client(f, "c", ""), TOB_OK);
    f->now_unix_ms = T0 + 1000;
    assert_int_equal(rotate(f, "c", 2, T0 + 5000), TOB_OK);
    tob_registry_client c = get_client(f, "c", &copy);
    assert_int_equal(c.key_hash[0], 2);
    assert_int_equal(c.previous_key_hash[0], 0xab);
    assert_int_equal(c.previous_key_hash[31], 0xcd);
    assert_int_equal(c.previous_key_expires_unix_ms, T0 + 5000);
    assert_int_equal(c.key_generation, 2);
    assert_int_equal(c.key_created_unix_ms, T0 + 1000);
    assert_int_equal(rotate(f, "c", 3, T0 + 6000), TOB_OK);
    c = get_client(f, "c", &copy);
    assert_int_equal(c.key_hash[0], 3);
    assert_int_equal(c.previous_key_hash[0], 2);
    assert_int_equal(c.key_generation, 3);
    assert_int_equal(rotate(f, "c", 4, 0), TOB_OK);
    c = get_client(f, "c", &copy);
    assert_int_equal(c.key_hash[0], 4);
    assert_int_equal(c.previous_key_expires_unix_ms, 0);
    assert_int_equal(c.previous_key_hash[0], 0);
    assert_int_equal(rotate(f, "nobody", 5, 0), TOB_NOT_FOUND);
}

static void an_overlap_can_be_ended_and_a_revoked_client_gets_no_key(void **state) {
    fixture *f = *state;
    client_copy copy;
    assert_int_equal(add_client(f, "c", ""), TOB_OK);
    assert_int_equal(rotate(f, "c", 2, T0 + 5000), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_previous_key(f->registry, "c")), TOB_OK);
    tob_registry_client c = get_client(f, "c", &copy);
    assert_int_equal(c.key_hash[0], 2);
    assert_int_equal(c.previous_key_expires_unix_ms, 0);
    assert_int_equal(CHANGE(f, tob_registry_revoke_previous_key(f->registry, "nobody")), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "c")), TOB_OK);
    assert_int_equal(rotate(f, "c", 3, T0 + 5000), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "client c is revoked");
    assert_int_equal(get_client(f, "c", &copy).key_hash[0], 2);
}

static void revoking_is_kept_with_its_first_time(void **state) {
    fixture *f = *state;
    client_copy copy;
    cluster_copy cluster;
    assert_int_equal(add_client(f, "x", ""), TOB_OK);
    assert_int_equal(add_cluster(f, "x"), TOB_OK);
    assert_int_equal(get_client(f, "x", &copy).revoked_unix_ms, 0);
    for (int i = 0; i < 2; i++) {
        f->now_unix_ms = T0 + (uint64_t)i;
        assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "x")), TOB_OK);
        assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "x")), TOB_OK);
    }
    assert_int_equal(get_client(f, "x", &copy).revoked_unix_ms, T0);
    assert_int_equal(get_cluster(f, "x", &cluster).revoked_unix_ms, T0);
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "y")), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "y")), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_revoke_headend(f->registry, "y")), TOB_NOT_FOUND);
}

// ---- deletions

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

// ---- clusters

static void a_cluster_with_members_is_not_deleted(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    assert_int_equal(add_headend(f, "h", "k"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "clients belong to cluster k");
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "c", false)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "headends belong to cluster k");
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "h")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_OK);
}

static void a_revoked_cluster_gets_no_new_clients(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "before", "k"), TOB_OK);
    assert_int_equal(add_client(f, "elsewhere", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(add_client(f, "after", "k"), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "cluster k is revoked");
    tob_registry_client c = a_client("elsewhere", "k");
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_PRECONDITION);
    c.id = "before"; // stays where it is
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    uint64_t clusters = 1;
    assert_int_equal(tob_registry_count_clusters(f->registry, &clusters), TOB_OK);
    assert_int_equal(clusters, 0);
}

static void a_heartbeat_is_kept_without_a_change(void **state) {
    fixture *f = *state;
    cluster_copy copy;
    uint64_t change = 0, forgotten = 0;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_string_equal(tob_registry_cluster_status(&(tob_registry_cluster){.id = "k"}, T0), "active");
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "k", 42, T0 + 9), TOB_OK);
    tob_registry_cluster k = get_cluster(f, "k", &copy);
    assert_int_equal(k.heartbeat_unix_ms, T0 + 9);
    assert_int_equal(k.client_count, 42);
    assert_string_equal(tob_registry_cluster_status(&k, T0), "active"); // the clock went back
    assert_string_equal(tob_registry_cluster_status(&k, T0 + 9 + TOB_CLUSTER_SILENT_MS), "active");
    assert_string_equal(tob_registry_cluster_status(&k, T0 + 10 + TOB_CLUSTER_SILENT_MS), "silent");
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(change, f->change);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "l", 42, T0), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "k", 43, T0), TOB_PRECONDITION);
    k = get_cluster(f, "k", &copy);
    assert_int_equal(k.client_count, 42);
    assert_string_equal(tob_registry_cluster_status(&k, T0), "revoked");
}

static tob_error count_members(void *user, const tob_registry_client *client) {
    uint64_t *counts = user; // of "k0", "k1", "k2"
    if (client->cluster_id[0] && !client->revoked_unix_ms) {
        counts[client->cluster_id[1] - '0']++;
    }
    return TOB_OK;
}

static void check_counts(fixture *f) {
    static const char *const ids[] = {"k0", "k1", "k2"};
    uint64_t counts[3] = {0, 0, 0};
    cluster_copy copy;
    assert_int_equal(tob_registry_list_clients(f->registry, "", UINT32_MAX, count_members, counts), TOB_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(get_cluster(f, ids[i], &copy).registered_clients, counts[i]);
    }
}

static void registered_clients_is_always_what_a_count_would_find(void **state) {
    fixture *f = *state;
    static const char *const clusters[] = {"k0", "k1", "k2", ""};
    uint32_t random = 12345;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(add_cluster(f, clusters[i]), TOB_OK);
    }
    for (int i = 0; i < 300; i++) {
        random = random * 1664525u + 1013904223u; // Numerical Recipes' generator
        const char *cluster = clusters[random >> 30];
        char id[8];
        snprintf(id, sizeof(id), "c%u", (random >> 20) % 12);
        tob_registry_client c = a_client(id, cluster);
        uint32_t act = (random >> 10) % 8;
        tob_error err = act < 3   ? CHANGE(f, tob_registry_add_client(f->registry, &c))
                        : act < 5 ? CHANGE(f, tob_registry_update_client(f->registry, &c))
                        : act < 6 ? CHANGE(f, tob_registry_revoke_client(f->registry, id))
                                  : CHANGE(f, tob_registry_delete_client(f->registry, id, act == 7));
        assert_true(err == TOB_OK || err == TOB_ALREADY_EXISTS || err == TOB_NOT_FOUND);
        if (i % 10 == 9) {
            check_counts(f);
        }
    }
}

static tob_error add_place(fixture *f, const char *id, const char *region, const char *datacenter,
                           const char *url) {
    tob_registry_cluster cluster = a_cluster(id);
    cluster.region = region;
    cluster.datacenter = datacenter;
    cluster.headend_url = url;
    return CHANGE(f, tob_registry_add_cluster(f->registry, &cluster));
}

static const char *place(fixture *f, const char *location, uint64_t now) {
    static char text[sizeof(((words *)0)->text)];
    words w = {.count = 0};
    tob_error err = tob_registry_place_client(f->registry, location, now, note_cluster, &w);
    snprintf(text, sizeof(text), "%s", err ? tob_error_string(err) : w.text);
    return text;
}

static void placing_prefers_the_location_then_few_clients_then_the_id(void **state) {
    fixture *f = *state;
    assert_string_equal(place(f, "", T0), "not found");
    assert_int_equal(add_place(f, "silent", "EU-west", "ams1", "https://s"), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "silent", 1, T0 - TOB_CLUSTER_SILENT_MS - 1),
                     TOB_OK);
    assert_int_equal(add_place(f, "no-url", "EU-west", "ams1", ""), TOB_OK);
    assert_int_equal(add_place(f, "revoked", "EU-west", "ams1", "https://r"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "revoked")), TOB_OK);
    assert_string_equal(place(f, "EU-west", T0), "not found");
    assert_int_equal(add_place(f, "b", "EU-west", "ams1", "https://b"), TOB_OK);
    assert_int_equal(add_place(f, "c", "eu-west", "fra1", "https://c"), TOB_OK);
    assert_int_equal(add_place(f, "a", "us", "nyc1", "https://a"), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "c", 1, T0 - TOB_CLUSTER_SILENT_MS), TOB_OK);
    assert_string_equal(place(f, "", T0), "a ");
    assert_string_equal(place(f, "mars", T0), "a ");
    assert_string_equal(place(f, "eu-WEST", T0), "b ");
    assert_string_equal(place(f, "FRA1", T0), "c ");
    assert_int_equal(add_client(f, "x", "b"), TOB_OK);
    assert_string_equal(place(f, "eu-west", T0), "c ");
    assert_int_equal(add_client(f, "y", "a"), TOB_OK);
    assert_string_equal(place(f, "", T0), "c ");
    assert_int_equal(add_client(f, "z", "c"), TOB_OK);
    assert_string_equal(place(f, "", T0), "a ");
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "x")), TOB_OK);
    assert_string_equal(place(f, "", T0), "b ");
    assert_string_equal(place(f, "%", T0), "b "); // no pattern
    // Letters beyond ASCII are compared as they are, on both engines.
    assert_int_equal(add_place(f, "m", "MÜNCHEN", "m1", "https://m"), TOB_OK);
    assert_int_equal(add_client(f, "w", "m"), TOB_OK);
    assert_string_equal(place(f, "mÜnchen", T0), "m ");
    assert_string_equal(place(f, "münchen", T0), "b ");
}

// ---- changes and their numbers

static void a_change_marks_the_rows_that_it_touches(void **state) {
    fixture *f = *state;
    words clients = {.count = 0}, headends = {.count = 0}, more = {.count = 0};
    bool changed = true;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "a", "k"), TOB_OK);
    assert_int_equal(add_client(f, "b", ""), TOB_OK);
    assert_int_equal(add_headend(f, "g", "k"), TOB_OK);
    assert_int_equal(add_headend(f, "h", ""), TOB_OK);
    uint64_t since = f->change;
    assert_int_equal(tob_registry_clusters_changed(f->registry, since, &changed), TOB_OK);
    assert_false(changed);
    assert_int_equal(rotate(f, "b", 9, T0 + 1), TOB_OK);
    assert_int_equal(f->change, since + 1);
    tob_registry_cluster k = a_cluster("k");
    k.region = "us";
    assert_int_equal(CHANGE(f, tob_registry_update_cluster(f->registry, &k)), TOB_OK);
    assert_int_equal(tob_registry_changed_clients(f->registry, since, note_client, &clients), TOB_OK);
    assert_string_equal(clients.text, "b ");
    assert_int_equal(tob_registry_changed_headends(f->registry, since, note_headend, &headends), TOB_OK);
    assert_string_equal(headends.text, "g ");
    assert_int_equal(tob_registry_clusters_changed(f->registry, since, &changed), TOB_OK);
    assert_true(changed);
    since = f->change;
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(tob_registry_changed_headends(f->registry, since, note_headend, &more), TOB_OK);
    assert_string_equal(more.text, "g ");
}

static void what_is_rolled_back_leaves_nothing(void **state) {
    fixture *f = *state;
    words clients = {.count = 0}, audit = {.count = 0}, notes = {.count = 0};
    uint64_t before = 0, after = 0, forgotten = 0;
    cluster_copy copy;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "a", "k"), TOB_OK);
    assert_int_equal(tob_registry_last_change(f->registry, &before, &forgotten), TOB_OK);
    begin(f);
    tob_registry_client b = a_client("b", "k");
    assert_int_equal(tob_registry_add_client(f->registry, &b), TOB_OK);
    assert_int_equal(tob_registry_delete_client(f->registry, "a", true), TOB_OK);
    tob_registry_rollback(f->registry);
    tob_registry_rollback(f->registry); // also fine
    assert_int_equal(tob_registry_last_change(f->registry, &after, &forgotten), TOB_OK);
    assert_int_equal(after, before);
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &clients), TOB_OK);
    assert_string_equal(clients.text, "a ");
    assert_int_equal(tob_registry_deletions(f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_int_equal(notes.count, 0);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 10, note_audit, &audit), TOB_OK);
    assert_string_equal(audit.text, "client.add:a cluster.add:k ");
    assert_int_equal(get_cluster(f, "k", &copy).registered_clients, 1);
    assert_int_equal(add_client(f, "b", "k"), TOB_OK);
    assert_int_equal(f->change, before + 1);
}

// ---- the audit log

static tob_error copy_entry(void *user, const tob_registry_audit_entry *entry) {
    snprintf(user, 512, "%s|%s|%s|%s|%s|%llu", entry->who, entry->peer, entry->action, entry->target,
             entry->detail, (unsigned long long)entry->at_unix_ms);
    return TOB_OK;
}

static void every_act_is_in_the_audit_log_with_who_and_when(void **state) {
    fixture *f = *state;
    char text[512];
    f->now_unix_ms = T0 + 5;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 1, copy_entry, text), TOB_OK);
    assert_string_equal(text, "admin ann|192.0.2.7|client.add|c|k|1700000000005");
    tob_registry_client c = a_client("c", "");
    c.name = "other";
    f->now_unix_ms = T0 + 6;
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 1, copy_entry, text), TOB_OK);
    assert_string_equal(text, "admin ann|192.0.2.7|client.update|c|name, cluster_id|1700000000006");
}

static tob_error see_number(void *user, const tob_registry_audit_entry *entry) {
    *(uint64_t *)user = entry->number;
    return TOB_OK;
}

static void the_audit_log_is_read_backwards_a_page_at_a_time(void **state) {
    fixture *f = *state;
    static const char *const ids[] = {"a", "b", "c", "d"};
    words all = {.count = 0}, page = {.count = 0}, of = {.count = 0}, since = {.count = 0};
    uint64_t number = 0;
    for (size_t i = 0; i < 4; i++) {
        f->now_unix_ms = T0 + i;
        assert_int_equal(add_client(f, ids[i], ""), TOB_OK);
    }
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "b")), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 10, note_audit, &all), TOB_OK);
    assert_string_equal(all.text, "client.revoke:b client.add:d client.add:c client.add:b client.add:a ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 2, see_number, &number), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, number, "", 0, 2, note_audit, &page), TOB_OK);
    assert_string_equal(page.text, "client.add:c client.add:b ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "b", 0, 10, note_audit, &of), TOB_OK);
    assert_string_equal(of.text, "client.revoke:b client.add:b ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", T0 + 2, 10, note_audit, &since),
                     TOB_OK);
    assert_string_equal(since.text, "client.revoke:b client.add:d client.add:c ");
}

static void the_database_itself_refuses_to_change_the_audit_log(void **state) {
    fixture *f = *state;
    words audit = {.count = 0};
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    static const char update[] = "UPDATE audit SET who = 'nobody'";
    static const char delete[] = "DELETE FROM audit";
    static const char truncate[] = "TRUNCATE audit";
    tob_sql *sql = tob_registry_sql(f->registry);
    assert_int_equal(tob_sql_run(sql, update, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    assert_non_null(strstr(tob_sql_problem(sql), "append-only"));
    assert_int_equal(tob_sql_run(sql, delete, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    if (!on_sqlite(f)) {
        assert_int_equal(tob_sql_run(sql, truncate, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    }
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 10, note_audit, &audit), TOB_OK);
    assert_string_equal(audit.text, "client.add:a ");
}

// ---- text from outside is data

#define HOSTILE "x'; DROP TABLE clients; -- $1 %s \\ \" \xc3\xbc"

static void sql_text_in_every_field_is_kept_as_it_is(void **state) {
    fixture *f = *state;
    client_copy copy;
    cluster_copy cluster_copied;
    char text[512];
    tob_registry_cluster k = {
        .id = HOSTILE, .name = HOSTILE, .region = HOSTILE, .datacenter = HOSTILE, .headend_url = HOSTILE};
    assert_int_equal(CHANGE(f, tob_registry_add_cluster(f->registry, &k)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_update_cluster(f->registry, &k)), TOB_OK);
    tob_registry_client c = a_client(HOSTILE, HOSTILE);
    c.name = c.public_key = c.location = HOSTILE;
    assert_int_equal(CHANGE(f, tob_registry_add_client(f->registry, &c)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    c.id = "imported'); DELETE FROM audit; --";
    assert_int_equal(CHANGE(f, tob_registry_import_clients(f->registry, &c, 1, true, NULL, NULL, NULL)),
                     TOB_OK);
    tob_registry_headend h = {.id = HOSTILE, .name = HOSTILE, .cluster_id = HOSTILE};
    assert_int_equal(CHANGE(f, tob_registry_add_headend(f->registry, &h)), TOB_OK);
    tob_registry_client got = get_client(f, HOSTILE, &copy);
    assert_string_equal(got.id, HOSTILE);
    assert_string_equal(got.name, HOSTILE);
    assert_string_equal(got.cluster_id, HOSTILE);
    assert_string_equal(got.public_key, HOSTILE);
    assert_string_equal(got.location, HOSTILE);
    tob_registry_cluster cluster = get_cluster(f, HOSTILE, &cluster_copied);
    assert_string_equal(cluster.region, HOSTILE);
    assert_string_equal(cluster.datacenter, HOSTILE);
    assert_string_equal(cluster.headend_url, HOSTILE);
    assert_int_equal(cluster.registered_clients, 2);
    assert_string_equal(get_client(f, c.id, &copy).name, HOSTILE);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, HOSTILE, 0, 1, copy_entry, text),
                     TOB_OK);
    assert_non_null(strstr(text, HOSTILE));
    words near = {.count = 0}, after = {.count = 0};
    assert_int_equal(tob_registry_place_client(f->registry, HOSTILE, T0, note_cluster, &near), TOB_OK);
    assert_int_equal(tob_registry_list_clients(f->registry, HOSTILE, 10, note_client, &after), TOB_OK);
    assert_int_equal(after.count, 0);
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, HOSTILE, true)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, HOSTILE)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, HOSTILE)), TOB_PRECONDITION);
}

// ---- schemas

static void a_newer_schema_is_refused_as_such(void **state) {
    fixture *f = *state;
    static const char newer[] = "INSERT INTO schema_version (version, applied_unix_ms) VALUES (1000, 0)";
    assert_int_equal(tob_sql_run(tob_registry_sql(f->registry), newer, NULL, 0, NULL, NULL, NULL), TOB_OK);
    tob_registry_close(f->registry);
    f->registry = NULL;
    tob_sql_problem_text problem = {""};
    assert_int_equal(tob_registry_open(f->url, NULL, &f->registry, &problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "1000"));
    assert_non_null(strstr(problem.text, "newer version"));
    assert_null(f->registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_added_is_listed_in_order_of_ids_a_page_at_a_time),
        TEST(what_the_reader_refuses_is_returned_and_the_next_reading_begins_anew),
        TEST(a_client_keeps_all_its_fields_over_a_restart),
        TEST(an_id_that_is_taken_is_refused),
        TEST(a_cluster_that_does_not_exist_is_refused_and_named),
        TEST(an_update_replaces_the_fields_and_says_what_was_not_found),
        TEST(a_type_that_there_is_not_is_refused_by_the_database),
        TEST(a_headend_has_the_labels_of_its_cluster),
        TEST(revoked_tokens_stay_revoked_when_the_clock_goes_back),
        TEST(a_rotated_key_is_the_previous_one_until_the_next_rotation),
        TEST(an_overlap_can_be_ended_and_a_revoked_client_gets_no_key),
        TEST(revoking_is_kept_with_its_first_time),
        TEST(what_is_deleted_is_gone_and_noted_and_its_id_is_free),
        TEST(a_client_can_be_erased_at_once_or_after_it_was_deleted),
        TEST(an_erasure_is_remembered_when_the_id_is_registered_again),
        TEST(certificates_are_revoked_with_their_subject_and_only_serials_outlive_its_erasure),
        TEST(deletions_are_forgotten_after_a_time_and_that_is_remembered),
        TEST(the_note_of_a_deleted_headend_outlives_its_tokens),
        TEST(a_cluster_with_members_is_not_deleted),
        TEST(a_revoked_cluster_gets_no_new_clients),
        TEST(a_heartbeat_is_kept_without_a_change),
        TEST(registered_clients_is_always_what_a_count_would_find),
        TEST(placing_prefers_the_location_then_few_clients_then_the_id),
        TEST(a_change_marks_the_rows_that_it_touches),
        TEST(what_is_rolled_back_leaves_nothing),
        TEST(every_act_is_in_the_audit_log_with_who_and_when),
        TEST(the_audit_log_is_read_backwards_a_page_at_a_time),
        TEST(the_database_itself_refuses_to_change_the_audit_log),
        TEST(sql_text_in_every_field_is_kept_as_it_is),
        TEST(a_newer_schema_is_refused_as_such),
    };
    return RUN_ON_BOTH("registry", tests);
}
