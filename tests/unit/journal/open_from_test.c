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

// Twelve records, i with byte i + 1, in three segments of 4, 4 and 4; the last four are small.
typedef struct twelve {
    tob_position at[12];
    tob_position after[12]; // where each one ends
    tob_position end;
} twelve;

static void make_twelve(const fixture *f, twelve *ret) {
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    for (uint8_t i = 0; i < 12; i++) {
        ret->at[i] = append(journal, (uint8_t)(i + 1), i < 8 ? 262100 : 100 + i);
        sync_ok(journal);
        ret->after[i] = tob_journal_end(journal);
    }
    ret->end = tob_journal_end(journal);
    assert_int_equal(ret->at[3].segment, 1);
    assert_int_equal(ret->at[4].segment, 2);
    assert_int_equal(ret->at[8].segment, 3);
    tob_journal_close(journal);
}

static tob_error open_at(fixture *f, tob_position from, seen *s, uint64_t *ret_cut,
                         tob_journal_problem *problem, tob_position *ret_end) {
    tob_journal *journal = NULL;
    f->options.from = from;
    tob_error err = try_open(f, s, &journal, ret_cut, problem);
    if (!err && ret_end) {
        *ret_end = tob_journal_end(journal);
    }
    tob_journal_close(journal);
    return err;
}

static void expect_refused(fixture *f, tob_position from, const char *text) {
    static seen s;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    char place[96];
    assert_int_equal(open_at(f, from, &s, &cut, &problem, NULL), TOB_DAMAGED);
    snprintf(place, sizeof(place), "journal-%016llx.seg at offset %llu: ", (unsigned long long)from.segment,
             (unsigned long long)from.offset);
    if (!strstr(problem.text, place) || !strstr(problem.text, text)) {
        fail_msg("'%s' has not '%s' and '%s'", problem.text, place, text);
    }
}

static void reading_begins_at_any_record_and_at_the_end_of_any(void **state) {
    fixture *f = *state;
    static seen s;
    twelve t;
    make_twelve(f, &t);
    for (size_t i = 0; i < 12; i++) {
        for (int which = 0; which < 2; which++) {
            uint64_t cut = 0;
            tob_journal_problem problem = {""};
            tob_position end = {0, 0};
            tob_error err = open_at(f, which ? t.after[i] : t.at[i], &s, &cut, &problem, &end);
            if (err) {
                fail_msg("%s", problem.text);
            }
            assert_int_equal(s.count, 12 - i - (size_t)which);
            for (size_t k = 0; k < s.count; k++) {
                assert_int_equal(s.byte[k], 13 - s.count + k);
                assert_int_equal(tob_position_compare(s.at[k], t.at[12 - s.count + k]), 0);
            }
            assert_int_equal(tob_position_compare(end, t.end), 0);
        }
    }
}

static void the_beginning_of_a_segment_is_a_place_even_of_an_empty_one(void **state) {
    fixture *f = *state;
    static seen s;
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    tob_position end;
    tob_journal_close(open_ok(f, &s, NULL));
    assert_int_equal(open_at(f, (tob_position){1, 40}, &s, &cut, &problem, &end), TOB_OK);
    assert_int_equal(end.offset, 40);
    assert_int_equal(open_at(f, end, &s, &cut, &problem, &end), TOB_OK);
    expect_refused(f, (tob_position){2, 40}, "missing");
}

static void no_other_place_is_taken(void **state) {
    fixture *f = *state;
    twelve t;
    make_twelve(f, &t);
    for (uint64_t offset = 0; offset < t.end.offset + 100; offset++) {
        bool is_place = offset == t.end.offset;
        for (size_t i = 8; i < 12; i++) {
            is_place |= offset == t.at[i].offset;
        }
        if (!is_place) {
            expect_refused(f, (tob_position){3, offset}, "");
        }
    }
    expect_refused(f, (tob_position){3, t.end.offset + 8}, "the records end before");
    expect_refused(f, (tob_position){3, UINT64_MAX - 7}, "the segment ends before");
    expect_refused(f, (tob_position){3, t.at[9].offset + 8}, "no record begins here");
    expect_refused(f, (tob_position){2, t.at[6].offset + 8}, "no record begins here");
    expect_refused(f, (tob_position){2, t.after[7].offset + 8}, "the segment ends before");
    expect_refused(f, (tob_position){2, 0}, "no record begins here");
    expect_refused(f, (tob_position){4, 40}, "missing");
    expect_refused(f, (tob_position){UINT64_MAX, 40}, "missing");
}

