// Our own keys, which sign headends' tokens (ES256) and check them. Inside jwt*.c only.
//
// Threads: one at a time to load; a loaded key may sign and verify on any thread.
// Errors:  TOB_MALFORMED for a text that is no private P-256 key as JWK, TOB_NO_MEMORY, TOB_INTERNAL.
#ifndef TOB_INGESTD_JWT_OWN_KEYS_H
#define TOB_INGESTD_JWT_OWN_KEYS_H

#include <jansson.h>

#include "ingestd/jwt.h"
#include "ingestd/jwt_keys.h"

#define TOB_JWT_COORDINATE_BYTES 44 // 32 bytes in base64url, NUL

typedef struct tob_jwt_own {
    tob_jwt_key key; // its kid is the RFC 7638 thumbprint, whatever the text says
    char x[TOB_JWT_COORDINATE_BYTES], y[TOB_JWT_COORDINATE_BYTES]; // of the public half
    uint64_t expires_unix_ms;                                      // 0: no end
    bool signs;
} tob_jwt_own;

typedef struct tob_jwt_own_keys {
    tob_jwt_own keys[TOB_JWT_MAX_OWN_KEYS];
    size_t count;
} tob_jwt_own_keys;

// Errors: also TOB_TOO_LARGE over TOB_JWT_MAX_OWN_KEYS.
TOB_MUST_USE tob_error tob_jwt_own_keys_load(const tob_jwt_own_key *keys, size_t count,
                                             tob_jwt_own_keys *ret);
void tob_jwt_own_keys_fini(tob_jwt_own_keys *keys);

// NULL when there is none.
const tob_jwt_own *tob_jwt_own_keys_find(const tob_jwt_own_keys *keys, const char *kid);
const tob_jwt_own *tob_jwt_own_keys_signer(const tob_jwt_own_keys *keys);

bool tob_jwt_own_expired(const tob_jwt_own *own, uint64_t now_unix_ms);

// tob_jwt_own_public: the public half as a JWK, made of its public members and of nothing else. NULL without memory.
json_t *tob_jwt_own_public(const tob_jwt_own *own);

#endif
