#include "wire/fields.h"

#include <stdbool.h>

#include "wire/varint.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

tob_fields tob_fields_of(const void *message, size_t n) {
    const uint8_t *at = message;
    return (tob_fields){.at = at, .end = n ? at + n : at};
}

static bool read_varint(tob_fields *fields, uint64_t *ret) {
    uint64_t value = 0;
    for (unsigned i = 0; i < TOB_VARINT_MAX_BYTES && fields->at < fields->end; i++) {
        uint8_t byte = *fields->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool skip(tob_fields *fields, uint64_t n) {
    if (n > (size_t)(fields->end - fields->at)) {
        return false;
    }
    fields->at += n;
    return true;
}

tob_error tob_fields_next(tob_fields *fields, tob_field *ret) {
    uint64_t tag = 0, value = 0;
    *ret = (tob_field){0};
    if (fields->at == fields->end) {
        return TOB_OK;
    }
    if (!read_varint(fields, &tag) || tag >> 3 == 0 || tag > UINT32_MAX) {
        return TOB_MALFORMED;
    }
    bool ok = false;
    switch (tag & 7) {
    case WIRE_VARINT: ok = read_varint(fields, &value); break;
    case WIRE_FIXED64: ok = skip(fields, 8); break;
    case WIRE_FIXED32: ok = skip(fields, 4); break;
    case WIRE_BYTES:
        ok = read_varint(fields, &value);
        ret->bytes = fields->at;
        ok = ok && skip(fields, value);
        ret->len = (size_t)value;
        break;
    default: break;
    }
    ret->number = (uint32_t)(tag >> 3);
    return ok ? TOB_OK : TOB_MALFORMED;
}
