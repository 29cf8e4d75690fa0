// tob_store is everything durable that ingestd has beside the registry: the fleet table, the counters of processes, the
// positions of consumers and the digests that tell repeated batches, all of them recovered from the newest checkpoint and
// the journal after it. Changes are added, made durable together by one sync, and only then applied.
//
// Threads: one at a time (the committer's). No sockets, no clock of its own.
#ifndef TOB_INGESTD_STORE_H
#define TOB_INGESTD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "ingestd/consumers.h"
#include "ingestd/fleet.h"
#include "ingestd/process_table.h"
#include "journal/journal.h"
#include "util/buffer.h"
#include "wire/metrics.h"

#define TOB_CHECKPOINT_PAGE_ROWS 4096

typedef struct tob_store tob_store;

typedef struct tob_store_options {
    tob_journal_options journal; // `from` is the store's
    uint64_t retain_ms;          // old segments, see tob_journal_retain
    uint64_t retain_bytes;
} tob_store_options;

// What the start found.
typedef struct tob_store_recovery {
    tob_position checkpoint; // {0, 0}: none
    uint64_t checkpoint_bytes;
    uint64_t records; // read from the journal after it
    uint64_t cut_bytes;
} tob_store_recovery;

// tob_store_open recovers.
//   now_monotonic_ms   processes are silent from here on at the earliest
//   ret_recovery       filled
//   ret_problem        filled on an error: "FILE at offset N: reason"
// Errors: the journal's and the checkpoint's; TOB_DAMAGED when a record is none of ours.
TOB_MUST_USE tob_error tob_store_open(const tob_store_options *options, uint64_t now_monotonic_ms,
                                      tob_store **ret, tob_store_recovery *ret_recovery,
                                      tob_journal_problem *ret_problem);

// tob_store_close drops what was not synced. Accepts NULL.
void tob_store_close(tob_store *store);

// A batch that was checked and authenticated. All memory is borrowed until the sync.
typedef struct tob_submission {
    const void *batch; // serialized Batch that holds the accepted series and no other
    size_t batch_len;
    const char *agent_id;
    uint64_t boot_id;
    uint64_t received_unix_ms;
    Tobogganing__V1__ClientSeries **clients; // accepted and checked (wire/batch.h)
    size_t client_count;
    Tobogganing__V1__HeadendSeries **headends;
    size_t headend_count;
    Tobogganing__V1__Rejection **rejected; // those not in `batch`
    size_t rejected_count;
} tob_submission;

// tob_store_add_batch queues one, unless its sender's last four batches have it already, queued ones included.
//   ret_repeated   it is a repeat: durable as soon as everything added before it is
//   ret_at         where it will be; of a repeat, a place behind the first one's
// Errors: tob_journal_append's.
TOB_MUST_USE tob_error tob_store_add_batch(tob_store *store, const tob_submission *submission,
                                           bool *ret_repeated, tob_position *ret_at);

// tob_store_add_removal queues the end of a source's row. Without such a row, or when it is queued already, nothing is; beside
// queued batches, which may make the row, it always is. `id` is copied.
// Errors: tob_journal_append's; TOB_INVALID for the id.
TOB_MUST_USE tob_error tob_store_add_removal(tob_store *store, tob_source_kind kind, const char *id,
                                             uint64_t now_unix_ms);

// tob_store_add_counters queues the counters of the processes that reported since it was last synced. The sum of the
// retired never is: recovery reads their own records again and retires them again; checkpoints have it.
TOB_MUST_USE tob_error tob_store_add_counters(tob_store *store, uint64_t now_unix_ms);

// tob_store_add_consumer queues a consumer's new position; NULL: it is forgotten. Its lease is not touched.
// Errors: tob_journal_append's; TOB_BUSY over TOB_CONSUMERS_MAX too, what is queued included; TOB_INVALID for the name.
TOB_MUST_USE tob_error tob_store_add_consumer(tob_store *store, const char *name,
                                              const tob_position *position, uint64_t now_unix_ms);

// tob_store_sync makes durable what was added (as the journal's mode says) and applies it, in the order in which it was
// added. After an error nothing of it happened: who wants it adds it again.
//   ret_fatal   the process must end: an fdatasync failed, or memory for what is durable is missing
TOB_MUST_USE tob_error tob_store_sync(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem);

// The journal's tob_journal_settle and _settle_due.
TOB_MUST_USE tob_error tob_store_settle(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem);
uint64_t tob_store_settle_due(const tob_store *store);

// What is in memory; borrowed. Reports of processes and leases go straight into their tables.
tob_fleet *tob_store_fleet(tob_store *store);
tob_process_table *tob_store_processes(tob_store *store);
tob_consumers *tob_store_consumers(tob_store *store);

typedef struct tob_store_stats {
    uint64_t stored_batches; // ever
    uint64_t stored_samples;
    uint64_t repeated_batches; // since the start
    tob_position oldest;       // of the journal
    tob_position end;
    uint64_t journal_bytes;
} tob_store_stats;

void tob_store_get_stats(const tob_store *store, tob_store_stats *ret);

// ---- checkpoints (lib/journal/checkpoint.h), page by page, while changes go on between the pages

typedef struct tob_store_cursor {
    tob_position at; // the checkpoint's place: the journal's end when it began
    int part;
    uint64_t next; // row of the part
} tob_store_cursor;

// tob_store_checkpoint_begin renders the head: a serialized CheckpointRecord that replaces what `page` has, which needs room
// for TOB_JOURNAL_MAX_RECORD_BYTES.
TOB_MUST_USE tob_error tob_store_checkpoint_begin(tob_store *store, uint64_t now_unix_ms, tob_buffer *page,
                                                  tob_store_cursor *ret);

// tob_store_checkpoint_page renders the next page, at most TOB_CHECKPOINT_PAGE_ROWS rows (or senders of batches), as of now:
// each page says up to which place in the journal, so that recovery applies nothing to a row twice. An empty page: that was
// all.
TOB_MUST_USE tob_error tob_store_checkpoint_page(tob_store *store, tob_store_cursor *cursor,
                                                 tob_buffer *page);

// tob_store_checkpointed: the checkpoint at `at` is durable. The journal before the one before it is not needed any more.
// Before that, between the last page and the commit of the file, the journal must be settled: the pages may hold what the
// journal has only handed to the operating system.
void tob_store_checkpointed(tob_store *store, tob_position at);

// tob_store_dropped_older: all checkpoints but the newest are removed.
void tob_store_dropped_older(tob_store *store);

// tob_store_rotate begins a new segment of the journal: those before it are complete. Nothing may be added and not synced.
TOB_MUST_USE tob_error tob_store_rotate(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem);

// tob_store_retain deletes old segments. Errors: TOB_IO; nothing else suffers.
TOB_MUST_USE tob_error tob_store_retain(tob_store *store, uint64_t now_unix_ms, uint64_t *ret_removed,
                                        tob_journal_problem *ret_problem);

#endif