static void a_place_inside_a_payload_of_zeros_is_no_torn_tail(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position at = append(journal, 0, 4000);
    sync_ok(journal);
    tob_position end = tob_journal_end(journal);
    tob_journal_close(journal);
    for (uint64_t offset = at.offset + 8; offset < end.offset; offset += 8) {
        expect_refused(f, (tob_position){1, offset}, "no record begins here");
    }
    f->options.from = (tob_position){0, 0};
    tob_journal_close(open_ok(f, &s, NULL));
    assert_int_equal(s.count, 1);
    char path[160]; // nor when the file ends just there
    segment_path(f, 1, path);
    for (uint64_t offset = end.offset - 8; offset >= at.offset + 16; offset -= 8) {
        assert_int_equal(truncate(path, (off_t)offset), 0);
        expect_refused(f, (tob_position){1, offset}, "no record begins here");
    }
}

static void what_lies_before_is_not_read_and_may_be_missing(void **state) {
    fixture *f = *state;
    static seen s;
    twelve t;
    char path[160];
    make_twelve(f, &t);
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    segment_path(f, 1, path);
    write_file(path, (const uint8_t *)"rubbish", 7);
    assert_int_equal(open_at(f, t.at[5], &s, &cut, &problem, NULL), TOB_OK);
    assert_int_equal(s.count, 7);
    segment_path(f, 2, path); // of the same segment, too
    size_t n = 0;
    uint8_t *bytes = read_file(path, &n);
    memset(bytes + t.at[4].offset, 0xff, 1000);
    write_file(path, bytes, n);
    free(bytes);
    assert_int_equal(open_at(f, t.at[5], &s, &cut, &problem, NULL), TOB_OK);
    assert_int_equal(s.count, 7);
    expect_refused(f, t.at[4], "a record does not pass its check");
    assert_int_equal(unlink(path), 0);
    tob_journal *journal = NULL;
    f->options.from = t.at[8];
    assert_int_equal(try_open(f, &s, &journal, &cut, &problem), TOB_OK);
    assert_int_equal(s.count, 4);
    assert_int_equal(tob_journal_oldest(journal).segment, 3); // nothing is whole from 1 on
    tob_journal_close(journal);
    expect_refused(f, t.at[5], "missing");
    segment_path(f, 3, path);
    assert_int_equal(unlink(path), 0);
    expect_refused(f, t.at[8], "missing");
}

static void an_empty_directory_does_not_have_the_place(void **state) {
    fixture *f = *state;
    expect_refused(f, (tob_position){1, 40}, "missing");
    char path[160];
    segment_path(f, 1, path);
    assert_int_equal(access(path, F_OK), -1); // and gets no segment
}

static void the_bytes_of_segments_before_count(void **state) {
    fixture *f = *state;
    static seen s;
    twelve t;
    make_twelve(f, &t);
    tob_journal *journal = open_ok(f, &s, NULL);
    uint64_t bytes = tob_journal_bytes(journal);
    tob_journal_close(journal);
    f->options.from = t.at[9];
    journal = open_ok(f, &s, NULL);
    assert_true(bytes > 8 * 262100);
    assert_int_equal(tob_journal_bytes(journal), bytes);
    assert_int_equal(tob_journal_oldest(journal).segment, 1);
    assert_int_equal(tob_journal_oldest(journal).offset, 40);
    tob_journal_close(journal);
}

