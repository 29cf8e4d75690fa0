#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "damage.h"
#include "journal/repair.h"

#define KILLED 77

// What a repair changes names with: the process can be told to end at one of them, before or after it is carried out.
static int end_at_call; // 0: never
static bool end_before;

static void count_call(bool before) {
    if (end_at_call > 0 && before == end_before && --end_at_call == 0) {
        _exit(KILLED);
    }
}

int renameat(int old_fd, const char *old, int new_fd, const char *new) {
    count_call(true);
    int failed = (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, 0);
    count_call(false);
    return failed;
}

static bool links_fail; // as on a file system that has none
int linkat(int old_fd, const char *old, int new_fd, const char *new, int flags) {
    count_call(true);
    if (links_fail) {
        errno = EPERM;
        return -1;
    }
    int failed = (int)syscall(SYS_linkat, old_fd, old, new_fd, new, flags);
    count_call(false);
    return failed;
}

static size_t make_filler(uint64_t unix_ms, size_t n, uint8_t to[TOB_REPAIR_FILLER_BYTES]) {
    (void)unix_ms;
    assert_true(n >= 8 && n % 8 == 0);
    to[0] = FILLER;
    return 1;
}

static tob_error make_head(void *user, tob_position at, tob_buffer *to) {
    const uint8_t head[] = {HEAD, HEAD};
    (void)user, (void)at;
    return tob_buffer_append(to, head, sizeof(head));
}

static tob_position reader; // {0, 0}: none
static tob_error get_places(void *user, const tob_position **ret, size_t *ret_count) {
    (void)user;
    *ret = &reader;
    *ret_count = reader.segment ? 1 : 0;
    return TOB_OK;
}

static tob_repair_options options_for(const fixture *f) {
    return (tob_repair_options){
        .verify = {.dir = f->journal, .record = check, .checkpoint_record = check},
        .filler = make_filler,
        .head = make_head,
        .places = get_places,
    };
}

static size_t steps_of(const fixture *f) {
    tob_repair_options options = options_for(f);
    tob_repair *repair = NULL;
    tob_journal_problem problem = {""};
    size_t count = 0;
    assert_int_equal(tob_repair_begin(&options, &repair, &problem), TOB_OK);
    tob_repair_steps(repair, &count);
    tob_repair_end(repair);
    return count;
}

// Repairs; there must be something to do, and nothing afterwards.
static void repair_ok(const fixture *f, char ret_dir[TOB_REPAIR_DIR_BYTES]) {
    tob_repair_options options = options_for(f);
    tob_repair *repair = NULL;
    tob_journal_problem problem = {""};
    size_t count = 0;
    tob_error err = tob_repair_begin(&options, &repair, &problem);
    if (!err) {
        tob_repair_steps(repair, &count);
        assert_true(count > 0);
        err = tob_repair_apply(repair, FIRST_UNIX, ret_dir, &problem);
    }
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    tob_repair_end(repair);
    assert_int_equal(steps_of(f), 0);
}

static void open_from_ok(const fixture *f, tob_position from, seen *s) {
    uint64_t cut = 0;
    assert_int_equal(try_open_from(f, from, s, &cut), TOB_OK);
    assert_false(s->uneven);
}

static const tob_position oldest = {0, 0};

static void a_good_journal_is_left_alone(void **state) {
    fixture *f = *state;
    tob_position at[4], end;
    make_large(f, 4, at, &end);
    assert_int_equal(steps_of(f), 0);
    tob_repair_options options = options_for(f);
    tob_repair *repair = NULL;
    tob_journal_problem problem = {""};
    char dir[TOB_REPAIR_DIR_BYTES];
    assert_int_equal(tob_repair_begin(&options, &repair, &problem), TOB_OK);
    assert_int_equal(tob_repair_apply(repair, FIRST_UNIX, dir, &problem), TOB_OK);
    assert_string_equal(dir, "");
    tob_repair_end(repair);
}

