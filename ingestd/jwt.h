// Headends' tokens: JWTs (RFC 7519) signed ES256 by our own issuer, or by keys of an operator's JWKS file.
//
// What is accepted: the algorithm is the one pinned to the key that `kid` names (RFC 8725 §3.1), never the
// token's say; keys: RSA of 2048–8192 bits (RS256…PS512; RS256 for a key without `alg`), EC P-256/384/521
// (ES256…ES512); symmetric keys never. Tokens of our own key have the `iss` "tobogganing". Refused:
// `none`, an embedded jwk, jku, x5u or x5c, any `crit`, a missing, past or non-integer `exp`, `nbf` in the
// future, a `sub` that is no id, anything not canonical base64url, over TOB_JWT_MAX_BYTES.
//
// Threads: tob_jwt_verify, _sign and _reload from any thread.
#ifndef TOB_INGESTD_JWT_H
#define TOB_INGESTD_JWT_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/text.h"

#define TOB_JWT_MAX_BYTES     8192
#define TOB_JWT_PROBLEM_BYTES 256
#define TOB_JWT_CACHE_ENTRIES 65536
#define TOB_JWT_LEEWAY_S      60 // for clocks that differ: RFC 7519 §4.1.4 "a few minutes" at most

typedef struct tob_jwt tob_jwt;

typedef struct tob_jwt_options {
    const char *issuer_key_path; // our ES256 private key as JWK, mode 0600: made at first start
    const char *jwks_path;       // public keys of another issuer; NULL or "": none
} tob_jwt_options;

// Errors: TOB_IO, TOB_MALFORMED, TOB_TOO_LARGE (ret_problem, 256 bytes, says which file and why); TOB_PRECONDITION when
//         everyone may read the private key; TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_new(const tob_jwt_options *options, char *ret_problem, tob_jwt **ret);
void tob_jwt_free(tob_jwt *jwt);

// tob_jwt_reload reads the JWKS file again; on an error the old keys stay. Verified tokens are forgotten.
TOB_MUST_USE tob_error tob_jwt_reload(tob_jwt *jwt, char *ret_problem);

// tob_jwt_verify checks a token; a verified one is remembered (by its SHA-256) until it expires.
//   now_unix_s   the time to check `exp` and `nbf` against
//   ret_sub      the subject, a valid id
//   ret_reason   on an error: why, static text
// Errors: TOB_UNAUTHENTICATED.
TOB_MUST_USE tob_error tob_jwt_verify(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s,
                                      char ret_sub[TOB_MAX_ID_BYTES + 1], const char **ret_reason);

// tob_jwt_sign issues a token with our own key.
//   ret   owned by the caller; free with free
// Errors: TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_jwt_sign(tob_jwt *jwt, const char *sub, uint64_t now_unix_s, uint64_t ttl_s,
                                    char **ret);

#endif
