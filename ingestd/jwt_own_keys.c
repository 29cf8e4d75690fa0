#include "ingestd/jwt_own_keys.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/secret.h"
#include "util/text.h"

#define ALG       "ES256"
#define SIGNATURE 64 // bytes: RFC 7518 §3.4

static bool read_coordinate(const json_t *jwk, const char *member, char ret[TOB_JWT_COORDINATE_BYTES]) {
    uint8_t number[33], padded[32] = {0};
    size_t n = tob_jwk_number(jwk, member, number, sizeof(number));
    if (n == 0 || n > sizeof(padded)) {
        return false;
    }
    memcpy(padded + sizeof(padded) - n, number, n);
    tob_base64url_encode(padded, sizeof(padded), ret);
    return true;
}

// Public half and thumbprint (RFC 7638 §3: the SHA-256 of the required members, in this order, without white space).
static bool describe(tob_jwt_own *own, char ret_kid[TOB_JWT_KID_BYTES]) {
    char *text = cjose_jwk_to_json(own->key.jwk, false, NULL), canonical[160];
    json_t *public = text ? json_loads(text, 0, NULL) : NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    bool ok = public && read_coordinate(public, "x", own->x) && read_coordinate(public, "y", own->y);
    if (ok) {
        int n = snprintf(canonical, sizeof(canonical),
                         "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", own->x, own->y);
        tob_sha256(canonical, (size_t)n, hash);
        tob_base64url_encode(hash, sizeof(hash), ret_kid);
    }
    json_decref(public);
    cjose_get_dealloc()(text);
    return ok;
}

// cjose computes the public half of a private key and ignores what the text says of it: they must agree, or
// whoever copied the key's public half from the text could not check our tokens.
static bool halves_agree(const json_t *file, const tob_jwt_own *own) {
    char x[TOB_JWT_COORDINATE_BYTES], y[TOB_JWT_COORDINATE_BYTES];
    return read_coordinate(file, "x", x) && read_coordinate(file, "y", y) && strcmp(x, own->x) == 0 &&
           strcmp(y, own->y) == 0;
}

static bool is_private_p256(const json_t *jwk) {
    uint8_t d[33];
    bool complete = strcmp(tob_jwk_text(jwk, "kty"), "EC") == 0 &&
                    strcmp(tob_jwk_text(jwk, "crv"), "P-256") == 0 &&
                    tob_jwk_number(jwk, "d", d, sizeof(d)) > 0;
    OPENSSL_cleanse(d, sizeof(d));
    return complete;
}

// Names a key that has only its jwk.
static tob_error finish(tob_jwt_own *own) {
    char kid[TOB_JWT_KID_BYTES];
    own->key.alg = ALG;
    own->key.signature_bytes = SIGNATURE;
    if (!describe(own, kid)) {
        return TOB_INTERNAL;
    }
    own->key.kid = strdup(kid);
    return own->key.kid && cjose_jwk_set_kid(own->key.jwk, kid, strlen(kid), NULL) ? TOB_OK : TOB_NO_MEMORY;
}

static tob_error import(const char *text, size_t len, tob_jwt_own *ret) {
    tob_jwt_own own = {.signs = false};
    tob_error err = TOB_MALFORMED;
    json_t *jwk = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    if (!jwk || !is_private_p256(jwk)) {
        goto out;
    }
    own.key.jwk = cjose_jwk_import_json(jwk, NULL);
    ERR_clear_error();
    if (!own.key.jwk) {
        goto out;
    }
    err = finish(&own);
    if (!err && !halves_agree(jwk, &own)) {
        err = TOB_MALFORMED;
    }
    if (err) {
        goto out;
    }
    *ret = own;
    own = (tob_jwt_own){.signs = false};
out:
    tob_jwt_key_fini(&own.key);
    json_decref(jwk);
    return err;
}

// The whole key as text, and its kid.
static tob_error export(const tob_jwt_own *own, char **ret_private_jwk, char ret_kid[TOB_JWT_KID_BYTES]) {
    char *text = cjose_jwk_to_json(own->key.jwk, true, NULL);
    if (!text) {
        return TOB_NO_MEMORY;
    }
    char *copy = strdup(text); // cjose's memory may be another's than malloc's
    OPENSSL_cleanse(text, strlen(text));
    cjose_get_dealloc()(text);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    memcpy(ret_kid, own->key.kid, strlen(own->key.kid) + 1);
    *ret_private_jwk = copy;
    return TOB_OK;
}

tob_error tob_jwt_import_key(const char *text, size_t len, char **ret_private_jwk,
                             char ret_kid[TOB_JWT_KID_BYTES]) {
    tob_jwt_own own = {.signs = false};
    tob_error err = import(text, len, &own);
    if (!err) {
        err = export(&own, ret_private_jwk, ret_kid);
    }
    tob_jwt_key_fini(&own.key);
    return err;
}

tob_error tob_jwt_make_key(char **ret_private_jwk, char ret_kid[TOB_JWT_KID_BYTES]) {
    tob_jwt_own own = {.key.jwk = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, NULL)};
    tob_error err = own.key.jwk ? finish(&own) : TOB_INTERNAL;
    if (!err) {
        err = export(&own, ret_private_jwk, ret_kid);
    }
    tob_jwt_key_fini(&own.key);
    ERR_clear_error();
    return err;
}

tob_error tob_jwt_own_keys_load(const tob_jwt_own_key *keys, size_t count, tob_jwt_own_keys *ret) {
    if (count > TOB_JWT_MAX_OWN_KEYS) {
        return TOB_TOO_LARGE;
    }
    ret->count = 0;
    for (size_t i = 0; i < count; i++) {
        tob_jwt_own own = {.signs = false};
        tob_error err = import(keys[i].private_jwk, strlen(keys[i].private_jwk), &own);
        if (err) {
            tob_jwt_own_keys_fini(ret);
            return err;
        }
        own.expires_unix_ms = keys[i].expires_unix_ms;
        own.signs = keys[i].signs;
        ret->keys[ret->count++] = own;
    }
    return TOB_OK;
}

void tob_jwt_own_keys_fini(tob_jwt_own_keys *keys) {
    for (size_t i = 0; i < keys->count; i++) {
        tob_jwt_key_fini(&keys->keys[i].key);
    }
    keys->count = 0;
}

const tob_jwt_own *tob_jwt_own_keys_find(const tob_jwt_own_keys *keys, const char *kid) {
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->keys[i].key.kid, kid) == 0) {
            return &keys->keys[i];
        }
    }
    return NULL;
}

const tob_jwt_own *tob_jwt_own_keys_signer(const tob_jwt_own_keys *keys) {
    for (size_t i = 0; i < keys->count; i++) {
        if (keys->keys[i].signs) {
            return &keys->keys[i];
        }
    }
    return NULL;
}

bool tob_jwt_own_expired(const tob_jwt_own *own, uint64_t now_unix_ms) {
    return own->expires_unix_ms != 0 && now_unix_ms >= own->expires_unix_ms;
}

json_t *tob_jwt_own_public(const tob_jwt_own *own) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "kty", "EC", "crv", "P-256", "x", own->x, "y",
                     own->y, "kid", own->key.kid, "alg", ALG, "use", "sig");
}
