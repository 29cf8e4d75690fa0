// Condition variables that wait by the monotonic clock, so that a step of the wall clock neither ends a wait nor
// prolongs it.
//
// Threads: as pthread_cond_init and pthread_cond_timedwait. Errors: none (on Linux these can't fail).
#ifndef TOB_UTIL_COND_H
#define TOB_UTIL_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void tob_cond_init(pthread_cond_t *cond);

// tob_cond_wait_until waits for a signal until `at_ms` of tob_clock_monotonic_ms; the lock is held. False when the
// time is over. May return early without a signal: check what you wait for, in a loop.
bool tob_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t at_ms);

#endif
