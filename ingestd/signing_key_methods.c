#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/signing_keys.pb-c.h"

#include "ingestd/registry_fields.h"
#include "ingestd/registry_methods.h"
#include "ingestd/registry_signing_keys.h"
#include "ingestd/signing_keys.h"
#include "util/clock.h"
#include "util/log.h"

#define ID_FIELD "kid"
#define WHAT     "signing key"

static Tobogganing__V1__SigningKey message_of(const tob_registry_signing_key *key) {
    Tobogganing__V1__SigningKey message = TOBOGGANING__V1__SIGNING_KEY__INIT;
    message.kid = (char *)key->kid;
    message.created_unix_ms = key->created_unix_ms;
    message.expires_unix_ms = key->expires_unix_ms;
    message.revoked_unix_ms = key->revoked_unix_ms;
    return message;
}

// In the open change. False: it failed, the change is rolled back, and the call has been answered.
static bool check_room(tob_registry_call *call) {
    tob_registry *registry = call->service->registry;
    size_t live = 0;
    tob_error err = tob_signing_keys_count_live(registry, tob_registry_now(registry), &live);
    if (err) {
        return tob_registry_call_end(call, err, ID_FIELD, WHAT);
    }
    if (live < TOB_JWT_MAX_OWN_KEYS) {
        return true;
    }
    tob_registry_call_refuse(call, TOB_PRECONDITION,
                             "%d keys are good already: revoke some that are not needed",
                             TOB_JWT_MAX_OWN_KEYS);
    return false;
}

// Adds the key in a change of its own. False: it failed, and the call has been answered.
static bool add_key(tob_registry_call *call, const char *kid, const char *private_jwk, uint64_t overlap_ms,
                    tob_registry_signing_key *ret) {
    tob_registry *registry = call->service->registry;
    if (!tob_registry_call_begin(call) || !check_room(call)) {
        return false;
    }
    uint64_t now = tob_registry_now(registry);
    *ret = (tob_registry_signing_key){.kid = kid, .private_jwk = private_jwk, .created_unix_ms = now};
    tob_error err = tob_registry_add_signing_key(registry, "signing_key.rotate", ret, now + overlap_ms);
    return tob_registry_call_end(call, err, ID_FIELD, WHAT);
}

static void rotate(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__RotateSigningKeyRequest *request =
        (const Tobogganing__V1__RotateSigningKeyRequest *)message;
    uint64_t overlap_s = request->overlap_s ? request->overlap_s : TOB_REGISTRY_DEFAULT_TTL_S;
    char *text = NULL, kid[TOB_JWT_KID_BYTES];
    tob_registry_signing_key key;
    if (!tob_field_at_most(call->call, "overlap_s", overlap_s, TOB_REGISTRY_MAX_TTL_S)) {
        return;
    }
    tob_error err = tob_jwt_make_key(&text, kid);
    if (err) {
        tob_err("signing_key_failed", TOB_ERR(err));
        tob_rpc_fail(call->call, err, 0, "the key can't be made: %s", tob_error_string(err));
        return;
    }
    bool added = add_key(call, kid, text, overlap_s * 1000, &key);
    OPENSSL_cleanse(text, strlen(text));
    free(text);
    if (added) {
        tob_info("signing_key_rotated", TOB_STR("kid", kid), TOB_UINT("overlap_s", overlap_s));
        Tobogganing__V1__SigningKey response = message_of(&key);
        tob_rpc_reply(call->call, &response.base);
    }
}

// A list, in the call's arena.
typedef struct listing {
    tob_registry_call *call;
    Tobogganing__V1__SigningKey **rows;
    size_t count;
    size_t room;
} listing;

static tob_error grow(listing *to) {
    size_t room = to->room ? to->room * 2 : TOB_JWT_MAX_OWN_KEYS;
    Tobogganing__V1__SigningKey **rows =
        tob_arena_alloc(to->call->arena, room * sizeof(Tobogganing__V1__SigningKey *));
    if (!rows) {
        return TOB_NO_MEMORY;
    }
    if (to->count) {
        memcpy(rows, to->rows, to->count * sizeof(Tobogganing__V1__SigningKey *));
    }
    to->rows = rows;
    to->room = room;
    return TOB_OK;
}

