#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/state.h"
#include "util/clock.h"
#include "util/random.h"

#define KEPT_QUEUE_BYTES (8u << 20) // memory kept between syncs
#define PAGE_BYTES       4096u
#define FLUSH_BYTES      (4u << 20) // unsettled bytes after which the kernel is told to write

static void clear_queue(tob_journal *j) {
    tob_buffer_clear(&j->queue);
    if (j->queue.capacity > KEPT_QUEUE_BYTES) {
        tob_buffer_fini(&j->queue);
    }
    j->chunk_count = 0;
    j->queue_end = j->end;
}

// A failed sync of the files: see the header.
static tob_error fail_for_good(tob_journal *j, bool *ret_fatal) {
    j->failed = true;
    j->settle_due_ms = UINT64_MAX;
    *ret_fatal = true;
    clear_queue(j);
    return TOB_IO;
}

static tob_error failed_before(const tob_journal *j, bool *ret_fatal, tob_journal_problem *problem) {
    *ret_fatal = true;
    tob_journal_say(problem, "%s: a sync failed before: what is stored can't be trusted until the restart",
                    j->dir);
    return TOB_IO;
}

static void now_settled(tob_journal *j) {
    j->settled = j->end;
    j->flushed = j->end.offset;
    j->settle_due_ms = UINT64_MAX;
}

// After a failed write: the files as they were at the last sync, durably, so that no crash can bring back
// what was not acknowledged into the middle of what will be.
static tob_error roll_back(tob_journal *j, uint64_t last_made, bool *ret_fatal) {
    bool ok = true;
    for (uint64_t segment = last_made; segment > j->end.segment; segment--) {
        char name[TOB_SEGMENT_NAME_BYTES];
        tob_segment_name(segment, name);
        ok = ok && (unlinkat(j->dir_fd, name, 0) == 0 || errno == ENOENT);
    }
    ok = ok && !tob_file_truncate(j->fd, j->end.offset);
    if (ok) {
        tob_file_preallocate(j->fd, j->end.offset, j->segment_bytes);
    }
    ok = ok && !fdatasync(j->fd) && !tob_journal_sync_dir(j);
    if (!ok) {
        return fail_for_good(j, ret_fatal);
    }
    j->open_bytes = tob_file_bytes(j->fd);
    now_settled(j);
    clear_queue(j);
    return TOB_IO;
}

// Progress of one sync, until it is complete.
typedef struct progress {
    int fd; // of the segment being written; j->fd while that is the old one
    uint64_t segment;
    uint64_t segment_end;
    size_t
        closed; // segments completed, in j->closed behind those that count; tob_journal_append reserved the room
} progress;

static void progress_close(tob_journal *j, progress *p) {
    if (p->fd != j->fd && p->fd >= 0) {
        close(p->fd);
    }
    p->fd = j->fd;
}

// The segment at hand is complete: it is made durable in every mode, so that only the last one may ever be torn.
static tob_error complete_segment(tob_journal *j, progress *p, bool *ret_sync_failed,
                                  tob_journal_problem *problem) {
    tob_journal_closed *c = &j->closed[j->closed_count + p->closed];
    // Give back what was allocated and not needed. If that can't be: where the segment ends, the next one's header says.
    (void)!tob_file_truncate(p->fd, p->segment_end);
    if (fdatasync(p->fd)) {
        tob_journal_say_errno(j, p->segment, p->segment_end, "sync failed", problem);
        *ret_sync_failed = true;
        return TOB_IO;
    }
    c->segment = p->segment;
    tob_file_written(p->fd, &c->bytes, &c->written_unix_ms);
    p->closed++;
    return TOB_OK;
}

// Writes one chunk, into a new segment if it is for another than the one at hand.
//   ret_sync_failed   what failed was a sync
static tob_error write_chunk(tob_journal *j, progress *p, const tob_journal_chunk *c, size_t n,
                             bool *ret_sync_failed, tob_journal_problem *problem) {
    if (c->header.segment != p->segment) {
        int fd = -1;
        tob_error err = complete_segment(j, p, ret_sync_failed, problem);
        if (!err) {
            err = tob_segment_create(j, &c->header, &fd, ret_sync_failed, problem);
        }
        if (err) {
            return err;
        }
        progress_close(j, p);
        p->fd = fd;
        p->segment = c->header.segment;
    }
    if (tob_file_write(p->fd, j->queue.data + c->from, n, c->offset)) {
        tob_journal_say_errno(j, p->segment, c->offset, "writing failed", problem);
        return TOB_IO;
    }
    p->segment_end = c->offset + n;
    return TOB_OK;
}

// So that the settling does not find a whole segment to write. Only a hint: whether it worked, the settling says. The page
// at the end is left out: it is going to be written to, and the disk must not see it half done.
static void flush_ahead(tob_journal *j) {
    uint64_t to = j->end.offset / PAGE_BYTES * PAGE_BYTES;
    if (to > j->flushed && to - j->flushed >= FLUSH_BYTES) {
        (void)sync_file_range(j->fd, (off_t)j->flushed, (off_t)(to - j->flushed), SYNC_FILE_RANGE_WRITE);
        j->flushed = to;
    }
}

