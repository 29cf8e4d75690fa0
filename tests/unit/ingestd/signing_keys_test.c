#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ingestd/registry_signing_keys.h"
#include "ingestd/signing_keys.h"
#include "tests/unit/ingestd/both_engines.h"
#include "util/clock.h"

#define DAY_MS UINT64_C(86400000)

#define RFC_7515_A3                                                                                          \
    "{\"kty\": \"EC\", \"crv\": \"P-256\","                                                                  \
    " \"x\": \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                                               \
    " \"y\": \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\","                                               \
    " \"d\": \"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}"
#define RFC_7515_A3_KID "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"

static const tob_registry_actor actor = {.who = "admin alice", .peer = "192.0.2.1"};

typedef struct fixture {
    char dir[64];
    char old_path[96];
    char url[512];
    uint64_t now;
    tob_registry *registry;
    tob_jwt *jwt;
} fixture;

static tob_jwt *new_jwt(void) {
    tob_jwt *jwt = NULL;
    char problem[TOB_JWT_PROBLEM_BYTES];
    assert_int_equal(tob_jwt_new(&(tob_jwt_options){.jwks_path = NULL}, problem, &jwt), TOB_OK);
    return jwt;
}

// *state is the engine.
static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->url, sizeof(f->url), "%s", tob_test_database(*state));
    snprintf(f->dir, sizeof(f->dir), "%s/tob-keys-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    snprintf(f->old_path, sizeof(f->old_path), "%s/issuer-key.jwk", f->dir);
    f->now = tob_clock_unix_ms();
    f->registry = open_registry(f->url);
    f->jwt = new_jwt();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_jwt_free(f->jwt);
    tob_registry_close(f->registry);
    unlink(f->old_path);
    int failed = rmdir(f->dir); // nothing else was left in it
    free(f);
    return failed;
}

static void write_old(const fixture *f, const char *text, mode_t mode) {
    FILE *file = fopen(f->old_path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(f->old_path, mode), 0);
}

static void open_ok(fixture *f) {
    char problem[TOB_JWT_PROBLEM_BYTES] = "";
    tob_error err = tob_signing_keys_open(f->registry, f->jwt, f->dir, f->now, problem);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem);
    }
}

static char *sign(tob_jwt *jwt, char ret_kid[TOB_JWT_KID_BYTES]) {
    char *token = NULL;
    assert_int_equal(tob_jwt_sign(jwt, "h", tob_clock_unix_ms() / 1000, 3600, &token, ret_kid), TOB_OK);
    return token;
}

static tob_error verify(tob_jwt *jwt, const char *token) {
    tob_jwt_claims claims;
    const char *reason = NULL;
    return tob_jwt_verify(jwt, token, strlen(token), tob_clock_unix_ms() / 1000, &claims, &reason);
}

// What is listed, as text: "KID:created:expires:revoked " with the times from f->now on, in days.
typedef struct text {
    const fixture *f;
    char text[8192];
    size_t count;
} text;

static tob_error add_text(void *user, const tob_registry_signing_key *key) {
    text *to = user;
    size_t n = strlen(to->text);
    long long expires = key->expires_unix_ms ? (long long)(key->expires_unix_ms - to->f->now) : 0;
    snprintf(to->text + n, sizeof(to->text) - n, "%s:%lld:%d ", key->kid, expires / (long long)DAY_MS,
             key->revoked_unix_ms != 0);
    assert_non_null(strstr(key->private_jwk, "\"d\""));
    to->count++;
    return TOB_OK;
}

static void expect_keys(const fixture *f, const char *expected) {
    text got = {.f = f};
    assert_int_equal(tob_registry_list_signing_keys(f->registry, add_text, &got), TOB_OK);
    assert_string_equal(got.text, expected);
}

static tob_error add_audit(void *user, const tob_registry_audit_entry *entry) {
    text *to = user;
    size_t n = strlen(to->text);
    snprintf(to->text + n, sizeof(to->text) - n, "%s %s %s %s; ", entry->who, entry->action, entry->target,
             entry->detail);
    return TOB_OK;
}

static void expect_audit(const fixture *f, const char *expected) {
    text got = {.f = f};
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 100, add_audit, &got), TOB_OK);
    assert_string_equal(got.text, expected);
    assert_null(strstr(got.text, "\"d\""));
}

