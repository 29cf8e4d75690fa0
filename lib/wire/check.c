#include "wire/check.h"

#include <stdbool.h>
#include <stdint.h>

#include "util/text.h"
#include "wire/batch.h"

typedef struct reader {
    const uint8_t *at;
    const uint8_t *end;
} reader;

static bool read_varint(reader *r, uint64_t *ret) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->at == r->end) {
            return false;
        }
        uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool skip(reader *r, uint64_t n) {
    if (n > (uint64_t)(r->end - r->at)) {
        return false;
    }
    r->at += n;
    return true;
}

static tob_error check(const ProtobufCMessageDescriptor *type, reader r, unsigned depth);

static tob_error check_delimited(const ProtobufCFieldDescriptor *field, reader *r, unsigned depth) {
    uint64_t len = 0;
    const uint8_t *start = NULL;
    if (!read_varint(r, &len)) {
        return TOB_MALFORMED;
    }
    start = r->at;
    if (!skip(r, len)) {
        return TOB_MALFORMED;
    }
    if (field && field->type == PROTOBUF_C_TYPE_STRING) {
        return tob_utf8_valid((const char *)start, len) ? TOB_OK : TOB_MALFORMED;
    }
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return check(field->descriptor, (reader){start, r->at}, depth + 1);
    }
    return TOB_OK;
}

static tob_error check_field(const ProtobufCFieldDescriptor *field, unsigned wire_type, reader *r,
                             unsigned depth) {
    uint64_t ignored = 0;
    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT: return read_varint(r, &ignored) ? TOB_OK : TOB_MALFORMED;
    case PROTOBUF_C_WIRE_TYPE_64BIT: return skip(r, 8) ? TOB_OK : TOB_MALFORMED;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED: return check_delimited(field, r, depth);
    case PROTOBUF_C_WIRE_TYPE_32BIT: return skip(r, 4) ? TOB_OK : TOB_MALFORMED;
    default: return TOB_MALFORMED; // groups, and types that do not exist
    }
}

static tob_error check(const ProtobufCMessageDescriptor *type, reader r, unsigned depth) {
    unsigned unknown = 0;
    if (depth > TOB_MAX_MESSAGE_DEPTH) {
        return TOB_TOO_LARGE;
    }
    while (r.at < r.end) {
        uint64_t tag = 0;
        if (!read_varint(&r, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911) {
            return TOB_MALFORMED;
        }
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        if (!field && ++unknown > TOB_MAX_UNKNOWN_FIELDS) {
            return TOB_TOO_LARGE;
        }
        tob_error err = check_field(field, (unsigned)(tag & 7), &r, depth);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

tob_error tob_message_check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t n) {
    const uint8_t *start = n ? bytes : (const uint8_t *)"";
    return check(type, (reader){start, start + n}, 1);
}
