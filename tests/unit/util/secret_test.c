#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/secret.h"

static char path[] = "/tmp/tob-secret-test-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static void write_file(const char *text, size_t n) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static bool match(tob_secrets *secrets, const char *token) {
    return tob_secrets_match(secrets, token, strlen(token));
}

static void a_list_is_split_at_commas_and_trimmed(void **state) {
    (void)state;
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(" one ,two,,\tthree", NULL, &secrets), TOB_OK);
    assert_int_equal(tob_secrets_count(secrets), 3);
    assert_true(match(secrets, "one"));
    assert_true(match(secrets, "two"));
    assert_true(match(secrets, "three"));
    static const char *const wrong[] = {"", "on", "onee", "One", " one", "one,two", "four"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (match(secrets, wrong[i])) {
            fail_msg("'%s' opened the door", wrong[i]);
        }
    }
    tob_secrets_free(secrets);
}

static void a_file_has_one_token_a_line_and_comments(void **state) {
    (void)state;
    static const char text[] = "# tokens\nfirst\r\n\n  second  \nthird,with,commas";
    write_file(text, sizeof(text) - 1);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new("listed", path, &secrets), TOB_OK);
    assert_int_equal(tob_secrets_count(secrets), 4);
    assert_true(match(secrets, "first"));
    assert_true(match(secrets, "second"));
    assert_true(match(secrets, "third,with,commas"));
    assert_true(match(secrets, "listed"));
    assert_false(match(secrets, "# tokens"));
    tob_secrets_free(secrets);
}

static void expect_name(tob_secrets *secrets, const char *token, const char *name) {
    char got[TOB_SECRET_NAME_BYTES] = "untouched";
    assert_true(tob_secrets_match_named(secrets, token, strlen(token), got));
    assert_string_equal(got, name);
}

static void a_token_in_a_file_may_have_a_name_and_a_comment(void **state) {
    (void)state;
    static const char text[] = "# who may do what\n"
                               "first alice\n"
                               "  second\t bob@example.org  # since May\r\n"
                               "third # no name\n"
                               "four#th\n"
                               "   # nothing\n"
                               "fifth a.B_c:d@e-9\n";
    write_file(text, sizeof(text) - 1);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new("abc,with blank", path, &secrets), TOB_OK);
    assert_int_equal(tob_secrets_count(secrets), 7);
    expect_name(secrets, "first", "alice");
    expect_name(secrets, "second", "bob@example.org");
    expect_name(secrets, "third", "token b1e99324");
    expect_name(secrets, "four#th", "token 0dd0e8b0");
    expect_name(secrets, "fifth", "a.B_c:d@e-9");
    expect_name(secrets, "abc", "token ba7816bf"); // FIPS 180
    assert_true(match(secrets, "with blank"));
    static const char *const wrong[] = {"first alice", "alice", "second bob@example.org", "#", "nothing", ""};
    char name[TOB_SECRET_NAME_BYTES] = "untouched";
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(tob_secrets_match_named(secrets, wrong[i], strlen(wrong[i]), name));
        assert_string_equal(name, "untouched");
    }
    tob_secrets_free(secrets);
    char *first = NULL; // what is presented has no name on it
    assert_int_equal(tob_secret_read_first(NULL, path, &first), TOB_OK);
    assert_string_equal(first, "first");
    free(first);
}

static void of_two_names_for_one_token_the_first_counts(void **state) {
    (void)state;
    static const char text[] = "token alice\nother carol\ntoken bob\n";
    write_file(text, sizeof(text) - 1);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_OK);
    expect_name(secrets, "token", "alice");
    tob_secrets_free(secrets);
}

static void a_line_that_is_no_token_and_name_refuses_the_file(void **state) {
    (void)state;
    char long_name[256];
    snprintf(long_name, sizeof(long_name), "token %065d\n", 0);
    const char *const lines[] = {"token two names\n", "token n\xc3\xa4me\n", "token na/me\n",
                                 "token a,b\n",       "token name#\n",       long_name};
    tob_secrets *secrets = NULL, *kept = NULL;
    write_file("kept\n", 5);
    assert_int_equal(tob_secrets_new(NULL, path, &kept), TOB_OK);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char text[300];
        int n = snprintf(text, sizeof(text), "good alice\n%s", lines[i]);
        write_file(text, (size_t)n);
        assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_MALFORMED);
        assert_null(secrets);
        assert_int_equal(tob_secrets_reload(kept), TOB_MALFORMED);
        assert_true(match(kept, "kept"));
        char *first = NULL;
        assert_int_equal(tob_secret_read_first(NULL, path, &first), TOB_MALFORMED);
        assert_null(first);
    }
    snprintf(long_name, sizeof(long_name), "token %064d\n", 0);
    write_file(long_name, strlen(long_name));
    assert_int_equal(tob_secrets_reload(kept), TOB_OK);
    long_name[6 + 64] = 0;
    expect_name(kept, "token", long_name + 6);
    tob_secrets_free(kept);
}