static void a_journal_that_is_open_or_missing_is_refused(void **state) {
    fixture *f = *state;
    tob_repair_options options = options_for(f);
    tob_repair *repair = NULL;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_repair_begin(&options, &repair, &problem), TOB_NOT_FOUND);
    assert_int_equal(file_bytes(f->journal), -1);
    tob_journal *journal = open_journal(f);
    assert_int_equal(tob_repair_begin(&options, &repair, &problem), TOB_BUSY);
    tob_journal_close(journal);
}

// After each flip that opening refuses: the repaired journal has all records that the flip was not in, at their places.
static void after_every_flipped_bit_the_other_records_are_there_at_their_places(void **state) {
    fixture *f = *state;
    tob_position at[3], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_small(f, at, &end);
    segment_path(f, 1, path);
    assert_int_equal(truncate(path, (off_t)end.offset), 0);
    keep(f);
    unsigned repaired = 0;
    for (uint64_t offset = 0; offset < end.offset; offset++) {
        restore(f);
        flip(path, offset, offset % 8);
        seen s;
        uint64_t cut = 0;
        if (try_open_from(f, oldest, &s, &cut) == TOB_OK) {
            continue;
        }
        restore(f);
        flip(path, offset, offset % 8);
        repair_ok(f, dir);
        repaired++;
        open_from_ok(f, oldest, &s);
        for (size_t i = 0; i < 3; i++) {
            uint64_t to = i < 2 ? at[i + 1].offset : end.offset;
            bool hit = offset >= at[i].offset && offset < to;
            assert_int_equal(has_record(&s, at[i], (uint8_t)(i + 1)), !hit);
        }
    }
    assert_true(repaired > 100);
}

static void damage_in_the_middle_costs_only_the_records_it_is_in(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], kept_path[256], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    segment_path(f, 1, path);
    zero(path, at[1].offset + 100000, 4096);
    off_t bytes = file_bytes(path);
    segment_path(f, 3, path);
    flip(path, at[6].offset + 5, 2);
    repair_ok(f, dir);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 7);
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(has_record(&s, at[i], (uint8_t)(i + 1)), i != 1 && i != 6);
    }
    // What was there before is kept.
    snprintf(kept_path, sizeof(kept_path), "%s/%s/journal-%016x.seg", f->journal, dir, 1);
    assert_int_equal(file_bytes(kept_path), bytes);
    // It goes on behind what was there.
    tob_journal *journal = open_journal(f);
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
    append(journal, 10, 10);
    sync_and_settle(journal);
    tob_journal_close(journal);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 8);
}

static void a_lost_header_is_made_out_of_the_records(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    keep(f);
    for (unsigned number = 1; number <= 3; number++) {
        restore(f);
        segment_path(f, number, path);
        zero(path, 0, HEADER); // header only
        repair_ok(f, dir);
        seen s;
        open_from_ok(f, oldest, &s);
        assert_int_equal(s.count, 9);
        restore(f);
        zero(path, 0, 4096); // with the first record
        repair_ok(f, dir);
        open_from_ok(f, oldest, &s);
        assert_int_equal(s.count, 8);
        assert_false(has_record(&s, at[3 * (number - 1)], (uint8_t)(3 * (number - 1) + 1)));
    }
    // All headers at once, and one record in a segment.
    restore(f);
    for (unsigned number = 1; number <= 3; number++) {
        segment_path(f, number, path);
        zero(path, 0, HEADER);
    }
    zero(path, at[7].offset, 100);
    zero(path, at[8].offset, 100);
    repair_ok(f, dir);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 7);
}

static void
a_segment_that_is_missing_cut_short_or_nothing_but_rubbish_costs_no_other_its_place(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    keep(f);
    seen s;
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    repair_ok(f, dir);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 6);
    restore(f);
    assert_int_equal(truncate(path, (off_t)at[4].offset + 5000), 0);
    repair_ok(f, dir);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 7);
    assert_true(has_record(&s, at[3], 4) && has_record(&s, at[6], 7));
    restore(f);
    char *rubbish = malloc(1u << 19);
    memset(rubbish, 'r', 1u << 19);
    write_at(path, 0, rubbish, 1u << 19);
    free(rubbish);
    repair_ok(f, dir);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 6 + 1); // its third record lies behind the rubbish
    restore(f);
    assert_int_equal(unlink(path), 0);
    segment_path(f, 3, path);
    zero(path, 0, HEADER);
    repair_ok(f, dir);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 6);
}

