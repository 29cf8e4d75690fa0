// tob_tables is what a store has in memory: what a checkpoint holds, and what recovery fills.
//
// Threads: one at a time (the committer's).
#ifndef TOB_INGESTD_TABLES_H
#define TOB_INGESTD_TABLES_H

#include <stdint.h>

#include "ingestd/consumers.h"
#include "ingestd/digests.h"
#include "ingestd/fleet.h"
#include "ingestd/process_table.h"
#include "util/error.h"

typedef struct tob_tables {
    tob_fleet *fleet;
    tob_process_table *processes;
    tob_consumers *consumers;
    tob_digests *digests;
    uint64_t stored_batches; // ever; repeats are not counted
    uint64_t stored_samples;
} tob_tables;

// Errors: TOB_NO_MEMORY; tob_tables_fini is needed then too.
TOB_MUST_USE tob_error tob_tables_init(tob_tables *tables);
void tob_tables_fini(tob_tables *tables);

#endif
