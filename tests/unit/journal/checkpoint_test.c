#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "fixture.h"
#include "journal/checkpoint.h"
#include "journal/crc32c.h"

// The writer's system calls are these: they can be told to fail, the n-th call of them all (0: none).
static int failing_call;
static int calls;
static char trail[4096]; // which they were: 'f' fsync, 'r' rename, 'w' write, 's' sync of a part

static bool fails(char which) {
    trail[calls % (int)sizeof(trail)] = which;
    if (++calls == failing_call) {
        errno = EIO;
        return true;
    }
    return false;
}

int fsync(int fd) {
    return fails('f') ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return fails('d') ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t offset, off_t n, unsigned flags) {
    return fails('s') ? -1 : (int)syscall(SYS_sync_file_range, fd, offset, n, flags);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) {
    if (fails('w')) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, n > 700000 ? 700000 : n, offset); // short ones, too
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return fails('r') ? -1 : (int)syscall(SYS_renameat, from_dir, from, to_dir, to);
}

static const tob_position place = {3, 4096};

static int set_up_dir(void **state) {
    int failed = set_up(state);
    fixture *f = *state;
    failing_call = calls = 0;
    return failed || mkdir(f->journal, 0700);
}

static tob_checkpoint_writer *create(const fixture *f, tob_position at) {
    tob_checkpoint_writer *writer = NULL;
    tob_journal_problem problem = {""};
    tob_error err = tob_checkpoint_create(f->journal, at, &writer, &problem);
    if (err) {
        fail_msg("%s", problem.text);
    }
    return writer;
}

static void put(tob_checkpoint_writer *writer, uint8_t byte, size_t n) {
    uint8_t *bytes = malloc(n);
    tob_journal_problem problem = {""};
    memset(bytes, byte, n);
    assert_int_equal(tob_checkpoint_append(writer, bytes, n, &problem), TOB_OK);
    free(bytes);
}

static uint64_t commit(tob_checkpoint_writer *writer) {
    uint64_t bytes = 0;
    tob_journal_problem problem = {""};
    tob_error err = tob_checkpoint_commit(writer, &bytes, &problem);
    if (err) {
        fail_msg("%s", problem.text);
    }
    return bytes;
}

// One with `count` records of growing sizes, i with byte i + 1.
static uint64_t make(const fixture *f, tob_position at, size_t count) {
    tob_checkpoint_writer *writer = create(f, at);
    for (size_t i = 0; i < count; i++) {
        put(writer, (uint8_t)(i + 1), i * 13 + 1);
    }
    return commit(writer);
}

static tob_error try_read(const fixture *f, tob_position at, seen *s, uint64_t *ret_bytes,
                          tob_journal_problem *problem) {
    memset(s, 0, offsetof(seen, refuse));
    problem->text[0] = 0;
    return tob_checkpoint_read(f->journal, at, see, s, ret_bytes, problem);
}

static void expect_whole(const fixture *f, tob_position at, size_t count) {
    static seen s;
    uint64_t bytes = 0;
    tob_journal_problem problem = {""};
    tob_error err = try_read(f, at, &s, &bytes, &problem);
    if (err) {
        fail_msg("%s", problem.text);
    }
    assert_int_equal(s.count, count);
    assert_false(s.uneven);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(s.byte[i], i + 1);
        assert_int_equal(s.n[i], i * 13 + 1);
    }
}

static void path_of(const fixture *f, tob_position at, char ret[192]) {
    snprintf(ret, 192, "%s/checkpoint-%016llx-%016llx.ckpt", f->journal, (unsigned long long)at.segment,
             (unsigned long long)at.offset);
}

static size_t entries(const fixture *f) {
    size_t count = 0;
    DIR *listing = opendir(f->journal);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        count += entry->d_name[0] != '.';
    }
    closedir(listing);
    return count;
}

static tob_checkpoint_places find(const fixture *f) {
    tob_checkpoint_places places = {{9, 9}, {9, 9}};
    tob_journal_problem problem = {""};
    assert_int_equal(tob_checkpoint_find(f->journal, &places, &problem), TOB_OK);
    return places;
}

