// Records of the journal as a page of Bus.Replay.
//
// Threads: one at a time.
// Errors:  TOB_NO_MEMORY, TOB_TOO_LARGE from the arena.
#ifndef TOB_INGESTD_REPLAY_RECORDS_H
#define TOB_INGESTD_REPLAY_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "journal/journal.h"
#include "util/error.h"
#include "wire/arena.h"

#define TOB_REPLAY_PAGE_BYTES (3u << 20) // of records in one answer, unless it is one record

// While it is read; begin with a zeroed one and an arena, where everything is.
typedef struct tob_record_page {
    tob_arena *arena;
    Tobogganing__V1__JournalRecord **records;
    size_t count;
    size_t capacity;
    uint64_t bytes;
    bool full; // a record was not taken for want of room
} tob_record_page;

// tob_record_page_add copies one; a tob_journal_record_fn with the page as its user. Errors: also TOB_CANCELLED when it is
// full.
TOB_MUST_USE tob_error tob_record_page_add(void *page, tob_position at, const void *payload, size_t n);

#endif
