#include "latency.h"

#include <stdlib.h>

tob_error latency_init(latencies *all) {
    all->microseconds = calloc(LATENCY_MAX, sizeof(*all->microseconds));
    atomic_init(&all->count, 0);
    return all->microseconds ? TOB_OK : TOB_NO_MEMORY;
}

void latency_fini(latencies *all) {
    free(all->microseconds);
}

void latency_add(latencies *all, uint64_t nanoseconds) {
    size_t at = atomic_fetch_add_explicit(&all->count, 1, memory_order_relaxed);
    if (at < LATENCY_MAX) {
        uint64_t us = nanoseconds / 1000;
        all->microseconds[at] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

double latency_ms(latencies *all, double quantile) {
    size_t n = atomic_load(&all->count);
    n = n < LATENCY_MAX ? n : LATENCY_MAX;
    if (n == 0) {
        return 0;
    }
    qsort(all->microseconds, n, sizeof(*all->microseconds), compare);
    return all->microseconds[(size_t)((double)(n - 1) * quantile)] / 1000.0;
}
