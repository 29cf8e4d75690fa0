#include "fixture.h"
#include "journal/checkpoint.h"
#include "journal/rewrite.h"

#define RECORD 1000

static tob_journal *open_journal(const fixture *f, seen *s) {
    tob_journal *journal = NULL;
    tob_journal_problem problem = {.text = ""};
    uint64_t cut = 0;
    tob_journal_options options = f->options;
    options.dir = f->journal;
    tob_error err = tob_journal_open(&options, see, s, &journal, &cut, &problem);
    if (err) {
        fail_msg("%s", problem.text);
    }
    assert_int_equal(cut, 0);
    return journal;
}

static void add(tob_journal *journal, size_t n, uint8_t byte) {
    static uint8_t bytes[4 * RECORD];
    tob_position at;
    tob_journal_problem problem;
    bool fatal = false;
    assert_true(n <= sizeof(bytes));
    memset(bytes, byte, n);
    assert_int_equal(tob_journal_append(journal, &(tob_journal_part){bytes, n}, 1, &at), TOB_OK);
    assert_int_equal(tob_journal_sync(journal, &fatal, &problem), TOB_OK);
}

static void rotate(tob_journal *journal) {
    tob_journal_problem problem;
    bool fatal = false;
    assert_int_equal(tob_journal_rotate(journal, &fatal, &problem), TOB_OK);
}

// Replaces records of one byte's value by ones of another.
typedef struct swap {
    uint8_t from;
    uint8_t to;
    size_t calls;
    tob_error refuse;
} swap;

static tob_error replace(void *user, tob_position at, const void *payload, size_t n, void *replacement,
                         bool *ret_replace) {
    swap *s = user;
    (void)at;
    s->calls++;
    if (n > 0 && *(const uint8_t *)payload == s->from) {
        memset(replacement, s->to, n);
        *ret_replace = true;
    }
    return s->refuse;
}

static tob_error rewrite(const fixture *f, uint64_t segment, swap *s, tob_rewrite **ret) {
    tob_journal_problem problem = {.text = ""};
    *ret = NULL;
    tob_error err = tob_rewrite_segment(f->journal, segment, replace, s, ret, &problem);
    assert_true(!err || problem.text[0]);
    return err;
}

// Two complete segments of three records, and the one that is appended to.
static tob_journal *make_segments(fixture *f) {
    static seen s;
    s = (seen){0};
    tob_journal *journal = open_journal(f, &s);
    for (uint8_t i = 1; i <= 9; i++) {
        add(journal, RECORD + i, i);
        if (i % 3 == 0) {
            rotate(journal);
        }
    }
    return journal;
}

static bool has_file(const fixture *f, const char *name) {
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", f->journal, name);
    return access(path, F_OK) == 0;
}

static void replaced_records_are_read_at_their_places(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_segments(f);
    swap s = {.from = 5, .to = 55};
    tob_rewrite *made = NULL;
    tob_journal_problem problem;
    seen after = {0};
    assert_int_equal(rewrite(f, 2, &s, &made), TOB_OK);
    assert_non_null(made);
    assert_int_equal(s.calls, 3);
    assert_int_equal(tob_rewrite_commit(made, &problem), TOB_OK);
    assert_false(has_file(f, "rewrite.unfinished"));
    add(journal, RECORD, 10);
    tob_journal_close(journal);
    journal = open_journal(f, &after);
    tob_journal_close(journal);
    assert_int_equal(after.count, 10);
    for (uint8_t i = 0; i < 9; i++) {
        assert_int_equal(after.byte[i], i == 4 ? 55 : i + 1);
        assert_int_equal(after.n[i], RECORD + i + 1);
        assert_int_equal(after.at[i].segment, 1 + i / 3);
    }
    assert_false(after.uneven);
}

static void a_segment_without_such_records_is_left_alone(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_segments(f);
    swap s = {.from = 77, .to = 1};
    tob_rewrite *made = NULL;
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_OK);
    assert_null(made);
    assert_int_equal(s.calls, 3);
    assert_false(has_file(f, "rewrite.unfinished"));
    tob_journal_close(journal);
}

static void a_segment_keeps_the_time_of_its_last_record(void **state) {
    fixture *f = *state;
    char path[160];
    struct stat before, after;
    tob_journal *journal = make_segments(f);
    struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    swap s = {.from = 1, .to = 2};
    tob_rewrite *made = NULL;
    tob_journal_problem problem;
    snprintf(path, sizeof(path), "%s/journal-%016x.seg", f->journal, 1);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_OK);
    assert_int_equal(tob_rewrite_commit(made, &problem), TOB_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_mode & 0777, 0600);
    assert_true(after.st_ino != before.st_ino);
    tob_journal_close(journal);
}

