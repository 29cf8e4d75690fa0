#include <time.h>

#include "ingestd/registry_signing_keys.h"
#include "ingestd/registry_sync.h"
#include "registry_rig.h"

#define DEADLINE_S 20

// What the listener has heard since it was last asked.
typedef struct ear {
    words sources;  // "client:ID", "headend:ID"
    words erasures; // "ID@CHANGE"
    uint64_t numbered;
    int signing_keys;
    int certificates;
    tob_error answer; // of signing_keys_changed
} ear;

typedef struct rig {
    fixture *f;
    tob_directory *directory;
    tob_registry_sync *sync;
    ear ear;
} rig;

static void on_source(void *user, tob_source_kind kind, const char *id) {
    ear *e = user;
    char word[200];
    snprintf(word, sizeof(word), "%s:%s", kind == TOB_SOURCE_CLIENT ? "client" : "headend", id);
    assert_int_equal(note(&e->sources, word), TOB_OK);
}

static void on_numbered(void *user, uint64_t last) {
    ear *e = user;
    e->numbered = last;
}

static void on_erased(void *user, const char *id, uint64_t change) {
    ear *e = user;
    char word[200];
    snprintf(word, sizeof(word), "%s@%llu", id, (unsigned long long)change);
    assert_int_equal(note(&e->erasures, word), TOB_OK);
}

static tob_error on_signing_keys(void *user, tob_registry *registry) {
    ear *e = user;
    assert_non_null(registry);
    e->signing_keys++;
    return e->answer;
}

static tob_error on_certificates(void *user, tob_registry *registry) {
    ear *e = user;
    assert_non_null(registry);
    e->certificates++;
    return TOB_OK;
}

// As after a start: an empty directory.
static void start(rig *r) {
    assert_int_equal(tob_directory_new(&r->directory), TOB_OK);
    assert_int_equal(tob_registry_sync_new(r->f->registry, r->directory, &r->sync), TOB_OK);
    tob_registry_sync_listener nobody = {.user = NULL};
    tob_registry_sync_listener listener = {.source_changed = on_source,
                                           .numbered = on_numbered,
                                           .client_erased = on_erased,
                                           .signing_keys_changed = on_signing_keys,
                                           .certificates_changed = on_certificates,
                                           .user = &r->ear};
    tob_registry_sync_listen(r->sync, &nobody);
    tob_registry_sync_listen(r->sync, &listener);
}

static void stop(rig *r) {
    tob_registry_sync_free(r->sync);
    tob_directory_free(r->directory);
}

static int rig_up(void **state) {
    rig *r = calloc(1, sizeof(*r));
    set_up(state);
    r->f = *state;
    start(r);
    *state = r;
    return 0;
}

static int rig_down(void **state) {
    rig *r = *state;
    stop(r);
    *state = r->f;
    free(r);
    return tear_down(state);
}

static void run(rig *r) {
    memset(&r->ear, 0, sizeof(r->ear));
    assert_int_equal(tob_registry_sync_run(r->sync), TOB_OK);
    assert_false(tob_registry_sync_away(r->sync));
}

// ---- what the directory has

// "NAME TYPE" of a client, with " revoked"; "" for nobody.
static const char *client(rig *r, const char *id) {
    static char text[300];
    tob_directory_read_lock(r->directory);
    const tob_directory_client *c = tob_directory_find_client(r->directory, id, strlen(id));
    snprintf(text, sizeof(text), "%s%s%s%s", c ? c->name : "", c ? " " : "", c ? c->type : "",
             c && c->revoked ? " revoked" : "");
    tob_directory_read_unlock(r->directory);
    return text;
}

static const char *headend(rig *r, const char *id) {
    static char text[600];
    tob_directory_read_lock(r->directory);
    const tob_directory_headend *h = tob_directory_find_headend(r->directory, id, strlen(id));
    text[0] = 0;
    if (h) {
        snprintf(text, sizeof(text), "%s %s %s %s %llu%s", h->name, h->cluster_id, h->region, h->datacenter,
                 (unsigned long long)h->tokens_not_before_unix_s, h->revoked ? " revoked" : "");
    }
    tob_directory_read_unlock(r->directory);
    return text;
}

