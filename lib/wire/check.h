// What protobuf-c does not check before it unpacks: strings that are UTF-8 without NUL (proto3 requires the
// former, C the latter), the number of unknown fields, and nesting.
//
// Threads: any. Allocates nothing; one pass over the tags.
#ifndef TOB_WIRE_CHECK_H
#define TOB_WIRE_CHECK_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "util/error.h"

#define TOB_MAX_MESSAGE_DEPTH 8

// tob_message_check walks one serialized message (protobuf encoding:
// https://protobuf.dev/programming-guides/encoding). Errors: TOB_MALFORMED for broken wire format, a string
// that is not UTF-8 or has a NUL; TOB_TOO_LARGE for more than
//         TOB_MAX_UNKNOWN_FIELDS in one message or nesting over TOB_MAX_MESSAGE_DEPTH.
TOB_MUST_USE tob_error tob_message_check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t n);

#endif
