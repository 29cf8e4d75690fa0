#include "ingestd/jwt.h"

#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/jwt_cache.h"
#include "ingestd/jwt_keys.h"
#include "ingestd/jwt_own_keys.h"
#include "ingestd/jwt_token.h"
#include "util/secret.h"

#define OUR_NAME "tobogganing" // iss and aud of our own tokens

struct tob_jwt {
    char *jwks_path; // "": none
    char *jwks_issuer;
    char *jwks_audience;
    // Guards own and foreign; held for the whole of a verification, so that nothing verified with old keys is remembered
    // after a change of keys.
    pthread_rwlock_t lock;
    tob_jwt_own_keys own;
    tob_jwt_keys foreign;
    tob_jwt_cache *cache;
};

static char *copy_text(const char *text) {
    return strdup(text ? text : "");
}

static tob_error load_foreign(const tob_jwt *jwt, tob_jwt_keys *ret, char *ret_problem) {
    tob_jwt_keys keys = {.keys = NULL};
    if (jwt->jwks_path[0]) {
        tob_error err = tob_jwt_keys_load(jwt->jwks_path, &keys, ret_problem);
        if (err) {
            return err;
        }
    }
    *ret = keys;
    return TOB_OK;
}

tob_error tob_jwt_new(const tob_jwt_options *options, char *ret_problem, tob_jwt **ret) {
    tob_error err = TOB_NO_MEMORY;
    snprintf(ret_problem, TOB_JWT_PROBLEM_BYTES, "out of memory");
    tob_jwt *jwt = calloc(1, sizeof(*jwt));
    if (!jwt) {
        return TOB_NO_MEMORY;
    }
    pthread_rwlock_init(&jwt->lock, NULL);
    jwt->jwks_path = copy_text(options->jwks_path);
    jwt->jwks_issuer = copy_text(options->jwks_issuer);
    jwt->jwks_audience = copy_text(options->jwks_audience);
    if (!jwt->jwks_path || !jwt->jwks_issuer || !jwt->jwks_audience) {
        goto out;
    }
    err = tob_jwt_cache_new(TOB_JWT_CACHE_ENTRIES, &jwt->cache);
    if (!err) {
        err = load_foreign(jwt, &jwt->foreign, ret_problem);
    }
    if (err) {
        goto out;
    }
    *ret = jwt;
    jwt = NULL;
out:
    tob_jwt_free(jwt);
    return err;
}

void tob_jwt_free(tob_jwt *jwt) {
    if (!jwt) {
        return;
    }
    tob_jwt_own_keys_fini(&jwt->own);
    tob_jwt_keys_fini(&jwt->foreign);
    tob_jwt_cache_free(jwt->cache);
    free(jwt->jwks_path);
    free(jwt->jwks_issuer);
    free(jwt->jwks_audience);
    pthread_rwlock_destroy(&jwt->lock);
    free(jwt);
}

tob_error tob_jwt_reload(tob_jwt *jwt, char *ret_problem) {
    tob_jwt_keys keys = {.keys = NULL};
    tob_error err = load_foreign(jwt, &keys, ret_problem);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&jwt->lock);
    tob_jwt_keys old = jwt->foreign;
    jwt->foreign = keys;
    tob_jwt_cache_clear(jwt->cache);
    pthread_rwlock_unlock(&jwt->lock);
    tob_jwt_keys_fini(&old);
    return TOB_OK;
}

tob_error tob_jwt_set_own(tob_jwt *jwt, const tob_jwt_own_key *keys, size_t count) {
    tob_jwt_own_keys loaded;
    tob_error err = tob_jwt_own_keys_load(keys, count, &loaded);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&jwt->lock);
    tob_jwt_own_keys old = jwt->own;
    jwt->own = loaded;
    tob_jwt_cache_clear(jwt->cache);
    pthread_rwlock_unlock(&jwt->lock);
    tob_jwt_own_keys_fini(&old);
    return TOB_OK;
}

tob_error tob_jwt_jwks(tob_jwt *jwt, uint64_t now_unix_ms, char **ret_json) {
    json_t *keys = json_array(), *set = NULL;
    bool ok = keys != NULL;
    pthread_rwlock_rdlock(&jwt->lock);
    for (size_t i = 0; ok && i < jwt->own.count; i++) {
        const tob_jwt_own *own = &jwt->own.keys[i];
        ok = tob_jwt_own_expired(own, now_unix_ms) ||
             json_array_append_new(keys, tob_jwt_own_public(own)) == 0;
    }
    pthread_rwlock_unlock(&jwt->lock);
    set = ok ? json_pack("{s:O}", "keys", keys) : NULL;
    char *text = set ? json_dumps(set, JSON_COMPACT) : NULL;
    json_decref(keys);
    json_decref(set);
    if (!text) {
        return TOB_NO_MEMORY;
    }
    *ret_json = text;
    return TOB_OK;
}

