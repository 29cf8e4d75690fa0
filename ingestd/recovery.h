// Recovery: the journal's records through the same apply functions as live reports.
//
// Threads: before the committer starts.
#ifndef TOB_INGESTD_RECOVERY_H
#define TOB_INGESTD_RECOVERY_H

#include <stdint.h>

#include "ingestd/fleet.h"
#include "ingestd/process_table.h"
#include "journal/journal.h"

// tob_recover opens the journal and fills both tables from it.
//   ret_records     how many records were read
//   ret_cut_bytes   of a torn tail
//   ret_problem     filled on an error
// Errors: tob_journal_open's; TOB_DAMAGED when a record is no Record.
TOB_MUST_USE tob_error tob_recover(const tob_journal_options *options, tob_fleet *fleet,
                                   tob_process_table *processes, tob_journal **ret, uint64_t *ret_records,
                                   uint64_t *ret_cut_bytes, tob_journal_problem *ret_problem);

#endif
