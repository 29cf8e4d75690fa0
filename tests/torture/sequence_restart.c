// Kills, clean restarts, and the power failing.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "compare.h"
#include "sequence.h"

enum { SECTOR = 512 };

static bool counters_fit(sequence *q, const plain_state *state, char text[COMPARE_TEXT_BYTES]) {
    for (unsigned p = 0; p < PLAIN_PROCESSES; p++) {
        uint64_t is = rig_counted(&q->rig, p);
        if (is < state->counted[p] || is > q->reported[p]) {
            snprintf(text, COMPARE_TEXT_BYTES, "process %u counted %" PRIu64 ", not %" PRIu64 " to %" PRIu64,
                     p, is, state->counted[p], q->reported[p]);
            return false;
        }
    }
    return true;
}

void sequence_check_counters(sequence *q) {
    char text[COMPARE_TEXT_BYTES];
    if (!counters_fit(q, &q->now, text)) {
        sequence_fail(q, "%s", text);
    }
}

// What was reported and not journalled may be lost with a start: then it is as if it had never been.
static void take_counters(sequence *q) {
    sequence_check_counters(q);
    for (unsigned p = 0; p < PLAIN_PROCESSES; p++) {
        q->now.counted[p] = q->reported[p] = rig_counted(&q->rig, p);
        q->base[p] = q->base[p] < q->reported[p] ? q->base[p] : q->reported[p];
    }
}

void sequence_open(sequence *q, const char *when) {
    q->rig.monotonic_ms = q->clock.monotonic_ms;
    tob_error err = rig_open(&q->rig);
    if (err) {
        sequence_fail(q, "%s: %s: %s", when, tob_error_string(err), q->rig.problem.text);
        return;
    }
    sequence_say(q,
                 "  opened: checkpoint %" PRIu64 ":%" PRIu64 ", %" PRIu64 " records, %" PRIu64 " bytes cut",
                 q->rig.recovery.checkpoint.segment, q->rig.recovery.checkpoint.offset,
                 q->rig.recovery.records, q->rig.recovery.cut_bytes);
    watcher_attach(q->watcher, q->rig.store, q->dir, ++q->epoch, q->clock);
}

void sequence_restart(sequence *q, bool clean) {
    tob_position end = sequence_end(q);
    sequence_say(q, clean ? "clean restart" : "kill");
    watcher_detach(q->watcher);
    if (clean && rig_close(&q->rig)) {
        sequence_fail(q, "closing: %s", q->rig.problem.text);
    }
    rig_crash(&q->rig);
    sequence_counts.kills += !clean;
    sequence_open(q, "start");
    if (q->ok && (tob_position_compare(end, sequence_end(q)) != 0 || q->rig.recovery.cut_bytes)) {
        sequence_fail(q, "the journal ends elsewhere after a start");
    }
    if (q->ok) {
        sequence_check(q, clean ? "after a clean restart" : "after a kill");
        take_counters(q);
        sequence_settled(q);
    }
}

// Cuts the last segment where the power may have left it, not before `least`: at any byte if the file has become shorter,
// at a sector's end if its room is still there.
static tob_position cut_tail(sequence *q, tob_position least, tob_position end) {
    char path[SCRATCH_PATH_BYTES + 64];
    bool room = sequence_chance(q, 50);
    tob_position at = {end.segment, least.offset + sequence_below(q, end.offset - least.offset + 1)};
    if (room) {
        at.offset -= at.offset % SECTOR;
        at.offset = at.offset > least.offset ? at.offset : least.offset;
    }
    snprintf(path, sizeof(path), "%s/journal-%016" PRIx64 ".seg", q->dir, at.segment);
    if (truncate(path, (off_t)at.offset) ||
        (room && at.offset < SEQUENCE_SEGMENT_BYTES && truncate(path, SEQUENCE_SEGMENT_BYTES))) {
        abort();
    }
    sequence_say(q, "  cut at %" PRIu64 ":%" PRIu64 " of %" PRIu64, at.segment, at.offset, end.offset);
    return at;
}

// What was removed may be back. ingestd would remove it again: who is registered is kept elsewhere.
static void register_again(sequence *q) {
    for (unsigned s = 0; s < PLAIN_SOURCES; s++) {
        if (q->now.sources[s].there) {
            watcher_register(q->watcher, s);
        }
    }
}

void sequence_lose_power(sequence *q) {
    char text[COMPARE_TEXT_BYTES] = "";
    tob_position end = sequence_end(q);
    tob_position settled = q->settled.segment == end.segment ? q->settled : (tob_position){end.segment, 40};
    sequence_say(q, "power lost");
    watcher_detach(q->watcher);
    rig_crash(&q->rig);
    tob_position at = cut_tail(q, settled, end);
    sequence_counts.power++;
    sequence_open(q, "start after the power failed");
    size_t i = q->states, least = 0;
    while (least + 1 < q->states && tob_position_compare(q->history[least + 1].group_end, at) <= 0) {
        least++;
    }
    while (q->ok && i > least &&
           !(counters_fit(q, &q->history[i - 1].state, text) &&
             compare_store(q->rig.store, &q->history[i - 1].state, text))) {
        i--;
    }
    if (q->ok && i == least) {
        sequence_fail(q, "after the power failed: none of %zu states; to the last: %s", q->states - least,
                      text);
    }
    if (q->ok) {
        q->now = q->history[i - 1].state;
        take_counters(q);
        sequence_settled(q);
        register_again(q);
        for (size_t k = 0; k < SEQUENCE_SENT; k++) { // one that was stored twice may only be there once
            q->sent[k].at =
                tob_position_compare(q->sent[k].at, at) < 0 ? q->sent[k].at : (tob_position){0, 0};
        }
    }
}
