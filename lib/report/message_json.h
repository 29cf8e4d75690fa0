// Protobuf messages as JSON.
//
// Threads: any. Never blocks, never logs.
#ifndef TOB_REPORT_MESSAGE_JSON_H
#define TOB_REPORT_MESSAGE_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_TIME_TEXT_BYTES 32

typedef enum tob_message_json_style {
    // As in the .proto: names as they are, times numbers.
    TOB_MESSAGE_JSON_PLAIN,
    // For HTTP: a field …_unix_ms or …_unix_s is named without that and is RFC 3339 in UTC, null for 0.
    TOB_MESSAGE_JSON_TIMES,
} tob_message_json_style;

// tob_message_json makes JSON of any message: 64-bit identities (fixed64) become 16 hex digits, enums their names, numbers
// over 2^63-1 strings, bytes hex digits (left out when there are none), messages that are not there null. Owned by the
// caller, json_decref; NULL: no memory.
TOB_MUST_USE json_t *tob_message_json(const ProtobufCMessage *message, tob_message_json_style style);

// tob_time_text: "2026-11-22T10:00:00Z", with ".123" before the Z if it is no whole second. Returns `to`.
const char *tob_time_text(uint64_t unix_ms, char to[TOB_TIME_TEXT_BYTES]);

// tob_time_json: the same as JSON; null for 0.
TOB_MUST_USE json_t *tob_time_json(uint64_t unix_ms);

#endif
