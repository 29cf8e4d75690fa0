// tob_process_reporter is the thread that reports a process's counters: which ingestd gets which share (process_shares.h).
// rpc/process.h is its interface; internal to lib/rpc.
#ifndef TOB_RPC_PROCESS_REPORTER_H
#define TOB_RPC_PROCESS_REPORTER_H

#include "rpc/client.h"
#include "rpc/process.h"
#include "util/error.h"

typedef struct tob_process_reporter tob_process_reporter;

TOB_MUST_USE tob_error tob_process_reporter_new(tob_process *process, tob_process_reporter **ret);
void tob_process_reporter_free(tob_process_reporter *reporter); // stopped; NULL is fine

TOB_MUST_USE tob_error tob_process_reporter_start(tob_process_reporter *reporter, tob_rpc_client *client);
void tob_process_reporter_stop(tob_process_reporter *reporter);
tob_error tob_process_reporter_error(const tob_process_reporter *reporter);

#endif
