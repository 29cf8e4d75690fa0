// The keys that may sign headends' tokens: our own issuer's and those of a JWKS file (RFC 7517). Inside jwt*.c only.
//
// Threads: one at a time to load; a loaded key may verify on any thread.
// Errors:  with a problem of TOB_JWT_PROBLEM_BYTES that says which file and why.
#ifndef TOB_INGESTD_JWT_KEYS_H
#define TOB_INGESTD_JWT_KEYS_H

#include <cjose/cjose.h>
#include <stdbool.h>
#include <stddef.h>

#include "ingestd/jwt.h"
#include "util/error.h"

#define TOB_JWT_MAX_KEYS       256
#define TOB_JWT_MAX_FILE_BYTES (1u << 20)
#define TOB_JWT_MIN_RSA_BITS   2048
#define TOB_JWT_MAX_RSA_BITS   8192

typedef struct tob_jwt_key {
    char *kid;
    const char *alg;        // the only one that this key may be used with; static text
    size_t signature_bytes; // exactly
    bool own;               // our issuer's
    cjose_jwk_t *jwk;
} tob_jwt_key;

typedef struct tob_jwt_keys {
    tob_jwt_key *keys;
    size_t count;
} tob_jwt_keys;

// tob_jwt_key_load_own reads our ES256 key, or makes it: mode 0600, kid = RFC 7638 thumbprint.
// Errors: TOB_IO, TOB_MALFORMED, TOB_PRECONDITION when everyone may read the file, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_key_load_own(const char *path, tob_jwt_key *ret, char *ret_problem);
void tob_jwt_key_fini(tob_jwt_key *key);

// tob_jwt_keys_load reads a JWKS file. Keys that are not for signatures, or of a kind that we don't know, are
// ignored; symmetric ones are refused, and so are weak ones and those without a kid of their own.
// Errors: TOB_IO, TOB_MALFORMED, TOB_TOO_LARGE, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_keys_load(const char *path, tob_jwt_keys *ret, char *ret_problem);
void tob_jwt_keys_fini(tob_jwt_keys *keys);

// NULL when there is none.
const tob_jwt_key *tob_jwt_keys_find(const tob_jwt_keys *keys, const char *kid);

#endif
