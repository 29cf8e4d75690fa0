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
        TEST(a_change_marks_the_rows_that_it_touches),
        TEST(what_is_rolled_back_leaves_nothing),
        TEST(sql_text_in_every_field_is_kept_as_it_is),
        TEST(a_newer_schema_is_refused_as_such),
    };
    return RUN_ON_BOTH("registry", tests);
}
