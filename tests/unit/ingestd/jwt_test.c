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

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

// A set of public keys; extra is text put before them.
static void write_jwks(const fixture *f, const char *extra, bool with_ec, bool with_rsa) {
    char *ec = cjose_jwk_to_json(f->ec, false, NULL), *rsa = cjose_jwk_to_json(f->rsa, false, NULL);
    char text[8192];
    snprintf(text, sizeof(text), "{\"keys\": [%s%s%s%s]}", extra, with_ec ? ec : "",
             with_ec && with_rsa ? ", " : "", with_rsa ? rsa : "");
    write_text(f->jwks_path, text);
    free(ec);
    free(rsa);
}

static cjose_jwk_t *shared_rsa; // slow to make

static int make_rsa(void **state) {
    (void)state;
    static const uint8_t e[] = {1, 0, 1};
    shared_rsa = cjose_jwk_create_RSA_random(2048, e, sizeof(e), NULL);
    return shared_rsa && cjose_jwk_set_kid(shared_rsa, "rsa-1", 5, NULL) ? 0 : -1;
}

static int free_rsa(void **state) {
    (void)state;
    cjose_jwk_release(shared_rsa);
    return 0;
}

static void set_own(tob_jwt *jwt, const char *text) {
    tob_jwt_own_key key = {.private_jwk = text, .signs = true};
    assert_int_equal(tob_jwt_set_own(jwt, &key, 1), TOB_OK);
}

