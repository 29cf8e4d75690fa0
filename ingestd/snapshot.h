// Pages of the fleet table for Bus.Snapshot: clients first, then headends, in the order of their rows.
//
// Threads: the committer's.
// Errors:  TOB_NO_MEMORY, TOB_TOO_LARGE from the arena.
#ifndef TOB_INGESTD_SNAPSHOT_H
#define TOB_INGESTD_SNAPSHOT_H

#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/fleet.h"
#include "wire/arena.h"

#define TOB_SNAPSHOT_LOOK_ROWS                                                                               \
    16384 // that a page looks at, at most: a page of few buckets may be empty and not the last

// tob_snapshot_rows fills in the rows and next_cursor of one page; everything is in the arena.
//   cursor    0, or what the page before said
//   buckets   bit b selects bucket b; 0 means all
TOB_MUST_USE tob_error tob_snapshot_rows(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                                         uint64_t cursor, uint64_t max_rows, uint64_t buckets,
                                         Tobogganing__V1__SnapshotResponse *page);

#endif
