#include "util/cond.h"

#include <time.h>

void tob_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool tob_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t at_ms) {
    struct timespec at = {.tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000};
    return pthread_cond_timedwait(cond, lock, &at) == 0;
}
