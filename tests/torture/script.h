// script is one fixed run of a store: several senders, repeats, late samples, removals, consumers, counters, segments that
// end, checkpoints with changes between their pages, retention, a clean restart.
//
// Threads: one at a time.
#ifndef TOB_TESTS_TORTURE_SCRIPT_H
#define TOB_TESTS_TORTURE_SCRIPT_H

#include <stddef.h>

#include "plain.h"
#include "rig.h"

#define SCRIPT_GROUP_ITEMS   4u
#define SCRIPT_MAX_STEPS     96u
#define SCRIPT_SEGMENT_BYTES 2048u
#define SCRIPT_NOW_MS        1700000000000 // when it begins

typedef enum script_step_kind {
    SCRIPT_GROUP,
    SCRIPT_BEGIN, // a checkpoint
    SCRIPT_PAGE,  // one of its pages
    SCRIPT_COMMIT,
    SCRIPT_RETAIN,
    SCRIPT_RESTART,
} script_step_kind;

typedef struct script_step {
    script_step_kind kind;
    unsigned n;
    plain_item items[SCRIPT_GROUP_ITEMS];
} script_step;

typedef struct script {
    size_t count;
    script_step steps[SCRIPT_MAX_STEPS];
} script;

// script_get makes it once.
const script *script_get(void);

// script_do does one step. repeated: of the items of a group.
// Errors: the store's. Of a checkpoint that is not under way (because a step before failed), steps do nothing.
TOB_MUST_USE tob_error script_do(rig *r, const script_step *step, bool ret_repeated[SCRIPT_GROUP_ITEMS]);

#endif
