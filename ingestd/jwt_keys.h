// The keys of a JWKS file (RFC 7517), which may sign headends' tokens, and what our own (jwt_own_keys.h) share with them.
// Inside jwt*.c and signing_keys.c only.
//
// Threads: one at a time to load; a loaded key may verify on any thread.
// Errors:  with a problem of TOB_JWT_PROBLEM_BYTES that says which file and why.
#ifndef TOB_INGESTD_JWT_KEYS_H
#define TOB_INGESTD_JWT_KEYS_H

#include <cjose/cjose.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    cjose_jwk_t *jwk;
} tob_jwt_key;

typedef struct tob_jwt_keys {
    tob_jwt_key *keys;
    size_t count;
} tob_jwt_keys;

void tob_jwt_key_fini(tob_jwt_key *key);

// tob_jwt_keys_load reads a JWKS file. Keys that are not for signatures, or of a kind that we don't know, are
// ignored; symmetric ones are refused, and so are weak ones and those without a kid of their own.
// Errors: TOB_IO, TOB_MALFORMED, TOB_TOO_LARGE, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_keys_load(const char *path, tob_jwt_keys *ret, char *ret_problem);
void tob_jwt_keys_fini(tob_jwt_keys *keys);

// tob_jwt_read_file reads a file of at most TOB_JWT_MAX_FILE_BYTES.
//   is_secret   everyone may not read it
//   ret         not a string; owned by the caller: cleanse it, then free it
// Errors: TOB_NOT_FOUND, TOB_IO, TOB_TOO_LARGE, TOB_PRECONDITION for the mode of a secret one, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_read_file(const char *path, bool is_secret, char **ret, size_t *ret_len,
                                         char *ret_problem);

// tob_jwk_text: a member that is a string, borrowed; "" when it is none.
const char *tob_jwk_text(const json_t *jwk, const char *member);

// tob_jwk_number: a base64url member as a number without leading zeros, big-endian, in `to`. Returns its bytes; 0 when it is
// none.
size_t tob_jwk_number(const json_t *jwk, const char *member, uint8_t *to, size_t max);

// NULL when there is none.
const tob_jwt_key *tob_jwt_keys_find(const tob_jwt_keys *keys, const char *kid);

#endif
