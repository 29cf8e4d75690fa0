// What the tests of the journal share: a directory of their own, and records whose bytes are all the same.
#ifndef TESTS_UNIT_JOURNAL_FIXTURE_H
#define TESTS_UNIT_JOURNAL_FIXTURE_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/journal.h"
#include "tests/unit/remove.h"

#define SEGMENT  TOB_JOURNAL_MIN_SEGMENT
#define MAX_SEEN 4096

typedef struct fixture {
    char dir[64];                // journals' parent
    char journal[96];            // the journal
    char kept[96];               // of damage.h: its files as they were made
    tob_journal_options options; // without dir
} fixture;

// What a reading saw: sizes and a byte of each payload, which is n bytes of the same value.
typedef struct seen {
    size_t count;
    tob_position at[MAX_SEEN];
    size_t n[MAX_SEEN];
    uint8_t byte[MAX_SEEN];
    size_t fillers; // of damage.h: what a repair put in
    bool uneven;    // a payload whose bytes differ: never valid here
    tob_error refuse;
} seen;

static inline tob_error see(void *user, tob_position at, const void *payload, size_t n) {
    seen *s = user;
    const uint8_t *bytes = payload;
    if (s->refuse) {
        return s->refuse;
    }
    assert_true(s->count < MAX_SEEN);
    s->at[s->count] = at;
    s->n[s->count] = n;
    s->byte[s->count] = n ? bytes[0] : 0;
    for (size_t i = 1; i < n; i++) {
        s->uneven |= bytes[i] != bytes[0];
    }
    s->count++;
    return TOB_OK;
}

static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "%s/tob-journal-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    snprintf(f->journal, sizeof(f->journal), "%s/journal", f->dir);
    f->options = (tob_journal_options){.segment_bytes = SEGMENT, .sync = TOB_JOURNAL_SYNC_ALWAYS};
    *state = f;
    return 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    int failed = remove_tree(f->dir);
    free(f);
    return failed;
}

static inline tob_error try_open(const fixture *f, seen *s, tob_journal **ret, uint64_t *ret_cut,
                                 tob_journal_problem *problem) {
    tob_journal_options options = f->options;
    options.dir = f->journal;
    memset(s, 0, offsetof(seen, refuse));
    return tob_journal_open(&options, see, s, ret, ret_cut, problem);
}

static inline tob_journal *open_ok(const fixture *f, seen *s, uint64_t *ret_cut) {
    tob_journal *journal = NULL;
    tob_journal_problem problem = {""};
    uint64_t cut = 0;
    tob_error err = try_open(f, s, &journal, &cut, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    assert_false(s->uneven);
    if (ret_cut) {
        *ret_cut = cut;
    } else {
        assert_int_equal(cut, 0);
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
    tob_error err = tob_journal_sync(journal, &fatal, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    assert_false(fatal);
}

static inline void settle_ok(tob_journal *journal) {
    bool fatal = true;
    tob_journal_problem problem = {""};
    tob_error err = tob_journal_settle(journal, &fatal, &problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    assert_false(fatal);
}

static inline void segment_path(const fixture *f, unsigned number, char ret[160]) {
    snprintf(ret, 160, "%s/journal-%016x.seg", f->journal, number);
}

static inline uint8_t *read_file(const char *path, size_t *ret_n) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_n = (size_t)st.st_size;
    return bytes;
}

static inline void write_file(const char *path, const uint8_t *bytes, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static inline void patch_file(const char *path, const uint8_t *bytes, size_t n) {
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