static void what_was_written_is_read_back_in_order(void **state) {
    fixture *f = *state;
    uint64_t bytes = make(f, place, 40);
    expect_whole(f, place, 40);
    char path[192];
    struct stat st;
    path_of(f, place, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, bytes);
    assert_int_equal(st.st_mode & 0777, 0600);
    static seen s;
    uint64_t read_bytes = 0;
    tob_journal_problem problem;
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_OK);
    assert_int_equal(read_bytes, bytes);
    assert_int_equal(s.at[0].segment, 0);
    assert_int_equal(s.at[0].offset, 40);
    assert_int_equal(s.at[1].offset, 64);
}

static void one_without_records_is_whole(void **state) {
    fixture *f = *state;
    make(f, place, 0);
    expect_whole(f, place, 0);
}

static void records_of_32_mib_and_many_buffers_are_stored_and_one_byte_more_is_refused(void **state) {
    fixture *f = *state;
    static seen s;
    tob_checkpoint_writer *writer = create(f, place);
    put(writer, 1, 5);
    put(writer, 2, TOB_JOURNAL_MAX_RECORD_BYTES);
    for (uint8_t i = 3; i < 30; i++) {
        put(writer, i, 333333);
    }
    uint8_t *bytes = calloc(1, TOB_JOURNAL_MAX_RECORD_BYTES + 1);
    tob_journal_problem problem = {""};
    assert_int_equal(tob_checkpoint_append(writer, bytes, TOB_JOURNAL_MAX_RECORD_BYTES + 1, &problem),
                     TOB_TOO_LARGE);
    assert_int_equal(tob_checkpoint_append(writer, bytes, 0, &problem), TOB_INVALID);
    free(bytes);
    uint64_t written = commit(writer), read_bytes = 0;
    assert_true(written > TOB_JOURNAL_MAX_RECORD_BYTES + 27u * 333333);
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_OK);
    assert_int_equal(read_bytes, written);
    assert_int_equal(s.count, 29);
    assert_false(s.uneven);
    assert_int_equal(s.n[1], TOB_JOURNAL_MAX_RECORD_BYTES);
    assert_int_equal(s.byte[28], 29);
}

static void the_two_newest_are_kept_and_found(void **state) {
    fixture *f = *state;
    const tob_position none = {0, 0}, at[] = {{1, 40}, {1, 4096}, {2, 40}, {16, 8}};
    tob_checkpoint_places places = find(f);
    assert_int_equal(tob_position_compare(places.newest, none), 0);
    assert_int_equal(tob_position_compare(places.before, none), 0);
    for (size_t i = 0; i < 4; i++) {
        make(f, at[i], i + 1);
        places = find(f);
        assert_int_equal(tob_position_compare(places.newest, at[i]), 0);
        assert_int_equal(tob_position_compare(places.before, i ? at[i - 1] : none), 0);
        assert_int_equal(entries(f), i ? 2 : 1);
        expect_whole(f, at[i], i + 1);
    }
    make(f, at[3], 9); // again at the same place: the file is replaced
    places = find(f);
    assert_int_equal(tob_position_compare(places.before, at[2]), 0);
    expect_whole(f, at[3], 9);
    make(f, at[0], 1); // an old one is not taken away at once
    expect_whole(f, at[0], 1);
}

static void no_other_name_is_a_checkpoint(void **state) {
    fixture *f = *state;
    const char *names[] = {
        "checkpoint-0000000000000001-0000000000000028.ckpt.old",
        "checkpoint-1-28.ckpt",
        "checkpoint-000000000000000A-0000000000000028.ckpt",
        "checkpoint-0000000000000000-0000000000000028.ckpt",
        "checkpoint.unfinished",
        "journal-0000000000000001.seg",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[192];
        snprintf(path, sizeof(path), "%s/%s", f->journal, names[i]);
        write_file(path, (const uint8_t *)"x", 1);
    }
    assert_int_equal(find(f).newest.segment, 0);
    tob_checkpoint_places places = {{9, 9}, {9, 9}};
    tob_journal_problem problem = {""};
    assert_int_equal(tob_checkpoint_find("/nowhere/at/all", &places, &problem), TOB_OK);
    assert_int_equal(places.newest.segment, 0);
    assert_int_equal(tob_checkpoint_find("/dev/null", &places, &problem), TOB_IO);
    assert_non_null(strstr(problem.text, "/dev/null: "));
}