static void a_file_that_others_may_read_is_told(void **state) {
    (void)state;
    static const struct {
        mode_t mode;
        bool exposed;
    } table[] = {{0600, false}, {0400, false}, {0640, true}, {0604, true}, {0620, true}, {0644, true}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(chmod(path, table[i].mode), 0);
        assert_int_equal(tob_secret_file_exposed(path), table[i].exposed);
    }
    assert_int_equal(chmod(path, 0600), 0);
    assert_false(tob_secret_file_exposed(NULL));
    assert_false(tob_secret_file_exposed(""));
    assert_false(tob_secret_file_exposed("/nonexistent/tokens"));
}

static void no_tokens_make_an_empty_set_that_matches_nothing(void **state) {
    (void)state;
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, NULL, &secrets), TOB_OK);
    assert_int_equal(tob_secrets_count(secrets), 0);
    assert_false(match(secrets, ""));
    assert_int_equal(tob_secrets_reload(secrets), TOB_PRECONDITION);
    tob_secrets_free(secrets);
    tob_secrets_free(NULL);
}

static void a_missing_file_is_not_found(void **state) {
    (void)state;
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, "/nonexistent/tokens", &secrets), TOB_NOT_FOUND);
    assert_null(secrets);
}

static void reload_takes_new_tokens_and_drops_old_ones(void **state) {
    (void)state;
    write_file("old\n", 4);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_OK);
    write_file("old\nnew\n", 8);
    assert_false(match(secrets, "new"));
    assert_int_equal(tob_secrets_reload(secrets), TOB_OK);
    assert_true(match(secrets, "old") && match(secrets, "new"));
    write_file("new\n", 4);
    assert_int_equal(tob_secrets_reload(secrets), TOB_OK);
    assert_false(match(secrets, "old"));
    tob_secrets_free(secrets);
}

static void a_reload_that_fails_or_finds_nothing_keeps_the_tokens(void **state) {
    (void)state;
    write_file("keep\n", 5);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_OK);
    write_file("# none\n", 7);
    assert_int_equal(tob_secrets_reload(secrets), TOB_PRECONDITION);
    assert_true(match(secrets, "keep"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(tob_secrets_reload(secrets), TOB_NOT_FOUND);
    assert_true(match(secrets, "keep"));
    write_file("", 0); // for the next test
    tob_secrets_free(secrets);
}

static void there_are_at_most_64_tokens(void **state) {
    (void)state;
    char list[TOB_SECRETS_MAX * 8 + 16] = "";
    for (int i = 0; i < TOB_SECRETS_MAX; i++) {
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "t%d,", i);
    }
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(list, NULL, &secrets), TOB_OK);
    assert_int_equal(tob_secrets_count(secrets), TOB_SECRETS_MAX);
    tob_secrets_free(secrets);
    secrets = NULL;
    strcat(list, "more");
    assert_int_equal(tob_secrets_new(list, NULL, &secrets), TOB_TOO_LARGE);
    assert_null(secrets);
}

static void a_token_has_at_most_8192_bytes(void **state) {
    (void)state;
    char *token = malloc(TOB_SECRET_MAX_BYTES + 2);
    assert_non_null(token);
    memset(token, 'k', TOB_SECRET_MAX_BYTES + 1);
    token[TOB_SECRET_MAX_BYTES] = 0;
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(token, NULL, &secrets), TOB_OK);
    assert_true(tob_secrets_match(secrets, token, TOB_SECRET_MAX_BYTES));
    token[TOB_SECRET_MAX_BYTES] = 'k';
    assert_false(tob_secrets_match(secrets, token, TOB_SECRET_MAX_BYTES + 1));
    tob_secrets_free(secrets);
    secrets = NULL;
    token[TOB_SECRET_MAX_BYTES + 1] = 0;
    assert_int_equal(tob_secrets_new(token, NULL, &secrets), TOB_TOO_LARGE);
    free(token);
}

static void a_file_has_at_most_1_mib(void **state) {
    (void)state;
    char *text = malloc(TOB_SECRET_FILE_MAX_BYTES + 1);
    assert_non_null(text);
    memset(text, '\n', TOB_SECRET_FILE_MAX_BYTES + 1);
    memcpy(text, "token", 5);
    write_file(text, TOB_SECRET_FILE_MAX_BYTES);
    tob_secrets *secrets = NULL;
    assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_OK);
    assert_true(match(secrets, "token"));
    tob_secrets_free(secrets);
    secrets = NULL;
    write_file(text, TOB_SECRET_FILE_MAX_BYTES + 1);
    assert_int_equal(tob_secrets_new(NULL, path, &secrets), TOB_TOO_LARGE);
    free(text);
}

