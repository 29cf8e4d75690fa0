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
        tob_journal_adopt(j, fd, &header, TOB_SEGMENT_HEADER_BYTES, TOB_SEGMENT_HEADER_BYTES);
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
// counts. TOB_JOURNAL_SYNC_NEVER only does when something was cut, which must not come back among what follows.
static tob_error continue_segment(tob_journal *j, found *last, uint64_t end, uint64_t torn_bytes,
                                  tob_journal_problem *problem) {
    int fd = last->segment.fd;
    uint64_t number = last->segment.header.segment;
    bool settle = j->mode != TOB_JOURNAL_SYNC_NEVER || torn_bytes > 0;
    if (tob_file_truncate(fd, end)) {
        tob_journal_say_errno(j, number, end, "cutting the torn tail failed", problem);
        return TOB_IO;
    }
    tob_file_preallocate(fd, end, j->segment_bytes);
    if (settle && (fdatasync(fd) || tob_journal_sync_dir(j))) {
        tob_journal_say_errno(j, number, end, "sync failed", problem);
        return TOB_IO;
    }
    last->segment.fd = -1; // moved
    tob_journal_adopt(j, fd, &last->segment.header, end, settle ? end : TOB_SEGMENT_HEADER_BYTES);
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

static tob_error note_closed(tob_journal *j, uint64_t number, int fd) {
    tob_error err = tob_journal_reserve_closed(j, 1);
    if (!err) {
        tob_journal_closed *c = &j->closed[j->closed_count++];
        c->segment = number;
        tob_file_written(fd, &c->bytes, &c->written_unix_ms);
        j->closed_bytes += c->bytes;
    }
    return err;
}

// A segment before the place where reading begins: it is only counted.
static tob_error skip_segment(tob_journal *j, uint64_t number, tob_journal_problem *problem) {
    int fd = tob_segment_open(j, number, O_RDONLY);
    if (fd < 0) {
        tob_journal_say_errno(j, number, 0, "opening failed", problem);
        return TOB_IO;
    }
    tob_error err = note_closed(j, number, fd);
    close(fd);
    return err;
}

// Which of the segments the place is in. The row has to be complete from there on.
static tob_error find_first(tob_journal *j, const uint64_t *numbers, size_t count, tob_position from,
                            size_t *ret_first, tob_journal_problem *problem) {
    size_t first = 0;
    while (first < count && numbers[first] < from.segment) {
        first++;
    }
    if (from.segment > 0 && (first == count || numbers[first] != from.segment)) {
        char name[TOB_SEGMENT_NAME_BYTES];
        tob_segment_name(from.segment, name);
        tob_journal_say(problem,
                        "%s/%s at offset %" PRIu64 ": the segment in which reading is to begin is missing",
                        j->dir, name, from.offset);
        return TOB_DAMAGED;
    }
    *ret_first = first;
    return check_row(j, numbers + first, count - first, problem);
}

// One reading of all segments from the first on.
typedef struct replay {
    const uint64_t *numbers;
    size_t count;
    uint64_t from; // offset in the first
    tob_journal_record_fn fn;
    void *user;
    found *all;
    uint64_t end; // of the last one read
    uint64_t torn_bytes;
} replay;

// Opens segment i + 1, whose header says where segment i ends.
//   ret_expected_end   0: segment i is the last one
//   ret_unfinished     there is one more file, which holds nothing
static tob_error open_next(tob_journal *j, replay *r, size_t i, uint64_t *ret_expected_end,
                           bool *ret_unfinished, tob_journal_problem *problem) {
    *ret_expected_end = 0;
    *ret_unfinished = false;
    if (i + 1 == r->count) {
        return TOB_OK;
    }
    found *next = &r->all[i + 1];
    tob_error err = found_open(j, next, r->numbers[i + 1], ret_unfinished, problem);
    if (err) {
        return err;
    }
    if (*ret_unfinished) {
        if (i + 2 < r->count) {
            tob_journal_say(problem, "%s at offset 0: the segment's header is missing", next->path);
            return TOB_DAMAGED;
        }
        return TOB_OK;
    }
    *ret_expected_end = next->segment.header.previous_end;
    if (*ret_expected_end < TOB_SEGMENT_HEADER_BYTES) {
        tob_journal_say(problem, "%s at offset 24: not a continuation of the segment before it", next->path);
        return TOB_DAMAGED;
    }
    return TOB_OK;
}

// A file that a crash left while it was made may have a part of its header.
static uint64_t unfinished_bytes(const found *f) {
    return f->segment.file_bytes < TOB_SEGMENT_HEADER_BYTES ? f->segment.file_bytes : 0;
}

// The first file: if a crash interrupted its making, and it is the only one, it is made again.
//   ret_made   that was all
static tob_error open_first(tob_journal *j, replay *r, bool *ret_made, tob_journal_problem *problem) {
    bool unfinished = false;
    *ret_made = false;
    tob_error err = found_open(j, &r->all[0], r->numbers[0], &unfinished, problem);
    if (err || !unfinished) {
        return err;
    }
    if (r->count > 1 || j->closed_count > 0 || r->from != TOB_SEGMENT_HEADER_BYTES) {
        tob_journal_say(problem, "%s at offset 0: the segment's header is missing", r->all[0].path);
        return TOB_DAMAGED;
    }
    *ret_made = true;
    r->torn_bytes = unfinished_bytes(&r->all[0]);
    err = drop_unfinished(j, r->numbers[0], problem);
    return err ? err : create_first(j, r->numbers[0], 0, problem);
}

// Reads segment i, and goes on in it if it is the last.
//   ret_last   it is
static tob_error replay_one(tob_journal *j, replay *r, size_t i, bool *ret_last,
                            tob_journal_problem *problem) {
    found *at = &r->all[i];
    uint64_t expected_end = 0, from = i == 0 ? r->from : TOB_SEGMENT_HEADER_BYTES;
    bool unfinished = false;
    tob_error err = open_next(j, r, i, &expected_end, &unfinished, problem);
    if (!err) {
        err = tob_replay_segment_from(&at->segment, from, expected_end, r->fn, r->user, &r->end,
                                      &r->torn_bytes, problem);
    }
    if (err) {
        return err;
    }
    *ret_last = expected_end == 0;
    if (*ret_last) {
        if (unfinished) {
            r->torn_bytes += unfinished_bytes(&r->all[i + 1]);
            err = drop_unfinished(j, r->numbers[i + 1], problem);
        }
        return err ? err : continue_segment(j, at, r->end, r->torn_bytes, problem);
    }
    err = note_closed(j, r->numbers[i], at->segment.fd);
    close(at->segment.fd);
    at->segment.fd = -1;
    return err;
}

static tob_error replay_all(tob_journal *j, replay *r, uint64_t *ret_cut_bytes,
                            tob_journal_problem *problem) {
    bool done = false;
    r->all = calloc(r->count, sizeof(*r->all));
    if (!r->all) {
        return TOB_NO_MEMORY;
    }
    for (size_t i = 0; i < r->count; i++) {
        r->all[i].segment.fd = -1;
    }
    tob_error err = open_first(j, r, &done, problem);
    for (size_t i = 0; !err && !done && i < r->count; i++) {
        err = replay_one(j, r, i, &done, problem);
    }
    found_free(r->all, r->count);
    *ret_cut_bytes = r->torn_bytes;
    return err;
}

// Finds the segments and reads them.
static tob_error load(tob_journal *j, const tob_journal_options *options, tob_journal_record_fn fn,
                      void *user, uint64_t *ret_cut_bytes, tob_journal_problem *problem) {
    uint64_t *numbers = NULL;
    size_t count = 0, first = 0;
    tob_error err = tob_journal_dir_list(j->dir_fd, &numbers, &count);
    if (err) {
        tob_journal_say(problem, "%s: %s", j->dir, err == TOB_IO ? strerror(errno) : tob_error_string(err));
        goto out;
    }
    err = find_first(j, numbers, count, options->from, &first, problem);
    for (size_t i = 0; !err && i < first; i++) {
        err = skip_segment(j, numbers[i], problem);
    }
    if (err) {
        goto out;
    }
    if (count == 0) {
        err = create_first(j, 1, 0, problem);
        goto out;
    }
    replay r = {.numbers = numbers + first,
                .count = count - first,
                .from = options->from.segment ? options->from.offset : TOB_SEGMENT_HEADER_BYTES,
                .fn = fn,
                .user = user};
    err = replay_all(j, &r, ret_cut_bytes, problem);
out:
    free(numbers);
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
    j->sync_interval_ms = options->sync_interval_ms;
    j->settle_due_ms = UINT64_MAX;
    tob_buffer_init(&j->queue, TOB_JOURNAL_MAX_QUEUED_BYTES);
    j->dir = strdup(options->dir);
    if (!j->dir) {
        tob_journal_close(j);
        return TOB_NO_MEMORY;
    }
    *ret = j;
    return TOB_OK;
}

tob_error tob_journal_probe(const char *dir, tob_journal_problem *ret_problem) {
    int dir_fd = -1, lock_fd = -1;
    struct stat st;
    if (stat(dir, &st) != 0) {
        return TOB_OK;
    }
    tob_error err = tob_journal_dir_open(dir, &dir_fd, &lock_fd, ret_problem);
    if (!err) {
        close(lock_fd);
        close(dir_fd);
    }
    return err == TOB_BUSY ? err : TOB_OK;
}

tob_error tob_journal_open(const tob_journal_options *options, tob_journal_record_fn fn, void *user,
                           tob_journal **ret, uint64_t *ret_cut_bytes, tob_journal_problem *ret_problem) {
    tob_journal *j = NULL;
    uint64_t cut_bytes = 0;
    ret_problem->text[0] = 0;
    if (options->segment_bytes < TOB_JOURNAL_MIN_SEGMENT ||
        options->segment_bytes > TOB_JOURNAL_MAX_SEGMENT) {
        tob_journal_say(ret_problem, "segment size %" PRIu64 " is not within %u and %" PRIu64,
                        options->segment_bytes, TOB_JOURNAL_MIN_SEGMENT, TOB_JOURNAL_MAX_SEGMENT);
        return TOB_INVALID;
    }
    tob_error err = journal_new(options, &j);
    if (!err) {
        err = tob_journal_dir_open(j->dir, &j->dir_fd, &j->lock_fd, ret_problem);
    }
    if (!err && tob_checkpoint_drop_unfinished(j->dir_fd)) {
        tob_journal_say(ret_problem, "%s/%s: %s", j->dir, TOB_CHECKPOINT_UNFINISHED, strerror(errno));
        err = TOB_IO;
    }
    if (!err) {
        err = load(j, options, fn, user, &cut_bytes, ret_problem);
    }
    if (err) {
        if (!ret_problem->text[0]) {
            tob_journal_say(ret_problem, "%s: %s", options->dir, tob_error_string(err));
        }
        tob_journal_close(j);
        return err;
    }
    *ret = j;
    *ret_cut_bytes = cut_bytes;
    return TOB_OK;
}
