// Places in the journal: as messages, and how far apart they are.
//
// Threads: any. Errors: none.
#ifndef TOB_INGESTD_POSITIONS_H
#define TOB_INGESTD_POSITIONS_H

#include <stdint.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "journal/journal.h"

Tobogganing__V1__Position tob_position_message(tob_position at);

// {0, 0} for NULL.
tob_position tob_position_of(const Tobogganing__V1__Position *message);

// tob_positions_apart is about how many bytes of the journal lie between two places, 0 when `to` is not behind `from`: full
// segments are taken to have `segment_bytes`.
uint64_t tob_positions_apart(tob_position from, tob_position to, uint64_t segment_bytes);

#endif
