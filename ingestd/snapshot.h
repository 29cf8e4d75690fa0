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

// tob_snapshot_rows fills in the rows and next_cursor of one page; everything is in the arena.
//   cursor   0, or what the page before said
TOB_MUST_USE tob_error tob_snapshot_rows(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                                         uint64_t cursor, uint64_t max_rows,
                                         Tobogganing__V1__SnapshotResponse *page);

#endif
