#include <sys/stat.h>
#include <time.h>

#include "fixture.h"

// The journal's syncs are these: the disk need not have anything.
int fdatasync(int fd) {
    (void)fd;
    return 0;
}

int fsync(int fd) {
    (void)fd;
    return 0;
}

#define HOUR_MS UINT64_C(3600000)
#define NOW     (UINT64_C(1700000000000)) // the time that segments get here, Unix milliseconds

static const tob_position everything = {UINT64_MAX, 0}; // nothing is needed

static void set_written(const fixture *f, unsigned segment, uint64_t unix_ms) {
    char path[160];
    segment_path(f, segment, path);
    struct timespec at = {.tv_sec = (time_t)(unix_ms / 1000), .tv_nsec = (long)(unix_ms % 1000) * 1000000};
    struct timespec times[2] = {at, at};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

// Five segments of three records; segment i was last written i hours after NOW.
static tob_journal *make_five(fixture *f) {
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    for (uint8_t i = 0; i < 15; i++) {
        append(journal, (uint8_t)(i + 1), 300000);
        sync_ok(journal);
    }
    tob_journal_close(journal);
    for (unsigned i = 1; i <= 5; i++) {
        set_written(f, i, NOW + i * HOUR_MS);
    }
    journal = open_ok(f, &s, NULL);
    assert_int_equal(tob_journal_end(journal).segment, 5);
    return journal;
}

static uint64_t retain(tob_journal *journal, tob_position needed, uint64_t retain_ms, uint64_t retain_bytes,
                       uint64_t now) {
    uint64_t removed = 99;
    tob_journal_problem problem = {""};
    tob_error err = tob_journal_retain(journal, needed, retain_ms, retain_bytes, now, &removed, &problem);
    if (err) {
        fail_msg("%s", problem.text);
    }
    return removed;
}

static bool there(const fixture *f, unsigned segment) {
    char path[160];
    segment_path(f, segment, path);
    return access(path, F_OK) == 0;
}

static void the_oldest_go_when_they_are_old(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    uint64_t now = NOW + 2 * HOUR_MS + 10 * HOUR_MS;
    uint64_t before = tob_journal_bytes(journal);
    assert_int_equal(retain(journal, everything, 11 * HOUR_MS, UINT64_MAX, now), 0); // not older than
    assert_int_equal(retain(journal, everything, 11 * HOUR_MS, UINT64_MAX, now + 1), 1);
    assert_false(there(f, 1));
    assert_int_equal(tob_journal_oldest(journal).segment, 2);
    assert_int_equal(tob_journal_oldest(journal).offset, 40);
    assert_true(tob_journal_bytes(journal) <= before - 900000);
    assert_int_equal(retain(journal, everything, 8 * HOUR_MS, UINT64_MAX, now), 2);
    assert_int_equal(tob_journal_oldest(journal).segment, 4);
    assert_int_equal(retain(journal, everything, 0, UINT64_MAX, now), 1);
    assert_int_equal(tob_journal_oldest(journal).segment, 5); // the last one stays
    assert_true(there(f, 5));
    tob_journal_close(journal);
    static seen s;
    journal = open_ok(f, &s, NULL);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.byte[0], 13);
    tob_journal_close(journal);
}

static void the_oldest_go_until_few_enough_bytes_are_left(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    uint64_t bytes = tob_journal_bytes(journal);
    assert_int_equal(retain(journal, everything, UINT64_MAX, bytes, NOW), 0);
    assert_int_equal(retain(journal, everything, UINT64_MAX, bytes - 1, NOW), 1);
    assert_int_equal(retain(journal, everything, UINT64_MAX, bytes - 2000000, NOW), 2);
    assert_int_equal(tob_journal_oldest(journal).segment, 4);
    assert_int_equal(retain(journal, everything, UINT64_MAX, 0, NOW), 1);
    assert_int_equal(tob_journal_bytes(journal), SEGMENT);
    tob_journal_close(journal);
}

static void what_is_needed_stays(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    assert_int_equal(retain(journal, (tob_position){0, 0}, 0, 0, UINT64_MAX), 0);
    assert_int_equal(retain(journal, (tob_position){1, 40}, 0, 0, UINT64_MAX), 0);
    // The end of segment 2 is a place in it.
    assert_int_equal(retain(journal, (tob_position){2, 900088}, 0, 0, UINT64_MAX), 1);
    assert_true(there(f, 2));
    assert_int_equal(retain(journal, (tob_position){4, 40}, 0, 0, UINT64_MAX), 2);
    assert_true(there(f, 4));
    tob_journal_close(journal);
}

