// What every daemon's main needs: signals, and changes of watched files, taken synchronously; systemd notifications.
//
// Threads: main thread; tob_daemon_block_signals before any other thread starts.
#ifndef TOB_UTIL_DAEMON_H
#define TOB_UTIL_DAEMON_H

#include <stdint.h>

#include "util/error.h"
#include "util/watch.h"

typedef enum tob_signal { TOB_SIGNAL_STOP, TOB_SIGNAL_RELOAD, TOB_SIGNAL_TICK } tob_signal;

// tob_daemon_block_signals: SIGTERM, SIGINT and SIGHUP wait for tob_daemon_wait; SIGPIPE is ignored.
void tob_daemon_block_signals(void);

// tob_daemon_wait returns SIGTERM and SIGINT as STOP, SIGHUP as RELOAD, and TICK after timeout_ms (0: never).
tob_signal tob_daemon_wait(uint64_t timeout_ms);

// tob_daemon_wait_or_watch: likewise, and RELOAD when a watched file is another now. watch: NULL watches nothing.
tob_signal tob_daemon_wait_or_watch(tob_watch *watch, uint64_t timeout_ms);

// tob_daemon_keep_secrets: from now on the process leaves no core dump, whatever the limits and core_pattern say, and others
// of its user can't read its memory or environment (prctl(2), PR_SET_DUMPABLE). First of all in main. Under the address and
// leak sanitizers, which look at their own process like a debugger, it only sets the limit of core dumps to 0.
void tob_daemon_keep_secrets(void);

// tob_daemon_notify tells systemd (sd_notify(3) protocol: a datagram to $NOTIFY_SOCKET), e.g. "READY=1",
// "STOPPING=1". Does nothing elsewhere.
void tob_daemon_notify(const char *state);

// tob_raise_fd_limit raises the soft limit of open files to the hard one and returns it.
uint64_t tob_raise_fd_limit(void);

#endif