static void the_first_token_is_the_one_to_present(void **state) {
    (void)state;
    char *first = NULL;
    assert_int_equal(tob_secret_read_first(" a , b", NULL, &first), TOB_OK);
    assert_string_equal(first, "a");
    free(first);
    first = NULL;
    write_file("# c\n\nd\ne\n", 9);
    assert_int_equal(tob_secret_read_first(NULL, path, &first), TOB_OK);
    assert_string_equal(first, "d");
    free(first);
    first = NULL;
    assert_int_equal(tob_secret_read_first(",", NULL, &first), TOB_NOT_FOUND);
    assert_null(first);
}

static void bearer_finds_the_token_of_rfc_6750(void **state) {
    (void)state;
    static const char *const good[] = {"Bearer tok", "bearer tok", "BEARER   tok  "};
    const char *token = NULL;
    size_t len = 0;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(tob_bearer(good[i], strlen(good[i]), &token, &len), TOB_OK);
        assert_int_equal(len, 3);
        assert_memory_equal(token, "tok", 3);
    }
    static const char *const bad[] = {"",           "tok",       "Bearer",    "Bearer ",
                                      "Bearer    ", "Basic tok", "Bearertok", "Bear er tok"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(tob_bearer(bad[i], strlen(bad[i]), &token, &len), TOB_UNAUTHENTICATED);
    }
    assert_int_equal(tob_bearer(NULL, 0, &token, &len), TOB_UNAUTHENTICATED);
}

static void sha256_gives_the_vector_of_fips_180(void **state) {
    (void)state;
    static const uint8_t abc[TOB_SHA256_BYTES] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                                  0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                                  0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                                  0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256("abc", 3, hash);
    assert_memory_equal(hash, abc, sizeof(abc));
    assert_true(tob_equal_constant_time(hash, abc, sizeof(abc)));
    hash[31] ^= 1;
    assert_false(tob_equal_constant_time(hash, abc, sizeof(abc)));
    tob_sha256_context *context = tob_sha256_context_new();
    uint8_t again[TOB_SHA256_BYTES];
    tob_sha256_with(context, "other", 5, again);
    tob_sha256_with(context, "abc", 3, again); // nothing is left of the one before
    assert_memory_equal(again, abc, sizeof(abc));
    tob_sha256_context_free(context);
}

typedef struct race {
    tob_secrets *secrets;
    atomic_bool stop;
} race;

static void *match_until_stopped(void *arg) {
    race *r = arg;
    while (!atomic_load(&r->stop)) {
        if (!match(r->secrets, "stays")) {
            return r; // a reload made a good token fail
        }
    }
    return NULL;
}

static void a_token_that_stays_matches_all_through_reloads(void **state) {
    (void)state;
    write_file("stays\na\n", 8);
    race r = {.stop = false};
    assert_int_equal(tob_secrets_new(NULL, path, &r.secrets), TOB_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, match_until_stopped, &r), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(tob_secrets_reload(r.secrets), TOB_OK);
    }
    atomic_store(&r.stop, true);
    void *failed = NULL;
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    tob_secrets_free(r.secrets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_split_at_commas_and_trimmed),
        cmocka_unit_test(a_file_has_one_token_a_line_and_comments),
        cmocka_unit_test(a_token_in_a_file_may_have_a_name_and_a_comment),
        cmocka_unit_test(of_two_names_for_one_token_the_first_counts),
        cmocka_unit_test(a_line_that_is_no_token_and_name_refuses_the_file),
        cmocka_unit_test(a_file_that_others_may_read_is_told),
        cmocka_unit_test(no_tokens_make_an_empty_set_that_matches_nothing),
        cmocka_unit_test(a_missing_file_is_not_found),
        cmocka_unit_test(reload_takes_new_tokens_and_drops_old_ones),
        cmocka_unit_test(a_reload_that_fails_or_finds_nothing_keeps_the_tokens),
        cmocka_unit_test(there_are_at_most_64_tokens),
        cmocka_unit_test(a_token_has_at_most_8192_bytes),
        cmocka_unit_test(a_file_has_at_most_1_mib),
        cmocka_unit_test(the_first_token_is_the_one_to_present),
        cmocka_unit_test(bearer_finds_the_token_of_rfc_6750),
        cmocka_unit_test(sha256_gives_the_vector_of_fips_180),
        cmocka_unit_test(a_token_that_stays_matches_all_through_reloads),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
