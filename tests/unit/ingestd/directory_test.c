// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/directory.h"

static int set_up(void **state) {
    tob_directory *directory = NULL;
    tob_error err = tob_directory_new(&directory);
    *state = directory;
    return err ? -1 : 0;
}

static int tear_down(void **state) {
    tob_directory_free(*state);
    return 0;
}

static void put_client(tob_directory *directory, const char *id, const char *name, const char *type,
                       uint8_t key, bool revoked) {
    tob_directory_client client = {.id = id, .name = name, .type = type, .revoked = revoked};
    memset(client.key_hash, key, sizeof(client.key_hash));
    assert_int_equal(tob_directory_put_client(directory, &client, NULL), TOB_OK);
}

static bool put_headend(tob_directory *directory, const tob_directory_headend *headend) {
    bool relabelled = false;
    assert_int_equal(tob_directory_put_headend(directory, headend, &relabelled), TOB_OK);
    return relabelled;
}

static void nobody_is_found_in_an_empty_directory(void **state) {
    tob_directory *d = *state;
    tob_directory_read_lock(d);
    assert_null(tob_directory_find_client(d, "a", 1));
    assert_null(tob_directory_find_headend(d, "a", 1));
    tob_directory_read_unlock(d);
    assert_int_equal(tob_directory_clients(d) + tob_directory_clusters(d) + tob_directory_headends(d), 0);
}

static void a_client_is_found_by_its_id_only_and_its_strings_are_copies(void **state) {
    tob_directory *d = *state;
    char id[] = "c-1", name[] = "laptop", type[] = "native";
    put_client(d, id, name, type, 7, false);
    id[0] = name[0] = type[0] = '?';
    tob_directory_read_lock(d);
    const tob_directory_client *c = tob_directory_find_client(d, "c-1 and more", 3);
    assert_non_null(c);
    assert_string_equal(c->id, "c-1");
    assert_string_equal(c->name, "laptop");
    assert_string_equal(c->type, "native");
    assert_int_equal(c->key_hash[0], 7);
    assert_int_equal(c->key_hash[31], 7);
    assert_false(c->revoked);
    assert_null(tob_directory_find_client(d, "c-1", 2));
    assert_null(tob_directory_find_client(d, "c-11", 4));
    assert_null(tob_directory_find_headend(d, "c-1", 3));
    tob_directory_read_unlock(d);
    assert_int_equal(tob_directory_clients(d), 1);
}

static void a_revoked_client_is_still_found_and_no_longer_counted(void **state) {
    tob_directory *d = *state;
    put_client(d, "a", "a", "native", 1, false);
    put_client(d, "b", "b", "native", 2, true);
    assert_int_equal(tob_directory_clients(d), 1);
    put_client(d, "a", "a", "native", 1, true);
    put_client(d, "a", "a", "native", 1, true);
    assert_int_equal(tob_directory_clients(d), 0);
    tob_directory_read_lock(d);
    assert_true(tob_directory_find_client(d, "a", 1)->revoked);
    tob_directory_read_unlock(d);
    put_client(d, "a", "renamed", "docker", 3, false);
    assert_int_equal(tob_directory_clients(d), 1);
    tob_directory_read_lock(d);
    assert_string_equal(tob_directory_find_client(d, "a", 1)->name, "renamed");
    tob_directory_read_unlock(d);
}

static void headends_and_clusters_are_kept_and_counted(void **state) {
    tob_directory *d = *state;
    tob_directory_headend headend = {.id = "h",
                                     .name = "edge",
                                     .cluster_id = "k",
                                     .region = "eu",
                                     .datacenter = "fra1",
                                     .tokens_not_before_unix_s = 77};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(put_headend(d, &headend), i == 1);
        assert_int_equal(tob_directory_headends(d), 1);
        tob_directory_read_lock(d);
        const tob_directory_headend *found = tob_directory_find_headend(d, "h", 1);
        assert_string_equal(found->name, "edge");
        assert_string_equal(found->region, headend.region);
        assert_string_equal(found->datacenter, "fra1");
        assert_string_equal(found->cluster_id, "k");
        assert_int_equal(found->tokens_not_before_unix_s, 77);
        tob_directory_read_unlock(d);
        headend.region = "us";
    }
    assert_false(put_headend(d, &(tob_directory_headend){.id = "h",
                                                         .name = "edge",
                                                         .cluster_id = "k",
                                                         .region = "us",
                                                         .datacenter = "fra1",
                                                         .revoked = true}));
    assert_int_equal(tob_directory_headends(d), 0);
    tob_directory_read_lock(d);
    assert_true(tob_directory_find_headend(d, "h", 1)->revoked);
    tob_directory_read_unlock(d);
    tob_directory_set_clusters(d, 2);
    assert_int_equal(tob_directory_clusters(d), 2);
    tob_directory_set_clusters(d, 1);
    assert_int_equal(tob_directory_clusters(d), 1);
}

