// model does random things to a store and to an exporter beside it, and the same to plain arrays (plain.h), and compares:
// the store after every step and every start, the exporter's mirror whenever it had time to converge.
//
//   torture_model [SEED [COUNT]]    sequences SEED, SEED + 1, …; COUNT 1 prints every step
//
// Steps: batches new, repeated, late, out of order, twice, with another's number; removals and sources that come back;
// counters; consumers; steps of the clock; kills, clean restarts, the power failing (with --journal-sync interval);
// checkpoints in pages with all else in between, committed or given up; retention; a bus that loses and delays; snapshots
// and replays that are late or refused; exporters that begin anew; expiry.
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare.h"
#include "sequence.h"
#include "util/clock.h"
#include "util/log.h"

enum { STEPS_MIN = 20, STEPS_MAX = 80, LONG_FORM = 100000, FAILURES_MAX = 10 };

#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

static uint64_t seed_at_work;

// ---- checkpoints

static void step_checkpoint(sequence *q) {
    tob_error err = TOB_OK;
    if (!q->rig.writer) {
        sequence_say(q, "checkpoint begins");
        q->all_pages = false;
        err = rig_checkpoint_begin(&q->rig, (int64_t)q->clock.unix_ms);
    } else if (!q->all_pages) {
        err = rig_checkpoint_page(&q->rig, &q->all_pages);
        sequence_say(q, "checkpoint page%s", q->all_pages ? ", the last" : "");
    } else {
        sequence_say(q, "checkpoint done");
        err = rig_checkpoint_commit(&q->rig);
        if (!err) {
            sequence_settled(q);
            sequence_counts.checkpoints++;
        }
    }
    if (err) {
        sequence_fail(q, "checkpoint: %s: %s", tob_error_string(err), q->rig.problem.text);
    }
}

static void retain(sequence *q) {
    q->rig.options.retain_bytes = sequence_below(q, 4) * SEQUENCE_SEGMENT_BYTES;
    sequence_say(q, "retention");
    if (rig_retain(&q->rig, (int64_t)q->clock.unix_ms)) {
        sequence_fail(q, "retention: %s", q->rig.problem.text);
    }
}

static void settle(sequence *q) {
    sequence_say(q, "settle");
    if (rig_settle(&q->rig)) {
        sequence_fail(q, "settling: %s", q->rig.problem.text);
    } else {
        sequence_settled(q);
    }
}

// ---- time and the exporter

static void step_clock(sequence *q) {
    static const int64_t by[] = {DAY_MS, -DAY_MS, 13 * HOUR_MS, -13 * HOUR_MS, HOUR_MS / 6, -HOUR_MS / 6};
    int64_t to = (int64_t)q->clock.unix_ms + by[sequence_below(q, sizeof(by) / sizeof(by[0]))];
    q->clock.unix_ms = (uint64_t)(to > SEQUENCE_START_MS / 2 ? to : SEQUENCE_START_MS);
    sequence_say(q, "clock stepped to %" PRIu64, q->clock.unix_ms);
}

static void pass_time(sequence *q, uint64_t ms) {
    q->clock.unix_ms += ms;
    q->clock.monotonic_ms += ms;
    q->rig.monotonic_ms = q->clock.monotonic_ms;
}

static void converge(sequence *q) {
    char text[COMPARE_TEXT_BYTES];
    sequence_say(q, "converge");
    if (!watcher_converge(q->watcher, &q->clock)) {
        sequence_fail(q, "the exporter does not converge");
    } else if (!watcher_compare(q->watcher, &q->now, q->clock, text)) {
        sequence_fail(q, "%s", text);
    }
    q->rig.monotonic_ms = q->clock.monotonic_ms;
    sequence_counts.converged++;
}

static void do_exporter(sequence *q) {
    uint64_t what = sequence_below(q, 100), n = 1 + sequence_below(q, 5);
    sequence_say(q, "exporter %" PRIu64, what);
    if (what < 15) {
        watcher_publish(q->watcher);
    } else if (what < 27) {
        watcher_heartbeat(q->watcher);
    } else if (what < 45) {
        watcher_deliver(q->watcher, (size_t)n, q->clock);
    } else if (what < 55) {
        watcher_lose(q->watcher, (size_t)n);
    } else if (what < 72) {
        watcher_ask(q->watcher, q->clock);
    } else if (what < 88) {
        watcher_answer(q->watcher, q->clock);
    } else if (what < 91) {
        watcher_refuse(q->watcher, q->clock);
    } else if (what < 93) {
        watcher_restart(q->watcher, q->clock);
    } else if (what < 97) {
        watcher_tick(q->watcher, q->clock);
    } else {
        converge(q);
    }
}

// ---- sequences