static void an_abandoned_rewrite_changes_nothing(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_segments(f);
    swap s = {.from = 1, .to = 2};
    tob_rewrite *made = NULL;
    seen after = {0};
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_OK);
    tob_rewrite_abort(made);
    assert_false(has_file(f, "rewrite.unfinished"));
    s.refuse = TOB_CANCELLED;
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_CANCELLED);
    assert_false(has_file(f, "rewrite.unfinished"));
    tob_journal_close(journal);
    journal = open_journal(f, &after);
    assert_int_equal(after.byte[0], 1);
    tob_journal_close(journal);
}

static void a_deleted_segment_does_not_come_back(void **state) {
    fixture *f = *state;
    char path[160];
    tob_journal *journal = make_segments(f);
    swap s = {.from = 1, .to = 2};
    tob_rewrite *made = NULL;
    tob_journal_problem problem = {.text = ""};
    snprintf(path, sizeof(path), "%s/journal-%016x.seg", f->journal, 1);
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(tob_rewrite_commit(made, &problem), TOB_NOT_FOUND);
    assert_non_null(strstr(problem.text, "gone"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rewrite(f, 1, &s, &made), TOB_NOT_FOUND);
    tob_journal_close(journal);
}

static void a_damaged_segment_is_named_and_kept(void **state) {
    fixture *f = *state;
    char path[160];
    tob_journal *journal = make_segments(f);
    swap s = {.from = 1, .to = 2};
    tob_rewrite *made = NULL;
    tob_journal_problem problem = {.text = ""};
    snprintf(path, sizeof(path), "%s/journal-%016x.seg", f->journal, 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 40 + 16 + 5), 1);
    close(fd);
    assert_int_equal(tob_rewrite_segment(f->journal, 1, replace, &s, &made, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, "offset 40"));
    assert_null(made);
    tob_journal_close(journal);
}

static void what_a_crash_left_is_removed(void **state) {
    fixture *f = *state;
    char path[160];
    tob_journal_problem problem;
    tob_journal *journal = make_segments(f);
    snprintf(path, sizeof(path), "%s/rewrite.unfinished", f->journal);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(tob_rewrite_drop_unfinished(f->journal, &problem), TOB_OK);
    assert_false(has_file(f, "rewrite.unfinished"));
    assert_int_equal(tob_rewrite_drop_unfinished(f->journal, &problem), TOB_OK);
    tob_journal_close(journal);
}

static void a_rotation_begins_a_segment_only_after_records(void **state) {
    fixture *f = *state;
    tob_journal *journal = make_segments(f);
    tob_position end = tob_journal_end(journal);
    assert_int_equal(end.segment, 4);
    rotate(journal);
    assert_int_equal(tob_position_compare(tob_journal_end(journal), end), 0);
    assert_int_equal(tob_position_compare(tob_journal_queue_end(journal), end), 0);
    tob_journal_close(journal);
    seen s = {0};
    journal = open_journal(f, &s); // an empty last segment is nothing unusual
    assert_int_equal(s.count, 9);
    assert_int_equal(tob_journal_end(journal).segment, 4);
    tob_journal_close(journal);
}

static void only_the_newest_checkpoint_is_kept(void **state) {
    fixture *f = *state;
    tob_journal_problem problem = {.text = ""};
    tob_journal *journal = make_segments(f);
    uint64_t bytes = 0;
    uint32_t removed = 9;
    for (uint64_t i = 1; i <= 2; i++) {
        tob_checkpoint_writer *writer = NULL;
        tob_position at = {.segment = i, .offset = 40};
        assert_int_equal(tob_checkpoint_create(f->journal, at, &writer, &problem), TOB_OK);
        assert_int_equal(tob_checkpoint_append(writer, "x", 1, &problem), TOB_OK);
        assert_int_equal(tob_checkpoint_commit(writer, &bytes, &problem), TOB_OK);
    }
    tob_checkpoint_places places;
    assert_int_equal(tob_checkpoint_keep_newest(f->journal, &removed, &problem), TOB_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(tob_checkpoint_find(f->journal, &places, &problem), TOB_OK);
    assert_int_equal(places.newest.segment, 2);
    assert_int_equal(places.before.segment, 0);
    assert_int_equal(tob_checkpoint_keep_newest(f->journal, &removed, &problem), TOB_OK);
    assert_int_equal(removed, 0);
    tob_journal_close(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replaced_records_are_read_at_their_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_segment_without_such_records_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_segment_keeps_the_time_of_its_last_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_abandoned_rewrite_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_deleted_segment_does_not_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_segment_is_named_and_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_crash_left_is_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rotation_begins_a_segment_only_after_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_the_newest_checkpoint_is_kept, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
