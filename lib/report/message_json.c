#include "report/message_json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_UNIX_MS UINT64_C(253402300799999) // the end of the year 9999

const char *tob_time_text(uint64_t unix_ms, char to[TOB_TIME_TEXT_BYTES]) {
    uint64_t known_ms = unix_ms < MAX_UNIX_MS ? unix_ms : MAX_UNIX_MS;
    time_t seconds = (time_t)(known_ms / 1000);
    unsigned ms = (unsigned)(known_ms % 1000);
    struct tm utc = {0};
    char whole[20];
    gmtime_r(&seconds, &utc);
    strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(to, TOB_TIME_TEXT_BYTES, ms ? "%s.%03uZ" : "%sZ", whole, ms);
    return to;
}

json_t *tob_time_json(uint64_t unix_ms) {
    char text[TOB_TIME_TEXT_BYTES];
    return unix_ms ? json_string(tob_time_text(unix_ms, text)) : json_null();
}

static json_t *unsigned_json(uint64_t value) {
    char text[24];
    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    snprintf(text, sizeof(text), "%" PRIu64, value);
    return json_string(text);
}

static json_t *identity_json(uint64_t value) {
    char text[24];
    snprintf(text, sizeof(text), "%016" PRIx64, value);
    return json_string(text);
}

static json_t *enum_json(const ProtobufCEnumDescriptor *type, int value) {
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
    return known ? json_string(known->name) : json_integer(value);
}

static json_t *bytes_json(const ProtobufCBinaryData *bytes) {
    char *text = malloc(bytes->len * 2 + 1);
    json_t *json = NULL;
    if (text) {
        for (size_t i = 0; i < bytes->len; i++) {
            snprintf(text + i * 2, 3, "%02x", bytes->data[i]);
        }
        json = json_stringn(text, bytes->len * 2);
        free(text);
    }
    return json;
}

// `at` points to the value as protobuf-c keeps it.
static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at,
                          tob_message_json_style style) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)at;
        return json_string(text ? text : "");
    }
    case PROTOBUF_C_TYPE_BOOL: return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT64: return unsigned_json(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FIXED64: return identity_json(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT: return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE: return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_ENUM: return enum_json(field->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *message = *(const ProtobufCMessage *const *)at;
        return message ? tob_message_json(message, style) : json_null();
    }
    case PROTOBUF_C_TYPE_BYTES: return bytes_json(at);
    }
    return json_null();
}

static size_t size_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_ENUM: return sizeof(int);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    }
    return 0;
}

static json_t *field_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                          tob_message_json_style style) {
    const char *base = (const char *)message;
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        return value_json(field, base + field->offset, style);
    }
    size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
    const char *values = *(const char *const *)(const void *)(base + field->offset);
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++) {
        if (json_array_append_new(array, value_json(field, values + i * size_of(field->type), style))) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

// Bytes that were not asked for, or that there are none of.
static bool is_no_bytes(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
    const char *at = (const char *)message + field->offset;
    return field->type == PROTOBUF_C_TYPE_BYTES && field->label != PROTOBUF_C_LABEL_REPEATED &&
           ((const ProtobufCBinaryData *)(const void *)at)->len == 0;
}

// The length of a name without the end that says it is a time, or 0.
static size_t time_name_len(const ProtobufCFieldDescriptor *field, uint64_t *ret_unit_ms) {
    static const struct {
        const char *end;
        uint64_t unit_ms;
    } ends[] = {{"_unix_ms", 1}, {"_unix_s", 1000}};
    size_t len = strlen(field->name);
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends) && field->type == PROTOBUF_C_TYPE_UINT64; i++) {
        size_t end = strlen(ends[i].end);
        if (len > end && strcmp(field->name + len - end, ends[i].end) == 0) {
            *ret_unit_ms = ends[i].unit_ms;
            return len - end;
        }
    }
    return 0;
}

static int add_field(json_t *object, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                     tob_message_json_style style) {
    uint64_t unit_ms = 0;
    size_t time_name = style == TOB_MESSAGE_JSON_TIMES ? time_name_len(field, &unit_ms) : 0;
    if (is_no_bytes(message, field)) {
        return 0;
    }
    if (!time_name) {
        return json_object_set_new(object, field->name, field_json(message, field, style));
    }
    uint64_t value = *(const uint64_t *)(const void *)((const char *)message + field->offset);
    uint64_t unix_ms = value > MAX_UNIX_MS / unit_ms ? MAX_UNIX_MS : value * unit_ms;
    char name[64];
    snprintf(name, sizeof(name), "%.*s", (int)time_name, field->name);
    return json_object_set_new(object, name, tob_time_json(unix_ms));
}

json_t *tob_message_json(const ProtobufCMessage *message, tob_message_json_style style) {
    json_t *object = json_object();
    for (unsigned i = 0; object && i < message->descriptor->n_fields; i++) {
        if (add_field(object, message, &message->descriptor->fields[i], style)) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}
