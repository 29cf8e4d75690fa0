// Clocks. Threads: any. Errors: none.
#ifndef TOB_UTIL_CLOCK_H
#define TOB_UTIL_CLOCK_H

#include <stdint.h>

// Unix time, milliseconds: for what people and other machines read.
uint64_t tob_clock_unix_ms(void);

// Monotonic time, milliseconds and nanoseconds: for deadlines and durations.
uint64_t tob_clock_monotonic_ms(void);
uint64_t tob_clock_monotonic_ns(void);

#endif
