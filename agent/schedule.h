// tob_schedule says when to send next: every interval after a success, with exponential backoff and full
// jitter after a failure ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that a fleet
// never moves in step.
//
// The clock is the caller's: every time is monotonic milliseconds. Threads: one at a time. Errors: none.
#ifndef TOB_AGENT_SCHEDULE_H
#define TOB_AGENT_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define TOB_SCHEDULE_DEFAULT_INTERVAL_MS 60000
#define TOB_SCHEDULE_MIN_INTERVAL_MS     1000    // what a server may ask for
#define TOB_SCHEDULE_MAX_INTERVAL_MS     3600000 // likewise
#define TOB_SCHEDULE_FIRST_MS            5000    // the first batch goes out within this
#define TOB_SCHEDULE_BACKOFF_MIN_MS      1000
#define TOB_SCHEDULE_BACKOFF_MAX_MS      300000

// Uniform in [0, below); below > 0. tob_random_below, or a test's.
typedef uint64_t (*tob_random_fn)(uint64_t below);

typedef struct tob_schedule {
    uint64_t interval_ms;
    bool follow_server; // the interval is what the server asked for last
    unsigned failures;  // since the last success
    uint64_t due_ms;
    tob_random_fn random;
} tob_schedule;

// interval_ms 0: TOB_SCHEDULE_DEFAULT_INTERVAL_MS until the server asks for another one.
void tob_schedule_init(tob_schedule *schedule, uint64_t interval_ms, tob_random_fn random, uint64_t now_ms);

// After an answer: next_report_in_ms as the server said, 0 if it did not.
void tob_schedule_succeeded(tob_schedule *schedule, uint64_t now_ms, uint64_t next_report_in_ms);

// After a failure that is worth repeating; retry_after_ms as the server said, 0 if it did not.
void tob_schedule_failed(tob_schedule *schedule, uint64_t now_ms, uint64_t retry_after_ms);

// Due at once, and failures are counted anew: before the process ends, or when a full batch is waiting.
void tob_schedule_hurry(tob_schedule *schedule, uint64_t now_ms);

#endif
