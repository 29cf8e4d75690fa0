#include "ingestd/registry_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/registry_service.h"
#include "util/random.h"

bool tob_field_id(tob_rpc_call *call, const char *field, const char *id) {
    if (tob_id_valid(id, strlen(id))) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be 1 to %d characters of A-Z a-z 0-9 . _ : -", field,
                 TOB_MAX_ID_BYTES);
    return false;
}

bool tob_field_optional_id(tob_rpc_call *call, const char *field, const char *id) {
    return !*id || tob_field_id(call, field, id);
}

bool tob_field_name(tob_rpc_call *call, const char *field, const char *name) {
    if (tob_name_valid(name, strlen(name))) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be at most %d bytes of UTF-8 without control characters",
                 field, TOB_MAX_NAME_BYTES);
    return false;
}

bool tob_url_valid(const char *url) {
    size_t n = 0;
    while (n <= TOB_REGISTRY_MAX_URL_BYTES && url[n] > 0x20 && url[n] < 0x7f) {
        n++;
    }
    return !url[n] && n <= TOB_REGISTRY_MAX_URL_BYTES;
}

bool tob_field_url(tob_rpc_call *call, const char *field, const char *url) {
    if (tob_url_valid(url)) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be at most %d ASCII characters without spaces", field,
                 TOB_REGISTRY_MAX_URL_BYTES);
    return false;
}

bool tob_client_type_valid(const char *type) {
    return strcmp(type, "docker") == 0 || strcmp(type, "native") == 0 || strcmp(type, "mobile") == 0;
}

bool tob_field_client_type(tob_rpc_call *call, const char *field, const char *type) {
    if (tob_client_type_valid(type)) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be docker, native or mobile", field);
    return false;
}

bool tob_field_at_most(tob_rpc_call *call, const char *field, uint64_t value, uint64_t max) {
    if (value <= max) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be at most %" PRIu64, field, max);
    return false;
}

static bool find_known(const char *name, const char *const *known, uint32_t *mask) {
    for (size_t i = 0; known[i]; i++) {
        if (strcmp(name, known[i]) == 0) {
            *mask |= UINT32_C(1) << i;
            return true;
        }
    }
    return false;
}

bool tob_field_mask(tob_rpc_call *call, char *const *names, size_t count, const char *const *known,
                    uint32_t *ret_mask) {
    uint32_t mask = 0;
    if (count == 0 || count > TOB_REGISTRY_MAX_MASK) {
        tob_rpc_fail(call, TOB_INVALID, 0, "update_mask: must name 1 to %d fields", TOB_REGISTRY_MAX_MASK);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!find_known(names[i], known, &mask)) {
            // Its text only when it could be a field's: an answer is valid UTF-8.
            bool plain = tob_id_valid(names[i], strlen(names[i]));
            tob_rpc_fail(call, TOB_INVALID, 0, "update_mask[%zu]: %s%sis not a field that can be changed", i,
                         plain ? names[i] : "", plain ? " " : "");
            return false;
        }
    }
    *ret_mask = mask;
    return true;
}

void tob_make_id(const char *prefix, char ret[TOB_MAX_ID_BYTES + 1]) {
    snprintf(ret, TOB_MAX_ID_BYTES + 1, "%s%016" PRIx64, prefix, tob_random_u64());
}