static void what_is_removed_is_not_found_and_all_others_still_are(void **state) {
    tob_directory *d = *state;
    enum { N = 100 };
    char id[32];
    assert_false(tob_directory_remove_client(d, "nobody"));
    assert_false(tob_directory_remove_headend(d, "nobody"));
    for (uint32_t i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "c-%u", i);
        put_client(d, id, id, "native", (uint8_t)i, i % 10 == 0);
        put_headend(d, &(tob_directory_headend){
                           .id = id, .name = id, .cluster_id = "", .region = "eu", .datacenter = "fra1"});
    }
    for (uint32_t i = 0; i < N; i += 3) {
        snprintf(id, sizeof(id), "c-%u", i);
        assert_true(tob_directory_remove_client(d, id));
        assert_false(tob_directory_remove_client(d, id));
        assert_true(tob_directory_remove_headend(d, id));
    }
    uint64_t counted = 0, headends = 0;
    tob_directory_read_lock(d);
    for (uint32_t i = 0; i < N; i++) {
        int n = snprintf(id, sizeof(id), "c-%u", i);
        const tob_directory_client *c = tob_directory_find_client(d, id, (size_t)n);
        const tob_directory_headend *h = tob_directory_find_headend(d, id, (size_t)n);
        assert_int_equal(c == NULL, i % 3 == 0);
        assert_int_equal(h == NULL, i % 3 == 0);
        if (c) {
            assert_string_equal(c->id, id);
            assert_int_equal(c->key_hash[0], i);
            assert_string_equal(h->name, id);
            counted += !c->revoked;
            headends++;
        }
    }
    tob_directory_read_unlock(d);
    assert_int_equal(tob_directory_clients(d), counted);
    assert_int_equal(tob_directory_headends(d), headends);
    put_client(d, "c-0", "again", "docker", 7, false);
    assert_int_equal(tob_directory_clients(d), counted + 1);
}

// ---- two keys

#define T0 UINT64_C(1700000000000)

static void hash_of(uint8_t key, uint8_t ret[TOB_SHA256_BYTES]) {
    memset(ret, key, TOB_SHA256_BYTES);
}

// A client with the key `newest` and, unless 0, the key `previous`, good until `expires`.
static void put_keys(tob_directory *d, const char *id, uint8_t newest, uint8_t previous, uint64_t expires) {
    tob_directory_previous_key before = {.expires_unix_ms = expires};
    hash_of(previous, before.hash);
    tob_directory_client client = {.id = id,
                                   .name = id,
                                   .type = "native",
                                   .previous_key = previous ? &before : NULL};
    hash_of(newest, client.key_hash);
    assert_int_equal(tob_directory_put_client(d, &client, NULL), TOB_OK);
    memset(&before, 0xee, sizeof(before)); // it was copied
}

static tob_key_match match(tob_directory *d, const char *id, uint8_t key, uint64_t now) {
    uint8_t hash[TOB_SHA256_BYTES];
    hash_of(key, hash);
    tob_directory_read_lock(d);
    tob_key_match found = tob_directory_match_key(tob_directory_find_client(d, id, strlen(id)), hash, now);
    tob_directory_read_unlock(d);
    return found;
}

static void hear(tob_directory *d, const char *id, tob_key_match key) {
    tob_directory_read_lock(d);
    tob_directory_client_heard(d, tob_directory_find_client(d, id, strlen(id)), key);
    tob_directory_read_unlock(d);
}

static void the_previous_key_is_good_until_the_overlap_ends(void **state) {
    tob_directory *d = *state;
    put_keys(d, "a", 2, 1, T0 + 10);
    assert_int_equal(match(d, "a", 2, T0), TOB_KEY_NEWEST);
    assert_int_equal(match(d, "a", 1, T0 + 9), TOB_KEY_PREVIOUS);
    assert_int_equal(match(d, "a", 1, T0 + 10), TOB_KEY_WRONG);
    assert_int_equal(match(d, "a", 2, T0 + 10), TOB_KEY_NEWEST);
    assert_int_equal(match(d, "a", 3, T0), TOB_KEY_WRONG);
    put_keys(d, "a", 2, 0, 0);
    assert_int_equal(match(d, "a", 1, T0), TOB_KEY_WRONG);
}

