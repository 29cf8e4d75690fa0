// Headends' tokens: JWTs (RFC 7519) signed ES256 by our own keys, which are kept in the registry and rotate, or by keys of an
// operator's JWKS file.
//
// What is accepted: the algorithm is the one pinned to the key that `kid` names (RFC 8725 §3.1), never the
// token's say; keys: RSA of 2048–8192 bits (RS256…PS512; RS256 for a key without `alg`), EC P-256/384/521
// (ES256…ES512); symmetric keys never. Tokens of our own keys have the `iss` "tobogganing"; those of the file's keys what the
// options say. An `aud` has to hold ours: "tobogganing", or the option's. Refused:
// `none`, an embedded jwk, jku, x5u or x5c, any `crit`, a missing, past or non-integer `exp`, `nbf` or `iat` in the
// future, a `sub` that is no id, anything not canonical base64url, over TOB_JWT_MAX_BYTES.
//
// A kid that is one of our own keys' is always that key, also when the file has one of the same name.
//
// Threads: tob_jwt_verify, _cached, _sign, _jwks, _set_own and _reload from any thread.
#ifndef TOB_INGESTD_JWT_H
#define TOB_INGESTD_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/text.h"

#define TOB_JWT_MAX_BYTES     8192
#define TOB_JWT_PROBLEM_BYTES 256
#define TOB_JWT_CACHE_ENTRIES 65536
#define TOB_JWT_LEEWAY_S      60 // for clocks that differ: RFC 7519 §4.1.4 "a few minutes" at most
#define TOB_JWT_MAX_OWN_KEYS  64
#define TOB_JWT_KID_BYTES     44 // RFC 7638 thumbprint, SHA-256, base64url, NUL

typedef struct tob_jwt tob_jwt;

typedef struct tob_jwt_options {
    const char *jwks_path;     // public keys of another issuer; NULL or "": none
    const char *jwks_issuer;   // the `iss` that tokens of those keys must have; NULL or "": any, or none
    const char *jwks_audience; // an `aud` that they must have; NULL or "": any, or none
} tob_jwt_options;

// Errors: TOB_IO, TOB_MALFORMED, TOB_TOO_LARGE (ret_problem, 256 bytes, says which file and why); TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_new(const tob_jwt_options *options, char *ret_problem, tob_jwt **ret);
void tob_jwt_free(tob_jwt *jwt);

// tob_jwt_reload reads the JWKS file again; on an error the old keys stay. Verified tokens are forgotten.
TOB_MUST_USE tob_error tob_jwt_reload(tob_jwt *jwt, char *ret_problem);

// One of our own keys. The first that `signs` signs.
typedef struct tob_jwt_own_key {
    const char *private_jwk;  // JSON (RFC 7517), ES256; borrowed
    uint64_t expires_unix_ms; // its tokens are refused from then on; 0: no end
    bool signs;
} tob_jwt_own_key;

// tob_jwt_set_own replaces our own keys; on an error the old ones stay. One that is refused for good (revoked) is given as one
// that expired long ago, so that nobody else's key can take its place. Verified tokens are forgotten. Errors: TOB_MALFORMED for
// a key, TOB_TOO_LARGE over TOB_JWT_MAX_OWN_KEYS, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_set_own(tob_jwt *jwt, const tob_jwt_own_key *keys, size_t count);

// tob_jwt_make_key makes an ES256 key.
//   ret_private_jwk   owned by the caller: cleanse it, then free it
// Errors: TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_make_key(char **ret_private_jwk, char ret_kid[TOB_JWT_KID_BYTES]);

// tob_jwt_import_key checks a private ES256 key, as JWK, and says what it is called.
//   ret_private_jwk   the same key, as tob_jwt_make_key would write it; likewise
// Errors: TOB_MALFORMED, TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_import_key(const char *text, size_t len, char **ret_private_jwk,
                                          char ret_kid[TOB_JWT_KID_BYTES]);

// tob_jwt_jwks: the public halves of our own keys that have not expired, as a JWKS. Owned by the caller; free with free.
TOB_MUST_USE tob_error tob_jwt_jwks(tob_jwt *jwt, uint64_t now_unix_ms, char **ret_json);

// What a verified token says.
typedef struct tob_jwt_claims {
    char sub[TOB_MAX_ID_BYTES + 1];
    uint64_t iat_unix_s; // 0: it does not say
} tob_jwt_claims;

// tob_jwt_verify checks a token; a verified one is remembered (by its SHA-256) until it expires.
//   now_unix_s   the time to check `exp` and `nbf` against
//   ret_reason   on an error: why, static text
// Errors: TOB_UNAUTHENTICATED.
TOB_MUST_USE tob_error tob_jwt_verify(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s,
                                      tob_jwt_claims *ret, const char **ret_reason);

// tob_jwt_cached: the same for a token that is remembered; false for all others, without any cryptography on them.
TOB_MUST_USE bool tob_jwt_cached(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s,
                                 tob_jwt_claims *ret);

// tob_jwt_sign issues a token with our key that signs.
//   iat_unix_s   now, or a little later
//   ret          owned by the caller; free with free
// Errors: TOB_PRECONDITION without a key that signs; TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_sign(tob_jwt *jwt, const char *sub, uint64_t iat_unix_s, uint64_t ttl_s,
                                    char **ret, char ret_kid[TOB_JWT_KID_BYTES]);

#endif