static void a_record_that_is_none_of_ours_is_taken_out(void **state) {
    fixture *f = *state;
    char dir[TOB_REPAIR_DIR_BYTES];
    tob_journal *journal = open_journal(f);
    tob_position a = append(journal, 1, 10);
    append(journal, FOREIGN, 20u << 20); // becomes several
    tob_position b = append(journal, 3, 10);
    sync_and_settle(journal);
    tob_journal_close(journal);
    repair_ok(f, dir);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.fillers, 2);
    assert_true(has_record(&s, a, 1) && has_record(&s, b, 3));
}

static void a_readers_place_in_a_hole_stays_a_place(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    keep(f);
    segment_path(f, 1, path);
    zero(path, at[0].offset, at[2].offset - at[0].offset);
    reader = at[1];
    repair_ok(f, dir);
    seen s;
    open_from_ok(f, reader, &s);
    assert_int_equal(s.count, 7);
    assert_int_equal(s.fillers, 1);
    restore(f);
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    reader = at[4];
    repair_ok(f, dir);
    open_from_ok(f, reader, &s);
    assert_int_equal(s.count, 3);
    reader = oldest;
}

// ---- checkpoints

static size_t records_of_newest(const fixture *f, tob_position *ret_at) {
    tob_checkpoint_places places;
    tob_journal_problem problem = {""};
    uint64_t n = 0;
    seen s = {0};
    assert_int_equal(tob_checkpoint_find(f->journal, &places, &problem), TOB_OK);
    *ret_at = places.newest;
    if (!places.newest.segment) {
        return 0;
    }
    assert_int_equal(tob_checkpoint_read(f->journal, places.newest, see_all, &s, &n, &problem), TOB_OK);
    assert_true(s.count > 0 && s.byte[0] == HEAD);
    return s.count;
}

static void the_checkpoint_before_takes_the_place_of_a_damaged_one(void **state) {
    fixture *f = *state;
    tob_position at[9], end, newest;
    char path[200], kept_path[300], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    make_checkpoint(f, at[2], 9, 3);
    make_checkpoint(f, at[5], 9, 3);
    checkpoint_path(f, at[5], path);
    flip(path, HEADER + 20, 1);
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 4);
    assert_int_equal(tob_position_compare(newest, at[2]), 0);
    snprintf(kept_path, sizeof(kept_path), "%s/%s%s", f->journal, dir, strrchr(path, '/'));
    assert_true(file_bytes(kept_path) > 0);
    seen s;
    open_from_ok(f, newest, &s);
    assert_int_equal(s.count, 7);
}

static void without_another_a_damaged_checkpoint_keeps_what_can_be_read(void **state) {
    fixture *f = *state;
    tob_position at[9], end, newest;
    char path[200], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    make_checkpoint(f, at[5], 9, 3);
    char first[160];
    segment_path(f, 1, first);
    assert_int_equal(unlink(first), 0); // not needed any more
    checkpoint_path(f, at[5], path);
    keep(f);
    off_t bytes = file_bytes(path);
    flip(path, HEADER + 120 + 20, 1); // the first row's record
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 3);
    restore(f);
    flip(path, HEADER + 20, 1); // the head
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 4);
    restore(f);
    zero(path, 0, HEADER); // its header
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 4);
    restore(f);
    assert_int_equal(truncate(path, bytes - 130), 0);
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 3);
    assert_int_equal(tob_position_compare(newest, at[5]), 0);
    seen s;
    open_from_ok(f, newest, &s);
    assert_int_equal(s.count, 4);
    // Nothing of it can be read, and the journal does not reach back: it goes on with what there is.
    restore(f);
    assert_int_equal(truncate(path, 0), 0);
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 1);
    assert_int_equal(newest.segment, 2);
    open_from_ok(f, newest, &s);
    assert_int_equal(s.count, 6);
}

