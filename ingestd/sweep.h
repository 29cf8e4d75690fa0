// tob_sweep walks the fleet table in slices and drops rows whose source the directory does not have: what was deleted while
// its row could not be, or reported while it was being deleted. When it is not known whose labels are others, all other rows
// count as changed.
//
// Threads: the committer's; takes the directory's read lock.
#ifndef TOB_INGESTD_SWEEP_H
#define TOB_INGESTD_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "ingestd/directory.h"
#include "ingestd/store.h"

#define TOB_SWEEP_SLICE_ROWS  2048
#define TOB_SWEEP_INTERVAL_MS 10 // between slices
#define TOB_SWEEP_DELAY_MS                                                                                   \
    10000 // after a removal: what was checked before it has reached the committer by then

typedef struct tob_sweep {
    uint64_t due_ms; // monotonic; UINT64_MAX: not wanted
    uint64_t next;   // slot of the table; clients first, then headends
    bool headends;
    bool relabel;
    bool again; // wanted once more while one is under way
    bool again_relabel;
} tob_sweep;

// tob_sweep_init wants one at `now_ms`.
void tob_sweep_init(tob_sweep *sweep, uint64_t now_ms);

// tob_sweep_want wants one after `delay_ms`.
void tob_sweep_want(tob_sweep *sweep, uint64_t now_ms, uint64_t delay_ms);

// tob_sweep_want_relabelled wants one now, in which all rows count as changed.
void tob_sweep_want_relabelled(tob_sweep *sweep, uint64_t now_ms);

// tob_sweep_slice looks at the next rows and adds what has to go to the store.
//   ret_added     how many: sync then, and call _failed when that fails
//   ret_touched   how many rows count as changed now
// Errors: tob_store_add_removal's.
TOB_MUST_USE tob_error tob_sweep_slice(tob_sweep *sweep, tob_store *store, tob_directory *directory,
                                       uint64_t now_ms, uint64_t now_unix_ms, uint64_t *ret_added,
                                       uint64_t *ret_touched);

// tob_sweep_failed: what the last slice added did not become durable; begins again later.
void tob_sweep_failed(tob_sweep *sweep, uint64_t now_ms);

#endif
