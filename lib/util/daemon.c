#include "util/daemon.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"

static void our_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

void tob_daemon_block_signals(void) {
    sigset_t set;
    our_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

tob_signal tob_daemon_wait(uint64_t timeout_ms) {
    sigset_t set;
    our_signals(&set);
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                               .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    int got = timeout_ms ? sigtimedwait(&set, NULL, &timeout) : sigwaitinfo(&set, NULL);
    if (got == SIGTERM || got == SIGINT) {
        return TOB_SIGNAL_STOP;
    }
    return got == SIGHUP ? TOB_SIGNAL_RELOAD : TOB_SIGNAL_TICK;
}

// A signal that has come already, or TICK.
static tob_signal take_signal(void) {
    sigset_t set;
    our_signals(&set);
    int got = sigtimedwait(&set, NULL, &(struct timespec){.tv_sec = 0});
    if (got < 0) {
        return TOB_SIGNAL_TICK;
    }
    return got == SIGHUP ? TOB_SIGNAL_RELOAD : TOB_SIGNAL_STOP;
}

// Until a signal, a change or the deadline. True when it is to be gone on waiting.
static bool wait_for_either(tob_watch *watch, int signals, uint64_t deadline_ms, tob_signal *ret) {
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = tob_watch_fd(watch), .events = POLLIN}};
    uint64_t now = tob_clock_monotonic_ms();
    int left_ms = -1;
    if (deadline_ms != UINT64_MAX) {
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        left_ms = left < INT32_MAX ? (int)left : INT32_MAX;
    }
    int ready = poll(fds, 2, left_ms);
    *ret = take_signal();
    if (*ret != TOB_SIGNAL_TICK) {
        return false;
    }
    if (ready > 0 && fds[1].revents && tob_watch_take(watch)) {
        *ret = TOB_SIGNAL_RELOAD;
        return false;
    }
    return tob_clock_monotonic_ms() < deadline_ms;
}

tob_signal tob_daemon_wait_or_watch(tob_watch *watch, uint64_t timeout_ms) {
    sigset_t set;
    tob_signal got = TOB_SIGNAL_TICK;
    uint64_t deadline_ms = timeout_ms ? tob_clock_monotonic_ms() + timeout_ms : UINT64_MAX;
    our_signals(&set);
    // Only to wake poll: take_signal takes the signal.
    int signals = tob_watch_fd(watch) < 0 ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) {
        return tob_daemon_wait(timeout_ms);
    }
    while (wait_for_either(watch, signals, deadline_ms, &got)) {
    }
    close(signals);
    return got;
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER_TRACES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(leak_sanitizer)
#define SANITIZER_TRACES 1
#endif
#endif

void tob_daemon_keep_secrets(void) {
    // Neither call can fail: both only give something up.
    setrlimit(RLIMIT_CORE, &(struct rlimit){.rlim_cur = 0, .rlim_max = 0});
#ifndef SANITIZER_TRACES
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

void tob_daemon_notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(to.sun_path)) {
        return;
    }
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@') {
        to.sun_path[0] = 0; // abstract
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to, len);
    close(fd);
}

uint64_t tob_raise_fd_limit(void) {
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur;
}
