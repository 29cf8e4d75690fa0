#include "wire/compress.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#define ZLIB_CONST // next_in takes const
#include <zlib.h>

struct tob_deflater {
    z_stream stream;
};

struct tob_inflater {
    z_stream stream;
};

tob_error tob_deflater_new(int level, tob_deflater **ret) {
    tob_deflater *deflater = calloc(1, sizeof(*deflater));
    if (!deflater) {
        return TOB_NO_MEMORY;
    }
    if (deflateInit(&deflater->stream, level) != Z_OK) {
        free(deflater);
        return TOB_NO_MEMORY;
    }
    *ret = deflater;
    return TOB_OK;
}

void tob_deflater_free(tob_deflater *deflater) {
    if (deflater) {
        deflateEnd(&deflater->stream);
        free(deflater);
    }
}

tob_error tob_deflate(tob_deflater *deflater, const void *bytes, size_t n, tob_buffer *out) {
    if (n > UINT_MAX / 2) {
        return TOB_TOO_LARGE;
    }
    z_stream *z = &deflater->stream;
    deflateReset(z);
    uint8_t *to = NULL;
    size_t bound = deflateBound(z, n);
    tob_error err = tob_buffer_reserve(out, bound, &to);
    if (err) {
        return err;
    }
    z->next_in = bytes;
    z->avail_in = (uInt)n;
    z->next_out = to;
    z->avail_out = (uInt)bound;
    if (deflate(z, Z_FINISH) != Z_STREAM_END) {
        return TOB_INTERNAL; // deflateBound promised room
    }
    out->len += bound - z->avail_out;
    return TOB_OK;
}

tob_error tob_inflater_new(tob_inflater **ret) {
    tob_inflater *inflater = calloc(1, sizeof(*inflater));
    if (!inflater) {
        return TOB_NO_MEMORY;
    }
    if (inflateInit(&inflater->stream) != Z_OK) {
        free(inflater);
        return TOB_NO_MEMORY;
    }
    *ret = inflater;
    return TOB_OK;
}

void tob_inflater_free(tob_inflater *inflater) {
    if (inflater) {
        inflateEnd(&inflater->stream);
        free(inflater);
    }
}

tob_error tob_inflate(tob_inflater *inflater, const void *bytes, size_t n, void *to, size_t size) {
    if (n > UINT_MAX || size > UINT_MAX) {
        return TOB_MALFORMED;
    }
    z_stream *z = &inflater->stream;
    if (inflateReset(z) != Z_OK) {
        return TOB_INTERNAL;
    }
    z->next_in = bytes;
    z->avail_in = (uInt)n;
    z->next_out = to;
    z->avail_out = (uInt)size;
    bool whole = inflate(z, Z_FINISH) == Z_STREAM_END && z->avail_out == 0 && z->avail_in == 0;
    return whole ? TOB_OK : TOB_MALFORMED;
}

// Inflates one member into `out`; z->avail_in is what follows it.
static tob_error gunzip_member(z_stream *z, tob_buffer *out) {
    int status = Z_OK;
    while (status == Z_OK) {
        size_t room = out->max_bytes - out->len;
        size_t step = room < 16384 ? room : 16384;
        uint8_t *to = NULL;
        uint8_t probe = 0;
        if (step == 0) { // full: the stream may end here, but not hold another byte
            to = &probe;
        } else {
            tob_error err = tob_buffer_reserve(out, step, &to);
            if (err) {
                return err;
            }
        }
        z->next_out = to;
        z->avail_out = step ? (uInt)step : 1;
        status = inflate(z, Z_NO_FLUSH);
        if (step == 0) {
            if (z->avail_out == 0) {
                return TOB_TOO_LARGE;
            }
        } else {
            out->len += step - z->avail_out;
        }
        if (status == Z_BUF_ERROR || (status == Z_OK && z->avail_in == 0 && z->avail_out != 0)) {
            return TOB_MALFORMED; // input ended within the stream
        }
    }
    return status == Z_STREAM_END ? TOB_OK : status == Z_MEM_ERROR ? TOB_NO_MEMORY : TOB_MALFORMED;
}

tob_error tob_gunzip(const void *bytes, size_t n, tob_buffer *out) {
    enum { GZIP_ONLY = 16 };
    z_stream z = {.next_in = bytes, .avail_in = (uInt)n};
    if (n > UINT_MAX) {
        return TOB_TOO_LARGE;
    }
    if (inflateInit2(&z, MAX_WBITS + GZIP_ONLY) != Z_OK) {
        return TOB_NO_MEMORY;
    }
    tob_error err = TOB_OK;
    do {
        err = gunzip_member(&z, out);
    } while (!err && z.avail_in > 0 && inflateReset(&z) == Z_OK);
    inflateEnd(&z);
    return err;
}