static tob_jwt *new_with(const fixture *f, const char *issuer, const char *audience) {
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

static cjose_jwk_t *jwk_of(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    cjose_jwk_t *jwk = cjose_jwk_import_json(json, NULL);
    json_decref(json);
    return jwk;
}

static int set_up(void **state) {
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

static int tear_down(void **state) {
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
static char *token_of(const cjose_jwk_t *key, const char *header, const char *claims) {
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

static char *claims_until(const char *sub, uint64_t exp) {
    static char text[512];
    snprintf(text, sizeof(text), "{\"sub\": \"%s\", \"exp\": %llu}", sub, (unsigned long long)exp);
    return text;
}

static char *own_header(const fixture *f, const char *more) {
    static char text[512];
    snprintf(text, sizeof(text), "{\"alg\": \"ES256\", \"kid\": \"%s\"%s}", cjose_jwk_get_kid(f->own, NULL),
             more);
    return text;
}

static void assert_accepted_at(const fixture *f, const char *token, const char *sub, uint64_t now) {
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

static void assert_accepted(const fixture *f, const char *token, const char *sub) {
    assert_accepted_at(f, token, sub, NOW);
}

static void assert_refused_bytes_at(const fixture *f, const char *token, size_t len, const char *why,
                                    uint64_t now) {
    tob_jwt_claims got = {.sub = "untouched"};
    for (int i = 0; i < 2; i++) {
        const char *reason = NULL;
        tob_error err = tob_jwt_verify(f->jwt, token, len, now, &got, &reason);
        if (err != TOB_UNAUTHENTICATED) {
            fail_msg("accepted: %s", token);
        }
        assert_non_null(reason);
        if (!strstr(reason, why)) {
            fail_msg("%s: \"%s\" instead of \"%s\"", token, reason, why);
        }
        assert_string_equal(got.sub, "untouched");
    }
    assert_false(tob_jwt_cached(f->jwt, token, len, now, &got));
}

static void assert_refused_bytes(const fixture *f, const char *token, size_t len, const char *why) {
    assert_refused_bytes_at(f, token, len, why, NOW);
}

static void assert_refused_at(const fixture *f, const char *token, const char *why, uint64_t now) {
    assert_refused_bytes_at(f, token, strlen(token), why, now);
}

static void assert_refused(const fixture *f, const char *token, const char *why) {
    assert_refused_bytes(f, token, strlen(token), why);
}

static void refuse_signed(const fixture *f, const cjose_jwk_t *key, const char *header, const char *claims,
                          const char *why) {
    char *token = token_of(key, header, claims);
    assert_refused(f, token, why);
    free(token);
}

// base64url(a).base64url(b).c
static char *assemble(const char *a, const char *b, const char *c) {
    char *token = calloc(1, (strlen(a) + strlen(b)) * 2 + strlen(c) + 16);
    tob_base64url_encode(a, strlen(a), token);
    strcat(token, ".");
    tob_base64url_encode(b, strlen(b), token + strlen(token));
    strcat(token, ".");
    strcat(token, c);
    return token;
}

static char *sign_ok(const fixture *f, const char *sub) {
    char *token = NULL, kid[TOB_JWT_KID_BYTES];
    assert_int_equal(tob_jwt_sign(f->jwt, sub, NOW, 3600, &token, kid), TOB_OK);
    return token;
}

static void our_own_tokens_are_accepted_until_they_expire(void **state) {
    fixture *f = *state;
    char *token = sign_ok(f, "headend-1");
    assert_accepted(f, token, "headend-1");
    assert_accepted_at(f, token, "headend-1", NOW + 3659);
    assert_refused_at(f, token, "the token has expired", NOW + 3660);
    free(token);
}

static void our_own_tokens_hold_what_they_should(void **state) {
    fixture *f = *state;
    char *token = NULL, kid[TOB_JWT_KID_BYTES];
    assert_int_equal(tob_jwt_sign(f->jwt, "headend-1", NOW, 3600, &token, kid), TOB_OK);
    cjose_jws_t *jws = cjose_jws_import(token, strlen(token), NULL);
    assert_true(cjose_jws_verify(jws, f->own, NULL));
    cjose_header_t *header = cjose_jws_get_protected(jws);
    assert_string_equal(cjose_header_get(header, "alg", NULL), "ES256");
    assert_string_equal(cjose_header_get(header, "typ", NULL), "JWT");
    assert_string_equal(cjose_header_get(header, "kid", NULL), cjose_jwk_get_kid(f->own, NULL));
    assert_string_equal(kid, cjose_jwk_get_kid(f->own, NULL));
    uint8_t *text = NULL;
    size_t n = 0;
    assert_true(cjose_jws_get_plaintext(jws, &text, &n, NULL));
    json_t *claims = json_loadb((char *)text, n, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(claims, "iss")), "tobogganing");
    assert_string_equal(json_string_value(json_object_get(claims, "aud")), "tobogganing");
    assert_string_equal(json_string_value(json_object_get(claims, "sub")), "headend-1");
    assert_int_equal(json_integer_value(json_object_get(claims, "iat")), NOW);
    assert_int_equal(json_integer_value(json_object_get(claims, "exp")), NOW + 3600);
    json_decref(claims);
    cjose_jws_release(jws);
    free(token);
}

static void a_verified_token_tells_when_it_was_issued(void **state) {
    fixture *f = *state;
    char *token = sign_ok(f, "h");
    tob_jwt_claims got;
    const char *reason = NULL;
    for (int i = 0; i < 2; i++) {
        got.iat_unix_s = 7;
        assert_int_equal(tob_jwt_verify(f->jwt, token, strlen(token), NOW, &got, &reason), TOB_OK);
        assert_true(got.iat_unix_s == NOW);
    }
    assert_true(tob_jwt_cached(f->jwt, token, strlen(token), NOW, &got) && got.iat_unix_s == NOW);
    free(token);
    static const char *const without[] = {"", ",\"iat\":0", ",\"iat\":-5"};
    for (size_t i = 0; i < 3; i++) {
        char claims[128];
        snprintf(claims, sizeof(claims), "{\"sub\":\"h\",\"exp\":1900000000%s}", without[i]);
        token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims);
        assert_int_equal(tob_jwt_verify(f->jwt, token, strlen(token), NOW, &got, &reason), TOB_OK);
        assert_true(got.iat_unix_s == 0);
        free(token);
    }
}

static void a_token_that_nobody_verified_is_not_remembered(void **state) {
    fixture *f = *state;
    char *token = sign_ok(f, "h");
    tob_jwt_claims got = {.sub = "untouched"};
    assert_false(tob_jwt_cached(f->jwt, token, strlen(token), NOW, &got));
    assert_string_equal(got.sub, "untouched");
    assert_accepted(f, token, "h");
    assert_false(tob_jwt_cached(f->jwt, token, strlen(token) - 1, NOW, &got));
    assert_false(tob_jwt_cached(f->jwt, token, strlen(token), NOW + 3660, &got)); // over
    free(token);
}

// The key and the thumbprint of its public half as another implementation (Python's hashlib) computes it.
static void the_kid_is_the_rfc_7638_thumbprint(void **state) {
    fixture *f = *state;
    char *text = NULL, *token = NULL, kid[TOB_JWT_KID_BYTES];
    assert_int_equal(tob_jwt_import_key(RFC_7515_A3, strlen(RFC_7515_A3), &text, kid), TOB_OK);
    assert_string_equal(kid, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    set_own(f->jwt, text);
    assert_int_equal(tob_jwt_sign(f->jwt, "h", NOW, 60, &token, kid), TOB_OK);
    assert_string_equal(kid, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    cjose_jws_t *jws = cjose_jws_import(token, strlen(token), NULL);
    assert_string_equal(cjose_header_get(cjose_jws_get_protected(jws), "kid", NULL), kid);
    cjose_jws_release(jws);
    free(token);
    free(text);
}

static void a_text_that_is_no_private_p_256_key_is_refused(void **state) {
    fixture *f = *state;
    static const char *const texts[] = {
        "", "{", "[]", "{\"kty\": \"oct\", \"k\": \"AAAA\"}", RFC_7515_A3 " x",
        // without d
        "{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
        " \"y\": \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
        // not on the curve
        "{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
        " \"y\": \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5b0\", \"d\": "
        "\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}"};
    char *text = NULL, kid[TOB_JWT_KID_BYTES], *token = sign_ok(f, "h");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        tob_jwt_own_key keys[] = {{.private_jwk = f->own_text}, {.private_jwk = texts[i], .signs = true}};
        assert_int_equal(tob_jwt_import_key(texts[i], strlen(texts[i]), &text, kid), TOB_MALFORMED);
        assert_null(text);
        assert_int_equal(tob_jwt_set_own(f->jwt, keys, 2), TOB_MALFORMED);
    }
    assert_accepted(f, token, "h"); // the old one stays
    free(token);
}

static void without_a_key_that_signs_no_token_is_made(void **state) {
    fixture *f = *state;
    char *token = NULL, kid[TOB_JWT_KID_BYTES];
    tob_jwt_own_key key = {.private_jwk = f->own_text};
    assert_int_equal(tob_jwt_set_own(f->jwt, &key, 1), TOB_OK);
    assert_int_equal(tob_jwt_sign(f->jwt, "h", NOW, 60, &token, kid), TOB_PRECONDITION);
    assert_int_equal(tob_jwt_set_own(f->jwt, NULL, 0), TOB_OK);
    assert_int_equal(tob_jwt_sign(f->jwt, "h", NOW, 60, &token, kid), TOB_PRECONDITION);
    assert_null(token);
}

static void tokens_of_a_key_that_rotated_are_good_until_it_expires(void **state) {
    fixture *f = *state;
    char *text = NULL, kid[TOB_JWT_KID_BYTES], *of_old = sign_ok(f, "h"), signed_by[TOB_JWT_KID_BYTES];
    assert_accepted(f, of_old, "h");
    assert_int_equal(tob_jwt_make_key(&text, kid), TOB_OK);
    tob_jwt_own_key keys[] = {{.private_jwk = text, .signs = true},
                              {.private_jwk = f->own_text, .expires_unix_ms = (NOW + 100) * 1000}};
    assert_int_equal(tob_jwt_set_own(f->jwt, keys, 2), TOB_OK);
    char *of_new = NULL;
    assert_int_equal(tob_jwt_sign(f->jwt, "h", NOW, 3600, &of_new, signed_by), TOB_OK);
    assert_string_equal(signed_by, kid);
    assert_accepted(f, of_new, "h");
    assert_accepted_at(f, of_old, "h", NOW + 99);
    assert_refused_at(f, of_old, "key has expired", NOW + 100); // although it was remembered
    assert_accepted_at(f, of_new, "h", NOW + 100);
    free(of_old);
    free(of_new);
    free(text);
}

static void tokens_of_a_key_that_is_gone_or_revoked_are_refused_at_once(void **state) {
    fixture *f = *state;
    char *text = NULL, kid[TOB_JWT_KID_BYTES], *token = sign_ok(f, "h");
    assert_int_equal(tob_jwt_make_key(&text, kid), TOB_OK);
    assert_accepted(f, token, "h"); // remembered
    set_own(f->jwt, text);
    assert_refused(f, token, "kid is not known");
    tob_jwt_own_key keys[] = {{.private_jwk = text, .signs = true},
                              {.private_jwk = f->own_text, .expires_unix_ms = 1}};
    assert_int_equal(tob_jwt_set_own(f->jwt, keys, 2), TOB_OK);
    assert_refused(f, token, "key has expired");
    // The file's key of the same name does not stand in for it.
    char extra[1024], problem[TOB_JWT_PROBLEM_BYTES];
    char *public = cjose_jwk_to_json(f->own, false, NULL);
    snprintf(extra, sizeof(extra), "%s,", public);
    free(public);
    write_jwks(f, extra, true, true);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_OK);
    assert_refused(f, token, "key has expired");
    free(token);
    free(text);
}

static void there_are_at_most_64_keys_of_our_own(void **state) {
    fixture *f = *state;
    tob_jwt_own_key keys[TOB_JWT_MAX_OWN_KEYS + 1];
    char *texts[TOB_JWT_MAX_OWN_KEYS + 1], kid[TOB_JWT_KID_BYTES];
    for (size_t i = 0; i <= TOB_JWT_MAX_OWN_KEYS; i++) {
        assert_int_equal(tob_jwt_make_key(&texts[i], kid), TOB_OK);
        keys[i] = (tob_jwt_own_key){.private_jwk = texts[i], .signs = i == TOB_JWT_MAX_OWN_KEYS - 1};
    }
    assert_int_equal(tob_jwt_set_own(f->jwt, keys, TOB_JWT_MAX_OWN_KEYS + 1), TOB_TOO_LARGE);
    assert_int_equal(tob_jwt_set_own(f->jwt, keys, TOB_JWT_MAX_OWN_KEYS), TOB_OK);
    char *token = sign_ok(f, "h");
    assert_accepted(f, token, "h");
    free(token);
    for (size_t i = 0; i <= TOB_JWT_MAX_OWN_KEYS; i++) {
        free(texts[i]);
    }
}

static void the_public_set_has_public_members_only(void **state) {
    fixture *f = *state;
    char *text = NULL, kid[TOB_JWT_KID_BYTES], *json = NULL, *token = sign_ok(f, "h");
    assert_int_equal(tob_jwt_make_key(&text, kid), TOB_OK);
    tob_jwt_own_key keys[] = {{.private_jwk = text, .signs = true},
                              {.private_jwk = f->own_text, .expires_unix_ms = NOW * 1000 + 1},
                              {.private_jwk = RFC_7515_A3, .expires_unix_ms = NOW * 1000}};
    assert_int_equal(tob_jwt_set_own(f->jwt, keys, 3), TOB_OK);
    assert_int_equal(tob_jwt_jwks(f->jwt, NOW * 1000, &json), TOB_OK);
    json_t *set = json_loads(json, JSON_REJECT_DUPLICATES, NULL), *keys_of = json_object_get(set, "keys");
    assert_int_equal(json_object_size(set), 1);
    assert_int_equal(json_array_size(keys_of), 2); // not the one that has expired
    for (size_t i = 0; i < 2; i++) {
        json_t *key = json_array_get(keys_of, i);
        static const char *const members[] = {"kty", "EC", "crv", "P-256", "alg", "ES256", "use", "sig"};
        for (size_t j = 0; j < 8; j += 2) {
            assert_string_equal(json_string_value(json_object_get(key, members[j])), members[j + 1]);
        }
        assert_int_equal(json_object_size(key), 7); // with kid, x and y
        assert_int_equal(json_string_length(json_object_get(key, "x")), 43);
        assert_int_equal(json_string_length(json_object_get(key, "y")), 43);
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(keys_of, 0), "kid")), kid);
    assert_null(strstr(json, "\"d\""));
    // Whoever has only this set can check our tokens.
    cjose_jwk_t *public = cjose_jwk_import_json(json_array_get(keys_of, 1), NULL);
    cjose_jws_t *jws = cjose_jws_import(token, strlen(token), NULL);
    assert_true(cjose_jws_verify(jws, public, NULL));
    cjose_jws_release(jws);
    cjose_jwk_release(public);
    json_decref(set);
    free(json);
    free(token);
    free(text);
}

static void tokens_of_the_jwks_files_keys_are_accepted(void **state) {
    fixture *f = *state;
    char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\",\"typ\":\"JWT\"}",
                           claims_until("h-ec", NOW + 9));
    assert_accepted(f, token, "h-ec");
    free(token);
    token = token_of(
        f->rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa-1\"}",
        "{\"sub\":\"h-rsa\",\"exp\":1800000001,\"nbf\":1799999999,\"iat\":1,\"iss\":\"https://issuer\"}");
    assert_accepted(f, token, "h-rsa");
    free(token);
}

