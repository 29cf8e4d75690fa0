#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/replay.h"
#include "journal/state.h"
#include "util/random.h"

static char *segment_path(const tob_journal *j, uint64_t segment) {
    char name[TOB_SEGMENT_NAME_BYTES];
    char *path = NULL;
    tob_segment_name(segment, name);
    return asprintf(&path, "%s/%s", j->dir, name) < 0 ? NULL : path;
}

static tob_error create_first(tob_journal *j, uint64_t number, uint64_t previous_end,
                              tob_journal_problem *problem) {
    tob_segment_header header = {.segment = number, .salt = tob_random_u64(), .previous_end = previous_end};
    bool sync_failed = false;
    int fd = -1;
    tob_error err = tob_segment_create(j, &header, &fd, &sync_failed, problem);
    if (!err) {
        tob_journal_adopt(j, fd, &header, TOB_SEGMENT_HEADER_BYTES);
    }
    return err;
}

// One segment of those found when opening.
typedef struct found {
    tob_replay_segment segment;
    char *path;
} found;

static void found_free(found *all, size_t count) {
    for (size_t i = 0; all && i < count; i++) {
        free(all[i].path);
        if (all[i].segment.fd >= 0) {
            close(all[i].segment.fd);
        }
    }
    free(all);
}

// Segments are opened when they are read, two at a time: this one and, for its header, the next.
static tob_error found_open(tob_journal *j, found *f, uint64_t number, bool *ret_torn,
                            tob_journal_problem *problem) {
    f->path = segment_path(j, number);
    if (!f->path) {
        return TOB_NO_MEMORY;
    }
    f->segment.path = f->path;
    f->segment.fd = tob_segment_open(j, number, O_RDWR);
    struct stat st;
    if (f->segment.fd < 0 || fstat(f->segment.fd, &st)) {
        tob_journal_say(problem, "%s: %s", f->path, strerror(errno));
        return TOB_IO;
    }
    f->segment.file_bytes = (uint64_t)st.st_size;
    return tob_replay_header(&f->segment, number, ret_torn, problem);
}

// Removes a last segment whose making a crash interrupted: it holds nothing.
static tob_error drop_unfinished(tob_journal *j, uint64_t number, tob_journal_problem *problem) {
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(number, name);
    if (unlinkat(j->dir_fd, name, 0) || tob_journal_sync_dir(j)) {
        tob_journal_say_errno(j, number, 0, "removing the unfinished segment failed", problem);
        return TOB_IO;
    }
    return TOB_OK;
}

// Goes on after the last record: cuts what is torn, and makes durable what was found, since from now on it
// counts.
static tob_error continue_segment(tob_journal *j, found *last, uint64_t end, tob_journal_problem *problem) {
    int fd = last->segment.fd;
    uint64_t number = last->segment.header.segment;
    if (tob_file_truncate(fd, end)) {
        tob_journal_say_errno(j, number, end, "cutting the torn tail failed", problem);
        return TOB_IO;
    }
    tob_file_preallocate(fd, end, j->segment_bytes);
    if (tob_journal_sync_file(j, fd) || tob_journal_sync_dir(j)) {
        tob_journal_say_errno(j, number, end, "sync failed", problem);
        return TOB_IO;
    }
    last->segment.fd = -1; // moved
    tob_journal_adopt(j, fd, &last->segment.header, end);
    return TOB_OK;
}

static tob_error check_row(tob_journal *j, const uint64_t *numbers, size_t count,
                           tob_journal_problem *problem) {
    for (size_t i = 1; i < count; i++) {
        if (numbers[i] != numbers[i - 1] + 1) {
            char name[TOB_SEGMENT_NAME_BYTES];
            tob_segment_name(numbers[i - 1] + 1, name);
            tob_journal_say(problem, "%s/%s at offset 0: the segment is missing", j->dir, name);
            return TOB_DAMAGED;
        }
    }
    return TOB_OK;
}

// Reads segment `numbers[i]`, whose header is in *at, with the next one's header for its end.
//   ret_next_torn   the next one is the last and unfinished
static tob_error replay_one(tob_journal *j, found *at, found *next, uint64_t next_number, bool next_is_last,
                            tob_journal_record_fn fn, void *user, uint64_t *ret_end, uint64_t *ret_torn_bytes,
                            bool *ret_next_torn, tob_journal_problem *problem) {
    uint64_t expected = 0;
    if (next) {
        tob_error err = found_open(j, next, next_number, ret_next_torn, problem);
        if (err) {
            return err;
        }
        if (*ret_next_torn && !next_is_last) {
            tob_journal_say(problem, "%s at offset 0: the segment's header is missing", next->path);
            return TOB_DAMAGED;
        }
        expected = *ret_next_torn ? 0 : next->segment.header.previous_end;
        if (!*ret_next_torn && expected < TOB_SEGMENT_HEADER_BYTES) {
            tob_journal_say(problem, "%s at offset 24: not a continuation of the segment before it",
                            next->path);
            return TOB_DAMAGED;
        }
    }
    return tob_replay_segment_records(&at->segment, expected, fn, user, ret_end, ret_torn_bytes, problem);
}

