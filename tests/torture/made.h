// made turns plain batches into the submissions that the store takes, through the same wire code as the programs.
//
// Threads: one at a time. Errors: none; it aborts.
#ifndef TOB_TESTS_TORTURE_MADE_H
#define TOB_TESTS_TORTURE_MADE_H

#include <stdint.h>

#include "ingestd/store.h"
#include "plain.h"

typedef struct made made;

made *made_new(void);
void made_free(made *m);

// made_submission: valid until made_clear. Series that the wire's checks refuse are a mistake of the test.
tob_submission made_submission(made *m, const plain_batch *batch, int64_t received);
void made_clear(made *m);

// made_random continues *seed: splitmix64 (Steele, Lea, Flood 2014), so that a seed names a run on every machine.
uint64_t made_random(uint64_t *seed);
uint64_t made_below(uint64_t *seed, uint64_t below);

#endif
