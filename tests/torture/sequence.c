#include "sequence.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "compare.h"

sequence_totals sequence_counts;

uint64_t sequence_below(sequence *q, uint64_t n) {
    return made_below(&q->random, n);
}

bool sequence_chance(sequence *q, unsigned percent) {
    return sequence_below(q, 100) < percent;
}

void sequence_say(const sequence *q, const char *format, ...) {
    if (q->verbose) {
        va_list args;
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        printf("\n");
    }
}

void sequence_fail(sequence *q, const char *format, ...) {
    va_list args;
    if (q->ok) {
        printf("FAILED: seed %" PRIu64 ": ", q->seed);
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        printf("\n");
        fflush(stdout);
    }
    q->ok = false;
}

tob_position sequence_end(sequence *q) {
    tob_store_stats stats;
    tob_store_get_stats(q->rig.store, &stats);
    return stats.end;
}

void sequence_check(sequence *q, const char *when) {
    char text[COMPARE_TEXT_BYTES];
    if (q->ok && !compare_store(q->rig.store, &q->now, text)) {
        sequence_fail(q, "%s: %s", when, text);
    }
}

void sequence_note(sequence *q, tob_position group_end) {
    if (q->states == SEQUENCE_STATES) {
        abort();
    }
    q->history[q->states++] = (sequence_state){q->now, group_end};
}

void sequence_settled(sequence *q) {
    q->states = 0;
    q->settled = sequence_end(q);
    sequence_note(q, q->settled);
}