static void a_whole_journal_needs_no_checkpoint(void **state) {
    fixture *f = *state;
    tob_position at[9], end, newest;
    char path[200], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    make_checkpoint(f, at[2], 9, 3);
    make_checkpoint(f, at[5], 9, 3);
    checkpoint_path(f, at[2], path);
    flip(path, HEADER + 20, 1);
    checkpoint_path(f, at[5], path);
    flip(path, HEADER + 20, 1);
    repair_ok(f, dir);
    assert_int_equal(records_of_newest(f, &newest), 0);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 9);
}

static void a_journal_that_ends_before_its_checkpoint_goes_on_from_there(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    make_checkpoint(f, end, 9, 3);
    keep(f);
    seen s;
    for (unsigned removed = 1; removed <= 3; removed++) { // the last one, the last two, all
        restore(f);
        for (unsigned i = 0; i < removed; i++) {
            segment_path(f, 3 - i, path);
            assert_int_equal(unlink(path), 0);
        }
        repair_ok(f, dir);
        open_from_ok(f, end, &s);
        assert_int_equal(s.count, 0);
        tob_journal *journal = open_journal(f);
        assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
        tob_journal_close(journal);
    }
    restore(f);
    segment_path(f, 3, path);
    assert_int_equal(truncate(path, (off_t)at[7].offset + 1000), 0);
    repair_ok(f, dir);
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 7);
    open_from_ok(f, end, &s);
    restore(f); // a reader farther on than the checkpoint
    make_checkpoint(f, at[8], 9, 3);
    char newest[200];
    checkpoint_path(f, end, newest);
    assert_int_equal(unlink(newest), 0);
    segment_path(f, 3, path);
    assert_int_equal(truncate(path, (off_t)at[7].offset), 0);
    reader = end;
    repair_ok(f, dir);
    open_from_ok(f, reader, &s);
    reader = oldest;
}

static void it_goes_on_behind_what_the_checkpoint_has_too(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    make_checkpoint(f, at[7], 9, 3); // its pages are as of a later place
    reaches = end;
    segment_path(f, 3, path);
    assert_int_equal(truncate(path, (off_t)at[8].offset), 0);
    repair_ok(f, dir);
    reaches = oldest;
    seen s;
    open_from_ok(f, at[7], &s);
    assert_int_equal(s.count, 1);
    tob_journal *journal = open_journal(f);
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
    tob_journal_close(journal);
}

static void an_interrupted_segment_behind_damage_is_left_to_the_start(void **state) {
    fixture *f = *state;
    tob_position at[7], end;
    char path[160], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 7, at, &end);
    segment_path(f, 4, path);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    segment_path(f, 3, path);
    flip(path, at[6].offset + 100, 0);
    repair_ok(f, dir);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 6);
    tob_journal *journal = open_journal(f);
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
    tob_journal_close(journal);
}

// ---- interrupted

// Damage of every kind: segments 1 and 3, segment 2 missing, both checkpoints.
static void damage_everything(const fixture *f, const tob_position *at, tob_position end) {
    char path[200];
    make_checkpoint(f, at[2], 9, 3);
    make_checkpoint(f, end, 9, 3);
    segment_path(f, 1, path);
    flip(path, at[1].offset + 100, 0);
    segment_path(f, 2, path);
    assert_int_equal(unlink(path), 0);
    segment_path(f, 3, path);
    zero(path, 0, HEADER);
    checkpoint_path(f, end, path);
    flip(path, HEADER + 120 + 20, 1);
    checkpoint_path(f, at[2], path);
    flip(path, HEADER + 120 + 20, 1);
}

