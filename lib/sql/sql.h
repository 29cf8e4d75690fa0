// tob_sql is one connection to a database that a URL chooses: "sqlite:PATH" (a file that this process has for itself) or
// "postgresql://…" (a server, through libpq; RFC 3986 form of libpq's connection URIs). One dialect for both: SQL:2016's
// common part as SQLite 3.40 and PostgreSQL 15 have it (INSERT … ON CONFLICT, RETURNING, WITH; coalesce, nullif), parameters
// are $1, $2, … and appear for the first time in this order. What differs (types, triggers) stands in migrations, which each
// engine has its own of.
//
// Threads: one at a time, except what tob_sql_watch says. Calls block on the database, bounded by TOB_SQL_TIMEOUT_MS (for
// each host of the URL; resolving a host's name takes as long as the system's resolver does).
// Errors:  TOB_UNAVAILABLE the server is away or does not answer: nothing was changed, or, when it happens in a commit, that
//          is unknown; the connection is made again by the next call, at most once in TOB_SQL_RECONNECT_MS. TOB_BUSY another
//          process has the file. TOB_ALREADY_EXISTS a unique key; TOB_NOT_FOUND a foreign key; TOB_PRECONDITION a check or a
//          trigger; TOB_IO; TOB_DAMAGED not a database, or a broken one; TOB_NO_MEMORY; TOB_INTERNAL anything else.
//          tob_sql_problem tells more. Neither it nor any error text ever holds a password of the URL.
#ifndef TOB_SQL_SQL_H
#define TOB_SQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_SQL_TIMEOUT_MS   5000 // of connecting, and of one statement's silence
#define TOB_SQL_RECONNECT_MS 1000
#define TOB_SQL_POLL_MS      1000  // tob_sql_watch, besides notifications
#define TOB_SQL_STATEMENT_MS 60000 // one statement in all, with the reading of its rows
#define TOB_SQL_MIGRATE_MS                                                                                   \
    (10 * 60 * 1000) // one step of a migration's silence, or the wait for another process's
#define TOB_SQL_MAX_PARAMS        16
#define TOB_SQL_MAX_PROBLEM_BYTES 512

typedef struct tob_sql tob_sql;

typedef struct tob_sql_problem_text {
    char text[TOB_SQL_MAX_PROBLEM_BYTES];
} tob_sql_problem_text;

// tob_sql_open connects, or makes the file (mode 0600).
//   password_file   holds the server's password in its first line and is read for every connection, so that it can be
//                   changed; NULL or "": the URL, or libpq's own ways (PGPASSWORD, .pgpass)
//   ret           owned by the caller; free with tob_sql_close
//   ret_problem   filled on an error
// Errors: TOB_INVALID for the URL; TOB_PERMISSION_DENIED the server refuses the user or the password; TOB_PRECONDITION it has
//         no such database; those of reading the password file. (While a connection is made again, all of these are
//         TOB_UNAVAILABLE.)
TOB_MUST_USE tob_error tob_sql_open(const char *url, const char *password_file, tob_sql **ret,
                                    tob_sql_problem_text *ret_problem);
void tob_sql_close(tob_sql *sql);

// tob_sql_url_has_password: such a URL must not stand among a process's arguments, which everybody can read.
bool tob_sql_url_has_password(const char *url);

// "sqlite" or "postgresql".
const char *tob_sql_engine(const tob_sql *sql);

// tob_sql_problem: the text of the last call that failed, with the database's name and without secrets.
const char *tob_sql_problem(const tob_sql *sql);

// One step of a schema: plain SQL for each engine. A step, once released, is never changed.
typedef struct tob_sql_migration {
    const char *sqlite;
    const char *postgresql;
} tob_sql_migration;

// tob_sql_migrate brings the schema from the version that the database has (table schema_version) to `count`: each step in a
// transaction, and of several processes that start together one does it while the others wait.
// Errors: TOB_PRECONDITION when the database's version is greater than `count`: a newer version of the program made it.
TOB_MUST_USE tob_error tob_sql_migrate(tob_sql *sql, const tob_sql_migration *steps, size_t count,
                                       uint64_t now_unix_ms);

