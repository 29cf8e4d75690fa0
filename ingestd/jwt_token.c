#include "ingestd/jwt_token.h"

#include <string.h>
#include <strings.h>

#include "ingestd/jwt.h"

static int base64url_value(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool tob_base64url_decode_strict(const char *text, size_t len, uint8_t *to, size_t max, size_t *ret) {
    size_t bytes = len / 4 * 3 + (len % 4 ? len % 4 - 1 : 0);
    if (len % 4 == 1 || bytes > max) {
        return false;
    }
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int value = base64url_value(text[i]);
        if (value < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            to[n++] = (uint8_t)(bits >> held);
            bits &= (1u << held) - 1;
        }
    }
    // Bits left over must be zero: else several texts would be the same token (RFC 4648 §3.5).
    if (bits != 0) {
        return false;
    }
    *ret = n;
    return true;
}

static tob_error refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return TOB_UNAUTHENTICATED;
}

static json_t *load_object(const char *part, size_t len) {
    uint8_t bytes[TOB_JWT_MAX_BYTES];
    size_t n = 0;
    if (!tob_base64url_decode_strict(part, len, bytes, sizeof(bytes), &n)) {
        return NULL;
    }
    json_t *object = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    if (object && !json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

// Copies a string member that must be there and fit.
static bool take_string(const json_t *object, const char *key, char *to, size_t max) {
    const json_t *value = json_object_get(object, key);
    size_t n = json_string_length(value);
    if (!json_is_string(value) || n == 0 || n > max) {
        return false;
    }
    memcpy(to, json_string_value(value), n);
    to[n] = 0;
    return true;
}

static tob_error check_header(const json_t *object, tob_jwt_header *ret, const char **ret_reason) {
    // Each of these would let the token say by which key or rule it is to be believed.
    static const char *const forbidden[] = {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"};
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        if (json_object_get(object, forbidden[i])) {
            return refuse(ret_reason, "the token's header has a member that is not accepted");
        }
    }
    const json_t *typ = json_object_get(object, "typ");
    if (typ && (!json_is_string(typ) || (strcasecmp(json_string_value(typ), "JWT") != 0 &&
                                         strcasecmp(json_string_value(typ), "at+jwt") != 0))) {
        return refuse(ret_reason, "the token's typ is not JWT");
    }
    if (!take_string(object, "alg", ret->alg, TOB_JWT_MAX_ALG_BYTES)) {
        return refuse(ret_reason, "the token's header has no alg");
    }
    if (!take_string(object, "kid", ret->kid, TOB_JWT_MAX_KID_BYTES)) {
        return refuse(ret_reason, "the token's header has no kid");
    }
    return TOB_OK;
}

// RFC 7519 §4.1.3: one audience, or an array of them.
static bool is_audience(const json_t *aud) {
    const json_t *one = NULL;
    size_t i = 0;
    json_array_foreach(aud, i, one) {
        if (!json_is_string(one)) {
            return false;
        }
    }
    return json_is_string(aud) || json_is_array(aud);
}

bool tob_jwt_token_is_for(const tob_jwt_token *token, const char *audience) {
    const json_t *aud = token->body.aud, *one = NULL;
    size_t i = 0;
    json_array_foreach(aud, i, one) {
        if (strcmp(json_string_value(one), audience) == 0) {
            return true;
        }
    }
    return json_is_string(aud) && strcmp(json_string_value(aud), audience) == 0;
}

static tob_error check_body(const json_t *object, tob_jwt_body *ret, const char **ret_reason) {
    json_t *aud = json_object_get(object, "aud");
    const json_t *exp = json_object_get(object, "exp"), *nbf = json_object_get(object, "nbf");
    const json_t *iat = json_object_get(object, "iat"), *iss = json_object_get(object, "iss");
    if (!json_is_integer(exp)) {
        return refuse(ret_reason, "the token's exp is missing or not an integer");
    }
    if ((nbf && !json_is_integer(nbf)) || (iat && !json_is_integer(iat))) {
        return refuse(ret_reason, "the token's nbf or iat is not an integer");
    }
    if (iss && !take_string(object, "iss", ret->iss, TOB_MAX_NAME_BYTES)) {
        return refuse(ret_reason, "the token's iss is not a name");
    }
    if (aud && !is_audience(aud)) {
        return refuse(ret_reason, "the token's aud is not a name or an array of names");
    }
    if (!take_string(object, "sub", ret->sub, TOB_MAX_ID_BYTES) ||
        !tob_id_valid(ret->sub, strlen(ret->sub))) {
        return refuse(ret_reason, "the token's sub is missing or not an id");
    }
    ret->exp_unix_s = json_integer_value(exp);
    ret->nbf_unix_s = nbf ? json_integer_value(nbf) : INT64_MIN;
    ret->iat_unix_s = iat ? json_integer_value(iat) : 0;
    ret->aud = json_incref(aud);
    return TOB_OK;
}

tob_error tob_jwt_token_parse(const char *token, size_t len, tob_jwt_token *ret, const char **ret_reason) {
    json_t *header = NULL, *claims = NULL;
    tob_error err = TOB_UNAUTHENTICATED;
    memset(ret, 0, sizeof(*ret));
    if (len > TOB_JWT_MAX_BYTES) {
        return refuse(ret_reason, "the token is too long");
    }
    const char *end = token + len;
    const char *first = memchr(token, '.', len);
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1))) {
        return refuse(ret_reason, "the token has not three parts");
    }
    header = load_object(token, (size_t)(first - token));
    if (!header) {
        err = refuse(ret_reason, "the token's header is not base64url of a JSON object");
        goto out;
    }
    err = check_header(header, &ret->header, ret_reason);
    if (err) {
        goto out;
    }
    claims = load_object(first + 1, (size_t)(second - first - 1));
    if (!claims) {
        err = refuse(ret_reason, "the token's claims are not base64url of a JSON object");
        goto out;
    }
    err = check_body(claims, &ret->body, ret_reason);
    if (err) {
        goto out;
    }
    if (!tob_base64url_decode_strict(second + 1, (size_t)(end - second - 1), ret->signature,
                                     sizeof(ret->signature), &ret->signature_bytes) ||
        ret->signature_bytes == 0) {
        err = refuse(ret_reason, "the token's signature is missing or not base64url");
    }
out:
    json_decref(header);
    json_decref(claims);
    return err;
}

void tob_jwt_token_fini(tob_jwt_token *token) {
    json_decref(token->body.aud);
    token->body.aud = NULL;
}
