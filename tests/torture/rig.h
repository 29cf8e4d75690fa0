// rig drives a store as ingestd's committer and checkpointer do, one step at a time and without their threads.
//
// Threads: one at a time.
// Errors:  the store's, with rig.problem filled; what no test expects aborts.
#ifndef TOB_TESTS_TORTURE_RIG_H
#define TOB_TESTS_TORTURE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "ingestd/store.h"
#include "journal/checkpoint.h"
#include "made.h"
#include "plain.h"

typedef struct rig {
    tob_store_options options;
    tob_store *store; // NULL: closed
    made *made;
    uint64_t monotonic_ms;
    tob_store_recovery recovery; // of the last open
    tob_journal_problem problem;
    tob_checkpoint_writer *writer; // NULL: no checkpoint is being made
    tob_store_cursor cursor;
    tob_buffer page;
    bool fatal; // the process would have to end
} rig;

// dir: borrowed for the rig's life.
void rig_init(rig *r, const char *dir, uint64_t segment_bytes, tob_journal_sync_mode mode);
void rig_fini(rig *r);

TOB_MUST_USE tob_error rig_open(rig *r);

// rig_crash ends it as a kill does: what was not synced is gone. rig_close settles first, as a clean end does.
void rig_crash(rig *r);
TOB_MUST_USE tob_error rig_close(rig *r);

typedef struct rig_added {
    bool repeated;
    tob_position at; // of batches
} rig_added;

// rig_add queues one change, rig_sync makes durable what is queued.
TOB_MUST_USE tob_error rig_add(rig *r, const plain_item *item, rig_added *ret);
TOB_MUST_USE tob_error rig_sync(rig *r);
TOB_MUST_USE tob_error rig_settle(rig *r);

// A checkpoint in steps. After an error there is none under way.
TOB_MUST_USE tob_error rig_checkpoint_begin(rig *r, int64_t now);
TOB_MUST_USE tob_error rig_checkpoint_page(rig *r, bool *ret_last);
TOB_MUST_USE tob_error rig_checkpoint_commit(rig *r);
void rig_checkpoint_abort(rig *r);

TOB_MUST_USE tob_error rig_retain(rig *r, int64_t now);

// rig_counted: what the processes of a kind counted, those that are gone included, as the store has it.
uint64_t rig_counted(rig *r, unsigned kind);

// rig_retire forgets the processes that were silent for long.
TOB_MUST_USE tob_error rig_retire(rig *r);

#endif
