// tob_process_table is what our processes have counted, by process: it outlives them, so that totals never go
// backwards. Processes not heard of for TOB_PROCESS_FORGET_MS are added up into one of kind "retired".
//
// Threads: one at a time (the committer's).
#ifndef TOB_INGESTD_PROCESS_TABLE_H
#define TOB_INGESTD_PROCESS_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/process.pb-c.h"

#include "util/error.h"

#define TOB_PROCESS_TABLE_MAX 4096
#define TOB_PROCESS_FORGET_MS (24 * 3600 * 1000ull)

typedef struct tob_process_table tob_process_table;

TOB_MUST_USE tob_error tob_process_table_new(tob_process_table **ret);
void tob_process_table_free(tob_process_table *table);

// tob_process_table_put replaces what is known of a process; the message is copied. A value that would go
// back (an old report) stays. Errors: TOB_INVALID with ret_reason (static text) when the message breaks the
// limits of process.proto; TOB_BUSY
//         over TOB_PROCESS_TABLE_MAX; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_process_table_put(tob_process_table *table,
                                             const Tobogganing__V1__Process *process, uint64_t now_unix_ms,
                                             const char **ret_reason);

// tob_process_table_retire forgets the silent.
TOB_MUST_USE tob_error tob_process_table_retire(tob_process_table *table, uint64_t now_unix_ms);

// All processes; borrowed until the next put or retire.
Tobogganing__V1__Process **tob_process_table_all(const tob_process_table *table, size_t *ret_count);

// When process `i` of them was last put.
uint64_t tob_process_table_heard_unix_ms(const tob_process_table *table, size_t i);

#endif
