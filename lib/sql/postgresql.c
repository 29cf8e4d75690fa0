#include "sql/postgresql.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"

#define SCHEMA_LOCK "8390322046080966766" // "toboggan": no other program's advisory lock, it is to be hoped

static void disconnect(tob_pg *pg) {
    tob_pg_disconnect(&pg->link);
    tob_sql_statements_fini(&pg->statements);
}

tob_error tob_pg_lost(tob_pg *pg, tob_error why) {
    if (why == TOB_DEADLINE) {
        tob_sql_tell(&pg->base, "the server has said nothing for %llu ms",
                     (unsigned long long)pg->link.silence_ms);
    } else {
        tob_sql_tell(&pg->base, "the connection is lost: %s", PQerrorMessage(pg->link.conn));
    }
    disconnect(pg);
    return TOB_UNAVAILABLE;
}

tob_error tob_pg_refused(tob_pg *pg, const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!state || PQstatus(pg->link.conn) == CONNECTION_BAD) { // libpq's own: the server has said nothing
        return tob_pg_lost(pg, TOB_UNAVAILABLE);
    }
    tob_error err = tob_pg_error_of(state);
    tob_sql_tell(&pg->base, "%s (SQLSTATE %s)", message ? message : "an error", state);
    if (tob_pg_ends_session(state)) {
        disconnect(pg);
        err = TOB_UNAVAILABLE;
    }
    return err;
}

// A server that was stopped has closed the connection while nobody looked.
static bool is_alive(tob_pg *pg) {
    struct pollfd fd = {.fd = PQsocket(pg->link.conn), .events = POLLIN};
    while (PQstatus(pg->link.conn) == CONNECTION_OK && poll(&fd, 1, 0) > 0) {
        if (!PQconsumeInput(pg->link.conn)) {
            return false;
        }
        (void)PQisBusy(pg->link.conn); // takes messages that nobody asked for
    }
    return PQstatus(pg->link.conn) == CONNECTION_OK;
}

static tob_error connect_server(tob_pg *pg) {
    tob_sql_problem_text problem = {0};
    tob_error err = tob_pg_connect(&pg->settings, &pg->link, &problem);
    if (err) {
        tob_sql_tell(&pg->base, "%s", problem.text[0] ? problem.text : tob_error_string(err));
    }
    return err;
}

tob_error tob_pg_ready(tob_pg *pg) {
    if (pg->link.conn && (pg->base.in_transaction || is_alive(pg))) {
        return TOB_OK;
    }
    disconnect(pg);
    uint64_t now_ms = tob_clock_monotonic_ms();
    if (pg->base.in_transaction || now_ms < pg->next_attempt_ms) {
        return TOB_UNAVAILABLE; // the problem is still the same
    }
    if (connect_server(pg)) {
        pg->next_attempt_ms = tob_clock_monotonic_ms() + TOB_SQL_RECONNECT_MS;
        return TOB_UNAVAILABLE; // a password that is wrong now can be right again
    }
    return TOB_OK;
}

// Carries out a text; `tag` is what the server has to answer, or NULL.
static tob_error carry_out(tob_pg *pg, const char *text, const char *tag) {
    PGresult *result = NULL;
    tob_error err = pg->link.conn ? TOB_OK : TOB_UNAVAILABLE;
    if (err) {
        return err;
    }
    err = tob_pg_exec(&pg->link, text, &result);
    if (err) {
        return tob_pg_lost(pg, err);
    }
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        err = tob_pg_refused(pg, result);
    } else if (tag && strcmp(PQcmdStatus(result), tag) != 0) { // COMMIT of what has failed is a ROLLBACK
        tob_sql_tell(&pg->base, "the transaction was rolled back");
        err = TOB_ABORTED;
    }
    PQclear(result);
    return err;
}

static tob_error script(tob_sql *sql, const char *text) {
    return carry_out((tob_pg *)sql, text, NULL);
}

static tob_error try_to_begin(tob_pg *pg) {
    tob_error err = tob_pg_ready(pg);
    return err ? err : carry_out(pg, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", NULL);
}

static tob_error begin(tob_sql *sql) {
    tob_pg *pg = (tob_pg *)sql;
    tob_error err = try_to_begin(pg);
    // Once more if the connection died between the look and the call: nothing was done yet.
    if (err == TOB_UNAVAILABLE && !pg->link.conn) {
        err = try_to_begin(pg);
    }
    return err;
}

static tob_error commit(tob_sql *sql) {
    tob_pg *pg = (tob_pg *)sql;
    tob_error err = carry_out(pg, "COMMIT", "COMMIT");
    pg->link.silence_ms = TOB_SQL_TIMEOUT_MS;
    return err;
}

static void rollback(tob_sql *sql) {
    tob_pg *pg = (tob_pg *)sql;
    tob_sql_problem_text first = sql->problem; // the first error is the one to tell
    pg->link.silence_ms = TOB_SQL_TIMEOUT_MS;
    if (pg->link.conn && PQtransactionStatus(pg->link.conn) != PQTRANS_IDLE &&
        carry_out(pg, "ROLLBACK", NULL) != TOB_OK) {
        disconnect(pg); // which ends it too
    }
    sql->problem = first;
}

static tob_error lock_schema(tob_sql *sql) {
    ((tob_pg *)sql)->link.silence_ms = TOB_SQL_MIGRATE_MS;
    return script(sql, "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;"
                       "SELECT pg_advisory_xact_lock(" SCHEMA_LOCK ")");
}

static tob_error notify(tob_sql *sql, const char *channel) {
    tob_sql_value param = tob_sql_text(channel);
    return tob_pg_run(sql, "SELECT pg_notify($1, '')", &param, 1, NULL, NULL, &(uint64_t){0});
}

static void pg_close(tob_sql *sql) {
    tob_pg *pg = (tob_pg *)sql;
    disconnect(pg);
    tob_pg_settings_fini(&pg->settings);
    free(pg);
}

static const tob_sql_driver driver = {
    .engine = "postgresql",
    .close = pg_close,
    .script = script,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .lock_schema = lock_schema,
    .make_schema_version = "CREATE TABLE IF NOT EXISTS schema_version ("
                           "  version BIGINT NOT NULL PRIMARY KEY, applied_unix_ms BIGINT NOT NULL)",
    .run = tob_pg_run,
    .run_many = tob_pg_run_many,
    .row_text = tob_pg_row_text,
    .row_integer = tob_pg_row_integer,
    .row_blob = tob_pg_row_blob,
    .notify = notify,
    .watch = tob_pg_watch_start,
    .unwatch = tob_pg_watch_stop,
};

tob_error tob_sql_postgresql_open(const char *url, const char *password_file, tob_sql **ret,
                                  tob_sql_problem_text *ret_problem) {
    tob_pg *pg = calloc(1, sizeof(*pg));
    if (!pg) {
        tob_sql_say(ret_problem, "out of memory");
        return TOB_NO_MEMORY;
    }
    pg->base.driver = &driver;
    pg->link.wake_fd = -1;
    tob_error err = tob_pg_settings_init(&pg->settings, url, password_file, ret_problem);
    if (err) {
        free(pg);
        return err;
    }
    pg->base.name = pg->settings.name;
    err = connect_server(pg);
    if (err) {
        *ret_problem = pg->base.problem;
        pg_close(&pg->base);
        return err;
    }
    *ret = &pg->base;
    return TOB_OK;
}
