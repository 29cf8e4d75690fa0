// tob_committer is the one thread that owns the fleet table, the process table, the journal and the bus. It
// takes all work that waits (group commit), appends it to the journal, syncs once, applies it, publishes, and
// answers.
//
// Threads: tob_committer_submit, _snapshot and _report from any thread; they never block. _stats from any
// thread.
#ifndef TOB_INGESTD_COMMITTER_H
#define TOB_INGESTD_COMMITTER_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"

#include "ingestd/directory.h"
#include "journal/journal.h"
#include "rpc/process.h"
#include "rpc/server.h"

#define TOB_RETRY_AFTER_MS        1000 // when the journal can't be written
#define TOB_PUBLISH_INTERVAL_MS   10   // rows that change faster are published together
#define TOB_HEARTBEAT_INTERVAL_MS 1000
#define TOB_COUNTERS_JOURNAL_MS   10000 // how often counters of processes are journalled
#define TOB_SNAPSHOT_DEFAULT_ROWS 1000
#define TOB_SNAPSHOT_MAX_ROWS     10000

typedef struct tob_committer tob_committer;

typedef struct tob_committer_options {
    tob_journal_options journal;
    const char *bus_url;
    uint64_t instance;
    uint64_t report_interval_ms; // next_report_in_ms, spread by a tenth either way
    tob_directory *directory;    // borrowed
    tob_process *process;        // borrowed: this process's own counters
} tob_committer_options;

// tob_committer_new recovers the fleet table from the journal and opens the bus; nothing runs yet.
//   ret_problem      filled on an error
//   ret_bus_failed   on an error: was it the bus?
// Errors: the journal's (journal.h) and the bus's.
TOB_MUST_USE tob_error tob_committer_new(const tob_committer_options *options, tob_committer **ret,
                                         tob_journal_problem *ret_problem, bool *ret_bus_failed);
TOB_MUST_USE tob_error tob_committer_start(tob_committer *committer);

// tob_committer_stop finishes what waits, journals the counters, says goodbye on the bus, ends the thread.
// Nothing may be submitted any more.
void tob_committer_stop(tob_committer *committer);
void tob_committer_free(tob_committer *committer);

uint16_t tob_committer_bus_port(const tob_committer *committer);

// A batch that was checked and authenticated. All memory is in the call's arena.
typedef struct tob_submission {
    const void *batch; // serialized Batch that holds the accepted series and no other
    size_t batch_len;
    uint64_t received_unix_ms;
    Tobogganing__V1__ClientSeries **clients; // accepted and checked
    size_t client_count;
    Tobogganing__V1__HeadendSeries **headends;
    size_t headend_count;
    Tobogganing__V1__Rejection **rejected; // those not in `batch`
    size_t rejected_count;
} tob_submission;

// tob_committer_submit makes the submission durable and answers the call. `submission` is in the call's
// arena.
void tob_committer_submit(tob_committer *committer, tob_rpc_call *call, const tob_submission *submission);

// tob_committer_snapshot answers the call with a page of the fleet table.
void tob_committer_snapshot(tob_committer *committer, tob_rpc_call *call,
                            const Tobogganing__V1__SnapshotRequest *request);

// tob_committer_report puts a process's counters into the process table and answers the call.
void tob_committer_report(tob_committer *committer, tob_rpc_call *call,
                          const Tobogganing__V1__Process *process);

// tob_submit_response fills in what every answer to a Submit has.
void tob_submit_response_init(tob_committer *committer, Tobogganing__V1__SubmitResponse *response);

typedef struct tob_committer_stats {
    uint64_t epoch;
    uint64_t reporting_clients;
    uint64_t reporting_headends;
    uint64_t stored_samples;
    uint64_t commits;
    uint64_t recovered_records;
    uint64_t cut_bytes; // of a torn tail, at the start
    tob_position journal_end;
    uint64_t journal_bytes;
    bool journal_failing; // the last sync failed: submits are refused until one succeeds
} tob_committer_stats;

void tob_committer_get_stats(tob_committer *committer, tob_committer_stats *ret);

#endif