static void algorithms_other_than_the_keys_are_refused(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"none",  "None",  "nOnE",  "NONE",  "",
                                        "HS256", "RS384", "PS256", "ES384", "es256"};
    char header[256];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        static const char *const signatures[] = {"", "AAAA",
                                                 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
        static const char *const kids[] = {"ec-1", "rsa-1"};
        for (size_t j = 0; j < 6; j++) {
            snprintf(header, sizeof(header), "{\"alg\": \"%s\", \"kid\": \"%s\"}", names[i], kids[j % 2]);
            char *token = assemble(header, claims_until("h", NOW + 60), signatures[j / 2]);
            assert_refused(f, token, "");
            free(token);
        }
    }
    // Signed with one of the RSA key's own other algorithms.
    refuse_signed(f, f->rsa, "{\"alg\":\"PS256\",\"kid\":\"rsa-1\"}", claims_until("h", NOW + 60), "alg");
    refuse_signed(f, f->rsa, "{\"alg\":\"RS512\",\"kid\":\"rsa-1\"}", claims_until("h", NOW + 60), "alg");
}

static void a_public_key_used_as_an_hmac_secret_is_refused(void **state) {
    fixture *f = *state;
    const cjose_jwk_t *keys[] = {f->rsa, f->ec, f->own};
    for (size_t i = 0; i < 3; i++) {
        char *public = cjose_jwk_to_json(keys[i], false, NULL);
        cjose_jwk_t *secret = cjose_jwk_create_oct_spec((uint8_t *)public, strlen(public), NULL);
        char header[256];
        snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}",
                 cjose_jwk_get_kid(keys[i], NULL));
        refuse_signed(f, secret, header, claims_until("h", NOW + 60), "alg");
        cjose_jwk_release(secret);
        free(public);
    }
}

