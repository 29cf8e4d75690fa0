#include "jwt_rig.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_reload_takes_new_keys_and_forgets_old_ones),
        TEST(key_sets_that_are_not_safe_are_refused),
        TEST(threads_verify_while_keys_are_reloaded),
    };
    return cmocka_run_group_tests(tests, make_rsa, free_rsa);
}
