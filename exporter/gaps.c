#include "exporter/gaps.h"

tob_place tob_place_of(const Tobogganing__V1__Position *position) {
    return position ? (tob_place){.segment = position->segment, .offset = position->offset}
                    : (tob_place){.segment = 0};
}

bool tob_place_known(tob_place place) {
    return place.segment || place.offset;
}

bool tob_place_before(tob_place a, tob_place b) {
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

static void advance(struct tob_gap *gap, tob_place place) {
    if (tob_place_before(gap->place, place)) {
        gap->place = place;
    }
}

uint64_t tob_gaps_lose(tob_gaps *gaps, unsigned bucket, uint64_t last) {
    struct tob_gap *gap = &gaps->buckets[bucket];
    uint64_t lost = last - gap->seen;
    gap->hole = last;
    gap->seen = last;
    return lost;
}

void tob_gaps_arrived(tob_gaps *gaps, unsigned bucket, tob_place place) {
    if (!gaps->buckets[bucket].hole) {
        advance(&gaps->buckets[bucket], place);
    }
}

// What was lost after the cover is still missing, from the new place on.
void tob_gaps_cover(tob_gaps *gaps, unsigned bucket, uint64_t cover, tob_place place) {
    struct tob_gap *gap = &gaps->buckets[bucket];
    if (gap->hole <= cover) {
        gap->hole = 0;
    }
    if (gap->seen < cover) {
        gap->seen = cover;
    }
    advance(gap, place);
}

uint64_t tob_gaps_holes(const tob_gaps *gaps) {
    uint64_t mask = 0;
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        mask |= gaps->buckets[b].hole ? UINT64_C(1) << b : 0;
    }
    return mask;
}

tob_place tob_gaps_place(const tob_gaps *gaps, uint64_t buckets) {
    tob_place from = {.segment = UINT64_MAX};
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        if ((buckets >> b & 1) && tob_place_before(gaps->buckets[b].place, from)) {
            from = gaps->buckets[b].place;
        }
    }
    return from;
}
