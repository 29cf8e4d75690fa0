// A journal in a folder of its own whose files can be damaged; shared by verify_test.c and repair_test.c.
//
// A record's payload is n bytes of one value; what a repair puts in begins with FILLER, and a record that begins with
// FOREIGN passes the journal's checks and is none of ours. A checkpoint's head is one that begins with HEAD.
#ifndef TOB_TESTS_JOURNAL_DAMAGE_H
#define TOB_TESTS_JOURNAL_DAMAGE_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/checkpoint.h"
#include "journal/journal.h"
#include "journal/verify.h"

#define SEGMENT    TOB_JOURNAL_MIN_SEGMENT
#define MAX_SEEN   4096
#define HEADER     40u
#define FILLER     0xf1
#define FOREIGN    0xf2
#define HEAD       0xf3
#define FIRST_UNIX 1700000000000u // the time of a record of value b is so many milliseconds later
#define MAX_FILES  8
#define NAME_BYTES 80

typedef struct fixture {
    char dir[64];     // journals' parent
    char journal[96]; // the journal
    char kept[96];    // its files as they were made
} fixture;

typedef struct seen {
    size_t count;
    tob_position at[MAX_SEEN];
    size_t n[MAX_SEEN];
    uint8_t byte[MAX_SEEN];
    size_t fillers;
    bool uneven;
} seen;

static inline tob_error see(void *user, tob_position at, const void *payload, size_t n) {
    seen *s = user;
    const uint8_t *bytes = payload;
    if (n == 0 || bytes[0] == FILLER) {
        s->fillers++;
        return TOB_OK;
    }
    assert_true(s->count < MAX_SEEN);
    s->at[s->count] = at;
    s->n[s->count] = n;
    s->byte[s->count] = bytes[0];
    for (size_t i = 1; i < n; i++) {
        s->uneven |= bytes[i] != bytes[0];
    }
    s->count++;
    return TOB_OK;
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

static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "%s/tob-damage-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    snprintf(f->journal, sizeof(f->journal), "%s/journal", f->dir);
    snprintf(f->kept, sizeof(f->kept), "%s/kept", f->dir);
    *state = f;
    return mkdir(f->kept, 0700);
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *path) {
    assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    int failed = nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return failed;
}

// ---- the journal

static inline tob_error try_open_from(const fixture *f, tob_position from, seen *s, uint64_t *ret_cut) {
    tob_journal_options options = {.dir = f->journal,
                                   .segment_bytes = SEGMENT,
                                   .sync = TOB_JOURNAL_SYNC_NEVER,
                                   .from = from};
    tob_journal *journal = NULL;
    tob_journal_problem problem = {""};
    memset(s, 0, sizeof(*s));
    *ret_cut = 0;
    tob_error err = tob_journal_open(&options, see, s, &journal, ret_cut, &problem);
    if (err) {
        assert_true(problem.text[0] != 0);
    }
    tob_journal_close(journal);
    return err;
}

static inline tob_journal *open_journal(const fixture *f) {
    tob_journal_options options = {.dir = f->journal,
                                   .segment_bytes = SEGMENT,
                                   .sync = TOB_JOURNAL_SYNC_NEVER};
    tob_journal *journal = NULL;
    tob_journal_problem problem = {""};
    uint64_t cut = 0;
    seen s = {0};
    tob_error err = tob_journal_open(&options, see, &s, &journal, &cut, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    return journal;
}

static inline tob_position append(tob_journal *journal, uint8_t byte, size_t n) {
    uint8_t *bytes = malloc(n + 1);
    memset(bytes, byte, n);
    tob_position at = {0, 0};
    tob_journal_part part = {bytes, n};
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_OK);
    free(bytes);
    return at;
}

static inline void sync_ok(tob_journal *journal) {
    bool fatal = true;
    tob_journal_problem problem = {""};
    assert_int_equal(tob_journal_sync(journal, &fatal, &problem), TOB_OK);
    assert_int_equal(tob_journal_settle(journal, &fatal, &problem), TOB_OK); // ends the group
}

// Three records in two groups; returns where they are.
static inline void make_small(const fixture *f, tob_position at[3], tob_position *ret_end) {
    tob_journal *journal = open_journal(f);
    at[0] = append(journal, 1, 24);
    at[1] = append(journal, 2, 61);
    sync_ok(journal);
    at[2] = append(journal, 3, 16);
    sync_ok(journal);
    *ret_end = tob_journal_end(journal);
    tob_journal_close(journal);
}

// `count` records of 300 KiB, so that a segment has three; each is a group of its own.
static inline void make_large(const fixture *f, size_t count, tob_position *at, tob_position *ret_end) {
    tob_journal *journal = open_journal(f);
    for (size_t i = 0; i < count; i++) {
        at[i] = append(journal, (uint8_t)(i + 1), 300u << 10);
        sync_ok(journal);
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

static inline void segment_path(const fixture *f, unsigned number, char ret[160]) {
    snprintf(ret, 160, "%s/journal-%016x.seg", f->journal, number);
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
    remove_tree(f->journal);
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

#endif
