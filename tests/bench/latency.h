// How long calls took: collected from any thread, read once they have ended.
#ifndef TESTS_BENCH_LATENCY_H
#define TESTS_BENCH_LATENCY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define LATENCY_MAX (8u << 20) // further ones are not kept

typedef struct latencies {
    uint32_t *microseconds;
    atomic_size_t count;
} latencies;

// TOB_NO_MEMORY.
TOB_MUST_USE tob_error latency_init(latencies *all);
void latency_fini(latencies *all);
void latency_add(latencies *all, uint64_t nanoseconds);

// latency_ms returns a quantile (0…1) in milliseconds; 0 when there is none. One thread, at the end.
double latency_ms(latencies *all, double quantile);

#endif
