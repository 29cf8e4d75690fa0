#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "support.h"

#define NOW 1700000000000ull

static tob_error put(tob_mirror *mirror, const char *id, uint64_t version, uint64_t bytes_sent) {
    tob_mirror_row row = client_row(id, version, bytes_sent);
    return tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW);
}

static tob_error put_page(tob_mirror *mirror, const char *id, uint64_t version, uint64_t bytes_sent) {
    tob_mirror_row row = client_row(id, version, bytes_sent);
    return tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, true, NOW);
}

static void the_row_with_the_greater_version_wins(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    assert_int_equal(put(mirror, "a", 5, 50), TOB_OK);
    assert_int_equal(put(mirror, "a", 4, 40), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 50);
    assert_int_equal(put(mirror, "a", 6, 60), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 60);
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_CLIENT), 1);
    tob_mirror_free(mirror);
}

static void a_new_epoch_replaces_rows_whatever_their_version(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    assert_int_equal(put(mirror, "a", 500, 50), TOB_OK);
    tob_mirror_begin_epoch(mirror, 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 50); // still served
    assert_int_equal(put(mirror, "a", 1, 70), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 70);
    assert_int_equal(put(mirror, "a", 1, 90), TOB_OK); // not newer any more
    assert_int_equal(bytes_sent_of(mirror, "a"), 70);
    tob_mirror_free(mirror);
}

static void a_snapshot_removes_what_it_did_not_have(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    assert_int_equal(put(mirror, "kept", 1, 1), TOB_OK);
    assert_int_equal(put(mirror, "gone", 2, 2), TOB_OK);
    tob_mirror_begin_snapshot(mirror, 0);
    assert_int_equal(put_page(mirror, "kept", 1, 1), TOB_OK);
    assert_int_equal(put(mirror, "newer", 4, 4), TOB_OK); // by the bus, after the snapshot began at version 3
    assert_int_equal(tob_mirror_end_snapshot(mirror, 0, 3), 1);
    assert_int_equal(bytes_sent_of(mirror, "kept"), 1);
    assert_int_equal(bytes_sent_of(mirror, "gone"), -1);
    assert_int_equal(bytes_sent_of(mirror, "newer"), 4);
    tob_mirror_begin_snapshot(mirror, 0);
    assert_int_equal(tob_mirror_end_snapshot(mirror, 0, 10), 2);
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_CLIENT), 0);
    tob_mirror_free(mirror);
}

static void a_removed_source_is_gone_and_its_place_is_used_again(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(2, DAY_MS);
    assert_int_equal(put(mirror, "a", 1, 1), TOB_OK);
    assert_int_equal(put(mirror, "b", 2, 2), TOB_OK);
    assert_int_equal(put(mirror, "c", 3, 3), TOB_TOO_LARGE);
    tob_mirror_remove(mirror, 0, TOB_SOURCE_CLIENT, "a", UINT64_MAX);
    tob_mirror_remove(mirror, 0, TOB_SOURCE_CLIENT, "never there", UINT64_MAX);
    assert_int_equal(bytes_sent_of(mirror, "a"), -1);
    assert_int_equal(put(mirror, "c", 4, 4), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "c"), 4);
    assert_int_equal(bytes_sent_of(mirror, "b"), 2);
    assert_int_equal(put(mirror, "d", 5, 5), TOB_TOO_LARGE);
    tob_mirror_free(mirror);
}

static void labels_follow_the_source(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = new_manager();
    tob_mirror_row row = client_row("a", 1, 1);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_OK);
    row.version = 2;
    row.labels[0] = "a much longer name than before";
    row.labels[2] = "true";
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_OK);
    char *text = exposition_of(mirror, manager, TOB_PART_CLIENT);
    assert_int_equal(count_of(text, "name=\"laptop\""), 0);
    assert_int_equal(count_of(text,
                              "{client_id=\"a\",name=\"a much longer name than before\",type=\"native\","
                              "headless=\"true\"} "),
                     2); // bytes_sent and last_check_in
    free(text);
    assert_int_equal(put(mirror, "a", 3, 3), TOB_OK); // and back: found by its id all the time
    assert_int_equal(bytes_sent_of(mirror, "a"), 3);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void a_silent_source_is_hidden_and_comes_back(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, 1000);
    assert_int_equal(put(mirror, "a", 1, 1), TOB_OK);
    assert_int_equal(tob_mirror_expire(mirror, NOW + 1000), 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 1);
    assert_int_equal(tob_mirror_expire(mirror, NOW + 1001), 1);
    assert_int_equal(bytes_sent_of(mirror, "a"), -1);
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_CLIENT), 1);
    tob_mirror_row row = client_row("a", 2, 2);
    row.last_check_in_unix_ms = NOW + 5000;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW + 5000), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 2);
    // One that arrives silent, as after a restart, is not shown for a moment first.
    tob_mirror_row old = client_row("b", 3, 3);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &old, true, NOW + 5000), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "b"), -1);
    tob_mirror_free(mirror);
}

