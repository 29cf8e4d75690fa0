#include "agent/schedule.h"

static uint64_t at_least(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t at_most(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void tob_schedule_init(tob_schedule *schedule, uint64_t interval_ms, tob_random_fn random, uint64_t now_ms) {
    *schedule = (tob_schedule){.interval_ms = interval_ms ? interval_ms : TOB_SCHEDULE_DEFAULT_INTERVAL_MS,
                               .follow_server = interval_ms == 0,
                               .random = random};
    schedule->due_ms = now_ms + random(at_most(schedule->interval_ms, TOB_SCHEDULE_FIRST_MS) + 1);
}

void tob_schedule_succeeded(tob_schedule *schedule, uint64_t now_ms, uint64_t next_report_in_ms) {
    if (schedule->follow_server && next_report_in_ms) {
        schedule->interval_ms =
            at_least(at_most(next_report_in_ms, TOB_SCHEDULE_MAX_INTERVAL_MS), TOB_SCHEDULE_MIN_INTERVAL_MS);
    }
    schedule->failures = 0;
    uint64_t interval = schedule->interval_ms;
    schedule->due_ms = now_ms + interval - interval / 10 + schedule->random(interval / 5 + 1); // ± 10 %
}

void tob_schedule_failed(tob_schedule *schedule, uint64_t now_ms, uint64_t retry_after_ms) {
    uint64_t most = TOB_SCHEDULE_BACKOFF_MIN_MS;
    for (unsigned i = 0; i < schedule->failures && most < TOB_SCHEDULE_BACKOFF_MAX_MS; i++) {
        most *= 2;
    }
    most = at_most(most, TOB_SCHEDULE_BACKOFF_MAX_MS);
    schedule->failures++;
    schedule->due_ms = now_ms + retry_after_ms + schedule->random(most + 1);
}

void tob_schedule_hurry(tob_schedule *schedule, uint64_t now_ms) {
    schedule->failures = 0;
    schedule->due_ms = now_ms;
}
