// tob_process holds the counters of this process, as process.proto describes them, and reports them to
// ingestd.
//
// Threads: tob_counter_add from any thread, lock-free; the rest from any thread, under a mutex.
#ifndef TOB_RPC_PROCESS_H
#define TOB_RPC_PROCESS_H

#include <stdatomic.h>
#include <stdint.h>

#include "tobogganing/v1/process.pb-c.h"

#include "rpc/client.h"
#include "util/error.h"
#include "wire/arena.h"

#define TOB_PROCESS_MAX_COUNTERS    1000
#define TOB_COUNTER_MAX_LABELS      3
#define TOB_PROCESS_RETIRED         1 // id of the sum of the forgotten; see Process in process.proto
#define TOB_COUNTER_MAX_LABEL_BYTES 64

typedef struct tob_process tob_process;
typedef struct tob_counter tob_counter;

// kind: "ingestd", "gateway" or "exporter"; static text. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_process_new(const char *kind, tob_process **ret);
void tob_process_free(tob_process *process);

// tob_process_counter finds or makes the counter with these labels (NULL for those the family has not). It
// lives as long as the process object: look it up once, keep it. Never NULL: past the cap, or without memory,
// it is a shared counter that is not reported.
tob_counter *tob_process_counter(tob_process *process, Tobogganing__V1__CounterFamily family,
                                 const char *label0, const char *label1, const char *label2);
void tob_counter_add(tob_counter *counter, uint64_t n);
uint64_t tob_counter_value(const tob_counter *counter);

// tob_process_message renders the present values into the arena.
TOB_MUST_USE tob_error tob_process_message(tob_process *process, tob_arena *arena,
                                           Tobogganing__V1__Process **ret);

// tob_process_report_start reports over `client` (whose bearer is the cluster token) from a thread of its own: every
// second while something changes, else every 10 s. It reports to one ingestd as long as that is connected and answers; what
// it counts is divided among those it has reported to (process_shares.h), told apart by the instance that Health.Check
// names, so that one which comes back under another address is known again. _stop reports once more and ends the thread,
// within a few seconds.
TOB_MUST_USE tob_error tob_process_report_start(tob_process *process, tob_rpc_client *client);
void tob_process_report_stop(tob_process *process);

// tob_process_report_error: how the last report ended, for a program that logs it; TOB_OK before the first. Lock-free.
tob_error tob_process_report_error(const tob_process *process);

#endif
