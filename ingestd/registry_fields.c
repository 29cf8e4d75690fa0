#include "ingestd/registry_fields.h"

#include <inttypes.h>
#include <openssl/crypto.h>
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

bool tob_field_url(tob_rpc_call *call, const char *field, const char *url) {
    size_t n = 0;
    while (n <= TOB_REGISTRY_MAX_URL_BYTES && url[n] > 0x20 && url[n] < 0x7f) {
        n++;
    }
    if (!url[n] && n <= TOB_REGISTRY_MAX_URL_BYTES) {
        return true;
    }
    tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be at most %d ASCII characters without spaces", field,
                 TOB_REGISTRY_MAX_URL_BYTES);
    return false;
}

bool tob_field_client_type(tob_rpc_call *call, const char *field, const char *type) {
    static const char *const known[] = {"docker", "native", "mobile"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(type, known[i]) == 0) {
            return true;
        }
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

void tob_make_id(const char *prefix, char ret[TOB_MAX_ID_BYTES + 1]) {
    snprintf(ret, TOB_MAX_ID_BYTES + 1, "%s%016" PRIx64, prefix, tob_random_u64());
}

void tob_make_api_key(char ret[TOB_API_KEY_BYTES]) {
    uint8_t bytes[32];
    tob_random_bytes(bytes, sizeof(bytes));
    memcpy(ret, "tobk_", 5);
    tob_base64url_encode(bytes, sizeof(bytes), ret + 5);
    OPENSSL_cleanse(bytes, sizeof(bytes));
}