static void it_is_there_only_when_it_is_complete(void **state) {
    fixture *f = *state;
    make(f, (tob_position){1, 40}, 3);
    tob_checkpoint_writer *writer = create(f, place);
    put(writer, 1, 3 << 20);
    assert_int_equal(find(f).newest.segment, 1);
    tob_checkpoint_abort(writer);
    assert_int_equal(entries(f), 1);
    char path[192];
    snprintf(path, sizeof(path), "%s/checkpoint.unfinished", f->journal);
    write_file(path, (const uint8_t *)"left by a crash", 15);
    make(f, place, 5);
    expect_whole(f, place, 5);
    assert_int_equal(entries(f), 2);
    tob_checkpoint_abort(NULL);
    tob_journal_problem problem = {""};
    writer = NULL;
    assert_int_equal(tob_checkpoint_create("/nowhere/at/all", place, &writer, &problem), TOB_IO);
    assert_non_null(strstr(problem.text, "/nowhere/at/all/checkpoint-"));
}

// Writes about 5 MiB; the error of the step that failed.
static tob_error write_all(const fixture *f, tob_position at, tob_journal_problem *problem) {
    static uint8_t bytes[5 << 19];
    tob_checkpoint_writer *writer = NULL;
    uint64_t written = 0;
    tob_error err = tob_checkpoint_create(f->journal, at, &writer, problem);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < 2; i++) {
        err = tob_checkpoint_append(writer, bytes, sizeof(bytes), problem);
        if (err) {
            tob_checkpoint_abort(writer);
            return err;
        }
    }
    return tob_checkpoint_commit(writer, &written, problem);
}

static void whatever_call_fails_the_one_before_is_whole(void **state) {
    fixture *f = *state;
    make(f, (tob_position){1, 40}, 3);
    calls = 0;
    tob_journal_problem problem = {""};
    assert_int_equal(write_all(f, place, &problem), TOB_OK);
    int all = calls;
    assert_memory_equal(trail + all - 3, "frf", 3); // durable, named, and the name durable
    size_t parts = 0;
    for (int i = 0; i < all; i++) {
        parts += trail[i] == 's';
    }
    assert_int_equal(parts,
                     3);   // after 2 MiB one is begun; after 4 MiB the next, and the first one is waited for
    assert_true(all > 10); // 5 MiB in pieces, their syncs, and the end
    for (int i = 1; i <= all; i++) {
        char path[192];
        path_of(f, place, path);
        assert_int_equal(unlink(path), 0);
        failing_call = i;
        calls = 0;
        problem.text[0] = 0;
        assert_int_equal(write_all(f, place, &problem), TOB_IO);
        assert_non_null(
            strstr(problem.text, "/checkpoint-0000000000000003-0000000000001000.ckpt at offset "));
        failing_call = 0;
        expect_whole(f, (tob_position){1, 40}, 3);
        snprintf(path, sizeof(path), "%s/checkpoint.unfinished", f->journal);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(write_all(f, place, &problem), TOB_OK); // when it is over
    }
}

static void cut_at_any_byte_it_is_refused(void **state) {
    fixture *f = *state;
    static seen s;
    char path[192];
    size_t n = 0;
    make(f, place, 12);
    path_of(f, place, path);
    uint8_t *bytes = read_file(path, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint64_t read_bytes = 0;
        tob_journal_problem problem;
        write_file(path, bytes, cut);
        assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_DAMAGED);
        assert_non_null(strstr(problem.text, "-0000000000001000.ckpt at offset "));
        assert_false(s.uneven);
        assert_true(s.count <= 12);
    }
    uint8_t *longer = calloc(1, n + 8);
    memcpy(longer, bytes, n);
    for (size_t more = 1; more <= 8; more++) {
        uint64_t read_bytes = 0;
        tob_journal_problem problem;
        write_file(path, longer, n + more);
        assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_DAMAGED);
    }
    free(longer);
    free(bytes);
}

