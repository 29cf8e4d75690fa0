#include "damage.h"
#include "journal/crc32c.h"

static void verify_ok(const fixture *f, tob_verify *ret) {
    tob_verify_options options = {.dir = f->journal, .record = check, .checkpoint_record = check};
    tob_journal_problem problem = {""};
    tob_error err = tob_verify_run(&options, ret, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
}

static size_t damages_of(const fixture *f) {
    tob_verify v;
    verify_ok(f, &v);
    size_t damages = v.damages;
    tob_verify_fini(&v);
    return damages;
}

static void a_good_journal_is_told_with_its_records_times_and_places(void **state) {
    fixture *f = *state;
    tob_position at[7], end;
    make_large(f, 7, at, &end);
    make_checkpoint(f, at[1], 9, 2);
    make_checkpoint(f, end, 9, 3);
    tob_verify v;
    verify_ok(f, &v);
    assert_int_equal(v.damages, 0);
    assert_false(v.in_use);
    assert_int_equal(v.segment_count, 3);
    assert_int_equal(v.segments[0].records, 3);
    assert_int_equal(v.segments[0].first_unix_ms, FIRST_UNIX + 1);
    assert_int_equal(v.segments[1].last_unix_ms, FIRST_UNIX + 6);
    assert_int_equal(v.segments[2].records, 1);
    assert_int_equal(v.segments[2].end, end.offset);
    assert_int_equal(tob_position_compare(tob_verify_end(&v), end), 0);
    assert_int_equal(tob_verify_oldest(&v).segment, 1);
    assert_int_equal(v.checkpoint_count, 2);
    assert_int_equal(tob_position_compare(v.checkpoints[0].at, end), 0);
    assert_int_equal(v.checkpoints[0].records, 4);
    assert_true(v.checkpoints[1].head && v.checkpoints[1].ended);
    tob_verify_fini(&v);
}

static void an_empty_directory_is_a_good_journal_and_a_missing_one_is_not_found(void **state) {
    fixture *f = *state;
    tob_verify_options options = {.dir = f->journal, .record = check, .checkpoint_record = check};
    tob_verify v;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_verify_run(&options, &v, &problem), TOB_NOT_FOUND);
    assert_non_null(strstr(problem.text, f->journal));
    assert_int_equal(mkdir(f->journal, 0700), 0);
    assert_int_equal(damages_of(f), 0);
}

static void an_open_journal_is_looked_at_and_said_to_be_in_use(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_journal(f);
    append(journal, 1, 10);
    sync_and_settle(journal);
    tob_verify v;
    verify_ok(f, &v);
    assert_true(v.in_use);
    assert_int_equal(v.damages, 0);
    assert_int_equal(v.segments[0].records, 1);
    tob_verify_fini(&v);
    append(journal, 2, 10); // looking did not disturb it
    sync_and_settle(journal);
    tob_journal_close(journal);
    verify_ok(f, &v);
    assert_false(v.in_use);
    assert_int_equal(v.segments[0].records, 2);
    tob_verify_fini(&v);
}

// Opening is the judge: what it refuses is damage, and nothing else is.
static void judged_as_opening_does(const fixture *f, const char *what, uint64_t n) {
    uint64_t cut = 0;
    seen s;
    tob_verify v;
    verify_ok(f, &v);
    tob_error err = try_open_from(f, (tob_position){0, 0}, &s, &cut);
    if ((err == TOB_DAMAGED) != (v.damages > 0)) {
        fail_msg("%s %llu: opening says %s, verify %zu damages", what, (unsigned long long)n,
                 tob_error_string(err), v.damages);
    }
    if (!err && v.segment_count && !v.segments[0].unfinished) {
        assert_int_equal(v.segments[0].records, s.count);
        assert_int_equal(v.segments[0].torn_bytes, cut);
    }
    tob_verify_fini(&v);
}

static void every_flipped_bit_is_judged_as_opening_judges_it(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    char path[160];
    make_small(f, at, &end);
    segment_path(f, 1, path);
    assert_int_equal(truncate(path, (off_t)end.offset + 600), 0); // some of what is allocated
    keep(f);
    for (uint64_t offset = 0; offset < end.offset + 24; offset++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            restore(f);
            flip(path, offset, bit);
            judged_as_opening_does(f, "bit", offset * 8 + bit);
        }
    }
}