static tob_key_match match(rig *r, const char *id, uint8_t first, uint8_t last, uint64_t now) {
    uint8_t hash[TOB_SHA256_BYTES];
    memset(hash, first, sizeof(hash));
    hash[31] = last;
    tob_directory_read_lock(r->directory);
    tob_key_match found =
        tob_directory_match_key(tob_directory_find_client(r->directory, id, strlen(id)), hash, now);
    tob_directory_read_unlock(r->directory);
    return found;
}

static tob_error rotate(fixture *f, const char *id, uint8_t key, uint64_t previous_expires) {
    uint8_t hash[TOB_SHA256_BYTES];
    memset(hash, key, sizeof(hash));
    return CHANGE(f, tob_registry_rotate_client_key(f->registry, id, hash, previous_expires));
}

// ---- tests

static void the_first_run_loads_everything(void **state) {
    rig *r = *state;
    assert_int_equal(add_cluster(r->f, "k"), TOB_OK);
    assert_int_equal(add_cluster(r->f, "l"), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_cluster(r->f->registry, "l")), TOB_OK);
    assert_int_equal(add_client(r->f, "a", "k"), TOB_OK);
    assert_int_equal(rotate(r->f, "a", 2, T0 + 10), TOB_OK);
    assert_int_equal(rotate(r->f, "a", 3, T0 + 10), TOB_OK);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_client(r->f->registry, "b")), TOB_OK);
    assert_int_equal(add_headend(r->f, "h", "k"), TOB_OK);
    assert_int_equal(add_headend(r->f, "i", "l"), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_headend_tokens(r->f->registry, "h", 77)), TOB_OK);
    run(r);
    assert_string_equal(client(r, "a"), "Ann's laptop docker");
    assert_string_equal(client(r, "b"), "Ann's laptop docker revoked");
    assert_int_equal(match(r, "a", 3, 3, T0), TOB_KEY_NEWEST);
    assert_int_equal(match(r, "a", 2, 2, T0), TOB_KEY_PREVIOUS);
    assert_int_equal(match(r, "a", 2, 2, T0 + 10), TOB_KEY_WRONG);
    assert_string_equal(headend(r, "h"), "edge k eu fra1 77");
    assert_string_equal(headend(r, "i"), "edge l eu fra1 0 revoked");
    assert_int_equal(tob_directory_clients(r->directory), 1);
    assert_int_equal(tob_directory_headends(r->directory), 1);
    assert_int_equal(tob_directory_clusters(r->directory), 1);
    assert_string_equal(r->ear.sources.text, ""); // nobody had them before
    assert_int_equal(r->ear.signing_keys, 1);
    assert_int_equal(r->ear.certificates, 1);
}

static void a_run_with_nothing_new_tells_nobody(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    run(r);
    tob_directory_remove_client(r->directory, "a"); // a run that read it again would put it back
    run(r);
    assert_string_equal(client(r, "a"), "");
    assert_int_equal(r->ear.signing_keys + r->ear.certificates, 0);
    assert_int_equal(r->ear.sources.count + r->ear.erasures.count, 0);
}

static void a_later_run_reads_what_changed_since_and_nothing_else(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    tob_registry_client a = a_client("a", "");
    tob_registry_headend g = a_headend("g", "");
    begin(r->f);
    assert_int_equal(tob_registry_add_headend(r->f->registry, &g), TOB_OK);
    assert_int_equal(end(r->f, tob_registry_add_client(r->f->registry, &a)), TOB_OK);
    run(r);
    tob_directory_remove_client(r->directory, "a");
    tob_directory_remove_headend(r->directory, "g");
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_client(r->f->registry, "b")), TOB_OK);
    assert_int_equal(add_client(r->f, "c", ""), TOB_OK);
    assert_int_equal(add_headend(r->f, "h", ""), TOB_OK);
    assert_int_equal(add_cluster(r->f, "k"), TOB_OK);
    run(r);
    assert_string_equal(client(r, "a"), "");
    assert_string_equal(headend(r, "g"), "");
    assert_string_equal(client(r, "b"), "Ann's laptop docker revoked");
    assert_string_equal(client(r, "c"), "Ann's laptop docker");
    assert_string_equal(headend(r, "h"), "edge    0");
    assert_int_equal(tob_directory_clusters(r->directory), 1);
    assert_int_equal(r->ear.sources.count, 0);
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_cluster(r->f->registry, "k")), TOB_OK);
    run(r);
    assert_int_equal(tob_directory_clusters(r->directory), 0);
}