static void a_key_of_another_kind_or_of_an_attacker_is_refused(void **state) {
    fixture *f = *state;
    cjose_jwk_t *attacker = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, NULL);
    const char *claims = claims_until("h", NOW + 60);
    refuse_signed(f, attacker, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims, "signature is not valid");
    refuse_signed(f, f->ec, own_header(f, ""), claims, "signature is not valid");
    refuse_signed(f, f->rsa, "{\"alg\":\"RS256\",\"kid\":\"ec-1\"}", claims, "alg");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"rsa-1\"}", claims, "alg");
    cjose_jwk_release(attacker);
}

static void a_token_that_brings_its_own_key_or_rules_is_refused(void **state) {
    fixture *f = *state;
    static const char *const members[] = {",\"jwk\":{\"kty\":\"EC\"}",
                                          ",\"jku\":\"https://evil\"",
                                          ",\"x5u\":\"https://evil\"",
                                          ",\"x5c\":[\"AAAA\"]",
                                          ",\"crit\":[\"exp\"]",
                                          ",\"crit\":[]",
                                          ",\"b64\":false",
                                          ",\"jwk\":null"};
    char header[256];
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"ec-1\"%s}", members[i]);
        refuse_signed(f, f->ec, header, claims_until("h", NOW + 60), "member that is not accepted");
    }
}

