// Random numbers from the kernel. Threads: any. getrandom(2) does not fail on the kernels we run on; if it
// does, the process aborts: going on with predictable keys would be worse.
#ifndef TOB_UTIL_RANDOM_H
#define TOB_UTIL_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void tob_random_bytes(void *to, size_t n);

// Never 0.
uint64_t tob_random_u64(void);

// Uniform in [0, below); below > 0.
uint64_t tob_random_below(uint64_t below);

#endif