// Transactions; a statement outside of one is its own. Each statement sees what is committed when it starts (READ COMMITTED):
// those who change the same rows take turns by locking one row first, as the registry does; TOB_ABORTED: a deadlock, to be
// tried again from the start. The first error of the database's inside (a lost connection too) ends the transaction: all calls
// up to its end return it again, and nothing of it is kept.
TOB_MUST_USE tob_error tob_sql_begin(tob_sql *sql);
// tob_sql_commit ends it in any case: on an error nothing was changed (but see TOB_UNAVAILABLE above).
TOB_MUST_USE tob_error tob_sql_commit(tob_sql *sql);
void tob_sql_rollback(tob_sql *sql); // also fine when none is open

typedef enum tob_sql_kind { TOB_SQL_TEXT, TOB_SQL_INTEGER, TOB_SQL_BLOB } tob_sql_kind;

// A parameter. Borrowed for the call.
typedef struct tob_sql_value {
    tob_sql_kind kind; // also of NULL: PostgreSQL wants to know
    bool null;
    const void *bytes; // TEXT: a string; BLOB: size bytes
    size_t size;       // of a BLOB
    int64_t integer;
} tob_sql_value;

// TEXT; NULL for a NULL pointer.
tob_sql_value tob_sql_text(const char *text);
// TEXT; NULL for "".
tob_sql_value tob_sql_text_or_null(const char *text);
tob_sql_value tob_sql_integer(uint64_t number); // larger than 2^63-1 is 2^63-1
// NULL for 0.
tob_sql_value tob_sql_integer_or_null(uint64_t number);
tob_sql_value tob_sql_blob(const void *bytes, size_t size); // NULL for a NULL pointer

// A row that a statement returns; valid inside the callback.
typedef struct tob_sql_row tob_sql_row;
// Columns have the type that they are asked for: sums and the like are cast (CAST (sum(x) AS BIGINT)).
const char *tob_sql_row_text(const tob_sql_row *row, unsigned column); // "" for NULL; never NULL
uint64_t tob_sql_row_integer(const tob_sql_row *row, unsigned column); // 0 for NULL
const void *tob_sql_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size); // NULL for NULL

// An error ends the reading and is returned. No other call on the same tob_sql inside.
typedef tob_error (*tob_sql_row_fn)(void *user, const tob_sql_row *row);

// tob_sql_run carries out one statement, which is prepared once for each connection.
//   statement   static text: it is known again by its pointer
//   fn          called for each row, as it comes (a result of millions is never in memory); NULL: there are none
//   ret_count   rows that came, or were changed by a statement that returns none; may be NULL
TOB_MUST_USE tob_error tob_sql_run(tob_sql *sql, const char *statement, const tob_sql_value *params,
                                   size_t count, tob_sql_row_fn fn, void *user, uint64_t *ret_count);

// tob_sql_run_many carries out one statement that returns no rows for `rows` rows of parameters, fast: pipelined, inside an
// open transaction. The first error, also one of `next`, ends both: the transaction can only be rolled back.
//   next   fills in the parameters of a row, once for each; borrowed until its next call or the return
typedef tob_error (*tob_sql_next_fn)(void *user, size_t row, tob_sql_value *ret_params);
TOB_MUST_USE tob_error tob_sql_run_many(tob_sql *sql, const char *statement, size_t count, size_t rows,
                                        tob_sql_next_fn next, void *user, uint64_t *ret_changed);

// tob_sql_notify, inside a transaction: once that is committed, the watchers of all other processes hear of it.
// SQLite: does nothing, as the file is ours alone.
TOB_MUST_USE tob_error tob_sql_notify(tob_sql *sql, const char *channel);

// tob_sql_watch calls `fn` from a thread of its own, over a connection of its own, whenever somebody may have notified the
// channel: for each notification (LISTEN), every TOB_SQL_POLL_MS, and when the server has come back. SQLite: never.
//   channel   static text, an SQL name
//   fn        `away`: the server can't be reached; told when it is lost and with every attempt to come back that fails
// Errors: TOB_NO_MEMORY, TOB_INTERNAL when no thread can be made.
TOB_MUST_USE tob_error tob_sql_watch(tob_sql *sql, const char *channel, void (*fn)(void *user, bool away),
                                     void *user);
// tob_sql_unwatch: no call of `fn` after its return. Idempotent.
void tob_sql_unwatch(tob_sql *sql);

#endif
