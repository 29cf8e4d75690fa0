#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal/crc32c.h"
#include "journal/files.h"
#include "journal/state.h"
#include "util/random.h"

#define KEPT_QUEUE_BYTES (8u << 20) // memory kept between syncs

int tob_position_compare(tob_position a, tob_position b) {
    if (a.segment != b.segment) {
        return a.segment < b.segment ? -1 : 1;
    }
    return (a.offset > b.offset) - (a.offset < b.offset);
}

tob_position tob_journal_end(const tob_journal *journal) {
    return journal->end;
}

uint64_t tob_journal_bytes(const tob_journal *journal) {
    return journal->closed_bytes + journal->open_bytes;
}

void tob_journal_close(tob_journal *journal) {
    if (!journal) {
        return;
    }
    int fds[] = {journal->fd, journal->dir_fd, journal->lock_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    tob_buffer_fini(&journal->queue);
    free(journal->chunks);
    free(journal->dir);
    free(journal);
}

static tob_error add_chunk(tob_journal *j, const tob_journal_chunk *c) {
    if (j->chunk_count == j->chunk_capacity) {
        size_t capacity = j->chunk_capacity ? j->chunk_capacity * 2 : 8;
        tob_journal_chunk *chunks = realloc(j->chunks, capacity * sizeof(*chunks));
        if (!chunks) {
            return TOB_NO_MEMORY;
        }
        j->chunks = chunks;
        j->chunk_capacity = capacity;
    }
    j->chunks[j->chunk_count++] = *c;
    return TOB_OK;
}

// Where a record of `bytes` bytes goes: after the queue's end, or into a new segment when it does not fit
// there and something is there already.
static tob_error place_record(tob_journal *j, uint64_t bytes, tob_journal_chunk *ret) {
    uint64_t at = j->queue_end.offset;
    bool rotate = at + bytes > j->segment_bytes && at > TOB_SEGMENT_HEADER_BYTES;
    if (!rotate && j->chunk_count > 0) {
        *ret = j->chunks[j->chunk_count - 1];
        return TOB_OK;
    }
    *ret = (tob_journal_chunk){.header = j->header, .offset = at, .from = j->queue.len};
    if (rotate) {
        ret->header = (tob_segment_header){.segment = j->queue_end.segment + 1,
                                           .salt = tob_random_u64(),
                                           .previous_end = at};
        ret->offset = TOB_SEGMENT_HEADER_BYTES;
    }
    return add_chunk(j, ret);
}

tob_error tob_journal_append(tob_journal *journal, const tob_journal_part *parts, size_t count,
                             tob_position *ret) {
    tob_journal *j = journal;
    uint8_t *to = NULL;
    size_t n = 0;
    if (j->failed) {
        return TOB_IO;
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n > TOB_JOURNAL_MAX_RECORD_BYTES - n) {
            return TOB_TOO_LARGE;
        }
        n += parts[i].n;
    }
    size_t bytes = (size_t)tob_record_bytes(n);
    tob_error err = tob_buffer_reserve(&j->queue, bytes, &to);
    if (err) {
        return err == TOB_TOO_LARGE ? TOB_BUSY : err;
    }
    tob_journal_chunk c;
    err = place_record(j, bytes, &c);
    if (err) {
        return err;
    }
    uint64_t offset = c.offset + (j->queue.len - c.from);
    size_t at = TOB_RECORD_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n > 0) {
            memcpy(to + at, parts[i].bytes, parts[i].n);
            at += parts[i].n;
        }
    }
    memset(to + at, 0, bytes - at);
    tob_record_header header = {.length = (uint32_t)n,
                                .payload_crc = tob_crc32c(0, to + TOB_RECORD_HEADER_BYTES, n),
                                .group_offset = c.offset};
    tob_record_header_encode(&header, c.header.salt, offset, to);
    j->queue.len += bytes;
    j->queue_end = (tob_position){c.header.segment, offset + bytes};
    *ret = (tob_position){c.header.segment, offset};
    return TOB_OK;
}

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
    *ret_fatal = true;
    clear_queue(j);
    return TOB_IO;
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
    ok = ok && !tob_journal_sync_file(j, j->fd) && !tob_journal_sync_dir(j);
    if (!ok) {
        return fail_for_good(j, ret_fatal);
    }
    j->open_bytes = tob_file_bytes(j->fd);
    clear_queue(j);
    return TOB_IO;
}

// Progress of one sync, until it is complete.
typedef struct progress {
    int fd; // of the segment being written; j->fd while that is the old one
    uint64_t segment;
    uint64_t segment_end;
    uint64_t closed_bytes;
} progress;

static void progress_close(tob_journal *j, progress *p) {
    if (p->fd != j->fd && p->fd >= 0) {
        close(p->fd);
    }
    p->fd = j->fd;
}

// Writes one chunk, into a new segment if it is for another than the one at hand.
//   ret_sync_failed   what failed was a sync
static tob_error write_chunk(tob_journal *j, progress *p, const tob_journal_chunk *c, size_t n,
                             bool *ret_sync_failed, tob_journal_problem *problem) {
    if (c->header.segment != p->segment) {
        // Give back what was allocated and not needed; where the segment ends, the next one's header says.
        if (tob_file_truncate(p->fd, p->segment_end) == TOB_OK) {
            p->closed_bytes += p->segment_end;
        } else {
            p->closed_bytes += tob_file_bytes(p->fd);
        }
        if (tob_journal_sync_file(j, p->fd)) {
            tob_journal_say_errno(j, p->segment, p->segment_end, "sync failed", problem);
            *ret_sync_failed = true;
            return TOB_IO;
        }
        int fd = -1;
        tob_error err = tob_segment_create(j, &c->header, &fd, ret_sync_failed, problem);
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

tob_error tob_journal_sync(tob_journal *journal, bool *ret_fatal, tob_journal_problem *ret_problem) {
    tob_journal *j = journal;
    *ret_fatal = false;
    if (j->failed) {
        *ret_fatal = true;
        tob_journal_say(ret_problem,
                        "%s: a sync failed before: what is stored can't be trusted until the restart",
                        j->dir);
        return TOB_IO;
    }
    if (j->chunk_count == 0) {
        return TOB_OK;
    }
    progress p = {.fd = j->fd,
                  .segment = j->end.segment,
                  .segment_end = j->end.offset,
                  .closed_bytes = j->closed_bytes};
    bool sync_failed = false;
    tob_error err = TOB_OK;
    for (size_t i = 0; !err && i < j->chunk_count; i++) {
        size_t to = i + 1 < j->chunk_count ? j->chunks[i + 1].from : j->queue.len;
        err = write_chunk(j, &p, &j->chunks[i], to - j->chunks[i].from, &sync_failed, ret_problem);
    }
    if (!err && tob_journal_sync_file(j, p.fd)) {
        tob_journal_say_errno(j, p.segment, p.segment_end, "sync failed", ret_problem);
        sync_failed = true;
    }
    if (err || sync_failed) {
        progress_close(j, &p);
        return sync_failed ? fail_for_good(j, ret_fatal)
                           : roll_back(j, j->chunks[j->chunk_count - 1].header.segment, ret_fatal);
    }
    j->closed_bytes = p.closed_bytes;
    tob_segment_header header = j->chunks[j->chunk_count - 1].header;
    if (p.fd != j->fd) {
        tob_journal_adopt(j, p.fd, &header, p.segment_end);
    } else {
        j->end.offset = p.segment_end;
        j->open_bytes = j->open_bytes > p.segment_end ? j->open_bytes : p.segment_end;
    }
    clear_queue(j);
    return TOB_OK;
}
