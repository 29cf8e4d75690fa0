// The limit of taking batches in: inflating and unpacking them with nothing around it, in one thread.
//
// Threads: one at a time.
#ifndef TESTS_BENCH_UNPACK_LIMIT_H
#define TESTS_BENCH_UNPACK_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "util/buffer.h"
#include "util/error.h"

// Puts the next serialized SubmitRequest into `to`, which is empty.
typedef tob_error (*unpack_limit_next)(void *user, tob_buffer *to);

// unpack_limit takes some hundred batches and works on them again and again for duration_ms of CPU time.
//   compressed        they are compressed before, as lib/rpc does, and inflated in each round
//   ret_batches_per_s for each second of CPU time
// Errors: what `next` returned; TOB_MALFORMED, TOB_NO_MEMORY.
TOB_MUST_USE tob_error unpack_limit(unpack_limit_next next, void *user, bool compressed, uint64_t duration_ms,
                                    double *ret_batches_per_s);

#endif
