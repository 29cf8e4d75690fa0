// Bodies compressed with zlib (RFC 1950).
//
// Threads: a tob_deflater or tob_inflater belongs to one thread at a time; it keeps zlib's state between
// calls.
#ifndef TOB_WIRE_COMPRESS_H
#define TOB_WIRE_COMPRESS_H

#include <stddef.h>

#include "util/buffer.h"

typedef struct tob_deflater tob_deflater;
typedef struct tob_inflater tob_inflater;

// level 1–9. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_deflater_new(int level, tob_deflater **ret);
void tob_deflater_free(tob_deflater *deflater);

// tob_deflate appends one zlib stream to `out`. TOB_TOO_LARGE, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_deflate(tob_deflater *deflater, const void *bytes, size_t n, tob_buffer *out);

TOB_MUST_USE tob_error tob_inflater_new(tob_inflater **ret);
void tob_inflater_free(tob_inflater *inflater);

// tob_inflate writes exactly `size` bytes to `to`: the stream must end there, with nothing after it.
// TOB_MALFORMED otherwise.
TOB_MUST_USE tob_error tob_inflate(tob_inflater *inflater, const void *bytes, size_t n, void *to,
                                   size_t size);

// tob_gunzip appends the content of one gzip file (RFC 1952; several members) to `out`: for HTTP bodies.
// TOB_MALFORMED; TOB_TOO_LARGE over out's maximum; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_gunzip(const void *bytes, size_t n, tob_buffer *out);

#endif
