// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput: linked with libFuzzer it looks
// for inputs that break a promise; linked with replay.c it runs those of its corpus, as a test.
//
// Threads: one input at a time.
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// FUZZ_CHECK ends the process when a promise is broken, in every build.
#define FUZZ_CHECK(promise)                                                                                  \
    do {                                                                                                     \
        if (!(promise)) {                                                                                    \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #promise);                            \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

// fuzz_take_byte takes the first byte of the input; 0 when there is none.
static inline uint8_t fuzz_take_byte(const uint8_t **data, size_t *n) {
    if (*n == 0) {
        return 0;
    }
    (*n)--;
    return *(*data)++;
}

// fuzz_take_u16 takes two, little-endian.
static inline uint16_t fuzz_take_u16(const uint8_t **data, size_t *n) {
    uint16_t low = fuzz_take_byte(data, n);
    return (uint16_t)(low | fuzz_take_byte(data, n) << 8);
}

#endif
