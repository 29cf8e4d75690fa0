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
    assert_int_equal(tob_directory_put_client(directory, &client), TOB_OK);
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
    tob_directory_headend headend = {.id = "h", .name = "edge", .region = "eu", .datacenter = "fra1"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tob_directory_put_headend(d, &headend), TOB_OK);
        assert_int_equal(tob_directory_headends(d), 1);
        tob_directory_read_lock(d);
        const tob_directory_headend *found = tob_directory_find_headend(d, "h", 1);
        assert_string_equal(found->name, "edge");
        assert_string_equal(found->region, headend.region);
        assert_string_equal(found->datacenter, "fra1");
        tob_directory_read_unlock(d);
        headend.region = "us";
    }
    tob_directory_count_cluster(d);
    tob_directory_count_cluster(d);
    assert_int_equal(tob_directory_clusters(d), 2);
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
        tob_directory_headend headend = {.id = id, .name = id, .region = "eu", .datacenter = "fra1"};
        assert_int_equal(tob_directory_put_headend(d, &headend), TOB_OK);
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
        tob_directory_read_unlock(r->directory);
        atomic_fetch_add(&r->rounds, 1);
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
        TEST(readers_see_whole_rows_while_it_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
