// Base-128 varints (protobuf encoding) for the few places that write tags themselves.
#ifndef TOB_WIRE_VARINT_H
#define TOB_WIRE_VARINT_H

#include <stddef.h>
#include <stdint.h>

#define TOB_VARINT_MAX_BYTES 10

// tob_varint_put returns how many bytes it wrote.
static inline size_t tob_varint_put(uint8_t *to, uint64_t value) {
    size_t n = 0;
    while (value >= 0x80) {
        to[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[n++] = (uint8_t)value;
    return n;
}

#endif
