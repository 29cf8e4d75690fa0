#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/admin.h"
#include "gateway/outcome.h"
#include "report/report.h"
#include "util/text.h"

#define MAX_FIELD_NAME 64

// Where a value goes.
typedef struct target {
    const ProtobufCFieldDescriptor *type;
    void *at;
    size_t *count; // of a list
} target;

static ProtobufCMessage *make(h2o_req_t *req, const ProtobufCMessageDescriptor *type) {
    ProtobufCMessage *message = h2o_mem_alloc_pool(&req->pool, type->sizeof_message);
    protobuf_c_message_init(type, message);
    return message;
}

// Finds the field that a path means ("certificate.csr"), making the messages on its way. The paths are ours.
static target find(h2o_req_t *req, ProtobufCMessage *message, const char *path) {
    for (;;) {
        char name[MAX_FIELD_NAME];
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof(name), "%.*s", (int)n, path);
        const ProtobufCFieldDescriptor *type =
            protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
        assert(type);
        char *base = (char *)message;
        void *at = base + type->offset;
        if (!path[n]) {
            return (
                target){.type = type, .at = at, .count = (size_t *)(void *)(base + type->quantifier_offset)};
        }
        ProtobufCMessage **inner = at;
        *inner = *inner ? *inner : make(req, type->descriptor);
        message = *inner;
        path += n + 1;
    }
}

static uint64_t max_number(const target *to) {
    return to->type->type == PROTOBUF_C_TYPE_UINT32 ? UINT32_MAX : INT64_MAX;
}

static void set_number(const target *to, uint64_t value) {
    if (to->type->type == PROTOBUF_C_TYPE_UINT32) {
        *(uint32_t *)to->at = (uint32_t)value;
    } else {
        assert(to->type->type == PROTOBUF_C_TYPE_UINT64);
        *(uint64_t *)to->at = value;
    }
}

static bool fail(h2o_req_t *req, const char *name, const char *what) {
    tob_http_send_error(req, 400, 0, "%s: %s", name, what);
    return false;
}

// From the path or the query.
static bool set_text(h2o_req_t *req, const tob_admin_field *field, const target *to, h2o_iovec_t text) {
    if (!tob_utf8_valid(text.base, text.len)) {
        return fail(req, field->name, "must be UTF-8 without NUL");
    }
    char *copy = h2o_strdup(&req->pool, text.base, text.len).base;
    if (to->type->type == PROTOBUF_C_TYPE_STRING) {
        *(char **)to->at = copy;
        return true;
    }
    uint64_t value = 0;
    if (tob_parse_u64(copy, max_number(to), &value)) {
        return fail(req, field->name, "must be a whole number");
    }
    set_number(to, value);
    return true;
}

static bool is_text(const json_t *value) {
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

static const json_t *member_of(const tob_admin_field *field, const json_t *value) {
    for (const char *const *name = field->members; name && *name && json_is_object(value); name++) {
        const json_t *member = json_object_get(value, *name);
        if (member) {
            return member;
        }
    }
    return value;
}

static bool set_list(h2o_req_t *req, const tob_admin_field *field, const target *to, const json_t *value) {
    size_t n = json_array_size(value);
    const char **texts = h2o_mem_alloc_pool(&req->pool, (n + 1) * sizeof(*texts));
    bool good = json_is_array(value);
    for (size_t i = 0; i < n && good; i++) {
        const json_t *text = json_array_get(value, i);
        good = is_text(text);
        texts[i] = json_string_value(text);
    }
    if (!good) {
        return fail(req, field->name, "must be a list of texts");
    }
    *(const char ***)to->at = texts;
    *to->count = n;
    return true;
}

// From the body; texts are borrowed from it.
static bool set_json(h2o_req_t *req, const tob_admin_field *field, const target *to, const json_t *value) {
    value = member_of(field, value);
    if (to->type->label == PROTOBUF_C_LABEL_REPEATED) {
        return set_list(req, field, to, value);
    }
    if (to->type->type == PROTOBUF_C_TYPE_STRING) {
        *(const char **)to->at = json_string_value(value);
        return is_text(value) || fail(req, field->name, "must be a text");
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0) {
        return fail(req, field->name, "must be a whole number, 0 or more");
    }
    if ((uint64_t)number > max_number(to)) {
        return fail(req, field->name, "is too large");
    }
    set_number(to, (uint64_t)number);
    return true;
}

static bool set_missing(h2o_req_t *req, const tob_admin_field *field, const target *to) {
    if (field->required) {
        return fail(req, field->name, "is required");
    }
    if (field->fallback) {
        set_number(to, field->fallback);
    }
    return true;
}

static void set_always(h2o_req_t *req, const target *to) {
    if (to->type->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage **inner = to->at;
        *inner = *inner ? *inner : make(req, to->type->descriptor);
    } else {
        assert(to->type->type == PROTOBUF_C_TYPE_BOOL);
        *(protobuf_c_boolean *)to->at = true;
    }
}

static bool set(h2o_req_t *req, const tob_http_match *match, const tob_admin_field *field, const json_t *body,
                ProtobufCMessage *message) {
    target to = find(req, message, field->to ? field->to : field->name);
    switch (field->from) {
    case TOB_ADMIN_FROM_PATH: return set_text(req, field, &to, match->params[0]);
    case TOB_ADMIN_FROM_QUERY: {
        h2o_iovec_t text = tob_http_query_value(req, field->name);
        return text.len ? set_text(req, field, &to, text) : set_missing(req, field, &to);
    }
    case TOB_ADMIN_FROM_BODY: {
        const json_t *value = json_object_get(body, field->name);
        bool given = value && !json_is_null(value);
        return given ? set_json(req, field, &to, value) : set_missing(req, field, &to);
    }
    case TOB_ADMIN_ALWAYS: set_always(req, &to); break;
    }
    return true;
}

static bool load(h2o_req_t *req, h2o_iovec_t body, json_t **ret) {
    tob_report_problem problem;
    tob_error error = body.len ? tob_report_load(body.base, body.len, ret, &problem) : TOB_OK;
    if (error == TOB_NO_MEMORY) {
        tob_http_send_error(req, 503, TOB_RETRY_AFTER_MS, "out of memory");
    } else if (error) {
        tob_http_send_error(req, 400, 0, "%s", problem.text);
    }
    return !error;
}

bool tob_admin_request_pack(h2o_req_t *req, const tob_http_match *match, const tob_admin_route *route,
                            h2o_iovec_t body, h2o_iovec_t *ret) {
    ProtobufCMessage *message = make(req, tob_admin_call(route)->input);
    json_t *json = NULL;
    bool good = load(req, body, &json);
    for (const tob_admin_field *field = route->fields; good && field && field->name; field++) {
        good = set(req, match, field, json, message);
    }
    if (good) {
        size_t n = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = h2o_mem_alloc_pool(&req->pool, n + 1);
        *ret = h2o_iovec_init(packed, protobuf_c_message_pack(message, packed));
    }
    json_decref(json);
    return good;
}