static tob_error replay_all(tob_journal *j, const uint64_t *numbers, size_t count, tob_journal_record_fn fn,
                            void *user, uint64_t *ret_cut_bytes, tob_journal_problem *problem) {
    found *all = calloc(count, sizeof(*all));
    bool torn = false;
    uint64_t end = 0, torn_bytes = 0;
    tob_error err = all ? check_row(j, numbers, count, problem) : TOB_NO_MEMORY;
    for (size_t i = 0; all && i < count; i++) {
        all[i].segment.fd = -1;
    }
    if (!err) {
        err = found_open(j, &all[0], numbers[0], &torn, problem);
    }
    if (!err && torn && count > 1) {
        tob_journal_say(problem, "%s at offset 0: the segment's header is missing", all[0].path);
        err = TOB_DAMAGED;
    }
    if (!err && torn) { // the only one
        *ret_cut_bytes = all[0].segment.file_bytes < TOB_SEGMENT_HEADER_BYTES ? all[0].segment.file_bytes : 0;
        err = drop_unfinished(j, numbers[0], problem);
        if (!err) {
            err = create_first(j, numbers[0], 0, problem);
        }
        goto out;
    }
    for (size_t i = 0; !err && i < count; i++) {
        found *next = i + 1 < count ? &all[i + 1] : NULL;
        err = replay_one(j, &all[i], next, next ? numbers[i + 1] : 0, i + 2 == count, fn, user, &end,
                         &torn_bytes, &torn, problem);
        if (err) {
            break;
        }
        if (!next || torn) {
            if (torn) {
                torn_bytes +=
                    next->segment.file_bytes < TOB_SEGMENT_HEADER_BYTES ? next->segment.file_bytes : 0;
                err = drop_unfinished(j, numbers[i + 1], problem);
            }
            *ret_cut_bytes = torn_bytes;
            err = err ? err : continue_segment(j, &all[i], end, problem);
            break;
        }
        j->closed_bytes += all[i].segment.file_bytes;
        close(all[i].segment.fd);
        all[i].segment.fd = -1;
    }
out:
    found_free(all, all ? count : 0);
    return err;
}

static tob_error journal_new(const tob_journal_options *options, tob_journal **ret) {
    tob_journal *j = calloc(1, sizeof(*j));
    if (!j) {
        return TOB_NO_MEMORY;
    }
    j->dir_fd = j->lock_fd = j->fd = -1;
    j->segment_bytes = options->segment_bytes;
    j->mode = options->sync;
    tob_buffer_init(&j->queue, TOB_JOURNAL_MAX_QUEUED_BYTES);
    j->dir = strdup(options->dir);
    if (!j->dir) {
        tob_journal_close(j);
        return TOB_NO_MEMORY;
    }
    *ret = j;
    return TOB_OK;
}

tob_error tob_journal_open(const tob_journal_options *options, tob_journal_record_fn fn, void *user,
                           tob_journal **ret, uint64_t *ret_cut_bytes, tob_journal_problem *ret_problem) {
    tob_journal *j = NULL;
    uint64_t *numbers = NULL;
    size_t count = 0;
    uint64_t cut_bytes = 0;
    tob_error err = TOB_OK;
    ret_problem->text[0] = 0;
    if (options->segment_bytes < TOB_JOURNAL_MIN_SEGMENT ||
        options->segment_bytes > TOB_JOURNAL_MAX_SEGMENT) {
        tob_journal_say(ret_problem, "segment size %" PRIu64 " is not within %u and %" PRIu64,
                        options->segment_bytes, TOB_JOURNAL_MIN_SEGMENT, TOB_JOURNAL_MAX_SEGMENT);
        return TOB_INVALID;
    }
    err = journal_new(options, &j);
    if (err) {
        goto out;
    }
    err = tob_journal_dir_open(j->dir, &j->dir_fd, &j->lock_fd, ret_problem);
    if (err) {
        goto out;
    }
    err = tob_journal_dir_list(j->dir_fd, &numbers, &count);
    if (err) {
        tob_journal_say(ret_problem, "%s: %s", j->dir,
                        err == TOB_IO ? strerror(errno) : tob_error_string(err));
        goto out;
    }
    err = count == 0 ? create_first(j, 1, 0, ret_problem)
                     : replay_all(j, numbers, count, fn, user, &cut_bytes, ret_problem);
    if (err) {
        goto out;
    }
    *ret = j;
    *ret_cut_bytes = cut_bytes;
    j = NULL;
out:
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: %s", options->dir, tob_error_string(err));
    }
    free(numbers);
    tob_journal_close(j);
    return err;
}
