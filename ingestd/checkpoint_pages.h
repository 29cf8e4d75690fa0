// The records of a checkpoint (journal.proto): rendering the tables page by page, and loading them again.
//
// Changes go on between the pages. So each page says as of which place in the journal it is, in its head's position, and
// whoever recovers applies to a row only what the journal has from the place of its page on. That makes recovery exact
// whatever the clocks did in between: applying an old record to a newer row need not be harmless.
//
// Threads: one at a time.
#ifndef TOB_INGESTD_CHECKPOINT_PAGES_H
#define TOB_INGESTD_CHECKPOINT_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingestd/store.h"
#include "ingestd/tables.h"
#include "util/buffer.h"
#include "wire/arena.h"

// The columns of a page before they are packed.
typedef struct tob_page_columns tob_page_columns;
TOB_MUST_USE tob_error tob_page_columns_new(tob_page_columns **ret);
void tob_page_columns_free(tob_page_columns *columns);

// tob_checkpoint_head renders the head and the cursor of the first page.
//   at   the journal's end, with which the tables agree
// Errors: the buffer's.
TOB_MUST_USE tob_error tob_checkpoint_head(const tob_tables *tables, tob_position at, uint64_t now_unix_ms,
                                           tob_buffer *page, tob_store_cursor *ret);

// tob_checkpoint_page renders the next page; it is empty when that was all. Looks at no more than four times
// TOB_CHECKPOINT_PAGE_ROWS slots.
TOB_MUST_USE tob_error tob_checkpoint_page(const tob_tables *tables, tob_position at,
                                           tob_page_columns *columns, tob_store_cursor *cursor,
                                           tob_buffer *page);

// ---- loading

typedef struct tob_checkpoint_loader tob_checkpoint_loader;

// tables: borrowed, empty. now_monotonic_ms: when processes count as heard of.
TOB_MUST_USE tob_error tob_checkpoint_loader_new(tob_tables *tables, tob_position at,
                                                 uint64_t now_monotonic_ms, tob_checkpoint_loader **ret);
void tob_checkpoint_loader_free(tob_checkpoint_loader *loader);

// tob_checkpoint_load puts one record into the tables; the arena is cleared first.
//   ret_reason   on an error: what was wrong with it; static text
// Errors: TOB_DAMAGED; TOB_NO_MEMORY; TOB_TOO_LARGE from the tables.
TOB_MUST_USE tob_error tob_checkpoint_load(tob_checkpoint_loader *loader, tob_arena *arena,
                                           const void *payload, size_t n, const char **ret_reason);

// Was there a head?
bool tob_checkpoint_loaded(const tob_checkpoint_loader *loader);

// tob_checkpoint_last_place: the greatest place that a page is as of; the journal must reach it.
tob_position tob_checkpoint_last_place(const tob_checkpoint_loader *loader);

// tob_checkpoint_has: has the row of this id that was loaded what the journal's record at `at` made of it?
bool tob_checkpoint_has(const tob_checkpoint_loader *loader, tob_source_kind kind, const char *id,
                        tob_position at);

#endif
