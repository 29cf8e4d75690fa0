// Sources that are registered, what they prove themselves with, and who judges that.
#ifndef TOB_TESTS_CREDENTIALS_RIG_H
#define TOB_TESTS_CREDENTIALS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/credentials.h"
#include "util/clock.h"

#define KEY      "tobk_the-newest-key"
#define OLD_KEY  "tobk_the-key-before"
#define BURST    TOB_LIMITER_BURST
#define FAR_AWAY "192.0.2.1" // an address that nobody else comes from
#define DAY_MS   (UINT64_C(24) * 3600 * 1000)

typedef struct judges {
    tob_directory *directory;
    tob_jwt *jwt;
    tob_limiter *limiter;
    tob_process *process;
    tob_credentials *credentials;
    char *token; // of h-1, issued now
    uint64_t now_unix_s;
} judges;

// key, old_key: NULL for none that anybody knows.
static inline void judges_put_client(judges *j, const char *id, const char *key, const char *old_key,
                                     uint64_t old_until_unix_ms, bool revoked) {
    tob_directory_previous_key previous = {.expires_unix_ms = old_until_unix_ms};
    tob_directory_client client = {.id = id, .name = id, .type = "native", .revoked = revoked};
    if (key) {
        tob_sha256(key, strlen(key), client.key_hash);
    }
    if (old_key) {
        tob_sha256(old_key, strlen(old_key), previous.hash);
        client.previous_key = &previous;
    }
    assert_int_equal(tob_directory_put_client(j->directory, &client, NULL), TOB_OK);
}

static inline void judges_put_headend(judges *j, const char *id, uint64_t not_before_unix_s, bool revoked) {
    tob_directory_headend headend = {.id = id,
                                     .name = id,
                                     .cluster_id = "k-1",
                                     .region = "eu",
                                     .datacenter = "d-1",
                                     .tokens_not_before_unix_s = not_before_unix_s,
                                     .revoked = revoked};
    assert_int_equal(tob_directory_put_headend(j->directory, &headend, NULL), TOB_OK);
}

// A token of our own; free with free.
static inline char *judges_token(judges *j, const char *sub, uint64_t iat_unix_s) {
    char *token = NULL;
    char kid[TOB_JWT_KID_BYTES];
    assert_int_equal(tob_jwt_sign(j->jwt, sub, iat_unix_s, 3600, &token, kid), TOB_OK);
    return token;
}

static inline void judges_open(judges *j) {
    char problem[TOB_JWT_PROBLEM_BYTES], kid[TOB_JWT_KID_BYTES];
    char *jwk = NULL;
    *j = (judges){.now_unix_s = tob_clock_unix_ms() / 1000};
    assert_int_equal(tob_directory_new(&j->directory), TOB_OK);
    assert_int_equal(tob_jwt_new(&(tob_jwt_options){.jwks_path = NULL}, problem, &j->jwt), TOB_OK);
    assert_int_equal(tob_jwt_make_key(&jwk, kid), TOB_OK);
    assert_int_equal(tob_jwt_set_own(j->jwt, &(tob_jwt_own_key){.private_jwk = jwk, .signs = true}, 1),
                     TOB_OK);
    free(jwk);
    assert_int_equal(tob_limiter_new(TOB_LIMITER_BURST, &j->limiter), TOB_OK);
    assert_int_equal(tob_process_new("ingestd", &j->process), TOB_OK);
    tob_credentials_options options = {.directory = j->directory,
                                       .jwt = j->jwt,
                                       .limiter = j->limiter,
                                       .token_limiter = j->limiter,
                                       .process = j->process};
    assert_int_equal(tob_credentials_new(&options, &j->credentials), TOB_OK);
    judges_put_client(j, "c-1", KEY, OLD_KEY, tob_clock_unix_ms() + DAY_MS, false);
    judges_put_client(j, "c-revoked", KEY, NULL, 0, true);
    judges_put_headend(j, "h-1", 0, false);
    j->token = judges_token(j, "h-1", j->now_unix_s);
}

static inline void judges_close(judges *j) {
    free(j->token);
    tob_credentials_free(j->credentials);
    tob_process_free(j->process);
    tob_limiter_free(j->limiter);
    tob_jwt_free(j->jwt);
    tob_directory_free(j->directory);
}

static inline uint64_t judges_counted(judges *j, const char *type, const char *result) {
    return tob_counter_value(
        tob_process_counter(j->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, type,
                            result, NULL));
}

#endif
