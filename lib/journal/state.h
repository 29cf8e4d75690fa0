// What a journal is in memory, and what opening and syncing share. Inside lib/journal only.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_STATE_H
#define TOB_JOURNAL_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "journal/segment.h"
#include "util/buffer.h"
#include "util/error.h"

// What of the queue goes into one segment.
typedef struct tob_journal_chunk {
    tob_segment_header header;
    uint64_t offset; // in the segment
    size_t from;     // in the queue
} tob_journal_chunk;

// A segment that is complete: it is not written any more.
typedef struct tob_journal_closed {
    uint64_t segment;
    uint64_t bytes; // of its file
    uint64_t written_unix_ms;
} tob_journal_closed;

struct tob_journal {
    char *dir;
    int dir_fd;
    int lock_fd;
    int fd; // of segment end.segment
    uint64_t segment_bytes;
    tob_journal_sync_mode mode;
    uint64_t sync_interval_ms;
    bool failed; // a sync failed: nothing works any more

    tob_position end;          // of what was written
    tob_position settled;      // of what is durable; in the segment of `end`
    uint64_t settle_due_ms;    // monotonic; UINT64_MAX: nothing waits
    uint64_t flushed;          // offset: up to there the kernel was told to write
    tob_segment_header header; // of segment end.segment
    uint64_t open_bytes;       // of its file

    tob_journal_closed *closed; // the segments before it, oldest first
    size_t closed_count;
    size_t closed_capacity;
    uint64_t closed_bytes; // of all of them

    tob_buffer queue;
    tob_position queue_end;
    tob_journal_chunk *chunks;
    size_t chunk_count;
    size_t chunk_capacity;
};

int tob_segment_open(const tob_journal *journal, uint64_t segment, int flags);

// tob_segment_create makes a segment's file and makes it and its header durable, in every mode, before any record goes
// into it: replay counts on that. On an error it leaves no file, or one that replay takes for unfinished.
//   ret_sync_failed   set when a sync, not a write, went wrong
// Errors: TOB_IO, with the problem filled.
TOB_MUST_USE tob_error tob_segment_create(tob_journal *journal, const tob_segment_header *header, int *ret_fd,
                                          bool *ret_sync_failed, tob_journal_problem *ret_problem);

// tob_journal_adopt makes a segment the one that is appended to; `end` is its end, of which everything before `settled` is
// durable. The fd is moved.
void tob_journal_adopt(tob_journal *journal, int fd, const tob_segment_header *header, uint64_t end,
                       uint64_t settled);

// tob_journal_reserve_closed makes room for `n` more in journal->closed.
TOB_MUST_USE tob_error tob_journal_reserve_closed(tob_journal *journal, size_t n);

// TOB_IO with errno.
TOB_MUST_USE tob_error tob_journal_sync_dir(const tob_journal *journal);

// "FILE at offset N: what: errno's text".
void tob_journal_say_errno(const tob_journal *journal, uint64_t segment, uint64_t offset, const char *what,
                           tob_journal_problem *ret_problem);

#endif