static void headers_that_are_not_as_they_should_be_are_refused(void **state) {
    fixture *f = *state;
    const char *claims = claims_until("h", NOW + 60);
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\"}", claims, "no kid");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"\"}", claims, "no kid");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":7}", claims, "no kid");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-2\"}", claims, "kid is not known");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"../../ec-1\"}", claims, "kid is not known");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\",\"typ\":\"JWE\"}", claims, "typ");
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\",\"typ\":1}", claims, "typ");
    static const char *const headers[] = {"[]",
                                          "\"x\"",
                                          "",
                                          "{",
                                          "{\"alg\":\"ES256\",\"kid\":\"ec-1\"} x",
                                          "{\"alg\":\"none\",\"alg\":\"ES256\",\"kid\":\"ec-1\"}"};
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char *token = assemble(headers[i], claims, "AAAA");
        assert_refused(f, token, "header");
        free(token);
    }
    char kid[600];

    snprintf(kid, sizeof(kid), "{\"alg\":\"ES256\",\"kid\":\"%0257d\"}", 0);
    refuse_signed(f, f->ec, kid, claims, "no kid");
}

static void claims_that_are_not_as_they_should_be_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        const char *claims, *why;
    } table[] = {
        {"{\"sub\":\"h\"}", "exp"},
        {"{\"sub\":\"h\",\"exp\":\"1900000000\"}", "exp"},
        {"{\"sub\":\"h\",\"exp\":1900000000.5}", "exp"},
        {"{\"sub\":\"h\",\"exp\":1.9e9}", "exp"},
        {"{\"sub\":\"h\",\"exp\":null}", "exp"},
        {"{\"sub\":\"h\",\"exp\":true}", "exp"},
        {"{\"sub\":\"h\",\"exp\":-1}", "expired"},
        {"{\"sub\":\"h\",\"exp\":0}", "expired"},
        {"{\"sub\":\"h\",\"exp\":-9223372036854775808}", "expired"},
        {"{\"sub\":\"h\",\"exp\":18446744073709551616}", "claims"},
        {"{\"sub\":\"h\",\"exp\":1799999940}", "expired"}, // now - leeway
        {"{\"sub\":\"h\",\"exp\":1900000000,\"nbf\":1800000061}", "not valid yet"},
        {"{\"sub\":\"h\",\"exp\":1900000000,\"nbf\":\"0\"}", "nbf"},
        {"{\"sub\":\"h\",\"exp\":1900000000,\"nbf\":1.5}", "nbf"},
        {"{\"sub\":\"h\",\"exp\":1900000000,\"iat\":\"0\"}", "iat"},
        {"{\"sub\":\"h\",\"exp\":1900000000,\"iat\":1800000061}", "iat"},
        {"{\"exp\":1900000000}", "sub"},
        {"{\"sub\":\"\",\"exp\":1900000000}", "sub"},
        {"{\"sub\":7,\"exp\":1900000000}", "sub"},
        {"{\"sub\":\"a b\",\"exp\":1900000000}", "sub"},
        {"{\"sub\":\"a/../b\",\"exp\":1900000000}", "sub"},
        {"{\"sub\":\"h\\u0000x\",\"exp\":1900000000}", "claims"},
        {"{\"sub\":\"h\",\"sub\":\"g\",\"exp\":1900000000}", "claims"},
        {"{\"sub\":\"h\",\"exp\":1900000000,\"iss\":5}", "iss"},
        {"[]", "claims"},
        {"not JSON", "claims"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", table[i].claims, table[i].why);
    }
    char sub[200];
    snprintf(sub, sizeof(sub), "%0129d", 0);
    refuse_signed(f, f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims_until(sub, NOW + 60), "sub");
    // At the edges, they are good.
    static const char *const good[] = {
        "{\"sub\":\"h\",\"exp\":1799999941}",
        "{\"sub\":\"h\",\"exp\":9223372036854775807,\"nbf\":1800000060,\"iat\":1800000060}"};
    for (size_t i = 0; i < 2; i++) {
        char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", good[i]);
        assert_accepted(f, token, "h");
        free(token);
    }
}

