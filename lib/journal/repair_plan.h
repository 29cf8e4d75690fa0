// What a repair decides to do. Inside lib/journal only.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_REPAIR_PLAN_H
#define TOB_JOURNAL_REPAIR_PLAN_H

#include "journal/repair.h"

typedef struct tob_repair_plan {
    tob_repair_step *steps; // in their order
    size_t count;
    size_t capacity;
    tob_position
        *places; // readers' and the chosen checkpoint's: where a record must begin or the journal end
    size_t place_count;
} tob_repair_plan;

// tob_repair_plan_make
//   places   of readers
// Errors: TOB_NO_MEMORY; TOB_TOO_LARGE over TOB_VERIFY_MAX_SEGMENTS.
TOB_MUST_USE tob_error tob_repair_plan_make(const tob_verify *found, const tob_position *places,
                                            size_t place_count, tob_repair_plan *ret);
void tob_repair_plan_fini(tob_repair_plan *plan);

#endif
