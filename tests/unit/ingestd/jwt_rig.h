// What the tests of tokens share: a verifier with keys, and how tokens are made and judged.
#ifndef TOB_TESTS_JWT_RIG_H
#define TOB_TESTS_JWT_RIG_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <cjose/cjose.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingestd/jwt.h"
#include "util/text.h"

#define NOW UINT64_C(1800000000)

#define RFC_7515_A3                                                                                          \
    "{\"kty\": \"EC\", \"crv\": \"P-256\","                                                                  \
    " \"x\": \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                                               \
    " \"y\": \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\","                                               \
    " \"d\": \"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}"

// What every test starts with: a verifier with a key of its own and a JWKS file of an EC and an RSA key.
typedef struct fixture {
    char dir[64];
    char jwks_path[96];
    char *own_text;   // our own key
    cjose_jwk_t *own; // the same
    cjose_jwk_t *ec;  // kid "ec-1"
    cjose_jwk_t *rsa; // kid "rsa-1"
    tob_jwt *jwt;
} fixture;

static inline void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

// A set of public keys; extra is text put before them.
static inline void write_jwks(const fixture *f, const char *extra, bool with_ec, bool with_rsa) {
    char *ec = cjose_jwk_to_json(f->ec, false, NULL), *rsa = cjose_jwk_to_json(f->rsa, false, NULL);
    char text[8192];
    snprintf(text, sizeof(text), "{\"keys\": [%s%s%s%s]}", extra, with_ec ? ec : "",
             with_ec && with_rsa ? ", " : "", with_rsa ? rsa : "");
    write_text(f->jwks_path, text);
    free(ec);
    free(rsa);
}

static cjose_jwk_t *shared_rsa; // slow to make

static inline int make_rsa(void **state) {
    (void)state;
    static const uint8_t e[] = {1, 0, 1};
    shared_rsa = cjose_jwk_create_RSA_random(2048, e, sizeof(e), NULL);
    return shared_rsa && cjose_jwk_set_kid(shared_rsa, "rsa-1", 5, NULL) ? 0 : -1;
}

static inline int free_rsa(void **state) {
    (void)state;
    cjose_jwk_release(shared_rsa);
    return 0;
}

static inline void set_own(tob_jwt *jwt, const char *text) {
    tob_jwt_own_key key = {.private_jwk = text, .signs = true};
    assert_int_equal(tob_jwt_set_own(jwt, &key, 1), TOB_OK);
}

static inline tob_jwt *new_with(const fixture *f, const char *issuer, const char *audience) {
    tob_jwt *jwt = NULL;
    char problem[TOB_JWT_PROBLEM_BYTES] = "";
    tob_jwt_options options = {.jwks_path = f->jwks_path, .jwks_issuer = issuer, .jwks_audience = audience};
    tob_error err = tob_jwt_new(&options, problem, &jwt);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem);
    }
    set_own(jwt, f->own_text);
    return jwt;
}

static inline cjose_jwk_t *jwk_of(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    cjose_jwk_t *jwk = cjose_jwk_import_json(json, NULL);
    json_decref(json);
    return jwk;
}

static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    char kid[TOB_JWT_KID_BYTES];
    snprintf(f->dir, sizeof(f->dir), "%s/tob-jwt-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    snprintf(f->jwks_path, sizeof(f->jwks_path), "%s/jwks.json", f->dir);
    f->rsa = shared_rsa;
    f->ec = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, NULL);
    if (!f->ec || !cjose_jwk_set_kid(f->ec, "ec-1", 4, NULL) || tob_jwt_make_key(&f->own_text, kid)) {
        return -1;
    }
    f->own = jwk_of(f->own_text);
    write_jwks(f, "", true, true);
    f->jwt = new_with(f, NULL, NULL);
    *state = f;
    return f->own ? 0 : -1;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    tob_jwt_free(f->jwt);
    cjose_jwk_release(f->own);
    cjose_jwk_release(f->ec);
    free(f->own_text);
    unlink(f->jwks_path);
    int failed = rmdir(f->dir);
    free(f);
    return failed;
}

// Signs a token with these JSON texts.
static inline char *token_of(const cjose_jwk_t *key, const char *header, const char *claims) {
    json_t *h = json_loads(header, 0, NULL);
    assert_non_null(h);
    cjose_err why = {.code = CJOSE_ERR_NONE};
    cjose_jws_t *jws = cjose_jws_sign(key, h, (const uint8_t *)claims, strlen(claims), &why);
    if (!jws) {
        fail_msg("%s: %s", header, why.message);
    }
    const char *text = NULL;
    assert_true(cjose_jws_export(jws, &text, NULL));
    char *copy = strdup(text);
    cjose_jws_release(jws);
    json_decref(h);
    return copy;
}

static inline char *claims_until(const char *sub, uint64_t exp) {
    static char text[512];
    snprintf(text, sizeof(text), "{\"sub\": \"%s\", \"exp\": %llu}", sub, (unsigned long long)exp);
    return text;
}

static inline void assert_accepted_at(const fixture *f, const char *token, const char *sub, uint64_t now) {
    tob_jwt_claims got = {.sub = ""};
    const char *reason = "";
    for (int i = 0; i < 2; i++) { // the second time from the cache
        tob_error err = tob_jwt_verify(f->jwt, token, strlen(token), now, &got, &reason);
        if (err) {
            fail_msg("%s: %s", token, reason);
        }
        assert_string_equal(got.sub, sub);
    }
    assert_true(tob_jwt_cached(f->jwt, token, strlen(token), now, &got));
    assert_string_equal(got.sub, sub);
}

static inline void assert_accepted(const fixture *f, const char *token, const char *sub) {
    assert_accepted_at(f, token, sub, NOW);
}

static inline void assert_refused_bytes_at(const fixture *f, const char *token, size_t len, const char *why,
                                           uint64_t now) {
    tob_jwt_claims got = {.sub = "untouched"};
    for (int i = 0; i < 2; i++) {
        const char *reason = NULL;
        tob_error err = tob_jwt_verify(f->jwt, token, len, now, &got, &reason);
        if (err != TOB_UNAUTHENTICATED) {
            fail_msg("accepted: %s", token);
        }
        if (!reason || !strstr(reason, why)) {
            fail_msg("%s: \"%s\" instead of \"%s\"", token, reason ? reason : "", why);
        }
        assert_string_equal(got.sub, "untouched");
    }
    assert_false(tob_jwt_cached(f->jwt, token, len, now, &got));
}

static inline void assert_refused_bytes(const fixture *f, const char *token, size_t len, const char *why) {
    assert_refused_bytes_at(f, token, len, why, NOW);
}

static inline void assert_refused(const fixture *f, const char *token, const char *why) {
    assert_refused_bytes(f, token, strlen(token), why);
}

static inline char *sign_ok(const fixture *f, const char *sub) {
    char *token = NULL, kid[TOB_JWT_KID_BYTES];
    assert_int_equal(tob_jwt_sign(f->jwt, sub, NOW, 3600, &token, kid), TOB_OK);
    return token;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