static void our_own_keys_tokens_must_be_of_our_issuer(void **state) {
    fixture *f = *state;
    refuse_signed(f, f->own, own_header(f, ""), "{\"sub\":\"h\",\"exp\":1900000000}", "iss");
    refuse_signed(f, f->own, own_header(f, ""), "{\"sub\":\"h\",\"exp\":1900000000,\"iss\":\"other\"}",
                  "iss");
    char *token =
        token_of(f->own, own_header(f, ""), "{\"sub\":\"h\",\"exp\":1900000000,\"iss\":\"tobogganing\"}");
    assert_accepted(f, token, "h"); // of earlier versions, without aud
    free(token);
}

static void our_own_keys_tokens_must_be_for_us(void **state) {
    fixture *f = *state;
    static const struct {
        const char *aud;
        bool good;
    } table[] = {{"\"tobogganing\"", true},
                 {"[\"tobogganing\"]", true},
                 {"[\"x\",\"tobogganing\"]", true},
                 {"\"other\"", false},
                 {"[\"other\"]", false},
                 {"[]", false},
                 {"\"Tobogganing\"", false},
                 {"\"\"", false},
                 {"null", false},
                 {"7", false},
                 {"{}", false},
                 {"[\"tobogganing\",7]", false},
                 {"[[\"tobogganing\"]]", false}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char claims[256];
        snprintf(claims, sizeof(claims),
                 "{\"sub\":\"h\",\"exp\":1900000000,\"iss\":\"tobogganing\",\"aud\":%s}", table[i].aud);
        char *token = token_of(f->own, own_header(f, ""), claims);
        if (table[i].good) {
            assert_accepted(f, token, "h");
        } else {
            assert_refused(f, token, "aud");
        }
        free(token);
    }
}

static void the_files_keys_tokens_must_be_as_the_options_say(void **state) {
    fixture *f = *state;
    static const struct {
        const char *more, *why; // NULL: accepted
    } table[] = {{",\"iss\":\"https://issuer\",\"aud\":\"metrics\"", NULL},
                 {",\"iss\":\"https://issuer\",\"aud\":[\"a\",\"metrics\"]", NULL},
                 {",\"aud\":\"metrics\"", "iss"},
                 {",\"iss\":\"https://issuer/\",\"aud\":\"metrics\"", "iss"},
                 {",\"iss\":\"tobogganing\",\"aud\":\"metrics\"", "iss"},
                 {",\"iss\":\"https://issuer\"", "aud"},
                 {",\"iss\":\"https://issuer\",\"aud\":[]", "aud"},
                 {",\"iss\":\"https://issuer\",\"aud\":[\"a\",\"b\"]", "aud"},
                 {",\"iss\":\"https://issuer\",\"aud\":\"tobogganing\"", "aud"}};
    tob_jwt_free(f->jwt);
    f->jwt = new_with(f, "https://issuer", "metrics");
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char claims[256];
        snprintf(claims, sizeof(claims), "{\"sub\":\"h\",\"exp\":1900000000%s}", table[i].more);
        char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims);
        if (table[i].why) {
            assert_refused(f, token, table[i].why);
        } else {
            assert_accepted(f, token, "h");
        }
        free(token);
    }
    char *own = sign_ok(f, "h"); // ours are as they are
    assert_accepted(f, own, "h");
    free(own);
    tob_jwt_free(f->jwt); // empty options check nothing
    f->jwt = new_with(f, "", "");
    char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}",
                           "{\"sub\":\"h\",\"exp\":1900000000,\"iss\":\"x\",\"aud\":\"y\"}");
    assert_accepted(f, token, "h");
    free(token);
}

