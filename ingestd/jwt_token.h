// A compact JWS (RFC 7515 §3.1) taken apart, as strictly as it can be: before any key or cjose sees it. Inside
// jwt*.c only.
//
// Threads: any.
#ifndef TOB_INGESTD_JWT_TOKEN_H
#define TOB_INGESTD_JWT_TOKEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/text.h"

#define TOB_JWT_MAX_KID_BYTES       256
#define TOB_JWT_MAX_ALG_BYTES       16
#define TOB_JWT_MAX_SIGNATURE_BYTES 1024 // RSA of 8192 bits

typedef struct tob_jwt_header {
    char alg[TOB_JWT_MAX_ALG_BYTES + 1];
    char kid[TOB_JWT_MAX_KID_BYTES + 1];
} tob_jwt_header;

typedef struct tob_jwt_body {
    char sub[TOB_MAX_ID_BYTES + 1];
    char iss[TOB_MAX_NAME_BYTES + 1]; // "": none
    int64_t exp_unix_s;
    int64_t nbf_unix_s; // INT64_MIN: none
    int64_t iat_unix_s; // 0: none
    json_t *aud;        // a string, or an array of strings; NULL: none
} tob_jwt_body;

typedef struct tob_jwt_token {
    tob_jwt_header header;
    tob_jwt_body body; // of a token that nobody has verified yet
    uint8_t signature[TOB_JWT_MAX_SIGNATURE_BYTES];
    size_t signature_bytes;
} tob_jwt_token;

// tob_jwt_token_parse checks form, header and claims; not times, signature, who issued it or for whom.
//   ret          filled on an error too: tob_jwt_token_fini it in any case
//   ret_reason   on an error: why, static text
// Errors: TOB_UNAUTHENTICATED.
TOB_MUST_USE tob_error tob_jwt_token_parse(const char *token, size_t len, tob_jwt_token *ret,
                                           const char **ret_reason);
void tob_jwt_token_fini(tob_jwt_token *token);

// tob_jwt_token_is_for: does its `aud` hold this one (RFC 7519 §4.1.3)?
TOB_MUST_USE bool tob_jwt_token_is_for(const tob_jwt_token *token, const char *audience);

// tob_base64url_decode_strict accepts only what tob_base64url_encode would have written. `to` has max bytes.
TOB_MUST_USE bool tob_base64url_decode_strict(const char *text, size_t len, uint8_t *to, size_t max,
                                              size_t *ret);

#endif
