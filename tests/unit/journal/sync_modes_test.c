#include <errno.h>
#include <sys/syscall.h>

#include "fixture.h"
#include "journal/segment.h"
#include "util/clock.h"

// The journal's fdatasync is this one: it counts, and can be told to fail.
static int syncs;
static int failing_syncs;
int fdatasync(int fd) {
    syncs++;
    if (failing_syncs > 0) {
        failing_syncs--;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static tob_journal *open_in(fixture *f, tob_journal_sync_mode mode, uint64_t interval_ms) {
    static seen s;
    f->options.sync = mode;
    f->options.sync_interval_ms = interval_ms;
    tob_journal *journal = open_ok(f, &s, NULL);
    syncs = 0;
    return journal;
}

// Where the group begins that the record at `at` says it is in.
static uint64_t group_of(const fixture *f, tob_position at) {
    char path[160];
    size_t n = 0;
    segment_path(f, (unsigned)at.segment, path);
    uint8_t *bytes = read_file(path, &n);
    tob_segment_header segment;
    tob_record_header record;
    assert_int_equal(tob_segment_header_decode(bytes, &segment), TOB_OK);
    assert_true(tob_record_header_decode(bytes + at.offset, segment.salt, at.offset, &record));
    free(bytes);
    return record.group_offset;
}

static void always_settles_with_every_sync(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_ALWAYS, 0);
    for (int i = 1; i <= 3; i++) {
        tob_position at = append(journal, 1, 10);
        append(journal, 2, 10);
        sync_ok(journal);
        assert_int_equal(syncs, i);
        assert_int_equal(tob_journal_settle_due(journal), UINT64_MAX);
        assert_int_equal(group_of(f, at), at.offset);
    }
    settle_ok(journal); // nothing is left to do
    assert_int_equal(syncs, 3);
    tob_journal_close(journal);
}

static void an_interval_waits_from_the_first_write_on_until_it_is_settled(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_INTERVAL, 5000);
    assert_int_equal(tob_journal_settle_due(journal), UINT64_MAX);
    uint64_t before = tob_clock_monotonic_ms();
    append(journal, 1, 10);
    sync_ok(journal);
    uint64_t after = tob_clock_monotonic_ms(), due = tob_journal_settle_due(journal);
    assert_in_range(due, before + 5000, after + 5000);
    while (tob_clock_monotonic_ms() <= after) { // the clock goes on
    }
    append(journal, 2, 10);
    sync_ok(journal);
    assert_int_equal(tob_journal_settle_due(journal), due);
    assert_int_equal(syncs, 0);
    settle_ok(journal);
    assert_int_equal(syncs, 1);
    assert_int_equal(tob_journal_settle_due(journal), UINT64_MAX);
    settle_ok(journal);
    assert_int_equal(syncs, 1);
    append(journal, 3, 10);
    sync_ok(journal);
    assert_true(tob_journal_settle_due(journal) >= due);
    assert_true(tob_journal_settle_due(journal) != UINT64_MAX);
    tob_journal_close(journal);
}

static void never_settles_when_it_is_told_and_when_a_segment_is_complete(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_NEVER, 0);
    for (int i = 0; i < 3; i++) {
        append(journal, 1, 300000);
        sync_ok(journal);
    }
    assert_int_equal(tob_journal_settle_due(journal), UINT64_MAX);
    assert_int_equal(syncs, 0);
    append(journal, 1, 300000);
    sync_ok(journal);
    assert_int_equal(tob_journal_end(journal).segment, 2);
    assert_int_equal(syncs, 2); // the complete one, and the new one's header
    settle_ok(journal);
    assert_int_equal(syncs, 3);
    tob_journal_close(journal);
}