static void a_rotated_key_and_the_end_of_its_overlap_arrive(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    run(r);
    assert_int_equal(rotate(r->f, "a", 2, T0 + 10), TOB_OK);
    run(r);
    assert_int_equal(match(r, "a", 2, 2, T0), TOB_KEY_NEWEST);
    assert_int_equal(rotate(r->f, "a", 3, T0 + 10), TOB_OK);
    run(r);
    assert_int_equal(match(r, "a", 3, 3, T0), TOB_KEY_NEWEST);
    assert_int_equal(match(r, "a", 2, 2, T0), TOB_KEY_PREVIOUS);
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_previous_key(r->f->registry, "a")), TOB_OK);
    run(r);
    assert_int_equal(match(r, "a", 2, 2, T0), TOB_KEY_WRONG);
    assert_int_equal(r->ear.sources.count, 0); // no label is another
}

static void what_is_deleted_is_removed_and_told(void **state) {
    rig *r = *state;
    char erasure[64];
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    assert_int_equal(add_headend(r->f, "a", ""), TOB_OK);
    assert_int_equal(add_cluster(r->f, "k"), TOB_OK);
    run(r);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_headend(r->f->registry, "a")), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "b", true)), TOB_OK);
    snprintf(erasure, sizeof(erasure), "b@%llu ", (unsigned long long)r->f->change);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_cluster(r->f->registry, "k")), TOB_OK);
    run(r);
    assert_string_equal(client(r, "a"), "");
    assert_string_equal(client(r, "b"), "");
    assert_string_equal(headend(r, "a"), "");
    assert_string_equal(r->ear.sources.text, "client:a headend:a client:b ");
    assert_string_equal(r->ear.erasures.text, erasure);
    assert_int_equal(tob_directory_clusters(r->directory), 0);
    // Erased afterwards: the row is gone already.
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", true)), TOB_OK);
    snprintf(erasure, sizeof(erasure), "a@%llu ", (unsigned long long)r->f->change);
    run(r);
    assert_string_equal(r->ear.sources.text, "");
    assert_string_equal(r->ear.erasures.text, erasure);
}

static void an_id_that_was_deleted_and_registered_again_is_the_new_one(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    run(r);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "b", true)), TOB_OK);
    tob_registry_client again = a_client("a", "");
    again.name = "again";
    assert_int_equal(CHANGE(r->f, tob_registry_add_client(r->f->registry, &again)), TOB_OK);
    again.id = "b";
    assert_int_equal(CHANGE(r->f, tob_registry_add_client(r->f->registry, &again)), TOB_OK);
    run(r);
    assert_string_equal(client(r, "a"), "again docker");
    assert_string_equal(client(r, "b"), "again docker");
    assert_string_equal(r->ear.sources.text, "client:b client:a ");
    assert_int_equal(r->ear.erasures.count, 1);
}

static void other_labels_are_told(void **state) {
    rig *r = *state;
    assert_int_equal(add_cluster(r->f, "k"), TOB_OK);
    assert_int_equal(add_cluster(r->f, "l"), TOB_OK);
    assert_int_equal(add_client(r->f, "a", "k"), TOB_OK);
    assert_int_equal(add_headend(r->f, "h", "k"), TOB_OK);
    assert_int_equal(add_headend(r->f, "i", "l"), TOB_OK);
    run(r);
    tob_registry_client a = a_client("a", "l");
    assert_int_equal(CHANGE(r->f, tob_registry_update_client(r->f->registry, &a)), TOB_OK);
    run(r);
    assert_string_equal(r->ear.sources.text, ""); // its cluster is no label
    a.name = "renamed";
    assert_int_equal(CHANGE(r->f, tob_registry_update_client(r->f->registry, &a)), TOB_OK);
    tob_registry_cluster k = a_cluster("k");
    k.datacenter = "ams1";
    assert_int_equal(CHANGE(r->f, tob_registry_update_cluster(r->f->registry, &k)), TOB_OK);
    run(r);
    assert_string_equal(r->ear.sources.text, "client:a headend:h ");
    assert_string_equal(client(r, "a"), "renamed docker");
    assert_string_equal(headend(r, "h"), "edge k eu ams1 0");
    assert_int_equal(CHANGE(r->f, tob_registry_revoke_cluster(r->f->registry, "k")), TOB_OK);
    run(r);
    assert_string_equal(headend(r, "h"), "edge k eu ams1 0 revoked");
    assert_string_equal(headend(r, "i"), "edge l eu fra1 0");
}