static tob_error list_key(void *user, const tob_registry_signing_key *key) {
    listing *to = user;
    tob_error err = to->count == to->room ? grow(to) : TOB_OK;
    size_t kid_bytes = strlen(key->kid) + 1;
    Tobogganing__V1__SigningKey *row = err ? NULL : tob_arena_alloc(to->call->arena, sizeof(*row));
    char *kid = row ? tob_arena_alloc(to->call->arena, kid_bytes) : NULL;
    if (!kid) {
        return TOB_NO_MEMORY;
    }
    *row = message_of(key);
    row->kid = memcpy(kid, key->kid, kid_bytes);
    to->rows[to->count++] = row;
    return TOB_OK;
}

// False: it failed, and the call has been answered.
static bool read_all(tob_registry_call *call, listing *ret) {
    *ret = (listing){.call = call};
    tob_error err = tob_registry_list_signing_keys(call->service->registry, list_key, ret);
    if (err) {
        tob_registry_call_fail(call, err, ID_FIELD, WHAT);
    }
    return !err;
}

static void list(tob_registry_call *call, const ProtobufCMessage *message) {
    (void)message; // has no fields
    listing keys;
    if (!read_all(call, &keys)) {
        return;
    }
    Tobogganing__V1__ListSigningKeysResponse response = TOBOGGANING__V1__LIST_SIGNING_KEYS_RESPONSE__INIT;
    response.keys = keys.rows;
    response.n_keys = keys.count;
    tob_rpc_reply(call->call, &response.base);
}

static void answer_with(tob_registry_call *call, const char *kid) {
    listing keys;
    if (!read_all(call, &keys)) {
        return;
    }
    for (size_t i = 0; i < keys.count; i++) {
        if (strcmp(keys.rows[i]->kid, kid) == 0) {
            tob_rpc_reply(call->call, &keys.rows[i]->base);
            return;
        }
    }
    tob_registry_call_fail(call, TOB_NOT_FOUND, ID_FIELD, WHAT); // another process has dropped it since
}

static void revoke(tob_registry_call *call, const ProtobufCMessage *message) {
    const char *kid = ((const Tobogganing__V1__SigningKeyId *)message)->kid;
    tob_registry *registry = call->service->registry;
    if (!tob_field_id(call->call, ID_FIELD, kid) || !tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_registry_revoke_signing_key(registry, kid);
    if (err == TOB_PRECONDITION) {
        tob_registry_call_refuse(call, err, "kid: this key signs: rotate first");
        return;
    }
    if (!tob_registry_call_end(call, err, ID_FIELD, WHAT)) {
        return;
    }
    tob_info("signing_key_revoked", TOB_STR("kid", kid));
    answer_with(call, kid);
}

static void get_jwks(tob_registry_call *call, const ProtobufCMessage *message) {
    (void)message; // has no fields
    Tobogganing__V1__Jwks response = TOBOGGANING__V1__JWKS__INIT;
    tob_error err = tob_jwt_jwks(call->service->jwt, tob_clock_unix_ms(), &response.json);
    if (err) {
        tob_rpc_fail(call->call, err, 0, "%s", tob_error_string(err));
        return;
    }
    tob_rpc_reply(call->call, &response.base);
    free(response.json);
}

const tob_registry_method tob_signing_key_methods[] = {
    {.name = "Rotate", .access = TOB_ACCESS_ADMIN, .carry_out = rotate},
    {.name = "List", .access = TOB_ACCESS_ADMIN, .carry_out = list},
    {.name = "Revoke", .access = TOB_ACCESS_ADMIN, .carry_out = revoke},
    {.name = "GetJwks", .access = TOB_ACCESS_ALL, .carry_out = get_jwks},
    {.name = NULL},
};