static void hostile_rows_are_refused(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    char long_id[130];
    char long_name[258];
    memset(long_id, 'i', sizeof(long_id));
    memset(long_name, 'n', sizeof(long_name));
    long_id[129] = 0;
    long_name[257] = 0;
    assert_int_equal(put(mirror, "", 1, 1), TOB_INVALID);
    assert_int_equal(put(mirror, "a\"b", 1, 1), TOB_INVALID);
    assert_int_equal(put(mirror, long_id, 1, 1), TOB_INVALID);
    long_id[128] = 0;
    assert_int_equal(put(mirror, long_id, 1, 1), TOB_OK);
    tob_mirror_row row = client_row("a", 1, 1);
    row.labels[1] = long_name;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_INVALID);
    long_name[256] = 0;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_OK);
    row = client_row("b", 1, 1);
    row.labels[0] = "two\nlines";
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_INVALID);
    assert_int_equal(put(mirror, "b", 1, 9223372036854775807u), TOB_OK);
    assert_int_equal(put(mirror, "c", 1, 9223372036854775808u), TOB_INVALID);
    row = client_row("c", 1, 1);
    row.present = 32;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_INVALID);
    row = client_row("c", 1, 1);
    row.last_check_in_unix_ms = UINT64_MAX;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_INVALID);
    double bad[] = {(double)NAN, (double)INFINITY, -1, 0x1p64};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tob_mirror_row headend = {.id = "h", .labels = {"n", "r", "d"}, .version = 1, .present = 2};
        headend.values[1].real = bad[i];
        assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_HEADEND, &headend, false, NOW), TOB_INVALID);
    }
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_HEADEND), 0);
    tob_mirror_free(mirror);
}

static void escaped_labels_of_the_greatest_length_fit(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = new_manager();
    char id[129];
    char quotes[257];
    memset(id, 'i', sizeof(id));
    memset(quotes, '"', sizeof(quotes));
    id[128] = 0;
    quotes[256] = 0;
    tob_mirror_row row = {.id = id, .labels = {quotes, quotes, quotes}, .version = 1, .present = 31};
    for (size_t i = 0; i < TOB_MIRROR_VALUES; i++) {
        row.values[i].real = 0.30000000000000004;
    }
    row.last_check_in_unix_ms = NOW;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_HEADEND, &row, false, NOW), TOB_OK);
    char *text = exposition_in(mirror, manager, TOB_PART_HEADEND, TOB_EXPOSITION_MIN_ROOM);
    assert_int_equal(count_of(text, "\\\""), 6 * 3 * 256);
    free(text);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static tob_error put_of(tob_mirror *mirror, unsigned owner, const char *id, uint64_t version,
                        uint64_t last_check_in_unix_ms, uint64_t bytes_sent) {
    tob_mirror_row row = client_row(id, version, bytes_sent);
    row.owner = (uint16_t)owner;
    row.last_check_in_unix_ms = last_check_in_unix_ms;
    return tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, NOW);
}

