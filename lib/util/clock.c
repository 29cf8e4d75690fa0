#include "util/clock.h"

#include <time.h>

static uint64_t now_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t tob_clock_unix_ms(void) {
    return now_ns(CLOCK_REALTIME) / 1000000u;
}

uint64_t tob_clock_monotonic_ms(void) {
    return now_ns(CLOCK_MONOTONIC) / 1000000u;
}

uint64_t tob_clock_monotonic_ns(void) {
    return now_ns(CLOCK_MONOTONIC);
}
