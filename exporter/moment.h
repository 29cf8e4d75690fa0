// One moment on both clocks: durations are measured on the monotonic one, and what was heard when is told on the other.
#ifndef TOB_EXPORTER_MOMENT_H
#define TOB_EXPORTER_MOMENT_H

#include <stdint.h>

typedef struct tob_moment {
    uint64_t monotonic_ms;
    uint64_t unix_ms;
} tob_moment;

#endif
