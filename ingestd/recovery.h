// Recovery: the newest checkpoint, then the journal from its place on.
//
// Threads: before anything else uses the tables.
#ifndef TOB_INGESTD_RECOVERY_H
#define TOB_INGESTD_RECOVERY_H

#include <stdint.h>

#include "ingestd/store.h"
#include "ingestd/tables.h"
#include "journal/checkpoint.h"
#include "journal/journal.h"

// tob_recover fills empty tables and opens the journal. No row counts as changed afterwards: exporters take a snapshot for a
// new epoch.
//   now_monotonic_ms   when processes count as heard of
//   ret_places         of the checkpoints
//   ret_problem        filled on an error: "FILE at offset N: reason"
// Errors: the journal's and the checkpoint's; TOB_DAMAGED when a record is none of ours.
TOB_MUST_USE tob_error tob_recover(const tob_journal_options *options, uint64_t now_monotonic_ms,
                                   tob_tables *tables, tob_journal **ret, tob_checkpoint_places *ret_places,
                                   tob_store_recovery *ret_recovery, tob_journal_problem *ret_problem);

#endif