static void no_key_matches_nobody_or_a_key_that_there_is_not(void **state) {
    tob_directory *d = *state;
    assert_int_equal(match(d, "nobody", 0, T0), TOB_KEY_WRONG);
    put_keys(d, "a", 1, 0, 0);
    assert_int_equal(match(d, "a", 0, T0), TOB_KEY_WRONG);
}

static void who_uses_the_previous_key_is_counted_until_it_uses_the_newest(void **state) {
    tob_directory *d = *state;
    put_keys(d, "a", 2, 1, T0 + 10);
    put_keys(d, "b", 2, 1, T0 + 20);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 0);
    hear(d, "a", TOB_KEY_PREVIOUS);
    hear(d, "a", TOB_KEY_PREVIOUS);
    hear(d, "b", TOB_KEY_PREVIOUS);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 2);
    assert_int_equal(tob_directory_on_previous_key(d, T0 + 10), 1); // the overlap of a has ended
    hear(d, "b", TOB_KEY_WRONG);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 2);
    hear(d, "b", TOB_KEY_NEWEST);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 1);
    hear(d, "b", TOB_KEY_PREVIOUS);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 2);
}

static void a_new_key_or_the_end_of_the_overlap_starts_the_count_again(void **state) {
    tob_directory *d = *state;
    put_keys(d, "a", 2, 1, T0 + 10);
    hear(d, "a", TOB_KEY_PREVIOUS);
    put_keys(d, "a", 2, 1, T0 + 10); // relabelled, or read again: nothing new
    assert_int_equal(tob_directory_on_previous_key(d, T0), 1);
    put_keys(d, "a", 3, 2, T0 + 20); // what it is heard with is unknown now
    assert_int_equal(tob_directory_on_previous_key(d, T0), 0);
    hear(d, "a", TOB_KEY_PREVIOUS);
    put_keys(d, "a", 3, 0, 0); // revoked
    assert_int_equal(tob_directory_on_previous_key(d, T0), 0);
    put_keys(d, "a", 4, 3, T0 + 20);
    assert_int_equal(tob_directory_on_previous_key(d, T0), 0);
}

static void the_count_follows_rows_that_move_and_go(void **state) {
    tob_directory *d = *state;
    enum { N = 50 };
    char id[32];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "c-%u", i);
        put_keys(d, id, 2, 1, T0 + 10);
        if (i % 2) {
            hear(d, id, TOB_KEY_PREVIOUS);
        }
    }
    assert_int_equal(tob_directory_on_previous_key(d, T0), N / 2);
    for (uint32_t i = 0; i < N; i += 5) { // of these ten, five were heard
        snprintf(id, sizeof(id), "c-%u", i);
        assert_true(tob_directory_remove_client(d, id));
    }
    assert_int_equal(tob_directory_on_previous_key(d, T0), N / 2 - 5);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "c-%u", i);
        if (i % 5) {
            hear(d, id, TOB_KEY_NEWEST);
        }
    }
    assert_int_equal(tob_directory_on_previous_key(d, T0), 0);
}

// ---- labels, and replacing everything

static bool relabels(tob_directory *d, const char *id, const char *name, const char *type, bool revoked) {
    bool relabelled = false;
    tob_directory_client client = {.id = id, .name = name, .type = type, .revoked = revoked};
    assert_int_equal(tob_directory_put_client(d, &client, &relabelled), TOB_OK);
    return relabelled;
}

static void what_changes_a_label_is_told_from_what_does_not(void **state) {
    tob_directory *d = *state;
    assert_false(relabels(d, "a", "a", "native", false)); // new
    assert_false(relabels(d, "a", "a", "native", true));
    assert_true(relabels(d, "a", "b", "native", true));
    assert_true(relabels(d, "a", "b", "of another kind", true));
    assert_false(relabels(d, "a", "b", "of another kind", true));
    assert_true(relabels(d, "a", "a", "mobile", true));
    tob_directory_read_lock(d);
    assert_string_equal(tob_directory_find_client(d, "a", 1)->name, "a");
    assert_string_equal(tob_directory_find_client(d, "a", 1)->type, "mobile");
    tob_directory_read_unlock(d);
    tob_directory_headend h = {.id = "h", .name = "n", .cluster_id = "", .region = "r", .datacenter = "d"};
    assert_false(put_headend(d, &h));
    h.cluster_id = "k"; // not a label
    h.tokens_not_before_unix_s = 1;
    assert_false(put_headend(d, &h));
    h.name = "m";
    assert_true(put_headend(d, &h));
    h.datacenter = "e";
    assert_true(put_headend(d, &h));
}