static void a_group_is_what_was_written_between_two_settlings(void **state) {
    fixture *f = *state;
    for (int mode = TOB_JOURNAL_SYNC_INTERVAL; mode <= TOB_JOURNAL_SYNC_NEVER; mode++) {
        snprintf(f->journal, sizeof(f->journal), "%s/journal-%d", f->dir, mode);
        tob_journal *journal = open_in(f, (tob_journal_sync_mode)mode, 1000);
        tob_position at[9];
        for (size_t i = 0; i < 9; i++) {
            at[i] = append(journal, (uint8_t)(i + 1), 100 + i);
            if (i == 3 || i == 6) { // with 2 and 3, or 5 and 6, in the queue
                settle_ok(journal);
            }
            if (i != 2 && i != 5) {
                sync_ok(journal);
            }
        }
        const size_t group[] = {0, 0, 2, 2, 2, 5, 5, 5, 5};
        for (size_t i = 0; i < 9; i++) {
            assert_int_equal(group_of(f, at[i]), at[group[i]].offset);
        }
        tob_position big[4];
        for (size_t i = 0; i < 4; i++) {
            big[i] = append(journal, 77, 300000);
            sync_ok(journal);
        }
        assert_int_equal(big[3].segment, 2);
        assert_int_equal(group_of(f, big[2]), at[5].offset);
        assert_int_equal(group_of(f, big[3]), big[3].offset);
        tob_journal_close(journal);
    }
}

static void what_was_settled_is_damage_when_it_is_missing_and_what_was_not_is_torn(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_INTERVAL, 1000);
    tob_position at[4];
    for (size_t i = 0; i < 4; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), 2000);
        sync_ok(journal);
        if (i == 1) {
            settle_ok(journal);
        }
    }
    tob_journal_close(journal);
    char path[160];
    size_t n = 0;
    segment_path(f, 1, path);
    uint8_t *bytes = read_file(path, &n);
    for (size_t i = 0; i < 4; i++) {
        size_t sector = (at[i].offset / 512 + 1) * 512;
        uint8_t kept[512];
        memcpy(kept, bytes + sector, 512);
        memset(bytes + sector, 0, 512);
        write_file(path, bytes, n);
        memcpy(bytes + sector, kept, 512);
        static seen s;
        tob_journal_problem problem = {""};
        uint64_t cut = 0;
        journal = NULL;
        tob_error err = try_open(f, &s, &journal, &cut, &problem);
        assert_int_equal(err, i < 2 ? TOB_DAMAGED : TOB_OK);
        assert_int_equal(s.count, i);
        assert_true(i < 2 || cut > 0);
        tob_journal_close(journal);
    }
    free(bytes);
}

static void opening_settles_what_it_found_unless_never(void **state) {
    fixture *f = *state;
    for (int mode = TOB_JOURNAL_SYNC_ALWAYS; mode <= TOB_JOURNAL_SYNC_NEVER; mode++) {
        snprintf(f->journal, sizeof(f->journal), "%s/journal-%d", f->dir, mode);
        tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_NEVER, 0);
        tob_position first = append(journal, 1, 10);
        sync_ok(journal);
        tob_journal_close(journal);
        journal = open_in(f, (tob_journal_sync_mode)mode, 1000);
        tob_position second = append(journal, 2, 10);
        sync_ok(journal);
        assert_int_equal(group_of(f, second), mode == TOB_JOURNAL_SYNC_NEVER ? first.offset : second.offset);
        tob_journal_close(journal);
    }
}

static void a_settling_that_fails_is_fatal_and_stays_so(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_in(f, TOB_JOURNAL_SYNC_INTERVAL, 1000);
    append(journal, 1, 10);
    sync_ok(journal);
    failing_syncs = 1;
    for (int i = 0; i < 2; i++) {
        bool fatal = false;
        tob_journal_problem problem = {""};
        assert_int_equal(tob_journal_settle(journal, &fatal, &problem), TOB_IO);
        assert_true(fatal);
        assert_non_null(strstr(problem.text, "sync failed"));
    }
    bool fatal = false;
    tob_journal_problem problem = {""};
    tob_position at;
    tob_journal_part part = {"x", 1};
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_IO);
    assert_int_equal(tob_journal_sync(journal, &fatal, &problem), TOB_IO);
    assert_true(fatal);
    assert_int_equal(tob_journal_settle_due(journal), UINT64_MAX);
    tob_journal_close(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(always_settles_with_every_sync),
        TEST(an_interval_waits_from_the_first_write_on_until_it_is_settled),
        TEST(never_settles_when_it_is_told_and_when_a_segment_is_complete),
        TEST(a_group_is_what_was_written_between_two_settlings),
        TEST(what_was_settled_is_damage_when_it_is_missing_and_what_was_not_is_torn),
        TEST(opening_settles_what_it_found_unless_never),
        TEST(a_settling_that_fails_is_fatal_and_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