// Everything is written, and with TOB_JOURNAL_SYNC_ALWAYS durable: it counts.
static void accept_progress(tob_journal *j, const progress *p, uint64_t began_ms) {
    for (size_t i = 0; i < p->closed; i++) {
        j->closed_bytes += j->closed[j->closed_count + i].bytes;
    }
    j->closed_count += p->closed;
    if (p->fd != j->fd) {
        tob_segment_header header = j->chunks[j->chunk_count - 1].header;
        tob_journal_adopt(j, p->fd, &header, p->segment_end, TOB_SEGMENT_HEADER_BYTES);
        j->settle_due_ms = UINT64_MAX;
    } else {
        j->end.offset = p->segment_end;
        j->open_bytes = j->open_bytes > p->segment_end ? j->open_bytes : p->segment_end;
    }
    if (j->mode == TOB_JOURNAL_SYNC_ALWAYS) {
        now_settled(j);
        return;
    }
    if (j->mode == TOB_JOURNAL_SYNC_INTERVAL && j->settle_due_ms == UINT64_MAX) {
        j->settle_due_ms = began_ms + j->sync_interval_ms;
    }
    flush_ahead(j);
}

tob_error tob_journal_sync(tob_journal *journal, bool *ret_fatal, tob_journal_problem *ret_problem) {
    tob_journal *j = journal;
    *ret_fatal = false;
    if (j->failed) {
        return failed_before(j, ret_fatal, ret_problem);
    }
    if (j->chunk_count == 0) {
        return TOB_OK;
    }
    uint64_t began_ms = tob_clock_monotonic_ms();
    uint64_t last = j->chunks[j->chunk_count - 1].header.segment;
    progress p = {.fd = j->fd, .segment = j->end.segment, .segment_end = j->end.offset};
    bool sync_failed = false;
    tob_error err = TOB_OK;
    for (size_t i = 0; !err && i < j->chunk_count; i++) {
        size_t to = i + 1 < j->chunk_count ? j->chunks[i + 1].from : j->queue.len;
        err = write_chunk(j, &p, &j->chunks[i], to - j->chunks[i].from, &sync_failed, ret_problem);
    }
    if (!err && j->mode == TOB_JOURNAL_SYNC_ALWAYS && fdatasync(p.fd)) {
        tob_journal_say_errno(j, p.segment, p.segment_end, "sync failed", ret_problem);
        sync_failed = true;
    }
    if (err || sync_failed) {
        progress_close(j, &p);
        return sync_failed ? fail_for_good(j, ret_fatal) : roll_back(j, last, ret_fatal);
    }
    accept_progress(j, &p, began_ms);
    clear_queue(j);
    return TOB_OK;
}

// What is queued was appended before the settling: its group begins later now.
static void regroup_queue(tob_journal *j) {
    if (j->chunk_count == 0 || j->chunks[0].header.segment != j->end.segment) {
        return;
    }
    const tob_journal_chunk *c = &j->chunks[0];
    size_t to = j->chunk_count > 1 ? j->chunks[1].from : j->queue.len;
    for (size_t at = c->from; at < to;) {
        uint64_t offset = c->offset + (at - c->from);
        tob_record_header header = {0};
        if (!tob_record_header_decode(j->queue.data + at, c->header.salt, offset, &header)) {
            return; // not possible
        }
        header.group_offset = j->settled.offset;
        tob_record_header_encode(&header, c->header.salt, offset, j->queue.data + at);
        at += (size_t)tob_record_bytes(header.length);
    }
}

tob_error tob_journal_settle(tob_journal *journal, bool *ret_fatal, tob_journal_problem *ret_problem) {
    tob_journal *j = journal;
    *ret_fatal = false;
    if (j->failed) {
        return failed_before(j, ret_fatal, ret_problem);
    }
    if (tob_position_compare(j->settled, j->end) == 0) {
        return TOB_OK;
    }
    if (fdatasync(j->fd)) {
        tob_journal_say_errno(j, j->end.segment, j->end.offset, "sync failed", ret_problem);
        return fail_for_good(j, ret_fatal);
    }
    now_settled(j);
    regroup_queue(j);
    return TOB_OK;
}

tob_error tob_journal_rotate(tob_journal *journal, bool *ret_fatal, tob_journal_problem *ret_problem) {
    tob_journal *j = journal;
    *ret_fatal = false;
    assert(j->chunk_count == 0);
    if (j->failed) {
        return failed_before(j, ret_fatal, ret_problem);
    }
    if (j->end.offset == TOB_SEGMENT_HEADER_BYTES) {
        return TOB_OK;
    }
    progress p = {.fd = j->fd, .segment = j->end.segment, .segment_end = j->end.offset};
    tob_segment_header header = {.segment = j->end.segment + 1,
                                 .salt = tob_random_u64(),
                                 .previous_end = j->end.offset};
    int fd = -1;
    bool sync_failed = false;
    tob_error err = tob_journal_reserve_closed(j, 1);
    if (err) {
        tob_journal_say(ret_problem, "%s: %s", j->dir, tob_error_string(err));
        return err;
    }
    err = complete_segment(j, &p, &sync_failed, ret_problem);
    if (!err) {
        err = tob_segment_create(j, &header, &fd, &sync_failed, ret_problem);
    }
    if (err) {
        return sync_failed ? fail_for_good(j, ret_fatal) : roll_back(j, header.segment, ret_fatal);
    }
    j->closed_bytes += j->closed[j->closed_count++].bytes;
    tob_journal_adopt(j, fd, &header, TOB_SEGMENT_HEADER_BYTES, TOB_SEGMENT_HEADER_BYTES);
    j->settle_due_ms = UINT64_MAX;
    clear_queue(j);
    return TOB_OK;
}

uint64_t tob_journal_settle_due(const tob_journal *journal) {
    return journal->settle_due_ms;
}

void tob_journal_settle_ahead(const char *dir, tob_position at) {
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(at.segment, name);
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dir_fd >= 0 ? openat(dir_fd, name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)!fdatasync(fd);
        close(fd);
    }
    if (dir_fd >= 0) {
        close(dir_fd);
    }
}
