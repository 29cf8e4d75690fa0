// tob_buffer is bytes that grow up to a maximum given at init.
//
// Threads: one at a time.
// Errors:  TOB_TOO_LARGE over the maximum, TOB_NO_MEMORY; a failed call leaves the content as it was.
#ifndef TOB_UTIL_BUFFER_H
#define TOB_UTIL_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

typedef struct tob_buffer {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t max_bytes;
} tob_buffer;

// tob_buffer_init allocates nothing yet.
void tob_buffer_init(tob_buffer *buffer, size_t max_bytes);

// tob_buffer_fini frees; the buffer may be used again after init. Accepts a zeroed one.
void tob_buffer_fini(tob_buffer *buffer);

// tob_buffer_clear forgets the content and keeps the memory.
void tob_buffer_clear(tob_buffer *buffer);

// tob_buffer_reserve makes room for `n` bytes after the content; ret is their start, valid until the next
// call. Add what was written to `len`.
TOB_MUST_USE tob_error tob_buffer_reserve(tob_buffer *buffer, size_t n, uint8_t **ret);

TOB_MUST_USE tob_error tob_buffer_append(tob_buffer *buffer, const void *bytes, size_t n);

#endif
