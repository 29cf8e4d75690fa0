// tob_window is a window on a file of records that moves forward, so that a file of any size is read with bounded memory.
// Inside lib/journal only.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_WINDOW_H
#define TOB_JOURNAL_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "util/error.h"

#define TOB_WINDOW_BYTES (1u << 20) // what is read at once, unless a record is larger

// Zeroed but for the first three it is empty.
typedef struct tob_window {
    int fd;           // borrowed
    uint64_t bytes;   // how much of the file may be looked at; what lies before it must not change any more
    const char *path; // borrowed; for messages
    uint8_t *data;
    size_t capacity;
    uint64_t from; // of what is in `data`
    size_t n;
} tob_window;

void tob_window_fini(tob_window *window);

// tob_window_view: bytes [offset, offset + n), which must not end behind window->bytes; valid until the next call.
// Errors: TOB_IO with the problem filled, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_window_view(tob_window *window, uint64_t offset, size_t n, const uint8_t **ret,
                                       tob_journal_problem *ret_problem);

typedef struct tob_window_record {
    bool whole;      // it passes its checks, and the other fields are set
    uint64_t bytes;  // with header and padding; of one that is not whole: what is known to belong to it
    uint32_t length; // of the payload
    const uint8_t *payload; // valid until the next call
} tob_window_record;

// tob_window_read reads the record at `offset`, which may lie behind the end: then it is not whole.
//   salt   the file's
TOB_MUST_USE tob_error tob_window_read(tob_window *window, uint64_t salt, uint64_t offset,
                                       tob_window_record *ret, tob_journal_problem *ret_problem);

// tob_window_walk goes from record to record by their headers, from the file's first one until `to` is reached, passed or
// no header passes its check.
//   ret   where it stopped: `to` when a record begins, or the last one ends, there
TOB_MUST_USE tob_error tob_window_walk(tob_window *window, uint64_t salt, uint64_t to, uint64_t *ret,
                                       tob_journal_problem *ret_problem);

// tob_window_damaged fills the problem, "FILE at offset N: reason", and returns TOB_DAMAGED.
TOB_MUST_USE tob_error tob_window_damaged(const tob_window *window, uint64_t offset, const char *reason,
                                          tob_journal_problem *ret_problem);

#endif