static void signatures_of_another_length_or_with_zeros_are_refused(void **state) {
    fixture *f = *state;
    char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims_until("h", NOW + 60));
    char *signature = strrchr(token, '.') + 1;
    assert_int_equal(strlen(signature), 86);
    uint8_t zero_r[64] = {0}, zero_s[64] = {0}, zeros[132] = {0};
    memset(zero_r + 32, 1, 32);
    memset(zero_s, 1, 32);
    const struct {
        const uint8_t *bytes;
        size_t n;
        const char *why;
    } table[] = {{zero_r, 64, "not valid"},   {zero_s, 64, "not valid"},   {zeros, 64, "not valid"},
                 {zeros, 63, "wrong length"}, {zeros, 65, "wrong length"}, {zeros, 1, "wrong length"},
                 {zeros, 132, "wrong length"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char forged[1024], text[256];
        tob_base64url_encode(table[i].bytes, table[i].n, text);
        snprintf(forged, sizeof(forged), "%.*s%s", (int)(signature - token), token, text);
        assert_refused(f, forged, table[i].why);
    }
    *signature = 0; // nothing after the second dot
    assert_refused(f, token, "signature is missing");
    free(token);
}

static void a_token_has_one_spelling_only(void **state) {
    fixture *f = *state;
    char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims_until("h", NOW + 60));
    size_t n = strlen(token);
    char text[1024];
    static const char *const tails[] = {"=", "==", " ", "\n", ".", "A", "%3D"};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", token, tails[i]);
        assert_refused(f, text, "");
        snprintf(text, sizeof(text), "%s%s", tails[i], token);
        assert_refused(f, text, "");
    }
    assert_refused_bytes(f, token, n + 1, ""); // with the NUL
    // The last character holds two bits that mean nothing: each spelling but one is refused.
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char last = token[n - 1];
    for (size_t i = 0; i < 64; i++) {
        token[n - 1] = alphabet[i];
        if (alphabet[i] != last) {
            assert_refused(f, token, "");
        }
    }
    token[n - 1] = last;
    // Any other byte changed.
    for (size_t i = 0; i < n; i++) {
        char kept = token[i];
        token[i] = kept == 'A' ? 'B' : 'A';
        assert_refused(f, token, "");
        token[i] = '+';
        assert_refused(f, token, "");
        token[i] = kept;
    }
    assert_accepted(f, token, "h");
    free(token);
}

static void garbage_and_tokens_over_8_kib_are_refused(void **state) {
    fixture *f = *state;
    static const char *const texts[] = {"",      ".",     "..",   "...",         "a.b",      "a.b.c.d",
                                        "a.b.c", "é.é.é", "....", "e30.e30.e30", "e30.e30.", "tobk_AAAA"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_refused(f, texts[i], "");
    }
    char *claims = malloc(9000);
    for (size_t pad = 0; pad < 3; pad++) {
        snprintf(claims, 9000, "{\"sub\":\"h\",\"exp\":1900000000,\"p\":\"%0*d\"}", (int)(5900 + pad * 100),
                 0);
        char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims);
        if (strlen(token) > TOB_JWT_MAX_BYTES) {
            assert_refused(f, token, "too long");
        } else {
            assert_accepted(f, token, "h");
        }
        assert_true(pad != 0 || strlen(token) <= TOB_JWT_MAX_BYTES);
        assert_true(pad != 2 || strlen(token) > TOB_JWT_MAX_BYTES);
        free(token);
    }
    char *deep = malloc(9000); // nested as deep as it fits
    memset(deep, '[', 5900);
    deep[5900] = 0;
    char *token = assemble("{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", deep, "AAAA");
    assert_refused(f, token, "claims");
    free(token);
    free(deep);
    free(claims);
}

static void a_reload_takes_new_keys_and_forgets_old_ones(void **state) {
    fixture *f = *state;
    char problem[TOB_JWT_PROBLEM_BYTES];
    char *token = token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims_until("h", NOW + 60));
    char *own = sign_ok(f, "own");
    assert_accepted(f, token, "h");
    write_text(f->jwks_path, "{\"keys\": [");
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_MALFORMED);
    assert_non_null(strstr(problem, f->jwks_path));
    assert_accepted(f, token, "h"); // the old keys stay
    write_jwks(f, "", false, true);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_OK);
    assert_refused(f, token, "kid is not known");
    assert_accepted(f, own, "own");
    write_jwks(f, "", true, false);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_OK);
    assert_accepted(f, token, "h");
    free(token);
    free(own);
}