// A small journal, read from its third record on: damaged in every way, it comes back from there exactly, or not at all.
static void cut_or_flipped_anywhere_it_is_exact_or_refused(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    tob_position at[6];
    const size_t sizes[6] = {30, 1, 300, 25, 200, 41};
    for (uint8_t i = 0; i < 6; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), sizes[i]);
        sync_ok(journal);
    }
    tob_position end = tob_journal_end(journal);
    tob_journal_close(journal);
    char path[160];
    size_t n = 0;
    segment_path(f, 1, path);
    uint8_t *bytes = read_file(path, &n);
    tob_position from = at[2];
    f->options.sync = TOB_JOURNAL_SYNC_NEVER; // thousands of openings
    for (size_t cut_at = 0; cut_at <= end.offset; cut_at++) {
        write_file(path, bytes, cut_at);
        uint64_t cut = 0;
        tob_journal_problem problem = {""};
        tob_error err = open_at(f, from, &s, &cut, &problem, NULL);
        size_t whole = 0;
        while (whole + 2 < 6 && at[whole + 2].offset + 16 + sizes[whole + 2] <= cut_at) {
            whole++;
        }
        assert_int_equal(err, cut_at < from.offset ? TOB_DAMAGED : TOB_OK);
        assert_true(!err || strstr(problem.text, "journal-0000000000000001.seg at offset "));
        assert_int_equal(s.count, whole);
    }
    for (size_t bit = 0; bit < end.offset * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        write_file(path, bytes, end.offset);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        uint64_t cut = 0;
        tob_journal_problem problem = {""};
        tob_error err = open_at(f, from, &s, &cut, &problem, NULL);
        assert_true(err == TOB_OK || err == TOB_DAMAGED);
        assert_true(!err || strstr(problem.text, "journal-0000000000000001.seg at offset "));
        assert_true(err || s.count == 4); // the bit is before the place, or in padding
        assert_false(s.uneven);
        for (size_t i = 0; i < s.count; i++) {
            assert_int_equal(s.byte[i], i + 3);
            assert_int_equal(s.n[i], sizes[i + 2]);
        }
    }
    free(bytes);
}

static void a_tail_torn_right_at_the_place_is_cut(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 1, 1000);
    sync_ok(journal);
    tob_position from = tob_journal_end(journal);
    append(journal, 2, 3000);
    sync_ok(journal);
    tob_journal_close(journal);
    char path[160];
    size_t n = 0;
    segment_path(f, 1, path);
    uint8_t *bytes = read_file(path, &n);
    memset(bytes + 2048, 0, 512);
    write_file(path, bytes, n);
    free(bytes);
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    tob_position end;
    assert_int_equal(open_at(f, from, &s, &cut, &problem, &end), TOB_OK);
    assert_int_equal(s.count, 0);
    assert_true(cut > 0);
    assert_int_equal(tob_position_compare(end, from), 0);
}

static void it_goes_on_behind_what_was_read_from_a_place(void **state) {
    fixture *f = *state;
    static seen s;
    twelve t;
    make_twelve(f, &t);
    f->options.from = t.at[10];
    tob_journal *journal = open_ok(f, &s, NULL);
    append(journal, 13, 10);
    sync_ok(journal);
    tob_journal_close(journal);
    f->options.from = (tob_position){0, 0};
    tob_journal_close(open_ok(f, &s, NULL));
    assert_int_equal(s.count, 13);
    for (size_t i = 0; i < 13; i++) {
        assert_int_equal(s.byte[i], i + 1);
    }
}

static void what_an_unfinished_checkpoint_left_is_removed(void **state) {
    fixture *f = *state;
    static seen s;
    tob_journal *journal = open_ok(f, &s, NULL), *second = NULL;
    char path[160];
    snprintf(path, sizeof(path), "%s/checkpoint.unfinished", f->journal);
    write_file(path, (const uint8_t *)"half", 4);
    uint64_t cut = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(try_open(f, &s, &second, &cut, &problem), TOB_BUSY);
    assert_int_equal(access(path, F_OK), 0); // it is the other process's
    tob_journal_close(journal);
    tob_journal_close(open_ok(f, &s, NULL));
    assert_int_equal(access(path, F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(reading_begins_at_any_record_and_at_the_end_of_any),
        TEST(the_beginning_of_a_segment_is_a_place_even_of_an_empty_one),
        TEST(no_other_place_is_taken),
        TEST(a_place_inside_a_payload_of_zeros_is_no_torn_tail),
        TEST(what_lies_before_is_not_read_and_may_be_missing),
        TEST(an_empty_directory_does_not_have_the_place),
        TEST(the_bytes_of_segments_before_count),
        TEST(cut_or_flipped_anywhere_it_is_exact_or_refused),
        TEST(a_tail_torn_right_at_the_place_is_cut),
        TEST(it_goes_on_behind_what_was_read_from_a_place),
        TEST(what_an_unfinished_checkpoint_left_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