// All processes fall silent for more than a day; others follow.
static void retire(sequence *q) {
    sequence_say(q, "processes retired");
    pass_time(q, TOB_PROCESS_FORGET_MS + 1000);
    if (rig_retire(&q->rig)) {
        sequence_fail(q, "retiring");
    }
    memcpy(q->base, q->reported, sizeof(q->base));
    q->generation++;
    sequence_check_counters(q);
}

static void do_step(sequence *q) {
    bool interval = q->rig.options.journal.sync == TOB_JOURNAL_SYNC_INTERVAL;
    uint64_t what = sequence_below(q, 100);
    pass_time(q, sequence_below(q, 1500));
    if (what < 40) {
        sequence_group(q);
    } else if (what < 72) {
        do_exporter(q);
    } else if (what < 84) {
        for (uint64_t n = 1 + sequence_below(q, 3); n > 0 && q->ok; n--) {
            step_checkpoint(q);
        }
    } else if (what < 85) {
        sequence_say(q, "checkpoint given up");
        rig_checkpoint_abort(&q->rig);
    } else if (what < 88) {
        retain(q);
    } else if (what < 89) {
        sequence_chance(q, 70) ? settle(q) : retire(q);
    } else if (what < 92) {
        step_clock(q);
    } else if (what < 94) {
        pass_time(q, sequence_chance(q, 50) ? 20000 : 50 * 60000);
    } else if (what < 97) {
        sequence_restart(q, false);
    } else if (what < 98 || !interval) {
        sequence_restart(q, true);
    } else {
        sequence_lose_power(q);
    }
}

static bool run_sequence(uint64_t seed, bool verbose, const char *dir) {
    static sequence q;
    q = (sequence){.seed = seed, .random = seed, .verbose = verbose, .ok = true};
    seed_at_work = seed;
    snprintf(q.dir, sizeof(q.dir), "%s", dir);
    scratch_empty(q.dir);
    rig_init(&q.rig, q.dir, SEQUENCE_SEGMENT_BYTES, (tob_journal_sync_mode)sequence_below(&q, 3));
    q.clock = (tob_moment){.monotonic_ms = 1000000, .unix_ms = (uint64_t)SEQUENCE_START_MS};
    q.watcher = watcher_new();
    plain_init(&q.now);
    sequence_open(&q, "first start");
    sequence_settled(&q);
    uint64_t steps = STEPS_MIN + sequence_below(&q, STEPS_MAX - STEPS_MIN + 1);
    for (uint64_t i = 0; i < steps && q.ok; i++) {
        do_step(&q);
        sequence_counts.steps++;
    }
    if (q.ok) {
        converge(&q);
    }
    if (q.ok) {
        sequence_restart(&q, sequence_chance(&q, 50));
    }
    if (q.ok) {
        converge(&q);
    }
    watcher_free(q.watcher);
    rig_fini(&q.rig);
    return q.ok;
}

static void say_seed(int signal_number) {
    char text[64];
    int n = snprintf(text, sizeof(text), "FAILED: seed %" PRIu64 ": crashed\n", seed_at_work);
    signal(signal_number, SIG_DFL);
    if (write(STDOUT_FILENO, text, (size_t)n) == n) {
        raise(signal_number);
    }
    _exit(2);
}

int main(int argc, char **argv) {
    char dir[SCRATCH_PATH_BYTES];
    uint64_t failed = 0;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : tob_clock_unix_ms();
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : LONG_FORM;
    if (argc > 3) {
        printf("Usage: torture_model [SEED [COUNT]]\nWithout: %d sequences from a random seed on.\n",
               LONG_FORM);
        return 2;
    }
    if (count == 0 || tob_log_configure("torture_model", count == 1 ? "info" : "error", "logfmt")) {
        return 2;
    }
    signal(SIGSEGV, say_seed);
    signal(SIGABRT, say_seed);
    scratch_new(dir);
    printf("seeds %" PRIu64 " to %" PRIu64 "\n", seed, seed + count - 1);
    fflush(stdout);
    for (uint64_t i = 0; i < count && failed < FAILURES_MAX; i++) {
        failed += !run_sequence(seed + i, count == 1, dir);
    }
    scratch_remove(dir);
    watcher_counts w = watcher_count();
    printf("%" PRIu64 " steps: %" PRIu64 " groups with %" PRIu64 " repeats, %" PRIu64 " kills, %" PRIu64
           " power failures, %" PRIu64 " checkpoints; exporter: %" PRIu64 " messages, %" PRIu64
           " lost, %" PRIu64 " snapshots, %" PRIu64 " replay pages, %" PRIu64 " replays refused, %" PRIu64
           " times compared: %s\n",
           sequence_counts.steps, sequence_counts.groups, sequence_counts.repeats, sequence_counts.kills,
           sequence_counts.power, sequence_counts.checkpoints, w.delivered, w.lost, w.snapshots, w.replays,
           w.refused_replays, sequence_counts.converged, failed ? "FAILED" : "all as in the model");
    return failed ? 1 : 0;
}