static void of_two_owners_the_one_that_heard_last_has_the_row(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_mirror_begin_owner(mirror, 0, 100);
    tob_mirror_begin_owner(mirror, 1, 200);
    assert_int_equal(put_of(mirror, 0, "a", 50, NOW, 1), TOB_OK);
    assert_int_equal(put_of(mirror, 1, "a", 99, NOW - 1, 2), TOB_OK); // a greater version says nothing
    assert_int_equal(bytes_sent_of(mirror, "a"), 1);
    assert_int_equal(put_of(mirror, 1, "a", 1, NOW + 1, 3), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 3);
    assert_int_equal(tob_mirror_owned(mirror, 0), 0);
    assert_int_equal(tob_mirror_owned(mirror, 1), 1);
    assert_int_equal(put_of(mirror, 0, "a", 51, NOW + 1, 4), TOB_OK); // the same moment: the greater instance
    assert_int_equal(bytes_sent_of(mirror, "a"), 3);
    assert_int_equal(put_of(mirror, 1, "a", 2, NOW - 5000, 5),
                     TOB_OK); // its own clock went back: its version decides
    assert_int_equal(bytes_sent_of(mirror, "a"), 5);
    tob_mirror_free(mirror);
}

static void a_check_in_in_the_future_is_no_argument_against_another_owner(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_mirror_begin_owner(mirror, 0, 100);
    tob_mirror_begin_owner(mirror, 1, 200);
    assert_int_equal(put_of(mirror, 0, "a", 1, NOW + TOB_MIRROR_MAX_AHEAD_MS, 1), TOB_OK);
    assert_int_equal(put_of(mirror, 1, "a", 1, NOW, 2), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 1); // not that far ahead
    assert_int_equal(put_of(mirror, 0, "a", 2, NOW + DAY_MS, 3), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 3); // nobody says otherwise
    assert_int_equal(put_of(mirror, 1, "a", 2, NOW, 4), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 4);
    assert_int_equal(put_of(mirror, 0, "a", 3, NOW + DAY_MS, 5), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 4);
    // When it is our clock that is behind, everybody's lie in the future, and the later one has it again.
    assert_int_equal(put_of(mirror, 1, "a", 3, NOW + DAY_MS, 6), TOB_OK);
    assert_int_equal(put_of(mirror, 0, "a", 4, NOW + DAY_MS + 1, 7), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "a"), 7);
    tob_mirror_free(mirror);
}

static void removals_and_snapshots_concern_an_owners_own_rows(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    assert_int_equal(put_of(mirror, 0, "a", 1, NOW, 1), TOB_OK);
    assert_int_equal(put_of(mirror, 1, "b", 1, NOW, 2), TOB_OK);
    assert_int_equal(put_of(mirror, 1, "c", 5, NOW, 3), TOB_OK);
    tob_mirror_remove(mirror, 0, TOB_SOURCE_CLIENT, "b", UINT64_MAX);
    tob_mirror_remove(mirror, 1, TOB_SOURCE_CLIENT, "c", 4); // it came back in version 5
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_CLIENT), 3);
    tob_mirror_begin_epoch(mirror, 0); // not that of 1
    assert_int_equal(put_of(mirror, 1, "c", 4, NOW, 9), TOB_OK);
    assert_int_equal(bytes_sent_of(mirror, "c"), 3);
    tob_mirror_begin_snapshot(mirror, 0);
    assert_int_equal(tob_mirror_end_snapshot(mirror, 0, 100), 1);
    assert_int_equal(bytes_sent_of(mirror, "a"), -1);
    assert_int_equal(bytes_sent_of(mirror, "b"), 2);
    tob_mirror_begin_epoch(mirror, 1);
    tob_mirror_remove(mirror, 1, TOB_SOURCE_CLIENT, "c", 4); // of the epoch before: whatever its version
    assert_int_equal(bytes_sent_of(mirror, "c"), -1);
    assert_int_equal(tob_mirror_drop_owner(mirror, 0), 0);
    assert_int_equal(tob_mirror_drop_owner(mirror, 1), 1);
    assert_int_equal(tob_mirror_count(mirror, TOB_SOURCE_CLIENT), 0);
    tob_mirror_free(mirror);
}

static void a_row_that_is_taken_over_survives_the_new_owners_snapshot(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_mirror_row row = client_row("a", 3, 3);
    assert_int_equal(put_of(mirror, 0, "a", 7, NOW - 10, 1), TOB_OK);
    tob_mirror_begin_snapshot(mirror, 1);
    row.owner = 1;
    row.last_check_in_unix_ms = NOW;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, true, NOW), TOB_OK);
    assert_int_equal(tob_mirror_end_snapshot(mirror, 1, 10), 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 3);
    tob_mirror_begin_snapshot(mirror, 0); // the one before doesn't have it any more
    assert_int_equal(tob_mirror_end_snapshot(mirror, 0, 10), 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 3);
    row.owner = TOB_MIRROR_MAX_OWNERS;
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, true, NOW), TOB_INVALID);
    tob_mirror_free(mirror);
}