static void who_was_away_until_deletions_were_forgotten_reads_everything(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "c", ""), TOB_OK);
    assert_int_equal(add_headend(r->f, "h", ""), TOB_OK);
    run(r);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_headend(r->f->registry, "h")), TOB_OK);
    r->f->now_unix_ms += TOB_REGISTRY_FORGET_MS + 1;
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "b", false)), TOB_OK);
    words notes = {.count = 0};
    assert_int_equal(tob_registry_deletions(r->f->registry, 0, note_deletion, &notes), TOB_OK);
    assert_string_equal(notes.text, "headend:h client:b "); // it may have tokens
    run(r);
    assert_string_equal(client(r, "a"), "");
    assert_string_equal(client(r, "b"), "");
    assert_string_equal(client(r, "c"), "Ann's laptop docker");
    assert_string_equal(headend(r, "h"), "");
    assert_int_equal(r->ear.sources.count, 3);
    assert_int_equal(tob_directory_clients(r->directory), 1);
}

static void a_database_that_was_restored_from_a_backup_is_read_as_a_whole(void **state) {
    rig *r = *state;
    static const char rows[] = "DELETE FROM clients WHERE id = 'new'";
    static const char number[] = "UPDATE registry_state SET change = 2";
    assert_int_equal(add_client(r->f, "old", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "new", ""), TOB_OK);
    run(r);
    tob_sql *sql = tob_registry_sql(r->f->registry);
    assert_int_equal(tob_sql_run(sql, rows, NULL, 0, NULL, NULL, NULL), TOB_OK);
    assert_int_equal(tob_sql_run(sql, number, NULL, 0, NULL, NULL, NULL), TOB_OK);
    run(r);
    assert_int_equal(r->ear.numbered, 2);
    assert_string_equal(client(r, "old"), "Ann's laptop docker");
    assert_string_equal(client(r, "new"), "");
    assert_string_equal(r->ear.sources.text, "client:new ");
}

static void a_start_hears_of_all_erasures_that_are_remembered(void **state) {
    rig *r = *state;
    char erasure[64];
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    run(r);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", false)), TOB_OK);
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "b", true)), TOB_OK);
    snprintf(erasure, sizeof(erasure), "b@%llu ", (unsigned long long)r->f->change);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    stop(r);
    start(r);
    run(r);
    assert_string_equal(r->ear.erasures.text, erasure);
    assert_string_equal(client(r, "b"), "Ann's laptop docker");
}

static tob_error add_signing_key(fixture *f, const char *kid) {
    tob_registry_signing_key key = {.kid = kid, .private_jwk = "{}", .created_unix_ms = T0};
    return CHANGE(f, tob_registry_add_signing_key(f->registry, "signing_key.rotate", &key, T0 + 1000));
}

static void signing_keys_and_certificates_are_told_when_they_changed(void **state) {
    rig *r = *state;
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    run(r);
    assert_int_equal(add_client(r->f, "b", ""), TOB_OK);
    run(r);
    assert_int_equal(r->ear.signing_keys + r->ear.certificates, 0);
    assert_int_equal(add_signing_key(r->f, "one"), TOB_OK);
    run(r);
    assert_int_equal(r->ear.signing_keys, 1);
    assert_int_equal(r->ear.certificates, 0);
    assert_int_equal(add_certificate(r->f, "01", "client", "a"), TOB_OK);
    assert_int_equal(add_certificate(r->f, "02", "client", "b"), TOB_OK);
    run(r);
    assert_int_equal(r->ear.signing_keys, 0);
    assert_int_equal(r->ear.certificates, 1);
    // The newest certificate stays when an older one is erased.
    assert_int_equal(CHANGE(r->f, tob_registry_delete_client(r->f->registry, "a", true)), TOB_OK);
    run(r);
    assert_int_equal(r->ear.certificates, 1);
}