static int repair_in_child(const fixture *f, int call, bool before) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tob_repair_options options = options_for(f);
        tob_repair *repair = NULL;
        tob_journal_problem problem = {""};
        char dir[TOB_REPAIR_DIR_BYTES];
        end_at_call = call;
        end_before = before;
        if (tob_repair_begin(&options, &repair, &problem) ||
            tob_repair_apply(repair, FIRST_UNIX, dir, &problem)) {
            _exit(1);
        }
        tob_repair_end(repair);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_repair_that_is_interrupted_anywhere_can_be_repaired(void **state) {
    fixture *f = *state;
    tob_position at[9], end, newest;
    make_large(f, 9, at, &end);
    damage_everything(f, at, end);
    keep(f);
    int interrupted = 0;
    for (int call = 1;; call++) {
        int status = 0;
        for (int before = 0; before <= 1; before++) {
            restore(f);
            status = repair_in_child(f, call, before);
            if (status != KILLED) {
                break;
            }
            interrupted++;
            assert_int_equal(repair_in_child(f, 0, false), 0);
            assert_int_equal(steps_of(f), 0);
            assert_int_equal(records_of_newest(f, &newest), 3);
            assert_int_equal(tob_position_compare(newest, end), 0);
            seen s;
            open_from_ok(f, oldest, &s);
            assert_int_equal(s.count, 5);
        }
        if (status != KILLED) {
            assert_int_equal(status, 0);
            break;
        }
    }
    assert_true(interrupted >= 10);
}

static void without_links_damaged_files_are_copied(void **state) {
    fixture *f = *state;
    tob_position at[9], end;
    char path[160], kept_path[256], dir[TOB_REPAIR_DIR_BYTES];
    make_large(f, 9, at, &end);
    segment_path(f, 1, path);
    flip(path, at[1].offset + 100, 0);
    off_t bytes = file_bytes(path);
    links_fail = true;
    repair_ok(f, dir);
    links_fail = false;
    snprintf(kept_path, sizeof(kept_path), "%s/%s/journal-%016x.seg", f->journal, dir, 1);
    assert_int_equal(file_bytes(kept_path), bytes);
    seen s;
    open_from_ok(f, oldest, &s);
    assert_int_equal(s.count, 8);
}

// ---- anything at all

// One damage of a segment: bytes [from, to) of it are not what they were.
typedef struct range {
    uint64_t segment, from, to;
} range;

static range damage_something(const fixture *f, const tob_position *at) {
    char path[160];
    range r = {.segment = 1 + (uint64_t)(rand() % 3)};
    segment_path(f, (unsigned)r.segment, path);
    off_t bytes = file_bytes(path);
    if (bytes <= 0) {
        return r; // is gone already
    }
    // Near a record's begin or the file's, where it matters most, or anywhere.
    uint64_t near = rand() % 2 ? at[3 * (r.segment - 1) + (uint64_t)(rand() % 3)].offset : 0;
    r.from = rand() % 3 ? near + (uint64_t)(rand() % 64) : (uint64_t)(rand() % (int)bytes);
    r.from = r.from < (uint64_t)bytes ? r.from : (uint64_t)bytes - 1;
    r.to = r.from + 1;
    switch (rand() % 6) {
    case 0:
        assert_int_equal(unlink(path), 0);
        r.from = 0;
        r.to = UINT64_MAX;
        break;
    case 1:
        assert_int_equal(truncate(path, (off_t)r.from), 0);
        r.to = UINT64_MAX;
        break;
    case 2: {
        size_t n = 1 + (size_t)(rand() % 8192);
        n = r.from + n > (uint64_t)bytes ? (size_t)((uint64_t)bytes - r.from) : n;
        zero(path, r.from, n);
        r.to = r.from + n;
        break;
    }
    default: flip(path, r.from, (unsigned)(rand() % 8));
    }
    return r;
}

static bool is_hit(const range *ranges, size_t count, tob_position at, uint64_t end) {
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].segment == at.segment && ranges[i].from < end && ranges[i].to > at.offset) {
            return true;
        }
    }
    return false;
}

static bool is_whole(const range *ranges, size_t count, const tob_position *at, size_t i) {
    return !is_hit(ranges, count, at[i], at[i].offset + 16 + (300u << 10));
}

