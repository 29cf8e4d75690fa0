#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/clock.h"
#include "util/daemon.h"

static void signals_wait_until_they_are_asked_for(void **state) {
    (void)state;
    tob_daemon_block_signals();
    raise(SIGTERM);
    assert_int_equal(tob_daemon_wait(10000), TOB_SIGNAL_STOP);
    raise(SIGINT);
    assert_int_equal(tob_daemon_wait(10000), TOB_SIGNAL_STOP);
    raise(SIGHUP);
    assert_int_equal(tob_daemon_wait(0), TOB_SIGNAL_RELOAD);
}

static void without_a_signal_the_time_passes(void **state) {
    (void)state;
    tob_daemon_block_signals();
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(tob_daemon_wait(30), TOB_SIGNAL_TICK);
    assert_true(tob_clock_monotonic_ms() - before >= 29);
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void a_change_of_a_watched_file_is_a_reload(void **state) {
    (void)state;
    tob_daemon_block_signals();
    char path[] = "/tmp/tob-daemon-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    tob_watch *watch = NULL;
    const char *const paths[] = {path, NULL, ""};
    assert_int_equal(tob_watch_open(paths, 3, &watch), TOB_OK);
    write_file(path, "x");
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(tob_daemon_wait_or_watch(watch, 10000), TOB_SIGNAL_RELOAD);
    assert_true(tob_clock_monotonic_ms() - before < 1000);
    before = tob_clock_monotonic_ms(); // and only once
    assert_int_equal(tob_daemon_wait_or_watch(watch, 150), TOB_SIGNAL_TICK);
    assert_true(tob_clock_monotonic_ms() - before >= 149);
    write_file(path, "yy");
    assert_int_equal(tob_daemon_wait_or_watch(watch, 0), TOB_SIGNAL_RELOAD); // also without a deadline
    tob_watch_free(watch);
    unlink(path);
}

static void signals_come_through_beside_watched_files(void **state) {
    (void)state;
    tob_daemon_block_signals();
    tob_watch *watch = NULL;
    const char *const paths[] = {"/tmp/tob-daemon-test-that-is-not-there"};
    assert_int_equal(tob_watch_open(paths, 1, &watch), TOB_OK);
    for (int i = 0; i < 2; i++) {
        tob_watch *with = i ? watch : NULL;
        raise(SIGTERM);
        assert_int_equal(tob_daemon_wait_or_watch(with, 0), TOB_SIGNAL_STOP);
        raise(SIGINT);
        assert_int_equal(tob_daemon_wait_or_watch(with, 10000), TOB_SIGNAL_STOP);
        raise(SIGHUP);
        assert_int_equal(tob_daemon_wait_or_watch(with, 0), TOB_SIGNAL_RELOAD);
        assert_int_equal(tob_daemon_wait_or_watch(with, 20), TOB_SIGNAL_TICK);
    }
    tob_watch_free(watch);
}

static int crash_and_tell(bool keep_secrets) {
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY});
        if (chdir("/tmp") != 0) {
            _exit(1);
        }
        if (keep_secrets) {
            tob_daemon_keep_secrets();
        }
        signal(SIGSEGV, SIG_DFL); // not a sanitizer's
        raise(SIGSEGV);
        _exit(2);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    return WCOREDUMP(status);
}

static void who_keeps_secrets_leaves_no_core_dump(void **state) {
    (void)state;
    assert_false(crash_and_tell(true));
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = 1, .rlim_max = 1};
        tob_daemon_keep_secrets();
        getrlimit(RLIMIT_CORE, &limit);
        bool kept = limit.rlim_cur == 0 && limit.rlim_max == 0;
#if !defined(__SANITIZE_ADDRESS__)
        kept = kept && prctl(PR_GET_DUMPABLE) == 0;
#endif
        _exit(kept ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_broken_pipe_does_not_end_the_process(void **state) {
    (void)state;
    tob_daemon_block_signals();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), -1);
    close(fds[1]);
}

static void expect_notification(const struct sockaddr_un *address, socklen_t len, const char *path) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)address, len), 0);
    setenv("NOTIFY_SOCKET", path, 1);
    tob_daemon_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
    char got[32] = "";
    assert_int_equal(recv(fd, got, sizeof(got) - 1, 0), 7); // a datagram on a local socket is there at once
    assert_string_equal(got, "READY=1");
    close(fd);
}

static void systemd_is_told_over_a_socket_in_the_file_system(void **state) {
    (void)state;
    char folder[] = "/tmp/tob-daemon-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", folder);
    expect_notification(&address, sizeof(address), address.sun_path);
    unlink(address.sun_path);
    rmdir(folder);
}

static void systemd_is_told_over_an_abstract_socket(void **state) {
    (void)state;
    char name[64];
    snprintf(name, sizeof(name), "@tob-daemon-test-%d", getpid());
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = 0;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    expect_notification(&address, len, name);
}

static void without_systemd_nothing_happens(void **state) {
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    tob_daemon_notify("READY=1");
    setenv("NOTIFY_SOCKET", "relative", 1);
    tob_daemon_notify("READY=1");
    char too_long[300];
    memset(too_long, '/', sizeof(too_long));
    too_long[sizeof(too_long) - 1] = 0;
    setenv("NOTIFY_SOCKET", too_long, 1);
    tob_daemon_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
}

static void the_limit_of_open_files_is_raised_to_the_hard_one(void **state) {
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 100 ? limit.rlim_max : 100;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(tob_raise_fd_limit() == limit.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur == limit.rlim_max);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_wait_until_they_are_asked_for),
        cmocka_unit_test(without_a_signal_the_time_passes),
        cmocka_unit_test(a_change_of_a_watched_file_is_a_reload),
        cmocka_unit_test(signals_come_through_beside_watched_files),
        cmocka_unit_test(who_keeps_secrets_leaves_no_core_dump),
        cmocka_unit_test(a_broken_pipe_does_not_end_the_process),
        cmocka_unit_test(systemd_is_told_over_a_socket_in_the_file_system),
        cmocka_unit_test(systemd_is_told_over_an_abstract_socket),
        cmocka_unit_test(without_systemd_nothing_happens),
        cmocka_unit_test(the_limit_of_open_files_is_raised_to_the_hard_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