static void a_listener_that_fails_is_told_again_and_stops_nobody(void **state) {
    rig *r = *state;
    run(r);
    assert_int_equal(add_signing_key(r->f, "one"), TOB_OK);
    memset(&r->ear, 0, sizeof(r->ear));
    r->ear.answer = TOB_MALFORMED;
    assert_int_equal(tob_registry_sync_run(r->sync), TOB_OK);
    assert_int_equal(r->ear.signing_keys, 1);
    run(r); // nothing has changed since
    assert_int_equal(r->ear.signing_keys, 1);
    run(r);
    assert_int_equal(r->ear.signing_keys, 0);
    assert_int_equal(add_signing_key(r->f, "two"), TOB_OK);
    r->ear.answer = TOB_UNAVAILABLE; // as when the database goes away meanwhile
    assert_int_equal(tob_registry_sync_run(r->sync), TOB_UNAVAILABLE);
    assert_true(tob_registry_sync_away(r->sync));
    run(r);
    assert_int_equal(r->ear.signing_keys, 1);
}

static void while_the_database_is_away_all_stays_and_then_goes_on(void **state) {
    rig *r = *state;
    if (on_sqlite(r->f)) {
        return; // a file is never away
    }
    fixture other = {.registry = open_registry(r->f->url), .now_unix_ms = T0};
    assert_int_equal(add_client(r->f, "a", ""), TOB_OK);
    run(r);
    assert_int_equal(CHANGE(&other, tob_registry_revoke_client(other.registry, "a")), TOB_OK);
    tob_test_postgresql_control("stop");
    assert_int_equal(tob_registry_sync_run(r->sync), TOB_UNAVAILABLE);
    assert_true(tob_registry_sync_away(r->sync));
    assert_string_equal(client(r, "a"), "Ann's laptop docker");
    tob_test_postgresql_control("restart");
    struct timespec pause = {.tv_nsec = 50000000};
    tob_error err = TOB_UNAVAILABLE;
    for (int i = 0; i < DEADLINE_S * 20 && err == TOB_UNAVAILABLE; i++) {
        err = tob_registry_sync_run(r->sync);
        if (err) {
            nanosleep(&pause, NULL);
        }
    }
    assert_int_equal(err, TOB_OK);
    assert_false(tob_registry_sync_away(r->sync));
    assert_string_equal(client(r, "a"), "Ann's laptop docker revoked");
    tob_registry_close(other.registry);
}

static void the_watcher_can_say_that_the_database_is_away(void **state) {
    rig *r = *state;
    assert_false(tob_registry_sync_away(r->sync));
    tob_registry_sync_set_away(r->sync, true);
    assert_true(tob_registry_sync_away(r->sync));
    run(r);
    assert_false(tob_registry_sync_away(r->sync));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_first_run_loads_everything),
        TEST(a_run_with_nothing_new_tells_nobody),
        TEST(a_later_run_reads_what_changed_since_and_nothing_else),
        TEST(a_rotated_key_and_the_end_of_its_overlap_arrive),
        TEST(what_is_deleted_is_removed_and_told),
        TEST(an_id_that_was_deleted_and_registered_again_is_the_new_one),
        TEST(other_labels_are_told),
        TEST(who_was_away_until_deletions_were_forgotten_reads_everything),
        TEST(a_database_that_was_restored_from_a_backup_is_read_as_a_whole),
        TEST(a_start_hears_of_all_erasures_that_are_remembered),
        TEST(signing_keys_and_certificates_are_told_when_they_changed),
        TEST(a_listener_that_fails_is_told_again_and_stops_nobody),
        TEST(while_the_database_is_away_all_stays_and_then_goes_on),
        TEST(the_watcher_can_say_that_the_database_is_away),
    };
    return run_on_both("registry_sync", tests, sizeof(tests) / sizeof(tests[0]), rig_up, rig_down);
}
