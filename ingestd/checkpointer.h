// tob_checkpointer writes checkpoints (lib/journal/checkpoint.h) and has old segments removed, from a thread of its own: the
// committer renders the fleet table page by page between two groups, this thread writes the pages.
//
// A checkpoint is made when the journal has grown enough since the last one, when enough time has passed in which anything
// was journalled, and at the end. One that fails is tried again later; nothing else suffers, recovery reads more then.
//
// Threads: _start and _stop from one; _get_stats from any.
#ifndef TOB_INGESTD_CHECKPOINTER_H
#define TOB_INGESTD_CHECKPOINTER_H

#include <stdint.h>

#include "ingestd/committer.h"
#include "journal/journal.h"

#define TOB_CHECKPOINT_LAST_MS                                                                               \
    6000 // for the one at the end: given up beyond that, the journal has everything
#define TOB_CHECKPOINT_RETRY_MS     5000 // after a failure; doubled each time up to
#define TOB_CHECKPOINT_RETRY_MAX_MS 300000
#define TOB_RETAIN_INTERVAL_MS      60000

typedef struct tob_checkpointer tob_checkpointer;

typedef struct tob_checkpointer_options {
    tob_committer *committer; // borrowed
    const char *journal_dir;  // copied
    uint64_t segment_bytes;
    uint64_t interval_ms; // between two of them
    uint64_t bytes;       // of journal since the last one, and at least as much as that one's size
    tob_position last;    // of the newest one that the start found; {0, 0}: none
    uint64_t last_bytes;  // its size
} tob_checkpointer_options;

// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_checkpointer_new(const tob_checkpointer_options *options, tob_checkpointer **ret);
TOB_MUST_USE tob_error tob_checkpointer_start(tob_checkpointer *checkpointer);

// tob_checkpointer_stop makes one last checkpoint, within TOB_CHECKPOINT_LAST_MS, and ends the thread. The committer must
// still run. Accepts NULL and one that was not started.
void tob_checkpointer_stop(tob_checkpointer *checkpointer);
void tob_checkpointer_free(tob_checkpointer *checkpointer);

// tob_checkpointer_renew has a checkpoint made of everything that was journalled before the call, and all older ones removed.
// Blocks until that is done. Threads: any but the committer's; one at a time.
//   ret_removed   older ones; also set on an error
// Errors: TOB_CANCELLED when the checkpointer stops; those of lib/journal/checkpoint.h, with the problem filled.
TOB_MUST_USE tob_error tob_checkpointer_renew(tob_checkpointer *checkpointer, uint32_t *ret_removed,
                                              tob_journal_problem *ret_problem);

// Of the newest checkpoint; all 0 before the first of this start but for its place and size.
typedef struct tob_checkpointer_stats {
    tob_position at;
    uint64_t unix_ms;
    uint64_t bytes;
    uint64_t took_ms;
    uint64_t longest_pause_us; // that the committer was kept from its groups, in one piece
} tob_checkpointer_stats;

void tob_checkpointer_get_stats(tob_checkpointer *checkpointer, tob_checkpointer_stats *ret);

#endif