static void a_clock_that_was_set_back_deletes_nothing(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    assert_int_equal(retain(journal, everything, HOUR_MS, UINT64_MAX, NOW), 0);
    assert_int_equal(retain(journal, everything, 0, UINT64_MAX, NOW), 0);
    assert_int_equal(retain(journal, everything, HOUR_MS, UINT64_MAX, 0), 0);
    // Segment 2 seems to be of the future: those behind it wait for it.
    assert_int_equal(retain(journal, everything, 0, UINT64_MAX, NOW + HOUR_MS + 1), 1);
    tob_journal_close(journal);
}

static void segments_closed_meanwhile_count_from_when_they_were_closed(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    for (uint8_t i = 0; i < 15; i++) { // several within one sync, too
        append(journal, (uint8_t)(i + 1), 300000);
        if (i == 4 || i == 14) {
            sync_ok(journal);
        }
    }
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000 + 999;
    assert_int_equal(tob_journal_oldest(journal).segment, 1);
    assert_int_equal(retain(journal, everything, HOUR_MS, UINT64_MAX, now), 0);
    assert_int_equal(retain(journal, everything, HOUR_MS, UINT64_MAX, now + 2 * HOUR_MS), 4);
    assert_int_equal(tob_journal_oldest(journal).segment, 5);
    assert_int_equal(tob_journal_bytes(journal), SEGMENT);
    append(journal, 16, 300000);
    sync_ok(journal);
    tob_journal_close(journal);
    tob_journal_close(open_ok(f, &s, NULL));
    assert_int_equal(s.count, 4);
}

static void one_that_is_gone_already_counts_as_removed(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    char path[160];
    segment_path(f, 1, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(retain(journal, (tob_position){3, 40}, 0, 0, UINT64_MAX), 2);
    tob_journal_close(journal);
}

static void one_that_can_not_be_removed_is_said_and_the_journal_works_on(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_five(f);
    char path[160];
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); // unlink refuses it
    uint64_t removed = 99;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_journal_retain(journal, everything, 0, 0, UINT64_MAX, &removed, &problem), TOB_IO);
    assert_int_equal(removed, 1);
    assert_non_null(strstr(problem.text, "journal-0000000000000002.seg"));
    assert_false(there(f, 1));
    assert_true(there(f, 3));
    append(journal, 16, 10);
    sync_ok(journal);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 3);
    tob_journal_close(journal);
}

static void one_call_deletes_only_so_many_bytes(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal_close(make_five(f));
    const off_t mib[] = {100, 29, 99};
    for (unsigned i = 0; i < 3; i++) { // what is behind the records does not matter
        char path[160];
        segment_path(f, i + 1, path);
        assert_int_equal(truncate(path, mib[i] << 20), 0);
    }
    tob_journal *journal = open_ok(f, &s, NULL);
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 1); // 129 MiB would be too many
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 2); // 128 are not
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 1);
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 0);
    tob_journal_close(journal);
}

static void a_single_segment_may_have_more(void **state) {
    fixture *f = *state;
    static seen s;
    char path[160];
    tob_journal_close(make_five(f));
    segment_path(f, 1, path);
    assert_int_equal(truncate(path, (off_t)500 << 20), 0);
    tob_journal *journal = open_ok(f, &s, NULL);
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 1);
    assert_int_equal(retain(journal, everything, 0, 0, UINT64_MAX), 3);
    tob_journal_close(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_oldest_go_when_they_are_old),
        TEST(the_oldest_go_until_few_enough_bytes_are_left),
        TEST(what_is_needed_stays),
        TEST(one_call_deletes_only_so_many_bytes),
        TEST(a_single_segment_may_have_more),
        TEST(a_clock_that_was_set_back_deletes_nothing),
        TEST(segments_closed_meanwhile_count_from_when_they_were_closed),
        TEST(one_that_is_gone_already_counts_as_removed),
        TEST(one_that_can_not_be_removed_is_said_and_the_journal_works_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
