#include <errno.h>
#include <poll.h>

#include "sql/postgresql.h"
#include "util/clock.h"

tob_error tob_pg_wait(const tob_pg_link *link, int events, uint64_t until_ms) {
    struct pollfd fds[2] = {{.fd = PQsocket(link->conn), .events = (short)events},
                            {.fd = link->wake_fd, .events = POLLIN}}; // poll(2) ignores one of -1
    for (;;) {
        uint64_t now_ms = tob_clock_monotonic_ms();
        int n = poll(fds, 2, now_ms < until_ms ? (int)(until_ms - now_ms) : 0);
        if (n > 0) {
            return fds[1].revents ? TOB_CANCELLED : TOB_OK;
        }
        if (n == 0 && tob_clock_monotonic_ms() >= until_ms) {
            return TOB_DEADLINE;
        }
        if (n < 0 && errno != EINTR) {
            return TOB_UNAVAILABLE;
        }
    }
}

// Until a result is complete.
static tob_error wait_for_result(tob_pg_link *link) {
    while (PQisBusy(link->conn)) {
        int unsent = PQflush(link->conn);
        if (unsent < 0) {
            return TOB_UNAVAILABLE;
        }
        tob_error err =
            tob_pg_wait(link, POLLIN | (unsent ? POLLOUT : 0), tob_clock_monotonic_ms() + link->silence_ms);
        if (err) {
            return err;
        }
        if (!PQconsumeInput(link->conn)) {
            return TOB_UNAVAILABLE;
        }
    }
    return TOB_OK;
}

tob_error tob_pg_next_result(tob_pg_link *link, PGresult **ret) {
    tob_error err = wait_for_result(link);
    if (err) {
        return err;
    }
    *ret = PQgetResult(link->conn);
    return TOB_OK;
}

static bool is_error(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY;
}

tob_error tob_pg_exec(tob_pg_link *link, const char *text, PGresult **ret) {
    PGresult *kept = NULL, *next = NULL;
    if (!PQsendQuery(link->conn, text)) {
        return TOB_UNAVAILABLE;
    }
    for (;;) {
        tob_error err = tob_pg_next_result(link, &next);
        if (err) {
            PQclear(kept);
            return err;
        }
        if (!next) {
            break;
        }
        if (kept && is_error(kept)) {
            PQclear(next);
        } else {
            PQclear(kept);
            kept = next;
        }
    }
    if (!kept) {
        return TOB_UNAVAILABLE;
    }
    *ret = kept;
    return TOB_OK;
}
