#include "jwt_rig.h"

static char *own_header(const fixture *f, const char *more) {
    static char text[512];
    snprintf(text, sizeof(text), "{\"alg\": \"ES256\", \"kid\": \"%s\"%s}", cjose_jwk_get_kid(f->own, NULL),
             more);
    return text;
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

int main(void) {
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, make_rsa, free_rsa);
}
