#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "sql/postgresql.h"
#include "util/clock.h"

static void ignore_notice(void *user, const char *message) {
    (void)user, (void)message; // libpq would print it
}

static tob_error finish_connecting(tob_pg_link *link, uint64_t until_ms) {
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED) {
            return TOB_UNAVAILABLE;
        }
        tob_error err = tob_pg_wait(link, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until_ms);
        if (err) {
            return err;
        }
        status = PQconnectPoll(link->conn);
    }
    return PQsetnonblocking(link->conn, 1) == 0 ? TOB_OK : TOB_UNAVAILABLE;
}

// What a session has to know about us; each is of use alone, and not every server that speaks the protocol knows all.
static const struct {
    const char *name;
    int value_ms;
} session[] = {
    {"lock_timeout", TOB_SQL_TIMEOUT_MS * 4 / 5}, // its answer comes before we take the server for silent
    {"statement_timeout", TOB_SQL_STATEMENT_MS},
    // Of a process that hangs with the registry's row lock; the others could not change anything.
    {"idle_in_transaction_session_timeout", TOB_SQL_TIMEOUT_MS * 2},
    // A server that still works on what nobody waits for stops.
    {"client_connection_check_interval", 1000},
    {"tcp_user_timeout", TOB_SQL_TIMEOUT_MS},
};

static tob_error set_up_session(tob_pg_link *link) {
    for (size_t i = 0; i < sizeof(session) / sizeof(session[0]); i++) {
        char text[128];
        PGresult *result = NULL;
        snprintf(text, sizeof(text), "SET %s = %d", session[i].name, session[i].value_ms);
        tob_error err = tob_pg_exec(link, text, &result);
        if (err) {
            return err;
        }
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        bool ended = PQresultStatus(result) != PGRES_COMMAND_OK && (!state || tob_pg_ends_session(state));
        PQclear(result);
        if (ended) {
            return TOB_UNAVAILABLE;
        }
    }
    return TOB_OK;
}

tob_error tob_pg_connect(const tob_pg_settings *settings, tob_pg_link *link,
                         tob_sql_problem_text *ret_problem) {
    tob_error err = tob_pg_start(settings, &link->conn, ret_problem);
    if (err) {
        link->conn = NULL;
        return err;
    }
    PQsetErrorVerbosity(link->conn, PQERRORS_VERBOSE); // for tob_pg_connect_problem
    PQsetNoticeProcessor(link->conn, ignore_notice, NULL);
    link->silence_ms = TOB_SQL_TIMEOUT_MS;
    uint64_t until_ms = tob_clock_monotonic_ms() + (uint64_t)TOB_SQL_TIMEOUT_MS * settings->hosts;
    err = PQstatus(link->conn) == CONNECTION_BAD ? TOB_UNAVAILABLE : finish_connecting(link, until_ms);
    if (!err) {
        err = set_up_session(link);
    }
    if (err == TOB_DEADLINE) {
        tob_sql_say(ret_problem, "no answer within %d ms", TOB_SQL_TIMEOUT_MS);
        err = TOB_UNAVAILABLE;
    } else if (err && err != TOB_CANCELLED) {
        err = tob_pg_connect_problem(link->conn, ret_problem);
    }
    if (err) {
        tob_pg_disconnect(link);
    }
    return err;
}

void tob_pg_disconnect(tob_pg_link *link) {
    PQfinish(link->conn); // NULL is fine
    link->conn = NULL;
}
