#include "jwt_rig.h"

static void assert_refused_at(const fixture *f, const char *token, const char *why, uint64_t now) {
    assert_refused_bytes_at(f, token, strlen(token), why, now);
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
    };
    return cmocka_run_group_tests(tests, make_rsa, free_rsa);
}