static void with_any_bit_flipped_it_is_refused_or_the_same(void **state) {
    fixture *f = *state;
    static seen s;
    char path[192];
    size_t n = 0, same = 0;
    make(f, place, 12);
    path_of(f, place, path);
    uint8_t *bytes = read_file(path, &n);
    for (size_t bit = 0; bit < n * 8; bit++) {
        uint64_t read_bytes = 0;
        tob_journal_problem problem;
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        write_file(path, bytes, n);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        tob_error err = try_read(f, place, &s, &read_bytes, &problem);
        assert_false(s.uneven);
        for (size_t i = 0; i < s.count; i++) {
            assert_int_equal(s.byte[i], i + 1);
            assert_int_equal(s.n[i], i * 13 + 1);
        }
        if (err) {
            assert_int_equal(err, TOB_DAMAGED);
            assert_non_null(strstr(problem.text, "-0000000000001000.ckpt at offset "));
        } else {
            assert_int_equal(s.count, 12); // padding
            same++;
        }
    }
    assert_true(same < n * 8 / 8);
    free(bytes);
}

static void under_another_name_or_of_a_newer_format_it_is_refused(void **state) {
    fixture *f = *state;
    static seen s;
    char path[192], other[192];
    uint64_t read_bytes = 0;
    tob_journal_problem problem;
    make(f, place, 3);
    path_of(f, place, path);
    path_of(f, (tob_position){3, 4104}, other);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(try_read(f, (tob_position){3, 4104}, &s, &read_bytes, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, ".ckpt at offset 8: "));
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_IO);
    assert_non_null(strstr(problem.text, path));
    size_t n = 0;
    uint8_t *bytes = read_file(other, &n);
    bytes[4] = 2;
    uint32_t crc = tob_crc32c(0, bytes, 32);
    memcpy(bytes + 32, &crc, sizeof(crc));
    write_file(path, bytes, n);
    free(bytes);
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "newer"));
    char segment[160];
    segment_path(f, 1, segment); // a segment is no checkpoint
    tob_journal_close(open_ok(f, &s, NULL));
    bytes = read_file(segment, &n);
    write_file(path, bytes, n);
    free(bytes);
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, ".ckpt at offset 0: "));
}

static void what_the_caller_refuses_ends_the_reading(void **state) {
    fixture *f = *state;
    static seen s;
    uint64_t read_bytes = 0;
    tob_journal_problem problem;
    make(f, place, 3);
    s.refuse = TOB_MALFORMED;
    assert_int_equal(try_read(f, place, &s, &read_bytes, &problem), TOB_MALFORMED);
    assert_non_null(strstr(problem.text, ".ckpt at offset 40: the record can't be used"));
    s.refuse = TOB_OK;
}

#define TEST_IN_DIR(name) cmocka_unit_test_setup_teardown(name, set_up_dir, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(what_was_written_is_read_back_in_order),
        TEST_IN_DIR(one_without_records_is_whole),
        TEST_IN_DIR(records_of_32_mib_and_many_buffers_are_stored_and_one_byte_more_is_refused),
        TEST_IN_DIR(the_two_newest_are_kept_and_found),
        TEST_IN_DIR(no_other_name_is_a_checkpoint),
        TEST_IN_DIR(it_is_there_only_when_it_is_complete),
        TEST_IN_DIR(whatever_call_fails_the_one_before_is_whole),
        TEST_IN_DIR(cut_at_any_byte_it_is_refused),
        TEST_IN_DIR(with_any_bit_flipped_it_is_refused_or_the_same),
        TEST_IN_DIR(under_another_name_or_of_a_newer_format_it_is_refused),
        TEST_IN_DIR(what_the_caller_refuses_ends_the_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
