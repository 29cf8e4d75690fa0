// Headends' tokens. The first byte of the input chooses:
//   0  the rest is the token
//   1  the rest is "header|payload|signature", which is base64url-encoded and joined
//   2  a good token of our own, damaged: pairs of place and value
//
// Promises: nothing that our own key did not sign is ever accepted, whatever it says of itself; a refusal has a
// reason.
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "ingestd/jwt.h"

#define NOW_UNIX_S UINT64_C(1800000000)

enum { MAX_INPUT_BYTES = 16 << 10, KINDS = 3, PARTS = 3 };

static tob_jwt *jwt;
static char *good; // a token that is accepted

static void stop(void) {
    tob_jwt_free(jwt);
    free(good);
}

static void start(void) {
    char problem[TOB_JWT_PROBLEM_BYTES] = "", kid[TOB_JWT_KID_BYTES];
    tob_jwt_own_key key = {.signs = true};
    char *text = NULL;
    FUZZ_CHECK(tob_jwt_new(&(tob_jwt_options){.jwks_path = NULL}, problem, &jwt) == TOB_OK);
    FUZZ_CHECK(tob_jwt_make_key(&text, kid) == TOB_OK);
    key.private_jwk = text;
    FUZZ_CHECK(tob_jwt_set_own(jwt, &key, 1) == TOB_OK);
    FUZZ_CHECK(tob_jwt_sign(jwt, "headend-1", NOW_UNIX_S - 10, 3600, &good, kid) == TOB_OK);
    free(text);
    atexit(stop);
}

static void check(const char *token, size_t len) {
    tob_jwt_claims claims = {.sub = ""};
    const char *reason = NULL;
    bool is_good = len == strlen(good) && memcmp(token, good, len) == 0;
    tob_error err = tob_jwt_verify(jwt, token, len, NOW_UNIX_S, &claims, &reason);
    if (is_good) {
        FUZZ_CHECK(err == TOB_OK && strcmp(claims.sub, "headend-1") == 0);
    } else {
        FUZZ_CHECK(err == TOB_UNAUTHENTICATED && reason && *reason);
    }
}

// An exact copy, so that a sanitizer sees a read past the token.
static void check_copy(const void *token, size_t len) {
    char *copy = malloc(len ? len : 1);
    FUZZ_CHECK(copy);
    memcpy(copy, token, len);
    check(copy, len);
    free(copy);
}

static void check_parts(const uint8_t *data, size_t n) {
    size_t len = 0;
    char *token = malloc(n * 2 + 16);
    FUZZ_CHECK(token);
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *end = n ? memchr(data, '|', n) : NULL;
        size_t part_len = end && part < PARTS - 1 ? (size_t)(end - data) : n;
        tob_base64url_encode(data, part_len, token + len);
        len += strlen(token + len);
        if (part < PARTS - 1) {
            token[len++] = '.';
        }
        data += part_len;
        n -= part_len;
        if (n) { // the '|'
            data++;
            n--;
        }
    }
    check_copy(token, len);
    free(token);
}

static void check_damaged(const uint8_t *data, size_t n) {
    size_t len = strlen(good);
    char *token = malloc(len);
    FUZZ_CHECK(token);
    memcpy(token, good, len);
    while (n >= 3) {
        size_t at = fuzz_take_u16(&data, &n) % len;
        token[at] = (char)fuzz_take_byte(&data, &n);
    }
    check(token, len);
    free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    if (!jwt) {
        start();
    }
    switch (fuzz_take_byte(&data, &n) % KINDS) {
    case 0: check_copy(data, n); break;
    case 1: check_parts(data, n); break;
    case 2: check_damaged(data, n); break;
    }
    return 0;
}
