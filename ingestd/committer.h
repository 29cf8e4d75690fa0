// tob_committer is the one thread that owns the store and the bus. It takes all work that waits (group commit), adds it to
// the store, syncs once, publishes, and answers.
//
// Threads: _submit, _remove, _source_changed, _last, _snapshot, _report and the consumers' calls from any thread; they never
//          block. _get_stats from
//          any thread. _run from threads of ours that may wait.
#ifndef TOB_INGESTD_COMMITTER_H
#define TOB_INGESTD_COMMITTER_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/expiries.h"
#include "ingestd/store.h"
#include "rpc/process.h"
#include "rpc/server.h"

#define TOB_RETRY_AFTER_MS        1000 // when the journal can't be written
#define TOB_PUBLISH_INTERVAL_MS   10   // rows that change faster are published together
#define TOB_HEARTBEAT_INTERVAL_MS 1000
#define TOB_COUNTERS_INTERVAL_MS  10000 // our own counters are counted and journalled so often, changed or not
#define TOB_SNAPSHOT_DEFAULT_ROWS 1000
#define TOB_SNAPSHOT_MAX_ROWS     10000
#define TOB_STALL_MS              1000 // the journal hangs for so long: calls are refused
#define TOB_STALL_MAX_RETRY_MS    30000
#define TOB_LOAD_MAX_FACTOR       4 // by which the report interval grows until the requests' memory is used up

typedef struct tob_committer tob_committer;

typedef struct tob_committer_options {
    tob_store_options store;
    const char *bus_url;
    uint64_t instance;
    uint64_t report_interval_ms; // next_report_in_ms, spread by a tenth either way
    uint64_t max_taken;          // calls that are taken at once; the others can still be refused. 0: all
    const tob_arena_budget *request_memory; // borrowed; its use says how loaded we are. NULL: never
    tob_directory *directory;
    tob_expiries *expiries; // for the heartbeats; may be NULL; borrowed
    tob_process *process;   // borrowed: this process's own counters
} tob_committer_options;

// tob_committer_new recovers the store and opens the bus; nothing runs yet.
//   ret_recovery     filled
//   ret_problem      filled on an error
//   ret_bus_failed   on an error: was it the bus?
// Errors: the store's (store.h) and the bus's.
TOB_MUST_USE tob_error tob_committer_new(const tob_committer_options *options, tob_committer **ret,
                                         tob_store_recovery *ret_recovery, tob_journal_problem *ret_problem,
                                         bool *ret_bus_failed);
TOB_MUST_USE tob_error tob_committer_start(tob_committer *committer);

// tob_committer_drain publishes everything, journals the counters, and makes the journal durable, in every mode. Nothing may
// be submitted any more.
void tob_committer_drain(tob_committer *committer);

// tob_committer_stop finishes what waits, says goodbye on the bus, ends the thread. Nothing may be submitted or run any
// more.
void tob_committer_stop(tob_committer *committer);
void tob_committer_free(tob_committer *committer);

uint16_t tob_committer_bus_port(const tob_committer *committer);

// ---- calls. What they are given is in the call's arena. While the journal hangs (TOB_STALL_MS) they are answered TOB_BUSY
//      with a retry that grows with the wait, and so is what waits for the committer then.

// tob_committer_submit makes the submission durable and answers the call.
void tob_committer_submit(tob_committer *committer, tob_rpc_call *call, const tob_submission *submission);

// tob_committer_refuses answers the call when a submission would be refused now: before the work of checking it.
bool tob_committer_refuses(tob_committer *committer, tob_rpc_call *call);

// tob_committer_remove drops the row of a source that the directory does not have any more, and answers the call with an
// empty DeleteResponse once that is durable. When it can't be made durable the caller hears
// TOB_UNAVAILABLE, and the row goes later (sweep.h).
void tob_committer_remove(tob_committer *committer, tob_rpc_call *call, tob_source_kind kind, const char *id);

// tob_committer_source_changed: the directory's entry of a source is another: it is gone, or its labels are others. Its row is
// removed as above, or published again, without a new check-in. Does not answer anybody; what can't be made durable now goes
// later. Copies the id; never blocks, and may be called for any number of sources.
void tob_committer_source_changed(tob_committer *committer, tob_source_kind kind, const char *id);

// tob_committer_last answers the call with a LastReport: NOT_FOUND for a source without a row.
void tob_committer_last(tob_committer *committer, tob_rpc_call *call, tob_source_kind kind, const char *id);

// tob_committer_snapshot answers the call with a page of the fleet table.
void tob_committer_snapshot(tob_committer *committer, tob_rpc_call *call,
                            const Tobogganing__V1__SnapshotRequest *request);

// tob_committer_report puts a process's counters into the process table and answers the call once they are durable: what an
// exporter has seen of them must not be lost.
void tob_committer_report(tob_committer *committer, tob_rpc_call *call,
                          const Tobogganing__V1__Process *process);

// The consumers' methods of bus.proto.
void tob_committer_commit(tob_committer *committer, tob_rpc_call *call,
                          const Tobogganing__V1__CommitRequest *request);
void tob_committer_list_consumers(tob_committer *committer, tob_rpc_call *call);
void tob_committer_forget(tob_committer *committer, tob_rpc_call *call,
                          const Tobogganing__V1__ForgetConsumerRequest *request);

// tob_submit_response_init fills in what every answer to a Submit has.
void tob_submit_response_init(tob_committer *committer, Tobogganing__V1__SubmitResponse *response);

// ---- for threads of ours

// What the committer's thread lends to a task.
typedef struct tob_committer_view {
    tob_store *store;
    tob_directory *directory;
    const uint64_t *last_sequences; // TOB_BUS_BUCKETS of them
    uint64_t epoch;
    tob_position
        relabelled; // the journal's end when rows last changed that it does not tell of; {0, 0}: never
} tob_committer_view;

typedef void (*tob_committer_task)(const tob_committer_view *view, void *user);

// tob_committer_run has the committer's thread do something between two groups, and waits for it. Before _start and after
// _stop the caller does it himself.
void tob_committer_run(tob_committer *committer, tob_committer_task task, void *user);

// tob_committer_watch: `fn` is called on the committer's thread whenever the journal's end has moved. Before _start.
void tob_committer_watch(tob_committer *committer, void (*fn)(void *user, tob_position end), void *user);

// What only the process's end helps against: a failed fdatasync (what the page cache holds then is unknown, only a new start
// finds out), or no memory for what is durable. Logs and exits.
_Noreturn void tob_committer_give_up(const char *what, const tob_journal_problem *problem);

typedef struct tob_committer_stats {
    uint64_t epoch;
    uint64_t reporting_clients;
    uint64_t reporting_headends;
    uint64_t stored_batches; // ever
    uint64_t stored_samples;
    uint64_t repeated_batches; // since the start
    uint64_t commits;
    tob_position journal_oldest;
    tob_position journal_end;
    uint64_t journal_bytes;
    bool journal_failing; // the last sync failed: submits are refused until one succeeds
} tob_committer_stats;

void tob_committer_get_stats(tob_committer *committer, tob_committer_stats *ret);

// True while the journal hangs: something has been written for over TOB_STALL_MS. Lock-free.
bool tob_committer_stalled(const tob_committer *committer);

#endif
