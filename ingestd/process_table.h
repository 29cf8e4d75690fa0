// tob_process_table is what our processes have counted, by process: it outlives them, so that totals never go
// backwards. Processes not heard of for TOB_PROCESS_FORGET_MS are added up into one of kind "retired". Silence is measured by
// the monotonic clock: no step of the wall clock retires a process that lives.
//
// Threads: one at a time (the committer's).
#ifndef TOB_INGESTD_PROCESS_TABLE_H
#define TOB_INGESTD_PROCESS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/process.pb-c.h"

#include "util/error.h"

#define TOB_PROCESS_TABLE_MAX       4096
#define TOB_PROCESS_TABLE_MAX_BYTES (16u << 20) // of all of them, serialized
#define TOB_PROCESS_FORGET_MS       (24 * 3600 * 1000ull)
// In a full table the longest silent is retired early, but none heard of within this: a process that lives reports at least
// every 10 s, and would be counted twice.
#define TOB_PROCESS_LIVES_MS        (60 * 1000ull)

typedef struct tob_process_table tob_process_table;

TOB_MUST_USE tob_error tob_process_table_new(tob_process_table **ret);
void tob_process_table_free(tob_process_table *table);

// tob_process_table_put replaces what is known of a process; the message is copied. A value that would go back, or a counter
// that would go (an old report), stays.
//   now_ms       monotonic
//   ret_reason   set on TOB_INVALID and TOB_BUSY; static text
// Errors: TOB_INVALID when the message breaks the limits of process.proto; TOB_BUSY the table is full of processes that live;
//         TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_process_table_put(tob_process_table *table,
                                             const Tobogganing__V1__Process *process, uint64_t now_ms,
                                             const char **ret_reason);

// tob_process_table_restore, likewise, out of the journal or a checkpoint: the sum of the retired is taken too, the longest
// silent is retired whenever it was last heard of, and nothing new is to be journalled.
TOB_MUST_USE tob_error tob_process_table_restore(tob_process_table *table,
                                                 const Tobogganing__V1__Process *process, uint64_t now_ms,
                                                 const char **ret_reason);

// tob_process_table_retire forgets the silent.
TOB_MUST_USE tob_error tob_process_table_retire(tob_process_table *table, uint64_t now_ms);

// All processes; borrowed until the next put, restore or retire.
Tobogganing__V1__Process **tob_process_table_all(const tob_process_table *table, size_t *ret_count);

// Puts are numbered from 1: the last one's number.
uint64_t tob_process_table_puts(const tob_process_table *table);

// Was process `i` put since it was last journalled? Never the sum of the retired.
bool tob_process_table_unjournalled(const tob_process_table *table, size_t i);

// Everything put so far, up to put number `puts`, is in the journal.
void tob_process_table_journalled(tob_process_table *table, uint64_t puts);

#endif
