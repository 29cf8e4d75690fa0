// A journal in a folder of its own whose files can be damaged; shared by verify_test.c and repair_test.c.
//
// A record's payload is n bytes of one value; what a repair puts in begins with FILLER, and a record that begins with
// FOREIGN passes the journal's checks and is none of ours. A checkpoint's head is one that begins with HEAD.
#ifndef TOB_TESTS_JOURNAL_DAMAGE_H
#define TOB_TESTS_JOURNAL_DAMAGE_H

#include <dirent.h>

#include "fixture.h"
#include "journal/checkpoint.h"
#include "journal/verify.h"

#define HEADER     40u
#define FILLER     0xf1
#define FOREIGN    0xf2
#define HEAD       0xf3
#define FIRST_UNIX 1700000000000u // the time of a record of value b is so many milliseconds later
#define MAX_FILES  8
#define NAME_BYTES 80

static inline tob_error see_all(void *user, tob_position at, const void *payload, size_t n) {
    seen *s = user;
    if (n == 0 || *(const uint8_t *)payload == FILLER) {
        s->fillers++;
        return TOB_OK;
    }
    return see(s, at, payload, n);
}

static tob_position reaches; // what every record of a checkpoint says; {0, 0}: nothing

static inline tob_error check(void *user, tob_position at, const void *payload, size_t n,
                              tob_verify_note *ret) {
    const uint8_t *bytes = payload;
    (void)user, (void)at;
    if (n && bytes[0] == FOREIGN) {
        ret->reason = "foreign";
        return TOB_DAMAGED;
    }
    ret->reaches = reaches;
    ret->head = n && bytes[0] == HEAD;
    ret->unix_ms = n && bytes[0] != FILLER ? FIRST_UNIX + bytes[0] : 0;
    return TOB_OK;
}

static inline int set_up_damage(void **state) {
    if (set_up(state)) {
        return -1;
    }
    fixture *f = *state;
    f->options.sync = TOB_JOURNAL_SYNC_NEVER;
    snprintf(f->kept, sizeof(f->kept), "%s/kept", f->dir);
    return mkdir(f->kept, 0700);
}

// ---- the journal

static inline tob_error try_open_from(const fixture *f, tob_position from, seen *s, uint64_t *ret_cut) {
    tob_journal_options options = f->options;
    tob_journal *journal = NULL;
    tob_journal_problem problem = {""};
    options.dir = f->journal;
    options.from = from;
    memset(s, 0, sizeof(*s));
    *ret_cut = 0;
    tob_error err = tob_journal_open(&options, see_all, s, &journal, ret_cut, &problem);
    if (err) {
        assert_true(problem.text[0] != 0);
    }
    tob_journal_close(journal);
    return err;
}

static inline tob_journal *open_journal(const fixture *f) {
    tob_journal_options options = f->options;
    options.dir = f->journal;
    tob_journal *journal = NULL;
    tob_journal_problem problem = {""};
    uint64_t cut = 0;
    seen s = {0};
    tob_error err = tob_journal_open(&options, see_all, &s, &journal, &cut, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    return journal;
}

// Ends a group.
static inline void sync_and_settle(tob_journal *journal) {
    sync_ok(journal);
    settle_ok(journal);
}

// Three records in two groups; returns where they are.
static inline void make_small(const fixture *f, tob_position at[3], tob_position *ret_end) {
    tob_journal *journal = open_journal(f);
    at[0] = append(journal, 1, 24);
    at[1] = append(journal, 2, 61);
    sync_and_settle(journal);
    at[2] = append(journal, 3, 16);
    sync_and_settle(journal);
    *ret_end = tob_journal_end(journal);
    tob_journal_close(journal);
}

// `count` records of 300 KiB, so that a segment has three; each is a group of its own.
static inline void make_large(const fixture *f, size_t count, tob_position *at, tob_position *ret_end) {
    tob_journal *journal = open_journal(f);
    for (size_t i = 0; i < count; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), 300u << 10);
        sync_and_settle(journal);
    }
    *ret_end = tob_journal_end(journal);
    tob_journal_close(journal);
}

static inline void make_checkpoint(const fixture *f, tob_position at, uint8_t first, size_t count) {
    tob_checkpoint_writer *writer = NULL;
    tob_journal_problem problem = {""};
    uint8_t bytes[100];
    uint64_t n = 0;
    assert_int_equal(tob_checkpoint_create(f->journal, at, &writer, &problem), TOB_OK);
    memset(bytes, HEAD, sizeof(bytes));
    assert_int_equal(tob_checkpoint_append(writer, bytes, sizeof(bytes), &problem), TOB_OK);
    for (size_t i = 0; i < count; i++) {
        memset(bytes, first + (int)i, sizeof(bytes));
        assert_int_equal(tob_checkpoint_append(writer, bytes, sizeof(bytes), &problem), TOB_OK);
    }
    assert_int_equal(tob_checkpoint_commit(writer, &n, &problem), TOB_OK);
}

static inline void checkpoint_path(const fixture *f, tob_position at, char ret[200]) {
    snprintf(ret, 200, "%s/checkpoint-%016llx-%016llx.ckpt", f->journal, (unsigned long long)at.segment,
             (unsigned long long)at.offset);
}

// ---- files

static inline void write_at(const char *path, uint64_t offset, const void *bytes, size_t n) {
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, (off_t)offset), n);
    close(fd);
}

static inline void flip(const char *path, uint64_t offset, unsigned bit) {
    uint8_t byte = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte = (uint8_t)(byte ^ 1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static inline void zero(const char *path, uint64_t offset, size_t n) {
    uint8_t *bytes = calloc(1, n);
    write_at(path, offset, bytes, n);
    free(bytes);
}

static inline void copy_file(const char *from, const char *to) {
    char block[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n = read(in, block, sizeof(block)); n > 0; n = read(in, block, sizeof(block))) {
        assert_int_equal(write(out, block, (size_t)n), n);
    }
    close(in);
    close(out);
}

static inline void copy_files(const char *from, const char *to) {
    DIR *listing = opendir(from);
    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        char a[512], b[512];
        struct stat st;
        snprintf(a, sizeof(a), "%s/%s", from, entry->d_name);
        snprintf(b, sizeof(b), "%s/%s", to, entry->d_name);
        if (stat(a, &st) == 0 && S_ISREG(st.st_mode)) {
            copy_file(a, b);
        }
    }
    closedir(listing);
}

// keep remembers the journal as it is, and restore brings it back.
static inline void keep(const fixture *f) {
    copy_files(f->journal, f->kept);
}

static inline void restore(const fixture *f) {
    assert_int_equal(remove_tree(f->journal), 0);
    assert_int_equal(mkdir(f->journal, 0700), 0);
    copy_files(f->kept, f->journal);
}

static inline off_t file_bytes(const char *path) {
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

// Are the places of `some` among those of `all`, with the same values?
static inline bool has_record(const seen *all, tob_position at, uint8_t byte) {
    for (size_t i = 0; i < all->count; i++) {
        if (tob_position_compare(all->at[i], at) == 0) {
            return all->byte[i] == byte;
        }
    }
    return false;
}

#define DAMAGE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_damage, tear_down)

#endif
