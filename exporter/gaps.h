// tob_gaps keeps, for each bucket of one ingestd's bus, what has arrived: the last sequence, whether something before it
// was lost, and a place in the journal before which nothing is missing.
//
// Threads: one at a time.
#ifndef TOB_EXPORTER_GAPS_H
#define TOB_EXPORTER_GAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "wire/bus_topics.h"

// A place in an ingestd's journal; all zero: unknown.
typedef struct tob_place {
    uint64_t segment;
    uint64_t offset;
} tob_place;

tob_place tob_place_of(const Tobogganing__V1__Position *position); // NULL: unknown
bool tob_place_known(tob_place place);
bool tob_place_before(tob_place a, tob_place b);

// Embedded by tob_follow; all zero: nothing has arrived.
typedef struct tob_gaps {
    struct tob_gap {
        uint64_t seen;   // last sequence that arrived or is known to be lost
        uint64_t hole;   // last sequence that was lost and not made good yet; 0: none
        tob_place place; // nothing is missing of what the journal holds before it
    } buckets[TOB_BUS_BUCKETS];
} tob_gaps;

// tob_gaps_lose: messages up to `last`, which is over seen, did not arrive. Returns how many.
uint64_t tob_gaps_lose(tob_gaps *gaps, unsigned bucket, uint64_t last);

// tob_gaps_arrived: the messages so far have everything of the bucket that the journal holds before the place.
void tob_gaps_arrived(tob_gaps *gaps, unsigned bucket, tob_place place);

// tob_gaps_cover: whatever the messages up to `cover` had, and the journal before `place`, is there now.
void tob_gaps_cover(tob_gaps *gaps, unsigned bucket, uint64_t cover, tob_place place);

// tob_gaps_holes: bit b is set when something of bucket b is missing.
uint64_t tob_gaps_holes(const tob_gaps *gaps);

// tob_gaps_place: the earliest place from which one of these buckets misses something; unknown if one of theirs is.
tob_place tob_gaps_place(const tob_gaps *gaps, uint64_t buckets);

#endif