typedef struct removals {
    tob_directory *directory;
    char text[256];
} removals;

static void note_removed(void *user, bool headend, const char *id) {
    removals *r = user;
    tob_directory_remove_client(r->directory, "not there"); // no lock is held
    size_t n = strlen(r->text);
    snprintf(r->text + n, sizeof(r->text) - n, "%s%s ", headend ? "headend " : "", id);
}

static void a_sweep_removes_what_was_not_put_since_the_mark(void **state) {
    tob_directory *d = *state;
    removals r = {.directory = d};
    put_client(d, "old", "old", "native", 1, false);
    put_client(d, "stays", "stays", "native", 1, false);
    put_client(d, "older", "older", "native", 1, false);
    tob_directory_headend h = {.id = "h", .name = "n", .cluster_id = "", .region = "r", .datacenter = "d"};
    put_headend(d, &h);
    h.id = "i";
    put_headend(d, &h);
    tob_directory_mark(d);
    put_client(d, "stays", "stays", "native", 1, false);
    tob_directory_mark(d); // that reading failed: all begins again
    put_headend(d, &h);
    put_client(d, "new", "new", "native", 1, false);
    put_client(d, "stays", "stays", "native", 1, false);
    assert_int_equal(tob_directory_sweep(d, note_removed, &r), TOB_OK);
    assert_string_equal(r.text, "old older headend h ");
    assert_int_equal(tob_directory_clients(d), 2);
    assert_int_equal(tob_directory_headends(d), 1);
    tob_directory_read_lock(d);
    assert_non_null(tob_directory_find_client(d, "stays", 5));
    assert_non_null(tob_directory_find_client(d, "new", 3));
    assert_null(tob_directory_find_client(d, "old", 3));
    tob_directory_read_unlock(d);
    r.text[0] = 0;
    assert_int_equal(tob_directory_sweep(d, note_removed, &r), TOB_OK);
    assert_string_equal(r.text, "");
}

#define MANY 20000

typedef struct reading {
    tob_directory *directory;
    atomic_bool stop;
    atomic_size_t rounds;
    atomic_bool wrong;
} reading;

static void *read_on(void *user) {
    reading *r = user;
    char id[32];
    for (uint32_t i = 0; !atomic_load(&r->stop); i = (i + 7919) % MANY) {
        int n = snprintf(id, sizeof(id), "client-%u", i);
        tob_directory_read_lock(r->directory);
        const tob_directory_client *c = tob_directory_find_client(r->directory, id, (size_t)n);
        if (c && (strcmp(c->id, id) != 0 || c->key_hash[0] != (uint8_t)i || strcmp(c->name, c->id) != 0)) {
            atomic_store(&r->wrong, true);
        }
        if (c) {
            tob_directory_client_heard(r->directory, c, i % 2 ? TOB_KEY_PREVIOUS : TOB_KEY_NEWEST);
        }
        tob_directory_read_unlock(r->directory);
        if (atomic_fetch_add(&r->rounds, 1) % 64 == 0) {
            tob_directory_on_previous_key(r->directory, 0);
        }
    }
    return NULL;
}

static void readers_see_whole_rows_while_it_grows(void **state) {
    reading r = {.directory = *state};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &r), 0);
    }
    char id[32];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            snprintf(id, sizeof(id), "client-%u", i);
            put_client(r.directory, id, id, "mobile", (uint8_t)i, round == 1);
        }
        assert_int_equal(tob_directory_clients(r.directory), round == 0 ? MANY : 0);
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_false(atomic_load(&r.wrong));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nobody_is_found_in_an_empty_directory),
        TEST(a_client_is_found_by_its_id_only_and_its_strings_are_copies),
        TEST(a_revoked_client_is_still_found_and_no_longer_counted),
        TEST(headends_and_clusters_are_kept_and_counted),
        TEST(what_is_removed_is_not_found_and_all_others_still_are),
        TEST(the_previous_key_is_good_until_the_overlap_ends),
        TEST(no_key_matches_nobody_or_a_key_that_there_is_not),
        TEST(who_uses_the_previous_key_is_counted_until_it_uses_the_newest),
        TEST(a_new_key_or_the_end_of_the_overlap_starts_the_count_again),
        TEST(the_count_follows_rows_that_move_and_go),
        TEST(what_changes_a_label_is_told_from_what_does_not),
        TEST(a_sweep_removes_what_was_not_put_since_the_mark),
        TEST(readers_see_whole_rows_while_it_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