static tob_error refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return TOB_UNAUTHENTICATED;
}

static bool all_zero(const uint8_t *bytes, size_t n) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

// RFC 7518 §3.4: r and s, each half of the bytes. Zero for either is CVE-2022-21449.
static tob_error check_signature_form(const tob_jwt_key *key, const tob_jwt_token *token,
                                      const char **ret_reason) {
    size_t n = token->signature_bytes;
    if (n != key->signature_bytes) {
        return refuse(ret_reason, "the token's signature has the wrong length");
    }
    if (key->alg[0] == 'E' &&
        (all_zero(token->signature, n / 2) || all_zero(token->signature + n / 2, n / 2))) {
        return refuse(ret_reason, "the token's signature is not valid");
    }
    return TOB_OK;
}

static tob_error check_signature(const tob_jwt_key *key, const char *token, size_t len,
                                 const char **ret_reason) {
    cjose_err why = {.code = CJOSE_ERR_NONE};
    cjose_jws_t *jws = cjose_jws_import(token, len, &why);
    bool ok = jws && cjose_jws_verify(jws, key->jwk, &why);
    cjose_jws_release(jws);
    ERR_clear_error();
    return ok ? TOB_OK : refuse(ret_reason, "the token's signature is not valid");
}

// The end of the token's life with the leeway, and whether `now` is within it.
static tob_error check_times(const tob_jwt_body *body, uint64_t now_unix_s, uint64_t *ret_until,
                             const char **ret_reason) {
    uint64_t until = body->exp_unix_s > 0 ? (uint64_t)body->exp_unix_s + TOB_JWT_LEEWAY_S : 0;
    uint64_t soon = now_unix_s + TOB_JWT_LEEWAY_S;
    if (now_unix_s >= until) {
        return refuse(ret_reason, "the token has expired");
    }
    if (body->nbf_unix_s > 0 && (uint64_t)body->nbf_unix_s > soon) {
        return refuse(ret_reason, "the token is not valid yet");
    }
    // It would be younger than a revocation that is still to come.
    if (body->iat_unix_s > 0 && (uint64_t)body->iat_unix_s > soon) {
        return refuse(ret_reason, "the token's iat is in the future");
    }
    *ret_until = until;
    return TOB_OK;
}

// Which key the token is of, and what it has to say of who issued it and for whom. A key of our own goes before one of the
// file's with the same kid, as it is ours to revoke.
typedef struct origin {
    const tob_jwt_key *key;
    const char *issuer;       // "": any
    const char *audience;     // "": any
    bool needs_audience;      // our tokens of earlier versions have none
    uint64_t expires_unix_ms; // of the key; 0: no end
} origin;

static tob_error find_origin(const tob_jwt *jwt, const char *kid, uint64_t now_unix_s, origin *ret,
                             const char **ret_reason) {
    const tob_jwt_own *own = tob_jwt_own_keys_find(&jwt->own, kid);
    if (own && tob_jwt_own_expired(own, now_unix_s * 1000)) {
        return refuse(ret_reason, "the token's key has expired");
    }
    if (own) {
        *ret = (origin){.key = &own->key,
                        .issuer = OUR_NAME,
                        .audience = OUR_NAME,
                        .expires_unix_ms = own->expires_unix_ms};
        return TOB_OK;
    }
    const tob_jwt_key *foreign = tob_jwt_keys_find(&jwt->foreign, kid);
    if (!foreign) {
        return refuse(ret_reason, "the token's kid is not known");
    }
    *ret = (origin){.key = foreign,
                    .issuer = jwt->jwks_issuer,
                    .audience = jwt->jwks_audience,
                    .needs_audience = true};
    return TOB_OK;
}

static tob_error check_origin(const origin *from, const tob_jwt_token *token, const char **ret_reason) {
    const tob_jwt_body *body = &token->body;
    if (*from->issuer && strcmp(body->iss, from->issuer) != 0) {
        return refuse(ret_reason, "the token's iss is not its key's");
    }
    if (*from->audience && (body->aud || from->needs_audience) &&
        !tob_jwt_token_is_for(token, from->audience)) {
        return refuse(ret_reason, "the token's aud is not us");
    }
    return TOB_OK;
}

