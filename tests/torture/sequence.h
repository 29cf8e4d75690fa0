// sequence is one run of the model test: a store, an exporter beside it, and what both should be.
//
// Threads: one at a time. Errors: sequence_fail reports the first difference and ends the run.
#ifndef TOB_TESTS_TORTURE_SEQUENCE_H
#define TOB_TESTS_TORTURE_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exporter/moment.h"
#include "plain.h"
#include "rig.h"
#include "scratch.h"
#include "watcher.h"

#define SEQUENCE_SENT          48u
#define SEQUENCE_STATES        1024u
#define SEQUENCE_SEGMENT_BYTES 2048u
#define SEQUENCE_START_MS      INT64_C(1700000000000)

// The store after one record more.
typedef struct sequence_state {
    plain_state state;
    tob_position group_end;
} sequence_state;

typedef struct sequence_sent {
    plain_batch batch;
    tob_position at;
} sequence_sent;

typedef struct sequence {
    uint64_t seed;
    uint64_t random;
    bool verbose;
    bool ok;
    char dir[SCRATCH_PATH_BYTES];
    rig rig;
    watcher *watcher;
    plain_state now;
    tob_moment clock;
    uint64_t epoch;
    uint64_t contents;
    uint64_t numbers[PLAIN_SENDERS];
    uint64_t reported[PLAIN_PROCESSES]; // by all processes of a kind, ever
    uint64_t base[PLAIN_PROCESSES];     // of it, by those before the present one
    unsigned generation;                // of processes
    sequence_sent sent[SEQUENCE_SENT];
    size_t sent_count;
    bool all_pages; // of the checkpoint under way are written
    tob_position settled;
    size_t states; // since it was settled; the first is as it was then
    sequence_state history[SEQUENCE_STATES];
} sequence;

// Of all sequences.
typedef struct sequence_totals {
    uint64_t steps, groups, repeats, kills, power, checkpoints, converged;
} sequence_totals;

extern sequence_totals sequence_counts;

uint64_t sequence_below(sequence *q, uint64_t n);
bool sequence_chance(sequence *q, unsigned percent);
void sequence_say(const sequence *q, const char *format, ...) TOB_PRINTF(2, 3);
void sequence_fail(sequence *q, const char *format, ...) TOB_PRINTF(2, 3);
tob_position sequence_end(sequence *q); // of the journal

// sequence_check compares the store.
void sequence_check(sequence *q, const char *when);

// sequence_note adds a state to the history; _settled forgets those that the power failing can't bring back.
void sequence_note(sequence *q, tob_position group_end);
void sequence_settled(sequence *q);

// sequence_group adds random changes and syncs them (sequence_group.c).
void sequence_group(sequence *q);

// Ends and starts (sequence_restart.c).
void sequence_open(sequence *q, const char *when);
void sequence_restart(sequence *q, bool clean);
void sequence_lose_power(sequence *q);
void sequence_check_counters(sequence *q);

#endif