static void key_sets_that_are_not_safe_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        const char *extra, *why;
    } table[] = {
        {"{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"s\"},", "symmetric"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\",\"kid\":\"p\"},", "not a valid key"},
        {"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AA\",\"y\":\"AA\",\"kid\":\"p\"},", "curve"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"},", "no kid"},
        {"{\"kty\":\"RSA\",\"n\":\"w7Zdfmece8iaB0kiTY8pCtiBtzbptJmP28nSWwtdjRu0f2GFpajvWE4VhfJA\",\"e\":"
         "\"AQAB\",\"kid\":"
         "\"r\"},",
         "2048"},
        {"{\"kid\":\"x\"},", "no kty"},
        {"7,", "no kty"},
    };
    char problem[TOB_JWT_PROBLEM_BYTES];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        write_jwks(f, table[i].extra, true, true);
        assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_MALFORMED);
        if (!strstr(problem, table[i].why) || !strstr(problem, "key 1:")) {
            fail_msg("%s: %s", table[i].extra, problem);
        }
    }
    char *ec = cjose_jwk_to_json(f->ec, false, NULL), extra[1024];
    snprintf(extra, sizeof(extra), "%s,", ec);
    write_jwks(f, extra, true, true);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_MALFORMED);
    assert_non_null(strstr(problem, "same kid"));
    free(ec);
    // Of another use or kind: ignored.
    write_jwks(f, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}, {\"kty\":\"EC\",\"use\":\"enc\"},", true, true);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_OK);
    char *many = calloc(1, 40 * 258 + 64);
    strcpy(many, "{\"keys\":[{\"kty\":\"OKP\"}");
    for (int i = 0; i < 256; i++) {
        strcat(many, ",{\"kty\":\"OKP\"}");
    }
    strcat(many, "]}");
    write_text(f->jwks_path, many);
    free(many);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_TOO_LARGE);
    unlink(f->jwks_path);
    assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_IO);
    write_text(f->jwks_path, "");
}

typedef struct verifying {
    const fixture *f;
    const char *tokens[8];
    bool wrong;
} verifying;

static void *verify_on(void *user) {
    verifying *v = user;
    for (int i = 0; i < 400; i++) {
        tob_jwt_claims got = {.sub = ""};
        const char *token = v->tokens[i % 8], *reason = NULL;
        if (tob_jwt_verify(v->f->jwt, token, strlen(token), NOW, &got, &reason) ||
            strcmp(got.sub, "h") != 0) {
            v->wrong = true;
        }
    }
    return NULL;
}

static void threads_verify_while_keys_are_reloaded(void **state) {
    fixture *f = *state;
    verifying v[2] = {{.f = f}, {.f = f}};
    char *tokens[8];
    for (int i = 0; i < 8; i++) {
        tokens[i] = i % 2
                        ? token_of(f->ec, "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}", claims_until("h", NOW + 60))
                        : token_of(f->rsa, "{\"alg\":\"RS256\",\"kid\":\"rsa-1\"}",
                                   claims_until("h", NOW + 60 + (uint64_t)i));
        v[0].tokens[i] = v[1].tokens[i] = tokens[i];
    }
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, verify_on, &v[i]), 0);
    }
    char problem[TOB_JWT_PROBLEM_BYTES];
    for (int i = 0; i < 50; i++) {
        assert_int_equal(tob_jwt_reload(f->jwt, problem), TOB_OK);
        set_own(f->jwt, f->own_text);
        char *own = sign_ok(f, "h"), *json = NULL;
        assert_int_equal(tob_jwt_jwks(f->jwt, NOW * 1000, &json), TOB_OK);
        free(json);
        free(own);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_false(v[i].wrong);
    }
    for (int i = 0; i < 8; i++) {
        free(tokens[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(our_own_tokens_are_accepted_until_they_expire),
        TEST(our_own_tokens_hold_what_they_should),
        TEST(a_verified_token_tells_when_it_was_issued),
        TEST(a_token_that_nobody_verified_is_not_remembered),
        TEST(the_kid_is_the_rfc_7638_thumbprint),
        TEST(a_text_that_is_no_private_p_256_key_is_refused),
        TEST(without_a_key_that_signs_no_token_is_made),
        TEST(tokens_of_a_key_that_rotated_are_good_until_it_expires),
        TEST(tokens_of_a_key_that_is_gone_or_revoked_are_refused_at_once),
        TEST(there_are_at_most_64_keys_of_our_own),
        TEST(the_public_set_has_public_members_only),
        TEST(tokens_of_the_jwks_files_keys_are_accepted),
        TEST(algorithms_other_than_the_keys_are_refused),
        TEST(a_public_key_used_as_an_hmac_secret_is_refused),
        TEST(a_key_of_another_kind_or_of_an_attacker_is_refused),
        TEST(a_token_that_brings_its_own_key_or_rules_is_refused),
        TEST(headers_that_are_not_as_they_should_be_are_refused),
        TEST(claims_that_are_not_as_they_should_be_are_refused),
        TEST(our_own_keys_tokens_must_be_of_our_issuer),
        TEST(our_own_keys_tokens_must_be_for_us),
        TEST(the_files_keys_tokens_must_be_as_the_options_say),
        TEST(signatures_of_another_length_or_with_zeros_are_refused),
        TEST(a_token_has_one_spelling_only),
        TEST(garbage_and_tokens_over_8_kib_are_refused),
        TEST(a_reload_takes_new_keys_and_forgets_old_ones),
        TEST(key_sets_that_are_not_safe_are_refused),
        TEST(threads_verify_while_keys_are_reloaded),
    };
    return cmocka_run_group_tests(tests, make_rsa, free_rsa);
}
