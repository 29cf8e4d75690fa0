// Rows of the fleet table as bus.proto's messages, labelled from the directory.
//
// Threads: the committer's; takes the directory's read lock itself.
// Errors:  TOB_NO_MEMORY, TOB_TOO_LARGE from the arena.
#ifndef TOB_INGESTD_ROWS_H
#define TOB_INGESTD_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/fleet.h"
#include "wire/arena.h"

// tob_rows_clients renders `n` rows into the arena.
TOB_MUST_USE tob_error tob_rows_clients(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                                        const uint32_t *rows, size_t n, Tobogganing__V1__ClientRow ***ret);
TOB_MUST_USE tob_error tob_rows_headends(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                                         const uint32_t *rows, size_t n, Tobogganing__V1__HeadendRow ***ret);

#endif
