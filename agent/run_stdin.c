#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/line_report.h"
#include "agent/lines.h"
#include "agent/run.h"
#include "util/clock.h"
#include "util/daemon.h"
#include "util/log.h"

typedef struct relay {
    tob_agent_settings *settings;
    tob_sender *sender;
    tob_lines lines;
    uint64_t reports;
    uint64_t bad;
    bool stopping;
} relay;

static void bad_line(relay *r, uint64_t number, const char *reason) {
    r->bad++;
    tob_err("bad_line", TOB_UINT("line", number), TOB_STR("reason", reason));
}

static void handle_signal(relay *r, tob_signal signal) {
    if (signal == TOB_SIGNAL_RELOAD) {
        tob_agent_reload(r->settings);
    }
    r->stopping = r->stopping || signal == TOB_SIGNAL_STOP;
}

// Queues a report; while the queue is full nothing more is read, so that the writer waits too.
static tob_error push(relay *r, const tob_agent_report *report) {
    enum { LOOK_AGAIN_MS = 20 };
    tob_error err = tob_sender_push(r->sender, report, false);
    while (err == TOB_BUSY && !r->stopping) {
        handle_signal(r, tob_daemon_wait_or_watch(r->settings->watch, LOOK_AGAIN_MS));
        err = tob_sender_push(r->sender, report, false);
    }
    return err;
}

static bool blank(const tob_line *line) {
    size_t i = 0;
    while (i < line->len && (line->text[i] == ' ' || line->text[i] == '\t' || line->text[i] == '\r')) {
        i++;
    }
    return i == line->len;
}

static void take_line(relay *r, const tob_line *line) {
    const tob_agent_settings *s = r->settings;
    const tob_line_defaults defaults = {
        .kind = s->kind, .id = s->id, .credential = s->credential, .name = s->name, .headless = s->headless};
    tob_line_report report;
    tob_problem problem;
    if (line->too_long) {
        tob_problem_set(&problem, TOB_TOO_LARGE, "longer than %d bytes", TOB_MAX_LINE_BYTES);
        bad_line(r, line->number, problem.text);
        return;
    }
    if (blank(line)) {
        return;
    }
    if (tob_line_report_parse(&defaults, line->text, line->len, tob_clock_unix_ms(), &report, &problem)) {
        bad_line(r, line->number, problem.text);
        return;
    }
    if (report.unknown_metrics) {
        tob_debug("unknown_metrics", TOB_UINT("line", line->number),
                  TOB_UINT("names", report.unknown_metrics));
    }
    report.report.line = line->number;
    tob_error err = push(r, &report.report);
    if (err) {
        bad_line(r, line->number, tob_error_string(err));
    } else {
        r->reports++;
    }
    tob_line_report_fini(&report);
}

// Waits for bytes, a signal or another credential, and reads them. False at the end of the input, or when it can't be read.
static bool read_more(relay *r, int fd, int signals) {
    tob_watch *watch = r->settings->watch;
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
                           {.fd = signals, .events = POLLIN},
                           {.fd = tob_watch_fd(watch), .events = POLLIN}};
    size_t room = 0;
    char *to = tob_lines_room(&r->lines, &room);
    if (poll(fds, 3, -1) < 0) {
        return errno == EINTR;
    }
    if (fds[1].revents) {
        handle_signal(r, tob_daemon_wait(1));
        return true;
    }
    if (fds[2].revents && tob_watch_take(watch)) {
        tob_agent_reload(r->settings);
    }
    if (!fds[0].revents) {
        return true;
    }
    ssize_t n = read(fd, to, room);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        r->bad++;
        tob_err("stdin_failed", TOB_STR("reason", strerror(errno)));
        n = 0;
    }
    tob_lines_added(&r->lines, (size_t)n);
    return n > 0;
}

static void read_all(relay *r, int fd, int signals) {
    bool more = true;
    while (more && !r->stopping) {
        more = read_more(r, fd, signals);
        tob_line line;
        while (!r->stopping && tob_lines_next(&r->lines, &line)) {
            take_line(r, &line);
        }
    }
}

static int finish(relay *r) {
    bool answered = tob_agent_flush(r->sender, r->stopping ? TOB_AGENT_STOP_MS : r->settings->deadline_ms);
    tob_sender_stats stats = tob_sender_statistics(r->sender);
    if (!answered) {
        tob_err("not_acknowledged", TOB_STR("server", r->settings->server),
                TOB_UINT("samples", stats.waiting));
    }
    tob_info("relayed", TOB_UINT("lines", r->lines.number), TOB_UINT("reports", r->reports),
             TOB_UINT("acked", stats.acked), TOB_UINT("rejected", stats.rejected),
             TOB_UINT("bad_lines", r->bad));
    return answered && r->bad == 0 && stats.rejected == 0 ? 0 : 1;
}

int tob_agent_run_stdin(tob_agent_settings *settings, tob_sender *sender, int fd) {
    relay r = {.settings = settings, .sender = sender};
    int status = 1;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    // Only to wake poll: tob_daemon_wait takes the signal.
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0 || tob_lines_init(&r.lines)) {
        tob_err("start_failed", TOB_STR("reason", signals < 0 ? strerror(errno) : "out of memory"));
        goto out;
    }
    read_all(&r, fd, signals);
    status = finish(&r);
out:
    tob_lines_fini(&r.lines);
    if (signals >= 0) {
        close(signals);
    }
    return status;
}
