#include "journal/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "journal/checkpoint.h"
#include "journal/crc32c.h"
#include "journal/files.h"
#include "journal/repair_plan.h"
#include "journal/scan.h"
#include "journal/segment.h"

#define UNFINISHED        "repair.unfinished" // a segment until it is whole
#define BLOCK_BYTES       (1u << 20)
#define MAX_FILLER_BYTES  (16u << 20) // of one record, with its header
#define MAX_HEAD_BYTES    (16u << 20)
#define MAX_DIRS_A_SECOND 100

struct tob_repair {
    const tob_repair_options *options;
    tob_verify found;
    tob_repair_plan plan;
    int dir_fd;
    int lock_fd;
    int aside_fd; // the directory for damaged files; -1: not made yet
    char aside[TOB_REPAIR_DIR_BYTES];
};

void tob_repair_end(tob_repair *repair) {
    if (!repair) {
        return;
    }
    int fds[] = {repair->aside_fd, repair->dir_fd, repair->lock_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    tob_verify_fini(&repair->found);
    tob_repair_plan_fini(&repair->plan);
    free(repair);
}

const tob_verify *tob_repair_found(const tob_repair *repair) {
    return &repair->found;
}

const tob_repair_step *tob_repair_steps(const tob_repair *repair, size_t *ret_count) {
    *ret_count = repair->plan.count;
    return repair->plan.steps;
}

tob_error tob_repair_begin(const tob_repair_options *options, tob_repair **ret,
                           tob_journal_problem *ret_problem) {
    const char *dir = options->verify.dir;
    struct stat st;
    ret_problem->text[0] = 0;
    if (stat(dir, &st) || !S_ISDIR(st.st_mode)) { // locking would make it
        tob_journal_say(ret_problem, "%s: %s", dir, strerror(errno ? errno : ENOTDIR));
        return TOB_NOT_FOUND;
    }
    tob_repair *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    r->options = options;
    r->dir_fd = r->lock_fd = r->aside_fd = -1;
    tob_error err = tob_journal_dir_open(dir, &r->dir_fd, &r->lock_fd, ret_problem);
    if (!err) {
        tob_verify_options verify = options->verify;
        verify.locked = true;
        err = tob_verify_run(&verify, &r->found, ret_problem);
    }
    const tob_position *places = NULL;
    size_t place_count = 0;
    if (!err) {
        err = options->places(options->verify.user, &places, &place_count);
    }
    if (!err) {
        err = tob_repair_plan_make(&r->found, places, place_count, &r->plan);
    }
    if (err) {
        if (!ret_problem->text[0]) {
            tob_journal_say(ret_problem, "%s: %s", dir, tob_error_string(err));
        }
        tob_repair_end(r);
        return err;
    }
    *ret = r;
    return TOB_OK;
}

// ---- setting aside

static tob_error say_errno(const tob_repair *r, const char *name, const char *what,
                           tob_journal_problem *problem) {
    tob_journal_say(problem, "%s/%s: %s: %s", r->options->verify.dir, name, what, strerror(errno));
    return TOB_IO;
}

static tob_error make_aside(tob_repair *r, uint64_t now_unix_ms, tob_journal_problem *problem) {
    time_t seconds = (time_t)(now_unix_ms / 1000);
    struct tm tm = {0};
    char stamp[24] = "";
    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
    for (unsigned i = 1; i <= MAX_DIRS_A_SECOND; i++) {
        int n = snprintf(r->aside, sizeof(r->aside), "damaged-%s", stamp);
        if (i > 1) {
            snprintf(r->aside + n, sizeof(r->aside) - (size_t)n, "-%u", i);
        }
        if (mkdirat(r->dir_fd, r->aside, 0700) == 0) {
            r->aside_fd = openat(r->dir_fd, r->aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            return r->aside_fd < 0 || fsync(r->dir_fd) ? say_errno(r, r->aside, "making it failed", problem)
                                                       : TOB_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    return say_errno(r, r->aside, "making it failed", problem);
}

// Copies what can be read of a file; used where the file system has no links.
static tob_error copy_aside(tob_repair *r, const char *name, tob_journal_problem *problem) {
    tob_scan_file from = {.fd = -1};
    tob_error err = tob_scan_open(r->dir_fd, name, &from);
    int to = err ? -1 : openat(r->aside_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    err = to < 0 ? TOB_IO : err;
    for (uint64_t at = 0; !err && at < from.bytes;) {
        const uint8_t *bytes = NULL;
        size_t n = from.bytes - at < BLOCK_BYTES ? (size_t)(from.bytes - at) : BLOCK_BYTES;
        err = tob_scan_view(&from, at, n, &bytes);
        err = err ? err : tob_file_write(to, bytes, n, at);
        at += n;
    }
    err = !err && fsync(to) ? TOB_IO : err;
    if (err) {
        (void)!say_errno(r, name, "copying it failed", problem);
    }
    if (to >= 0) {
        close(to);
    }
    tob_scan_close(&from);
    return err;
}

// Keeps a file that is about to be replaced: under both names until then.
static tob_error keep_aside(tob_repair *r, const char *name, tob_journal_problem *problem) {
    if (linkat(r->dir_fd, name, r->aside_fd, name, 0)) {
        tob_error err = copy_aside(r, name, problem);
        if (err) {
            return err;
        }
    }
    return fsync(r->aside_fd) ? say_errno(r, name, "setting it aside failed", problem) : TOB_OK;
}

static tob_error move_aside(tob_repair *r, const char *name, tob_journal_problem *problem) {
    if (renameat(r->dir_fd, name, r->aside_fd, name) || fsync(r->aside_fd) || fsync(r->dir_fd)) {
        return say_errno(r, name, "setting it aside failed", problem);
    }
    return TOB_OK;
}

// ---- a segment

// One that is being written.
typedef struct making {
    tob_repair *repair;
    const tob_repair_step *step;
    tob_scan_file from; // the damaged one
    int fd;
} making;

// A record over [offset, end) that means nothing. Its payload's zeros are there already.
static tob_error put_filler(making *m, uint64_t offset, uint64_t end, uint64_t unix_ms) {
    static const uint8_t zeros[4096];
    uint8_t bytes[TOB_RECORD_HEADER_BYTES + TOB_REPAIR_FILLER_BYTES] = {0};
    size_t n = (size_t)(end - offset) - TOB_RECORD_HEADER_BYTES;
    size_t begin = n ? m->repair->options->filler(unix_ms, n, bytes + TOB_RECORD_HEADER_BYTES) : 0;
    uint32_t crc = tob_crc32c(0, bytes + TOB_RECORD_HEADER_BYTES, begin);
    for (size_t rest = n - begin; rest > 0;) {
        size_t piece = rest < sizeof(zeros) ? rest : sizeof(zeros);
        crc = tob_crc32c(crc, zeros, piece);
        rest -= piece;
    }
    tob_record_header header = {.length = (uint32_t)n, .payload_crc = crc, .group_offset = offset};
    tob_record_header_encode(&header, m->step->salt, offset, bytes);
    return tob_file_write(m->fd, bytes, TOB_RECORD_HEADER_BYTES + begin, offset);
}

// The first place after `offset` and before `end` where a reader wants a record to begin; else `end`.
static uint64_t next_place(const making *m, uint64_t offset, uint64_t end) {
    const tob_repair_plan *plan = &m->repair->plan;
    uint64_t next = end;
    for (size_t i = 0; i < plan->place_count; i++) {
        uint64_t at = plan->places[i].offset;
        if (plan->places[i].segment == m->step->at.segment && at % TOB_RECORD_ALIGN == 0 &&
            at >= offset + TOB_RECORD_HEADER_BYTES && at + TOB_RECORD_HEADER_BYTES <= end && at < next) {
            next = at;
        }
    }
    return next;
}

static tob_error fill(making *m, uint64_t offset, uint64_t end, uint64_t unix_ms) {
    tob_error err = TOB_OK;
    if (end > offset && end - offset < TOB_RECORD_HEADER_BYTES) {
        return TOB_DAMAGED; // what is there can't have come from us
    }
    while (!err && offset < end) {
        uint64_t to = next_place(m, offset, end);
        if (to - offset > MAX_FILLER_BYTES) {
            uint64_t rest = to - offset - MAX_FILLER_BYTES; // must have room for a record, too
            to = offset + MAX_FILLER_BYTES - (rest < TOB_RECORD_HEADER_BYTES ? TOB_RECORD_HEADER_BYTES : 0);
        }
        err = put_filler(m, offset, to, unix_ms);
        offset = to;
    }
    return err;
}

static tob_error copy(making *m, uint64_t offset, uint64_t end) {
    tob_error err = TOB_OK;
    while (!err && offset < end) {
        const uint8_t *bytes = NULL;
        size_t n = end - offset < BLOCK_BYTES ? (size_t)(end - offset) : BLOCK_BYTES;
        if (offset >= m->from.bytes) {
            break; // the last record's padding is missing: it is zeros
        }
        n = m->from.bytes - offset < n ? (size_t)(m->from.bytes - offset) : n;
        err = tob_scan_view(&m->from, offset, n, &bytes);
        err = err ? err : tob_file_write(m->fd, bytes, n, offset);
        offset += n;
    }
    return err;
}

// The good records where they were, and the rest filled.
static tob_error write_content(making *m) {
    const tob_repair_step *step = m->step;
    const tob_verify_file *s = step->file;
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    tob_segment_header header = {.segment = step->at.segment,
                                 .salt = step->salt,
                                 .previous_end = step->previous_end};
    tob_segment_header_encode(&header, bytes);
    uint64_t offset = TOB_SEGMENT_HEADER_BYTES, last_unix_ms = s ? s->last_unix_ms : 0;
    tob_error err = tob_file_truncate(m->fd, step->end);
    for (size_t i = 0; !err && s && i < s->hole_count; i++) {
        const tob_verify_hole *hole = &s->holes[i];
        bool last = hole->end == s->end; // goes on to where the segment will end
        err = copy(m, offset, hole->offset);
        err = err ? err : fill(m, hole->offset, last ? step->end : hole->end, hole->before_unix_ms);
        offset = last ? step->end : hole->end;
    }
    if (!err && s && offset < s->end) {
        err = copy(m, offset, s->end);
        offset = s->end;
    }
    err = err ? err : fill(m, offset, step->end, last_unix_ms);
    return err ? err : tob_file_write(m->fd, bytes, sizeof(bytes), 0);
}

static tob_error make_segment(tob_repair *r, const tob_repair_step *step, tob_journal_problem *problem) {
    making m = {.repair = r, .step = step, .from = {.fd = -1}};
    m.fd = openat(r->dir_fd, UNFINISHED, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    tob_error err = m.fd < 0 ? TOB_IO : TOB_OK;
    if (!err && step->file) {
        err = tob_scan_open(r->dir_fd, step->name, &m.from);
    }
    err = err ? err : write_content(&m);
    if (!err && fsync(m.fd)) {
        err = TOB_IO;
    }
    if (err == TOB_DAMAGED) {
        tob_journal_say(problem, "%s/%s: it is not one journal with its neighbours", r->options->verify.dir,
                        step->name);
    } else if (err) {
        (void)!say_errno(r, step->name, "writing it anew failed", problem);
    } else if (step->file) {
        err = keep_aside(r, step->name, problem);
    }
    if (!err && (renameat(r->dir_fd, UNFINISHED, r->dir_fd, step->name) || fsync(r->dir_fd))) {
        err = say_errno(r, step->name, "putting it in its place failed", problem);
    }
    if (m.fd >= 0) {
        close(m.fd);
    }
    if (err) {
        unlinkat(r->dir_fd, UNFINISHED, 0); // nobody's data; the next repair writes over it
    }
    tob_scan_close(&m.from);
    return err;
}

// ---- a checkpoint

typedef struct copying {
    const tob_verify_options *checks;
    tob_position at;
    tob_checkpoint_writer *writer;
    tob_journal_problem *problem;
} copying;

static tob_error copy_record(void *user, tob_position at, const void *payload, size_t n,
                             tob_verify_note *ret) {
    copying *c = user;
    (void)at;     // in the file
    if (n == 0) { // its end: the new one gets its own
        return TOB_OK;
    }
    tob_error err = c->checks->checkpoint_record(c->checks->user, c->at, payload, n, ret);
    return err ? err : tob_checkpoint_append(c->writer, payload, n, c->problem);
}

static tob_error append_head(tob_repair *r, tob_position at, tob_checkpoint_writer *writer,
                             tob_journal_problem *problem) {
    tob_buffer head;
    tob_buffer_init(&head, MAX_HEAD_BYTES);
    tob_error err = r->options->head(r->options->verify.user, at, &head);
    err = err ? err : tob_checkpoint_append(writer, head.data, head.len, problem);
    tob_buffer_fini(&head);
    return err;
}

static tob_error make_checkpoint(tob_repair *r, const tob_repair_step *step, tob_journal_problem *problem) {
    tob_checkpoint_writer *writer = NULL;
    tob_scan_file from = {.fd = -1};
    uint64_t bytes = 0;
    tob_error err = tob_checkpoint_create(r->options->verify.dir, step->at, &writer, problem);
    if (!err && (!step->file || !step->file->head)) {
        err = append_head(r, step->at, writer, problem);
    }
    if (!err && step->file) {
        err = tob_scan_open(r->dir_fd, step->name, &from);
        tob_verify_file again = {.at = step->at};
        tob_scan_range range = {.segment = step->at.segment, .salt = step->file->salt};
        copying c = {.checks = &r->options->verify, .at = step->at, .writer = writer, .problem = problem};
        err = err ? err : tob_scan_records(&from, &range, copy_record, &c, &again);
        free(again.holes);
        err = err ? err : keep_aside(r, step->name, problem);
    }
    tob_scan_close(&from);
    if (err) {
        tob_checkpoint_abort(writer);
        return err;
    }
    return tob_checkpoint_commit(writer, &bytes, problem);
}

// ---- all of it

static tob_error carry_out(tob_repair *r, const tob_repair_step *step, tob_journal_problem *problem) {
    switch (step->action) {
    case TOB_REPAIR_SET_ASIDE: return move_aside(r, step->name, problem);
    case TOB_REPAIR_REWRITE_CHECKPOINT:
    case TOB_REPAIR_MAKE_CHECKPOINT: return make_checkpoint(r, step, problem);
    case TOB_REPAIR_REWRITE_SEGMENT:
    case TOB_REPAIR_MAKE_SEGMENT: return make_segment(r, step, problem);
    }
    return TOB_INTERNAL;
}

static void keep_first(void *user, const tob_verify_file *file, uint64_t offset, uint64_t bytes,
                       const char *reason) {
    tob_journal_problem *problem = user;
    (void)bytes;
    if (!problem->text[0]) {
        tob_journal_say(problem, "still damaged: %s at offset %llu: %s", file->name,
                        (unsigned long long)offset, reason);
    }
}

static tob_error look_again(tob_repair *r, tob_journal_problem *problem) {
    tob_verify_options options = r->options->verify;
    tob_verify after = {.in_use = false};
    options.locked = true;
    tob_error err = tob_verify_run(&options, &after, problem);
    if (!err && after.damages) {
        problem->text[0] = 0;
        tob_verify_each_damage(&after, keep_first, problem);
        err = TOB_DAMAGED;
    }
    tob_verify_fini(&after);
    return err;
}

tob_error tob_repair_apply(tob_repair *repair, uint64_t now_unix_ms, char ret_dir[TOB_REPAIR_DIR_BYTES],
                           tob_journal_problem *ret_problem) {
    ret_problem->text[0] = 0;
    ret_dir[0] = 0;
    if (repair->plan.count == 0) {
        return TOB_OK;
    }
    tob_error err = make_aside(repair, now_unix_ms, ret_problem);
    for (size_t i = 0; !err && i < repair->plan.count; i++) {
        err = carry_out(repair, &repair->plan.steps[i], ret_problem);
    }
    err = err ? err : look_again(repair, ret_problem);
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: %s", repair->options->verify.dir, tob_error_string(err));
    }
    snprintf(ret_dir, TOB_REPAIR_DIR_BYTES, "%s", repair->aside);
    return err;
}
