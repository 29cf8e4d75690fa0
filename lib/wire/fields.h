// The fields of a serialized message one after the other, for those who need one of them and not the whole message unpacked.
//
// Threads: any. Allocates nothing.
#ifndef TOB_WIRE_FIELDS_H
#define TOB_WIRE_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

typedef struct tob_field {
    uint32_t number;
    const uint8_t *bytes; // content of a string, bytes or message; NULL for numbers
    size_t len;
} tob_field;

typedef struct tob_fields {
    const uint8_t *at;
    const uint8_t *end;
} tob_fields;

tob_fields tob_fields_of(const void *message, size_t n);

// tob_fields_next reads the next field; number 0: there was none left. Errors: TOB_MALFORMED (protobuf encoding: a cut or
// overlong varint, a length past the end, groups).
TOB_MUST_USE tob_error tob_fields_next(tob_fields *fields, tob_field *ret);

#endif