// Must record i be there after a repair? Where the header is lost, it takes two records next to each other to be sure of
// the salt.
static bool is_safe(const range *ranges, size_t count, const tob_position *at, size_t i) {
    size_t first = i / 3 * 3;
    tob_position header = {at[i].segment, 0};
    bool pair = is_whole(ranges, count, at, first + 1) &&
                (is_whole(ranges, count, at, first) || is_whole(ranges, count, at, first + 2));
    return is_whole(ranges, count, at, i) && (pair || !is_hit(ranges, count, header, HEADER));
}

static void whatever_is_damaged_the_records_that_are_not_are_there_afterwards(void **state) {
    fixture *f = *state;
    enum { ROUNDS = 150, MAX_DAMAGES = 5 };
    tob_position at[9], end;
    char dir[TOB_REPAIR_DIR_BYTES];
    unsigned seed = getenv("TOB_SEED") ? (unsigned)atoi(getenv("TOB_SEED")) : (unsigned)getpid();
    unsigned repaired = 0;
    make_large(f, 9, at, &end);
    make_checkpoint(f, at[4], 9, 3);
    make_checkpoint(f, end, 9, 3);
    keep(f);
    print_message("TOB_SEED=%u\n", seed);
    srand(seed);
    for (int round = 0; round < ROUNDS; round++) {
        range ranges[MAX_DAMAGES];
        size_t count = 1 + (size_t)(rand() % MAX_DAMAGES);
        char path[200];
        restore(f);
        for (size_t i = 0; i < count; i++) {
            ranges[i] = damage_something(f, at);
        }
        bool newest_damaged = rand() % 2;
        checkpoint_path(f, rand() % 2 ? end : at[4], path);
        if (newest_damaged) {
            flip(path, (uint64_t)(rand() % (int)file_bytes(path)), 3);
        }
        if (steps_of(f) > 0) {
            repair_ok(f, dir);
            repaired++;
        }
        tob_position newest;
        seen s;
        records_of_newest(f, &newest);
        open_from_ok(f, newest, &s);
        open_from_ok(f, oldest, &s);
        for (size_t i = 0; i < 9; i++) {
            if (is_safe(ranges, count, at, i) && !has_record(&s, at[i], (uint8_t)(i + 1))) {
                for (size_t d = 0; d < count; d++) {
                    print_message("segment %llu [%llu, %llu)\n", (unsigned long long)ranges[d].segment,
                                  (unsigned long long)ranges[d].from, (unsigned long long)ranges[d].to);
                }
                fail_msg("round %d: record %zu is lost", round, i);
            }
        }
    }
    assert_true(repaired > ROUNDS / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        DAMAGE_TEST(a_good_journal_is_left_alone),
        DAMAGE_TEST(a_journal_that_is_open_or_missing_is_refused),
        DAMAGE_TEST(after_every_flipped_bit_the_other_records_are_there_at_their_places),
        DAMAGE_TEST(damage_in_the_middle_costs_only_the_records_it_is_in),
        DAMAGE_TEST(a_lost_header_is_made_out_of_the_records),
        DAMAGE_TEST(a_segment_that_is_missing_cut_short_or_nothing_but_rubbish_costs_no_other_its_place),
        DAMAGE_TEST(a_record_that_is_none_of_ours_is_taken_out),
        DAMAGE_TEST(a_readers_place_in_a_hole_stays_a_place),
        DAMAGE_TEST(the_checkpoint_before_takes_the_place_of_a_damaged_one),
        DAMAGE_TEST(without_another_a_damaged_checkpoint_keeps_what_can_be_read),
        DAMAGE_TEST(a_whole_journal_needs_no_checkpoint),
        DAMAGE_TEST(a_journal_that_ends_before_its_checkpoint_goes_on_from_there),
        DAMAGE_TEST(it_goes_on_behind_what_the_checkpoint_has_too),
        DAMAGE_TEST(an_interrupted_segment_behind_damage_is_left_to_the_start),
        DAMAGE_TEST(a_repair_that_is_interrupted_anywhere_can_be_repaired),
        DAMAGE_TEST(whatever_is_damaged_the_records_that_are_not_are_there_afterwards),
        DAMAGE_TEST(without_links_damaged_files_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