static void every_truncation_is_judged_as_opening_judges_it(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    char path[160];
    make_small(f, at, &end);
    segment_path(f, 1, path);
    keep(f);
    for (uint64_t n = 0; n <= end.offset; n++) {
        restore(f);
        assert_int_equal(truncate(path, (off_t)n), 0);
        judged_as_opening_does(f, "length", n);
    }
}

static void every_damage_is_told_with_its_file_and_offset(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160];
    make_large(f, 9, at, &end);
    segment_path(f, 1, path);
    flip(path, at[1].offset + 1000, 0);
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    segment_path(f, 3, path);
    flip(path, 17, 3);
    zero(path, at[7].offset, 4096);
    tob_verify v;
    verify_ok(f, &v);
    assert_int_equal(v.damages, 4);
    assert_int_equal(v.segments[0].hole_count, 1);
    assert_int_equal(v.segments[0].holes[0].offset, at[1].offset);
    assert_int_equal(v.segments[0].holes[0].end, at[2].offset);
    assert_int_equal(v.segments[0].holes[0].before_unix_ms, FIRST_UNIX + 1);
    assert_int_equal(v.segments[0].holes[0].after_unix_ms, FIRST_UNIX + 3);
    assert_int_equal(v.segments[0].records, 2);
    assert_true(v.segments[1].missing);
    assert_non_null(v.segments[2].header);
    assert_int_equal(v.segments[2].holes[0].offset, at[7].offset);
    assert_int_equal(v.segments[2].holes[0].end, at[8].offset);
    assert_int_equal(v.segments[2].records, 2);
    tob_verify_fini(&v);
}

static void a_record_that_is_none_of_ours_is_damage(void **state) {
    fixture *f = *state;
    tob_journal *journal = open_journal(f);
    append(journal, 1, 10);
    tob_position at = append(journal, FOREIGN, 10);
    append(journal, 3, 10);
    sync_and_settle(journal);
    tob_journal_close(journal);
    tob_verify v;
    verify_ok(f, &v);
    assert_int_equal(v.damages, 1);
    assert_int_equal(v.segments[0].holes[0].offset, at.offset);
    assert_string_equal(v.segments[0].holes[0].reason, "foreign");
    tob_verify_fini(&v);
}

static void a_checkpoints_every_flipped_bit_and_truncation_is_damage(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    char path[200];
    make_small(f, at, &end);
    make_checkpoint(f, end, 9, 2);
    checkpoint_path(f, end, path);
    keep(f);
    off_t bytes = file_bytes(path);
    for (uint64_t offset = 0; offset < (uint64_t)bytes; offset++) {
        bool checked = offset < 36 || offset >= HEADER; // the header's last word and padding mean nothing
        restore(f);
        flip(path, offset, offset % 8);
        size_t damages = damages_of(f);
        seen s = {0};
        uint64_t n = 0;
        tob_journal_problem problem = {""};
        bool refused = tob_checkpoint_read(f->journal, end, see_all, &s, &n, &problem) != TOB_OK;
        assert_int_equal(damages > 0, refused);
        assert_true(refused || !checked || offset % 8 >= 4);
        restore(f);
        assert_int_equal(truncate(path, (off_t)offset), 0);
        assert_true(damages_of(f) > 0);
    }
}