// As an admin would; commits.
static tob_error rotate(fixture *f, uint64_t at, uint64_t overlap_ms, char ret_kid[TOB_JWT_KID_BYTES]) {
    char *jwk = NULL;
    assert_int_equal(tob_jwt_make_key(&jwk, ret_kid), TOB_OK);
    assert_int_equal(tob_registry_begin(f->registry, &actor, at), TOB_OK);
    tob_registry_signing_key key = {.kid = ret_kid, .private_jwk = jwk, .created_unix_ms = at};
    tob_error err = tob_registry_add_signing_key(f->registry, "signing_key.rotate", &key, at + overlap_ms);
    if (err) {
        tob_registry_rollback(f->registry);
    } else {
        err = tob_registry_commit(f->registry);
    }
    free(jwk);
    return err;
}

static tob_error revoke_key(fixture *f, const char *kid) {
    assert_int_equal(tob_registry_begin(f->registry, &actor, f->now), TOB_OK);
    tob_error err = tob_registry_revoke_signing_key(f->registry, kid);
    if (err) {
        tob_registry_rollback(f->registry);
        return err;
    }
    return tob_registry_commit(f->registry);
}

static void the_first_start_makes_a_key_that_stays(void **state) {
    fixture *f = *state;
    char kid[TOB_JWT_KID_BYTES], again[TOB_JWT_KID_BYTES], expected[128];
    uint64_t change = 7, later = 8;
    assert_int_equal(tob_registry_signing_keys_change(f->registry, &change), TOB_OK);
    assert_int_equal(change, 0);
    open_ok(f);
    char *token = sign(f->jwt, kid);
    snprintf(expected, sizeof(expected), "%s:0:0 ", kid);
    expect_keys(f, expected);
    snprintf(expected, sizeof(expected), "ingestd signing_key.make %s ; ", kid);
    expect_audit(f, expected);
    assert_int_equal(tob_registry_signing_keys_change(f->registry, &change), TOB_OK);
    assert_true(change > 0);
    // The next start, of this process or of another.
    tob_jwt_free(f->jwt);
    f->jwt = new_jwt();
    assert_int_equal(verify(f->jwt, token), TOB_UNAUTHENTICATED);
    open_ok(f);
    assert_int_equal(verify(f->jwt, token), TOB_OK);
    free(sign(f->jwt, again));
    assert_string_equal(kid, again);
    assert_int_equal(tob_registry_signing_keys_change(f->registry, &later), TOB_OK);
    assert_true(later == change); // nothing was written
    expect_audit(f, expected);
    free(token);
}

static void an_old_files_key_signs_on_and_the_file_is_gone(void **state) {
    fixture *f = *state;
    char kid[TOB_JWT_KID_BYTES];
    write_old(f, RFC_7515_A3, 0600);
    open_ok(f);
    free(sign(f->jwt, kid));
    assert_string_equal(kid, RFC_7515_A3_KID);
    assert_int_equal(access(f->old_path, F_OK), -1);
    expect_keys(f, RFC_7515_A3_KID ":0:0 ");
    expect_audit(f, "ingestd signing_key.import " RFC_7515_A3_KID " ; ");
    write_old(f, RFC_7515_A3, 0600); // it comes back, after a crash or from a backup
    open_ok(f);
    assert_int_equal(access(f->old_path, F_OK), -1);
    expect_keys(f, RFC_7515_A3_KID ":0:0 ");
}

static void beside_a_key_that_signs_an_old_files_key_is_good_for_30_days(void **state) {
    fixture *f = *state;
    char kid[TOB_JWT_KID_BYTES], again[TOB_JWT_KID_BYTES], expected[256];
    tob_jwt *elsewhere = new_jwt();
    tob_jwt_own_key key = {.private_jwk = RFC_7515_A3, .signs = true};
    assert_int_equal(tob_jwt_set_own(elsewhere, &key, 1), TOB_OK);
    char *token = sign(elsewhere, kid);
    open_ok(f);
    free(sign(f->jwt, kid));
    assert_int_equal(verify(f->jwt, token), TOB_UNAUTHENTICATED);
    write_old(f, RFC_7515_A3, 0600);
    f->now += 5;
    open_ok(f);
    f->now -= 5;
    assert_int_equal(verify(f->jwt, token), TOB_OK);
    free(sign(f->jwt, again));
    assert_string_equal(again, kid);
    snprintf(expected, sizeof(expected), RFC_7515_A3_KID ":30:0 %s:0:0 ", kid);
    expect_keys(f, expected);
    tob_jwt_free(elsewhere);
    free(token);
}

static void an_old_file_that_is_not_right_stops_the_start_and_stays(void **state) {
    fixture *f = *state;
    char problem[TOB_JWT_PROBLEM_BYTES];
    static const char *const texts[] = {"", "{", "[]", "{\"kty\": \"oct\", \"k\": \"AAAA\"}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_old(f, texts[i], 0600);
        assert_int_equal(tob_signing_keys_open(f->registry, f->jwt, f->dir, f->now, problem), TOB_MALFORMED);
        assert_non_null(strstr(problem, f->old_path));
        assert_int_equal(access(f->old_path, F_OK), 0);
    }
    write_old(f, RFC_7515_A3, 0604);
    assert_int_equal(tob_signing_keys_open(f->registry, f->jwt, f->dir, f->now, problem), TOB_PRECONDITION);
    assert_non_null(strstr(problem, "chmod 600"));
    assert_null(strstr(problem, "jpsQ"));
    expect_keys(f, "");
}