// Under the read lock.
//   ret_until   when the token, or its key, is over
static tob_error verify(const tob_jwt *jwt, const char *text, size_t len, uint64_t now_unix_s,
                        tob_jwt_token *token, uint64_t *ret_until, const char **ret_reason) {
    origin from;
    tob_error err = tob_jwt_token_parse(text, len, token, ret_reason);
    if (!err) {
        err = find_origin(jwt, token->header.kid, now_unix_s, &from, ret_reason);
    }
    if (err) {
        return err;
    }
    if (strcmp(token->header.alg, from.key->alg) != 0) {
        return refuse(ret_reason, "the token's alg is not the one of its key");
    }
    err = check_signature_form(from.key, token, ret_reason);
    if (!err) {
        err = check_signature(from.key, text, len, ret_reason);
    }
    if (!err) {
        err = check_origin(&from, token, ret_reason);
    }
    if (!err) {
        err = check_times(&token->body, now_unix_s, ret_until, ret_reason);
    }
    if (!err && from.expires_unix_ms && from.expires_unix_ms / 1000 < *ret_until) {
        *ret_until = from.expires_unix_ms / 1000;
    }
    return err;
}

bool tob_jwt_cached(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s, tob_jwt_claims *ret) {
    uint8_t hash[TOB_SHA256_BYTES];
    if (len > TOB_JWT_MAX_BYTES) {
        return false;
    }
    tob_sha256(token, len, hash);
    return tob_jwt_cache_find(jwt->cache, hash, now_unix_s, ret);
}

tob_error tob_jwt_verify(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s,
                         tob_jwt_claims *ret, const char **ret_reason) {
    uint8_t hash[TOB_SHA256_BYTES];
    tob_jwt_token parsed;
    uint64_t until = 0;
    if (len > TOB_JWT_MAX_BYTES) {
        return refuse(ret_reason, "the token is too long");
    }
    tob_sha256(token, len, hash);
    if (tob_jwt_cache_find(jwt->cache, hash, now_unix_s, ret)) {
        return TOB_OK;
    }
    pthread_rwlock_rdlock(&jwt->lock);
    tob_error err = verify(jwt, token, len, now_unix_s, &parsed, &until, ret_reason);
    if (!err) {
        tob_jwt_claims claims = {.iat_unix_s =
                                     parsed.body.iat_unix_s > 0 ? (uint64_t)parsed.body.iat_unix_s : 0};
        memcpy(claims.sub, parsed.body.sub, sizeof(claims.sub));
        tob_jwt_cache_put(jwt->cache, hash, until, &claims);
        *ret = claims;
    }
    pthread_rwlock_unlock(&jwt->lock);
    tob_jwt_token_fini(&parsed);
    return err;
}

static tob_error sign(const tob_jwt_key *key, const json_t *claims, char **ret) {
    tob_error err = TOB_INTERNAL;
    cjose_jws_t *jws = NULL;
    const char *token = NULL;
    char *copy = NULL, *text = json_dumps(claims, JSON_COMPACT);
    cjose_header_t *header = cjose_header_new(NULL);
    if (!text || !header || !cjose_header_set(header, CJOSE_HDR_ALG, key->alg, NULL) ||
        !cjose_header_set(header, CJOSE_HDR_KID, key->kid, NULL) ||
        !cjose_header_set(header, "typ", "JWT", NULL)) {
        goto out;
    }
    jws = cjose_jws_sign(key->jwk, header, (const uint8_t *)text, strlen(text), NULL);
    if (!jws || !cjose_jws_export(jws, &token, NULL)) {
        goto out;
    }
    copy = strdup(token);
    if (!copy) {
        err = TOB_NO_MEMORY;
        goto out;
    }
    *ret = copy;
    err = TOB_OK;
out:
    ERR_clear_error();
    cjose_jws_release(jws);
    cjose_header_release(header);
    free(text);
    return err;
}

tob_error tob_jwt_sign(tob_jwt *jwt, const char *sub, uint64_t iat_unix_s, uint64_t ttl_s, char **ret,
                       char ret_kid[TOB_JWT_KID_BYTES]) {
    json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", OUR_NAME, "aud", OUR_NAME, "sub", sub,
                               "iat", (json_int_t)iat_unix_s, "exp", (json_int_t)(iat_unix_s + ttl_s));
    if (!claims) {
        return TOB_NO_MEMORY;
    }
    pthread_rwlock_rdlock(&jwt->lock);
    const tob_jwt_own *own = tob_jwt_own_keys_signer(&jwt->own);
    tob_error err = own ? sign(&own->key, claims, ret) : TOB_PRECONDITION;
    if (!err) {
        memcpy(ret_kid, own->key.kid, strlen(own->key.kid) + 1);
    }
    pthread_rwlock_unlock(&jwt->lock);
    json_decref(claims);
    return err;
}
