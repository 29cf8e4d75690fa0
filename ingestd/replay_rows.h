// The sources that a stretch of the journal changed, each once, and their present rows as a page of Bus.Replay.
//
// Threads: one at a time; _render on the committer's.
// Errors:  TOB_NO_MEMORY, TOB_TOO_LARGE from the arenas; TOB_DAMAGED for a record that is none.
#ifndef TOB_INGESTD_REPLAY_ROWS_H
#define TOB_INGESTD_REPLAY_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/fleet.h"
#include "util/error.h"
#include "wire/arena.h"

typedef struct tob_replay_rows tob_replay_rows;

TOB_MUST_USE tob_error tob_replay_rows_new(tob_replay_rows **ret);
void tob_replay_rows_free(tob_replay_rows *rows);

// tob_replay_rows_clear forgets the sources. Bit b of `buckets` selects bucket b; 0 means all.
void tob_replay_rows_clear(tob_replay_rows *rows, uint64_t buckets);

// tob_replay_rows_add notes the sources of one serialized Record.
TOB_MUST_USE tob_error tob_replay_rows_add(tob_replay_rows *rows, const void *record, size_t n);

// How many there are.
size_t tob_replay_rows_count(const tob_replay_rows *rows);

// tob_replay_rows_render fills in the rows and removals of the sources from `from` on, at most `max`, in the order in which
// they came; what it fills in is in the arena, and the ids belong to `rows`.
TOB_MUST_USE tob_error tob_replay_rows_render(const tob_replay_rows *rows, size_t from, size_t max,
                                              const tob_fleet *fleet, tob_directory *directory,
                                              tob_arena *arena, Tobogganing__V1__ReplayResponse *page);

#endif