static void a_rotation_signs_with_the_new_key_and_keeps_the_old_one_for_a_while(void **state) {
    fixture *f = *state;
    char first[TOB_JWT_KID_BYTES], second[TOB_JWT_KID_BYTES], third[TOB_JWT_KID_BYTES],
        kid[TOB_JWT_KID_BYTES];
    char expected[512];
    open_ok(f);
    char *of_first = sign(f->jwt, first);
    assert_int_equal(rotate(f, f->now + 1, DAY_MS * 2, second), TOB_OK);
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_OK);
    char *of_second = sign(f->jwt, kid);
    assert_string_equal(kid, second);
    assert_int_equal(verify(f->jwt, of_first), TOB_OK);
    assert_int_equal(rotate(f, f->now + 2, DAY_MS * 9, third), TOB_OK);
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_OK);
    assert_int_equal(verify(f->jwt, of_first), TOB_OK);
    assert_int_equal(verify(f->jwt, of_second), TOB_OK);
    // The first one's end does not move.
    snprintf(expected, sizeof(expected), "%s:0:0 %s:9:0 %s:2:0 ", third, second, first);
    expect_keys(f, expected);
    snprintf(expected, sizeof(expected),
             "admin alice signing_key.rotate %s ; admin alice signing_key.rotate %s ; ingestd "
             "signing_key.make %s ; ",
             third, second, first);
    expect_audit(f, expected);
    free(of_first);
    free(of_second);
}

static void a_revoked_key_is_refused_from_then_on(void **state) {
    fixture *f = *state;
    char first[TOB_JWT_KID_BYTES], second[TOB_JWT_KID_BYTES], expected[512];
    uint64_t before = 0, after = 0;
    open_ok(f);
    char *token = sign(f->jwt, first);
    assert_int_equal(verify(f->jwt, token), TOB_OK);
    assert_int_equal(revoke_key(f, first), TOB_PRECONDITION); // it signs
    assert_int_equal(revoke_key(f, "nobody"), TOB_NOT_FOUND);
    assert_int_equal(rotate(f, f->now + 1, DAY_MS, second), TOB_OK);
    assert_int_equal(tob_registry_signing_keys_change(f->registry, &before), TOB_OK);
    assert_int_equal(revoke_key(f, first), TOB_OK);
    assert_int_equal(tob_registry_signing_keys_change(f->registry, &after), TOB_OK);
    assert_true(after > before);
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_OK);
    assert_int_equal(verify(f->jwt, token), TOB_UNAUTHENTICATED);
    snprintf(expected, sizeof(expected), "%s:0:0 %s:1:1 ", second, first);
    expect_keys(f, expected);
    assert_int_equal(revoke_key(f, first), TOB_OK); // twice changes nothing
    expect_keys(f, expected);
    snprintf(expected, sizeof(expected),
             "admin alice signing_key.revoke %s ; admin alice signing_key.rotate %s ; ingestd "
             "signing_key.make %s ; ",
             first, second, first);
    expect_audit(f, expected);
    free(token);
}

static void a_change_that_is_rolled_back_leaves_nothing(void **state) {
    fixture *f = *state;
    char first[TOB_JWT_KID_BYTES], kid[TOB_JWT_KID_BYTES], expected[128];
    char *jwk = NULL;
    open_ok(f);
    free(sign(f->jwt, first));
    assert_int_equal(tob_jwt_make_key(&jwk, kid), TOB_OK);
    assert_int_equal(tob_registry_begin(f->registry, &actor, f->now), TOB_OK);
    tob_registry_signing_key key = {.kid = kid, .private_jwk = jwk, .created_unix_ms = f->now};
    assert_int_equal(tob_registry_add_signing_key(f->registry, "signing_key.rotate", &key, f->now), TOB_OK);
    tob_registry_rollback(f->registry);
    snprintf(expected, sizeof(expected), "%s:0:0 ", first);
    expect_keys(f, expected);
    // The same key twice.
    assert_int_equal(tob_registry_begin(f->registry, &actor, f->now), TOB_OK);
    key.kid = first;
    assert_int_equal(tob_registry_add_signing_key(f->registry, "signing_key.rotate", &key, f->now),
                     TOB_ALREADY_EXISTS);
    tob_registry_rollback(f->registry);
    expect_keys(f, expected);
    free(jwk);
}