static void a_clock_that_is_wrong_for_a_while_hides_rows_and_loses_none(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS / 2);
    assert_int_equal(put(mirror, "a", 1, 1), TOB_OK);
    assert_int_equal(tob_mirror_expire(mirror, NOW + DAY_MS), 1);
    assert_int_equal(bytes_sent_of(mirror, "a"), -1);
    assert_int_equal(tob_mirror_expire(mirror, NOW - DAY_MS), 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 1);
    assert_int_equal(tob_mirror_expire(mirror, NOW + DAY_MS), 1);
    assert_int_equal(tob_mirror_expire(mirror, NOW), 0);
    assert_int_equal(bytes_sent_of(mirror, "a"), 1);
    tob_mirror_free(mirror);
}

typedef struct race {
    tob_mirror *mirror;
    tob_manager *manager;
    atomic_bool done;
} race;

static void *scrape_until_done(void *arg) {
    race *r = arg;
    while (!atomic_load(&r->done)) {
        char *text = exposition_of(r->mirror, r->manager, TOB_PART_CLIENT);
        // A client that is there all the time is in every scrape, once in each family, with one of its
        // states.
        assert_int_equal(count_of(text, "client_id=\"always\""), 2);
        for (const char *line = strstr(text, "bytes_sent{client_id=\"c"); line;
             line = strstr(line + 1, "bytes_sent{client_id=\"c")) {
            unsigned long long version = strtoull(strstr(line, "name=\"") + 6, NULL, 10);
            assert_int_equal(strtoull(strstr(line, "} ") + 2, NULL, 10), version);
        }
        free(text);
    }
    return NULL;
}

static void scrapes_see_whole_rows_while_the_bus_writes(void **state) {
    (void)state;
    race r = {.mirror = new_mirror(100000, DAY_MS), .manager = new_manager()};
    assert_int_equal(put(r.mirror, "always", 1, 1), TOB_OK);
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, scrape_until_done, &r), 0);
    }
    for (uint64_t version = 2; version < 20000; version++) {
        char id[24];
        char name[24];
        snprintf(id, sizeof(id), "c%llu", (unsigned long long)(version % 5000));
        snprintf(name, sizeof(name), "%llu", (unsigned long long)version);
        tob_mirror_row row = client_row(id, version, version);
        row.labels[0] = name;
        assert_int_equal(tob_mirror_put(r.mirror, TOB_SOURCE_CLIENT, &row, false, NOW), TOB_OK);
        if (version % 3 == 0) {
            snprintf(id, sizeof(id), "c%llu", (unsigned long long)(version * 7 % 5000));
            tob_mirror_remove(r.mirror, 0, TOB_SOURCE_CLIENT, id, UINT64_MAX);
        }
        if (version % 4000 == 0) {
            tob_mirror_expire(r.mirror, NOW);
        }
    }
    atomic_store(&r.done, true);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    tob_manager_free(r.manager);
    tob_mirror_free(r.mirror);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_row_with_the_greater_version_wins),
        cmocka_unit_test(a_new_epoch_replaces_rows_whatever_their_version),
        cmocka_unit_test(a_snapshot_removes_what_it_did_not_have),
        cmocka_unit_test(a_removed_source_is_gone_and_its_place_is_used_again),
        cmocka_unit_test(labels_follow_the_source),
        cmocka_unit_test(a_silent_source_is_hidden_and_comes_back),
        cmocka_unit_test(hostile_rows_are_refused),
        cmocka_unit_test(escaped_labels_of_the_greatest_length_fit),
        cmocka_unit_test(of_two_owners_the_one_that_heard_last_has_the_row),
        cmocka_unit_test(a_check_in_in_the_future_is_no_argument_against_another_owner),
        cmocka_unit_test(removals_and_snapshots_concern_an_owners_own_rows),
        cmocka_unit_test(a_row_that_is_taken_over_survives_the_new_owners_snapshot),
        cmocka_unit_test(a_clock_that_is_wrong_for_a_while_hides_rows_and_loses_none),
        cmocka_unit_test(scrapes_see_whole_rows_while_the_bus_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
