// What sql.c and the engines share; for lib/sql only.
//
// Threads, Errors: as sql.h says.
#ifndef TOB_SQL_DRIVER_H
#define TOB_SQL_DRIVER_H

#include "sql/sql.h"

typedef struct tob_sql_driver {
    const char *engine;
    void (*close)(tob_sql *sql);

    // Several statements in one text, whose rows are thrown away.
    tob_error (*script)(tob_sql *sql, const char *text);
    tob_error (*begin)(tob_sql *sql);
    tob_error (*commit)(tob_sql *sql); // after an error `rollback` follows
    void (*rollback)(tob_sql *sql);

    // In a transaction: until its end we are the only one that changes the schema, and a statement may take long.
    tob_error (*lock_schema)(tob_sql *sql);
    const char *make_schema_version; // CREATE TABLE IF NOT EXISTS

    tob_error (*run)(tob_sql *sql, const char *statement, const tob_sql_value *params, size_t count,
                     tob_sql_row_fn fn, void *user, uint64_t *ret_count);
    tob_error (*run_many)(tob_sql *sql, const char *statement, size_t count, size_t rows,
                          tob_sql_next_fn next, void *user, uint64_t *ret_changed);
    const char *(*row_text)(const tob_sql_row *row, unsigned column);
    uint64_t (*row_integer)(const tob_sql_row *row, unsigned column);
    const void *(*row_blob)(const tob_sql_row *row, unsigned column, size_t *ret_size);

    // NULL where there is nobody else to tell or to hear.
    tob_error (*notify)(tob_sql *sql, const char *channel);
    tob_error (*watch)(tob_sql *sql, const char *channel, void (*fn)(void *user, bool away), void *user);
    void (*unwatch)(tob_sql *sql);
} tob_sql_driver;

struct tob_sql {
    const tob_sql_driver *driver;
    const char *name; // of the database, for people: no secrets
    bool in_transaction;
    tob_error failed; // the first error of the open transaction
    tob_sql_problem_text problem;
};

struct tob_sql_row {
    const tob_sql_driver *driver;
};

// tob_sql_say keeps a text; line ends and other control characters become blanks.
void tob_sql_say(tob_sql_problem_text *problem, const char *format, ...) TOB_PRINTF(2, 3);

// tob_sql_tell keeps the problem of the call that fails, with the database's name in front.
void tob_sql_tell(tob_sql *sql, const char *format, ...) TOB_PRINTF(2, 3);

// One for each scheme. path: behind "sqlite:"; url: all of it.
TOB_MUST_USE tob_error tob_sql_sqlite_open(const char *path, tob_sql **ret,
                                           tob_sql_problem_text *ret_problem);
TOB_MUST_USE tob_error tob_sql_postgresql_open(const char *url, const char *password_file, tob_sql **ret,
                                               tob_sql_problem_text *ret_problem);

#endif