static void a_checkpoints_place_must_be_one_of_the_journals(void **state) {
    fixture *f = *state;
    tob_position at[7], end;
    char path[160];
    make_large(f, 7, at, &end);
    make_checkpoint(f, end, 9, 1);
    keep(f);
    assert_int_equal(damages_of(f), 0);
    segment_path(f, 3, path); // the journal's end is lost
    assert_int_equal(unlink(path), 0);
    tob_verify v;
    verify_ok(f, &v);
    assert_ptr_equal(v.checkpoints[0].place, tob_verify_place_behind);
    assert_int_equal(v.damages, 1);
    tob_verify_fini(&v);
    restore(f);
    make_checkpoint(f, (tob_position){3, 48}, 9, 1); // older than the other one: not needed
    assert_int_equal(damages_of(f), 0);
    char newest[200];
    checkpoint_path(f, end, newest);
    assert_int_equal(unlink(newest), 0);
    verify_ok(f, &v);
    assert_ptr_equal(v.checkpoints[0].place, tob_verify_place_between);
    tob_verify_fini(&v);
    restore(f);
    for (unsigned i = 1; i <= 3; i++) {
        segment_path(f, i, path);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(damages_of(f), 1);
    restore(f);
    make_checkpoint(f, at[0], 9, 1);
    assert_int_equal(unlink(newest), 0);
    segment_path(f, 1, path);
    assert_int_equal(unlink(path), 0);
    verify_ok(f, &v);
    assert_ptr_equal(v.checkpoints[0].place, tob_verify_place_before);
    tob_verify_fini(&v);
}

static void the_journal_must_reach_to_what_a_checkpoint_has(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    make_small(f, at, &end);
    make_checkpoint(f, at[1], 9, 2);
    reaches = end;
    assert_int_equal(damages_of(f), 0);
    reaches.offset += 8;
    assert_int_equal(damages_of(f), 1);
    reaches = (tob_position){0, 0};
}

static void a_segment_whose_making_was_interrupted_is_no_damage_at_the_end_only(void **state) {
    fixture *f = *state;
    tob_position at[7], end;
    char path[160];
    make_large(f, 7, at, &end);
    segment_path(f, 4, path);
    keep(f);
    for (off_t bytes = 0; bytes <= 4096; bytes += bytes < 40 ? 20 : 4056) {
        restore(f);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(ftruncate(fd, bytes), 0);
        close(fd);
        tob_verify v;
        seen s;
        uint64_t cut = 0;
        verify_ok(f, &v);
        assert_int_equal(v.damages, 0);
        assert_true(v.segments[3].unfinished);
        assert_int_equal(tob_position_compare(tob_verify_end(&v), end), 0);
        tob_verify_fini(&v);
        assert_int_equal(try_open_from(f, (tob_position){0, 0}, &s, &cut), TOB_OK);
        assert_int_equal(s.count, 7);
    }
    restore(f);
    char middle[160];
    segment_path(f, 2, middle);
    assert_int_equal(truncate(middle, 0), 0);
    assert_true(damages_of(f) > 0);
}

static void a_newer_format_is_refused_and_not_called_damage(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    make_small(f, at, &end);
    char name[160];
    segment_path(f, 1, name);
    // Version 2 with a good check, as a newer program would write it.
    uint8_t bytes[HEADER];
    int fd = open(name, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
    close(fd);
    bytes[4] = 2;
    uint32_t crc = tob_crc32c(0, bytes, 32);
    memcpy(bytes + 32, &crc, sizeof(crc));
    write_at(name, 0, bytes, sizeof(bytes));
    tob_verify_options options = {.dir = f->journal, .record = check, .checkpoint_record = check};
    tob_verify v;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_verify_run(&options, &v, &problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "newer"));
}

static void segments_too_far_apart_are_not_one_journal(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    make_small(f, at, &end);
    char from[160], to[160];
    segment_path(f, 1, from);
    tob_verify_options options = {.dir = f->journal, .record = check, .checkpoint_record = check};
    tob_verify v;
    tob_journal_problem problem = {""};
    segment_path(f, TOB_VERIFY_MAX_SEGMENTS + 1, to);
    copy_file(from, to);
    assert_int_equal(tob_verify_run(&options, &v, &problem), TOB_TOO_LARGE);
    unlink(to);
    segment_path(f, TOB_VERIFY_MAX_SEGMENTS, to);
    copy_file(from, to);
    assert_int_equal(tob_verify_run(&options, &v, &problem), TOB_OK);
    assert_int_equal(v.segment_count, TOB_VERIFY_MAX_SEGMENTS);
    tob_verify_fini(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        DAMAGE_TEST(a_good_journal_is_told_with_its_records_times_and_places),
        DAMAGE_TEST(an_empty_directory_is_a_good_journal_and_a_missing_one_is_not_found),
        DAMAGE_TEST(an_open_journal_is_looked_at_and_said_to_be_in_use),
        DAMAGE_TEST(every_flipped_bit_is_judged_as_opening_judges_it),
        DAMAGE_TEST(every_truncation_is_judged_as_opening_judges_it),
        DAMAGE_TEST(every_damage_is_told_with_its_file_and_offset),
        DAMAGE_TEST(a_record_that_is_none_of_ours_is_damage),
        DAMAGE_TEST(a_checkpoints_every_flipped_bit_and_truncation_is_damage),
        DAMAGE_TEST(a_checkpoints_place_must_be_one_of_the_journals),
        DAMAGE_TEST(the_journal_must_reach_to_what_a_checkpoint_has),
        DAMAGE_TEST(a_segment_whose_making_was_interrupted_is_no_damage_at_the_end_only),
        DAMAGE_TEST(a_newer_format_is_refused_and_not_called_damage),
        DAMAGE_TEST(segments_too_far_apart_are_not_one_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