static void keys_that_ended_long_ago_are_forgotten(void **state) {
    fixture *f = *state;
    char kids[3][TOB_JWT_KID_BYTES], expected[256];
    uint64_t then = f->now - TOB_SIGNING_KEY_FORGET_MS - DAY_MS;
    assert_int_equal(rotate(f, then, 0, kids[0]), TOB_OK);
    assert_int_equal(rotate(f, then, DAY_MS - 1000, kids[1]),
                     TOB_OK); // ends the first one a little too long ago
    assert_int_equal(rotate(f, f->now, DAY_MS, kids[2]), TOB_OK);
    snprintf(expected, sizeof(expected), "%s:0:0 %s:1:0 ", kids[2], kids[1]);
    expect_keys(f, expected);
}

static void as_many_keys_as_fit_are_read_and_those_that_are_good_first(void **state) {
    fixture *f = *state;
    char first[TOB_JWT_KID_BYTES], kid[TOB_JWT_KID_BYTES];
    size_t live = 0;
    open_ok(f);
    char *token = sign(f->jwt, first);
    assert_int_equal(rotate(f, f->now - 1, DAY_MS, kid), TOB_OK); // the first is good for a day
    for (size_t i = 0; i < TOB_JWT_MAX_OWN_KEYS; i++) {
        assert_int_equal(rotate(f, f->now - 1, 0, kid), TOB_OK); // the others are over at once
    }
    assert_int_equal(tob_signing_keys_count_live(f->registry, f->now, &live), TOB_OK);
    assert_int_equal(live, 2);
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_OK);
    assert_int_equal(verify(f->jwt, token), TOB_OK);
    for (size_t i = 0; i < TOB_JWT_MAX_OWN_KEYS - 2; i++) {
        assert_int_equal(rotate(f, f->now, DAY_MS, kid), TOB_OK);
    }
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_OK);
    assert_int_equal(rotate(f, f->now, DAY_MS, kid), TOB_OK);
    assert_int_equal(tob_signing_keys_count_live(f->registry, f->now, &live), TOB_OK);
    assert_int_equal(live, TOB_JWT_MAX_OWN_KEYS + 1);
    assert_int_equal(tob_signing_keys_changed(f->jwt, f->registry), TOB_TOO_LARGE);
    assert_int_equal(verify(f->jwt, token), TOB_OK); // what it had stays
    free(token);
}

typedef struct starter {
    const fixture *f;
    tob_registry *registry;
    tob_jwt *jwt;
    tob_error err;
} starter;

static void *start(void *user) {
    starter *s = user;
    char problem[TOB_JWT_PROBLEM_BYTES];
    s->err = tob_signing_keys_open(s->registry, s->jwt, s->f->dir, s->f->now, problem);
    return NULL;
}

static void of_several_that_start_together_one_makes_the_key(void **state) {
    fixture *f = *state;
    if (strcmp(tob_registry_engine(f->registry), "sqlite") == 0) {
        return; // a file has one process
    }
    starter starters[4];
    pthread_t threads[4];
    char kid[TOB_JWT_KID_BYTES], kid_of[TOB_JWT_KID_BYTES];
    for (size_t i = 0; i < 4; i++) {
        starters[i] = (starter){.f = f, .registry = open_registry(f->url), .jwt = new_jwt()};
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, start, &starters[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(starters[i].err, TOB_OK);
    }
    text got = {.f = f};
    assert_int_equal(tob_registry_list_signing_keys(f->registry, add_text, &got), TOB_OK);
    assert_int_equal(got.count, 1);
    free(sign(starters[0].jwt, kid));
    for (size_t i = 0; i < 4; i++) {
        free(sign(starters[i].jwt, kid_of));
        assert_string_equal(kid_of, kid);
        tob_jwt_free(starters[i].jwt);
        tob_registry_close(starters[i].registry);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_first_start_makes_a_key_that_stays),
        TEST(an_old_files_key_signs_on_and_the_file_is_gone),
        TEST(beside_a_key_that_signs_an_old_files_key_is_good_for_30_days),
        TEST(an_old_file_that_is_not_right_stops_the_start_and_stays),
        TEST(a_rotation_signs_with_the_new_key_and_keeps_the_old_one_for_a_while),
        TEST(a_revoked_key_is_refused_from_then_on),
        TEST(a_change_that_is_rolled_back_leaves_nothing),
        TEST(keys_that_ended_long_ago_are_forgotten),
        TEST(as_many_keys_as_fit_are_read_and_those_that_are_good_first),
        TEST(of_several_that_start_together_one_makes_the_key),
    };
    return RUN_ON_BOTH("signing_keys", tests);
}
