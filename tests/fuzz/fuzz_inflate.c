// Compressed bodies: tob_inflate (zlib, as RPC bodies are) and tob_gunzip (as HTTP bodies are). The first byte
// of the input chooses, the next two are the declared size or the cap.
//
// Promises: not a byte is written past the declared size or the cap; what inflates also compresses and inflates
// back.
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "util/buffer.h"
#include "wire/compress.h"

enum { MAX_INPUT_BYTES = 64 << 10 };

static void check_inflate(const uint8_t *data, size_t n, size_t size) {
    tob_inflater *inflater = NULL;
    FUZZ_CHECK(tob_inflater_new(&inflater) == TOB_OK);
    uint8_t *to = malloc(size ? size : 1);
    FUZZ_CHECK(to);
    tob_error err = tob_inflate(inflater, data, n, to, size);
    FUZZ_CHECK(err == TOB_OK || err == TOB_MALFORMED);
    if (err == TOB_OK) {
        tob_deflater *deflater = NULL;
        uint8_t *again = malloc(size ? size : 1);
        tob_buffer deflated;
        tob_buffer_init(&deflated, 1 << 20);
        FUZZ_CHECK(again && tob_deflater_new(1, &deflater) == TOB_OK);
        FUZZ_CHECK(tob_deflate(deflater, to, size, &deflated) == TOB_OK);
        FUZZ_CHECK(tob_inflate(inflater, deflated.data, deflated.len, again, size) == TOB_OK);
        FUZZ_CHECK(memcmp(to, again, size) == 0);
        // One byte less or more than there is: never accepted.
        FUZZ_CHECK(tob_inflate(inflater, deflated.data, deflated.len - 1, again, size) == TOB_MALFORMED);
        FUZZ_CHECK(size == 0 ||
                   tob_inflate(inflater, deflated.data, deflated.len, again, size - 1) != TOB_OK);
        tob_buffer_fini(&deflated);
        tob_deflater_free(deflater);
        free(again);
    }
    free(to);
    tob_inflater_free(inflater);
}

static void check_gunzip(const uint8_t *data, size_t n, size_t max_bytes) {
    tob_buffer out, once;
    tob_buffer_init(&out, max_bytes);
    tob_error err = tob_gunzip(data, n, &out);
    FUZZ_CHECK(out.len <= max_bytes);
    FUZZ_CHECK(err == TOB_OK || err == TOB_MALFORMED || err == TOB_TOO_LARGE);
    if (err == TOB_OK && out.len > 0) { // the cap is exact: one byte less is too little
        tob_buffer_init(&once, out.len - 1);
        FUZZ_CHECK(tob_gunzip(data, n, &once) == TOB_TOO_LARGE);
        tob_buffer_fini(&once);
        tob_buffer_init(&once, out.len);
        FUZZ_CHECK(tob_gunzip(data, n, &once) == TOB_OK && once.len == out.len);
        tob_buffer_fini(&once);
    }
    tob_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    bool gzip = fuzz_take_byte(&data, &n) & 1;
    size_t size = fuzz_take_u16(&data, &n);
    if (gzip) {
        check_gunzip(data, n, size);
    } else {
        check_inflate(data, n, size);
    }
    return 0;
}
