#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/remove.h"
#include "util/clock.h"
#include "util/watch.h"

#define DEADLINE_MS 5000

// A folder of its own for each test, which is the current one.
typedef struct fixture {
    char dir[64];
    tob_watch *watch;
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/tob-watch-test-XXXXXX");
    if (!mkdtemp(f->dir) || chdir(f->dir) != 0 || tob_watch_new(&f->watch)) {
        return -1;
    }
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_watch_free(f->watch);
    int failed = chdir("/tmp") || remove_tree(f->dir);
    free(f);
    return failed;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void replace_file(const char *path, const char *text) {
    write_file("new", text);
    assert_int_equal(rename("new", path), 0);
}

static void watch_ok(fixture *f, const char *path) {
    assert_int_equal(tob_watch_add(f->watch, path), TOB_OK);
    assert_false(tob_watch_take(f->watch));
}

static bool readable(const fixture *f, int timeout_ms) {
    struct pollfd fd = {.fd = tob_watch_fd(f->watch), .events = POLLIN};
    return poll(&fd, 1, timeout_ms) > 0;
}

// Something happened, and it was a change; it is told once, and within a second.
static void expect_change(fixture *f) {
    uint64_t before = tob_clock_monotonic_ms(), now = before;
    bool changed = false;
    while (!changed && now - before < DEADLINE_MS) {
        changed = readable(f, (int)(before + DEADLINE_MS - now)) && tob_watch_take(f->watch);
        now = tob_clock_monotonic_ms();
    }
    assert_true(changed);
    assert_true(now - before < 1000);
    assert_false(tob_watch_take(f->watch));
}

static void expect_nothing(fixture *f) {
    while (readable(f, 0)) {
        assert_false(tob_watch_take(f->watch));
    }
}

static void a_file_written_in_place_is_told(void **state) {
    fixture *f = *state;
    write_file("token", "a");
    watch_ok(f, "token");
    expect_nothing(f);
    write_file("token", "b");
    expect_change(f);
    write_file("token", "c");
    expect_change(f);
}

static void a_file_replaced_by_rename_is_told_again_and_again(void **state) {
    fixture *f = *state;
    write_file("token", "a");
    watch_ok(f, "token");
    for (int i = 0; i < 3; i++) {
        replace_file("token", "b");
        expect_change(f);
    }
    write_file("token", "c"); // and the new one is watched in place
    expect_change(f);
}

static void a_link_turned_round_as_kubernetes_does_it_is_told(void **state) {
    fixture *f = *state;
    char path[128];
    // secret/token -> ..data/token, secret/..data -> ..2026_1/
    assert_int_equal(mkdir("secret", 0700) || mkdir("secret/..2026_1", 0700), 0);
    write_file("secret/..2026_1/token", "a");
    assert_int_equal(symlink("..2026_1", "secret/..data"), 0);
    assert_int_equal(symlink("..data/token", "secret/token"), 0);
    snprintf(path, sizeof(path), "%s/secret/token", f->dir);
    watch_ok(f, path);
    for (int i = 2; i < 5; i++) {
        char version[32], token[64], command[64];
        snprintf(version, sizeof(version), "..2026_%d", i);
        snprintf(token, sizeof(token), "secret/%s", version);
        assert_int_equal(mkdir(token, 0700), 0);
        snprintf(token, sizeof(token), "secret/%s/token", version);
        write_file(token, "b");
        assert_int_equal(symlink(version, "secret/..data_tmp"), 0);
        expect_nothing(f); // nothing has changed for who opens the path
        assert_int_equal(rename("secret/..data_tmp", "secret/..data"), 0);
        snprintf(command, sizeof(command), "rm -r secret/..2026_%d", i - 1);
        assert_int_equal(system(command), 0);
        expect_change(f);
    }
}

static void a_link_to_a_file_elsewhere_is_followed(void **state) {
    fixture *f = *state;
    char target[128];
    assert_int_equal(mkdir("a", 0700) || mkdir("b", 0700), 0);
    write_file("a/one", "1");
    write_file("b/two", "2");
    snprintf(target, sizeof(target), "%s/a/one", f->dir);
    assert_int_equal(symlink(target, "token"), 0);
    watch_ok(f, "./token");
    replace_file("a/one", "1.1");
    expect_change(f);
    assert_int_equal(unlink("token"), 0);
    assert_int_equal(symlink("b/../b/two", "token"), 0);
    expect_change(f);
    write_file("b/two", "2.1");
    expect_change(f);
    write_file("a/one", "1.2"); // not on the way any more
    expect_nothing(f);
}

static void a_file_that_is_not_there_yet_is_told_when_it_comes(void **state) {
    fixture *f = *state;
    watch_ok(f, "later/deep/token");
    assert_int_equal(mkdir("later", 0700), 0);
    assert_int_equal(mkdir("later/other", 0700), 0);
    expect_nothing(f);
    assert_int_equal(mkdir("later/deep", 0700), 0);
    expect_nothing(f);
    write_file("later/deep/token", "a");
    expect_change(f);
    assert_int_equal(unlink("later/deep/token"), 0);
    expect_change(f);
    write_file("later/deep/token", "b");
    expect_change(f);
}

static void a_folder_that_is_replaced_is_told(void **state) {
    fixture *f = *state;
    assert_int_equal(mkdir("etc", 0700) || mkdir("etc.new", 0700), 0);
    write_file("etc/token", "a");
    write_file("etc.new/token", "b");
    watch_ok(f, "etc/token");
    assert_int_equal(rename("etc", "etc.old"), 0);
    assert_int_equal(rename("etc.new", "etc"), 0);
    expect_change(f);
    write_file("etc/token", "c");
    expect_change(f);
    write_file("etc.old/token", "d");
    expect_nothing(f);
}

static void what_happens_to_other_files_is_not_told(void **state) {
    fixture *f = *state;
    write_file("token", "a");
    watch_ok(f, "token");
    for (int i = 0; i < 100; i++) {
        replace_file("other", "x");
    }
    uint64_t before = tob_clock_monotonic_ms();
    assert_true(readable(f, 0)); // it woke us, but not for long
    expect_nothing(f);
    assert_true(tob_clock_monotonic_ms() - before < TOB_WATCH_SETTLE_MS);
}

static void a_file_that_never_settles_is_told_in_time(void **state) {
    fixture *f = *state;
    write_file("token", "");
    watch_ok(f, "token");
    pid_t writer = fork();
    if (writer == 0) { // a line every few milliseconds, for longer than we wait
        FILE *file = fopen("token", "ae");
        for (int i = 0; file && i < 1000; i++) {
            fputs("x\n", file);
            fflush(file);
            poll(NULL, 0, 5);
        }
        _exit(0);
    }
    assert_true(writer > 0);
    assert_true(readable(f, DEADLINE_MS));
    uint64_t before = tob_clock_monotonic_ms();
    assert_true(tob_watch_take(f->watch));
    uint64_t took = tob_clock_monotonic_ms() - before;
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    assert_true(took >= TOB_WATCH_SETTLE_MS && took < 1000);
}

static void several_files_are_watched_together(void **state) {
    fixture *f = *state;
    write_file("one", "1");
    write_file("two", "2");
    tob_watch_free(f->watch);
    f->watch = NULL;
    const char *const paths[] = {"one", NULL, "", "two", "one"};
    assert_int_equal(tob_watch_open(paths, 5, &f->watch), TOB_OK);
    replace_file("two", "2.1");
    expect_change(f);
    replace_file("one", "1.1");
    expect_change(f);
}

static void nothing_to_watch_is_no_descriptor(void **state) {
    fixture *f = *state;
    assert_int_equal(tob_watch_fd(NULL), -1);
    assert_int_equal(tob_watch_add(f->watch, NULL), TOB_OK);
    assert_int_equal(tob_watch_add(f->watch, ""), TOB_OK);
    assert_int_equal(tob_watch_fd(f->watch), -1);
    assert_false(tob_watch_take(f->watch));
    assert_false(tob_watch_take(NULL));
    tob_watch_free(NULL);
}

static void there_are_at_most_16_files(void **state) {
    fixture *f = *state;
    char name[16];
    for (int i = 0; i < TOB_WATCH_MAX_FILES; i++) {
        snprintf(name, sizeof(name), "token-%d", i);
        assert_int_equal(tob_watch_add(f->watch, name), TOB_OK);
    }
    assert_int_equal(tob_watch_add(f->watch, "one-more"), TOB_TOO_LARGE);
    write_file("token-15", "x");
    expect_change(f);
    write_file("one-more", "x");
    expect_nothing(f);
}

static void paths_and_links_have_limits(void **state) {
    fixture *f = *state;
    char path[PATH_MAX + 1], name[NAME_MAX + 2];
    memset(path, '/', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    assert_int_equal(tob_watch_add(f->watch, path), TOB_TOO_LARGE);
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_int_equal(tob_watch_add(f->watch, name), TOB_TOO_LARGE);
    name[NAME_MAX] = 0;
    assert_int_equal(tob_watch_add(f->watch, name), TOB_OK);
    assert_int_equal(symlink("loop-b", "loop-a") || symlink("loop-a", "loop-b"), 0);
    assert_int_equal(tob_watch_add(f->watch, "loop-a"), TOB_TOO_LARGE);
    write_file(name, "x"); // what was added before is still watched
    expect_change(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_file_written_in_place_is_told),
        TEST(a_file_replaced_by_rename_is_told_again_and_again),
        TEST(a_link_turned_round_as_kubernetes_does_it_is_told),
        TEST(a_link_to_a_file_elsewhere_is_followed),
        TEST(a_file_that_is_not_there_yet_is_told_when_it_comes),
        TEST(a_folder_that_is_replaced_is_told),
        TEST(what_happens_to_other_files_is_not_told),
        TEST(a_file_that_never_settles_is_told_in_time),
        TEST(several_files_are_watched_together),
        TEST(nothing_to_watch_is_no_descriptor),
        TEST(there_are_at_most_16_files),
        TEST(paths_and_links_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
