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

struct tob_journal {
    char *dir;
    int dir_fd;
    int lock_fd;
    int fd; // of segment end.segment
    uint64_t segment_bytes;
    tob_journal_sync_mode mode;
    bool failed; // a sync failed: nothing works any more

    tob_position end;          // of what is durable
    tob_segment_header header; // of segment end.segment
    uint64_t closed_bytes;     // of the segments before it
    uint64_t open_bytes;       // of its file

    tob_buffer queue;
    tob_position queue_end;
    tob_journal_chunk *chunks;
    size_t chunk_count;
    size_t chunk_capacity;
};

int tob_segment_open(const tob_journal *journal, uint64_t segment, int flags);

// tob_segment_create makes a segment's file and makes it and its header durable, before any record goes into
// it: replay counts on that. On an error it leaves no file, or one that replay takes for unfinished.
//   ret_sync_failed   set when a sync, not a write, went wrong
// Errors: TOB_IO, with the problem filled.
TOB_MUST_USE tob_error tob_segment_create(tob_journal *journal, const tob_segment_header *header, int *ret_fd,
                                          bool *ret_sync_failed, tob_journal_problem *ret_problem);

// tob_journal_adopt makes a segment the one that is appended to; `end` is its end. The fd is moved.
void tob_journal_adopt(tob_journal *journal, int fd, const tob_segment_header *header, uint64_t end);

// Nothing with TOB_JOURNAL_SYNC_NEVER. TOB_IO with errno.
TOB_MUST_USE tob_error tob_journal_sync_file(const tob_journal *journal, int fd);
TOB_MUST_USE tob_error tob_journal_sync_dir(const tob_journal *journal);

// "FILE at offset N: what: errno's text".
void tob_journal_say_errno(const tob_journal *journal, uint64_t segment, uint64_t offset, const char *what,
                           tob_journal_problem *ret_problem);

#endif
