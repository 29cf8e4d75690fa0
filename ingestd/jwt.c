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
#include "ingestd/jwt_token.h"
#include "util/secret.h"

#define ISSUER "tobogganing"

struct tob_jwt {
    tob_jwt_key own;
    char *jwks_path; // "": none
    pthread_rwlock_t
        lock; // guards foreign; held for the whole of a verification, so that nothing verified with
              // old keys is remembered after a reload
    tob_jwt_keys foreign;
    tob_jwt_cache *cache;
};

static tob_error load_foreign(const tob_jwt *jwt, tob_jwt_keys *ret, char *ret_problem) {
    tob_jwt_keys keys = {.keys = NULL};
    if (jwt->jwks_path[0]) {
        tob_error err = tob_jwt_keys_load(jwt->jwks_path, &keys, ret_problem);
        if (err) {
            return err;
        }
    }
    if (tob_jwt_keys_find(&keys, jwt->own.kid)) {
        snprintf(ret_problem, TOB_JWT_PROBLEM_BYTES, "%s: a key has the kid of our own", jwt->jwks_path);
        tob_jwt_keys_fini(&keys);
        return TOB_MALFORMED;
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
    jwt->jwks_path = strdup(options->jwks_path ? options->jwks_path : "");
    if (!jwt->jwks_path) {
        goto out;
    }
    err = tob_jwt_cache_new(TOB_JWT_CACHE_ENTRIES, &jwt->cache);
    if (!err) {
        err = tob_jwt_key_load_own(options->issuer_key_path, &jwt->own, ret_problem);
    }
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
    tob_jwt_key_fini(&jwt->own);
    tob_jwt_keys_fini(&jwt->foreign);
    tob_jwt_cache_free(jwt->cache);
    free(jwt->jwks_path);
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
static tob_error check_times(const tob_jwt_claims *claims, uint64_t now_unix_s, uint64_t *ret_until,
                             const char **ret_reason) {
    uint64_t until = claims->exp_unix_s > 0 ? (uint64_t)claims->exp_unix_s + TOB_JWT_LEEWAY_S : 0;
    if (now_unix_s >= until) {
        return refuse(ret_reason, "the token has expired");
    }
    if (claims->nbf_unix_s > 0 && (uint64_t)claims->nbf_unix_s > now_unix_s + TOB_JWT_LEEWAY_S) {
        return refuse(ret_reason, "the token is not valid yet");
    }
    *ret_until = until;
    return TOB_OK;
}

// Under the read lock.
static tob_error verify(const tob_jwt *jwt, const char *text, size_t len, uint64_t now_unix_s,
                        tob_jwt_token *token, uint64_t *ret_until, const char **ret_reason) {
    tob_error err = tob_jwt_token_parse(text, len, token, ret_reason);
    if (err) {
        return err;
    }
    const tob_jwt_key *key = strcmp(token->header.kid, jwt->own.kid) == 0
                                 ? &jwt->own
                                 : tob_jwt_keys_find(&jwt->foreign, token->header.kid);
    if (!key) {
        return refuse(ret_reason, "the token's kid is not known");
    }
    if (strcmp(token->header.alg, key->alg) != 0) {
        return refuse(ret_reason, "the token's alg is not the one of its key");
    }
    err = check_signature_form(key, token, ret_reason);
    if (!err) {
        err = check_signature(key, text, len, ret_reason);
    }
    if (!err && key->own && strcmp(token->claims.iss, ISSUER) != 0) {
        err = refuse(ret_reason, "the token's iss is not its key's");
    }
    if (!err) {
        err = check_times(&token->claims, now_unix_s, ret_until, ret_reason);
    }
    return err;
}

tob_error tob_jwt_verify(tob_jwt *jwt, const char *token, size_t len, uint64_t now_unix_s,
                         char ret_sub[TOB_MAX_ID_BYTES + 1], const char **ret_reason) {
    uint8_t hash[TOB_SHA256_BYTES];
    tob_jwt_token parsed;
    uint64_t until = 0;
    if (len > TOB_JWT_MAX_BYTES) {
        return refuse(ret_reason, "the token is too long");
    }
    tob_sha256(token, len, hash);
    if (tob_jwt_cache_find(jwt->cache, hash, now_unix_s, ret_sub)) {
        return TOB_OK;
    }
    pthread_rwlock_rdlock(&jwt->lock);
    tob_error err = verify(jwt, token, len, now_unix_s, &parsed, &until, ret_reason);
    if (!err) {
        tob_jwt_cache_put(jwt->cache, hash, until, parsed.claims.sub);
        memcpy(ret_sub, parsed.claims.sub, sizeof(parsed.claims.sub));
    }
    pthread_rwlock_unlock(&jwt->lock);
    return err;
}

tob_error tob_jwt_sign(tob_jwt *jwt, const char *sub, uint64_t now_unix_s, uint64_t ttl_s, char **ret) {
    tob_error err = TOB_INTERNAL;
    cjose_jws_t *jws = NULL;
    char *claims = NULL, *copy = NULL;
    const char *token = NULL;
    cjose_header_t *header = cjose_header_new(NULL);
    json_t *object = NULL;
    if (!header || !cjose_header_set(header, CJOSE_HDR_ALG, jwt->own.alg, NULL) ||
        !cjose_header_set(header, CJOSE_HDR_KID, jwt->own.kid, NULL) ||
        !cjose_header_set(header, "typ", "JWT", NULL)) {
        goto out;
    }
    object = json_pack("{s:s, s:s, s:I, s:I}", "iss", ISSUER, "sub", sub, "iat", (json_int_t)now_unix_s,
                       "exp", (json_int_t)(now_unix_s + ttl_s));
    claims = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!claims) {
        goto out;
    }
    jws = cjose_jws_sign(jwt->own.jwk, header, (const uint8_t *)claims, strlen(claims), NULL);
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
    json_decref(object);
    free(claims);
    return err;
}
