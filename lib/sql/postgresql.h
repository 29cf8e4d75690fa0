// The PostgreSQL engine's own; for lib/sql only.
//
// All waiting is ours: libpq's blocking calls would wait for a silent server for ever, and could not be interrupted.
//
// Threads: a link is one thread's. Settings don't change once they are made.
#ifndef TOB_SQL_POSTGRESQL_H
#define TOB_SQL_POSTGRESQL_H

#include <libpq-fe.h>

#include "sql/driver.h"
#include "sql/statements.h"

#define TOB_PG_MAX_PASSWORD_BYTES 1024
#define TOB_PG_MAX_SETTINGS       64

// What a URL says.
typedef struct tob_pg_settings {
    PQconninfoOption *options; // with the password, if it is in the URL
    char *password_file;       // or NULL
    char *name;                // of the database, for people
    unsigned hosts;            // that the URL lists
} tob_pg_settings;

// Errors: TOB_INVALID; TOB_NO_MEMORY. The problem never repeats what stands in the URL.
TOB_MUST_USE tob_error tob_pg_settings_init(tob_pg_settings *settings, const char *url,
                                            const char *password_file, tob_sql_problem_text *ret_problem);
void tob_pg_settings_fini(tob_pg_settings *settings);

// tob_pg_start begins to connect (PQconnectStartParams). Errors: those of reading the password file; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_pg_start(const tob_pg_settings *settings, PGconn **ret,
                                    tob_sql_problem_text *ret_problem);

// One connection and how it waits.
typedef struct tob_pg_link {
    PGconn *conn;        // NULL: none
    int wake_fd;         // readable: stop waiting; -1: none
    uint64_t silence_ms; // how long the server may say nothing
} tob_pg_link;

// tob_pg_connect connects and sets up the session.
// Errors: TOB_UNAVAILABLE; TOB_PERMISSION_DENIED user or password; TOB_PRECONDITION no such database; TOB_CANCELLED woken
//         up; those of tob_pg_start.
TOB_MUST_USE tob_error tob_pg_connect(const tob_pg_settings *settings, tob_pg_link *link,
                                      tob_sql_problem_text *ret_problem);
void tob_pg_disconnect(tob_pg_link *link);

// tob_pg_wait: until one of poll(2)'s `events` is there. Errors: TOB_DEADLINE; TOB_CANCELLED woken up.
TOB_MUST_USE tob_error tob_pg_wait(const tob_pg_link *link, int events, uint64_t until_ms);

// tob_pg_next_result sends what is not sent yet and waits for the next result.
//   ret   NULL after a statement's last one; free with PQclear
// Errors: TOB_DEADLINE the server says nothing; TOB_CANCELLED; TOB_UNAVAILABLE the connection is lost.
TOB_MUST_USE tob_error tob_pg_next_result(tob_pg_link *link, PGresult **ret);

// tob_pg_exec carries out statements in one text and throws away their rows.
//   ret   the first result that is an error, else the last; owned by the caller, free with PQclear
TOB_MUST_USE tob_error tob_pg_exec(tob_pg_link *link, const char *text, PGresult **ret);

// The error of an SQLSTATE, as a statement's result has it.
tob_error tob_pg_error_of(const char *sqlstate);
// Is the session of no use any more after this?
bool tob_pg_ends_session(const char *sqlstate);

// tob_pg_connect_problem makes a line of libpq's text about a connection that failed.
tob_error tob_pg_connect_problem(PGconn *conn, tob_sql_problem_text *ret_problem);

typedef struct tob_pg_watch tob_pg_watch;

typedef struct tob_pg {
    tob_sql base;
    tob_pg_settings settings;
    tob_pg_link link;
    tob_sql_statements statements; // prepared in this connection; the place in the list is the name
    uint64_t next_attempt_ms;      // of connecting
    tob_pg_watch *watch;
} tob_pg;

// tob_pg_ready connects if need be. TOB_UNAVAILABLE.
TOB_MUST_USE tob_error tob_pg_ready(tob_pg *pg);

// tob_pg_lost gives up the connection, for an error of waiting, and says so. Always TOB_UNAVAILABLE.
TOB_MUST_USE tob_error tob_pg_lost(tob_pg *pg, tob_error why);

// tob_pg_refused: the error of a result, which is kept in words; may give up the connection.
TOB_MUST_USE tob_error tob_pg_refused(tob_pg *pg, const PGresult *result);

// tob_pg_prepare: ret_name is "t" and a number.
#define TOB_PG_NAME_BYTES 24
TOB_MUST_USE tob_error tob_pg_prepare(tob_pg *pg, const char *statement, const tob_sql_value *params,
                                      size_t count, char ret_name[TOB_PG_NAME_BYTES]);
// tob_pg_send sends a prepared statement's execution.
TOB_MUST_USE tob_error tob_pg_send(tob_pg *pg, const char *name, const tob_sql_value *params, size_t count);

tob_error tob_pg_run(tob_sql *sql, const char *statement, const tob_sql_value *params, size_t count,
                     tob_sql_row_fn fn, void *user, uint64_t *ret_count);
tob_error tob_pg_run_many(tob_sql *sql, const char *statement, size_t count, size_t rows,
                          tob_sql_next_fn next, void *user, uint64_t *ret_changed);

// A row of a result whose columns are in the binary format.
typedef struct tob_pg_row {
    tob_sql_row base;
    const PGresult *result;
} tob_pg_row;
const char *tob_pg_row_text(const tob_sql_row *row, unsigned column);
uint64_t tob_pg_row_integer(const tob_sql_row *row, unsigned column);
const void *tob_pg_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size);
// tob_pg_row_check: are all columns of types that a row can give? TOB_INTERNAL.
TOB_MUST_USE tob_error tob_pg_row_check(tob_pg *pg, const PGresult *result);

// Types that we speak (PostgreSQL's pg_type.dat).
enum tob_pg_type {
    TOB_PG_BOOL = 16,
    TOB_PG_BYTEA = 17,
    TOB_PG_NAME = 19,
    TOB_PG_INT8 = 20,
    TOB_PG_INT2 = 21,
    TOB_PG_INT4 = 23,
    TOB_PG_TEXT = 25,
    TOB_PG_VARCHAR = 1043,
    TOB_PG_VOID = 2278,
};

tob_error tob_pg_watch_start(tob_sql *sql, const char *channel, void (*fn)(void *user, bool away),
                             void *user);
void tob_pg_watch_stop(tob_sql *sql);

#endif
