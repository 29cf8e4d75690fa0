// The SQLite engine's own; for lib/sql only.
#ifndef TOB_SQL_SQLITE_H
#define TOB_SQL_SQLITE_H

#include <sqlite3.h>

#include "sql/driver.h"
#include "sql/statements.h"

typedef struct tob_sqlite {
    tob_sql base;
    char *path;
    char *name;
    sqlite3 *db;
    tob_sql_statements statements;
} tob_sqlite;

// Translates the failure of the last call on the database and keeps its text.
TOB_MUST_USE tob_error tob_sqlite_failed(tob_sqlite *s);

tob_error tob_sqlite_run(tob_sql *sql, const char *statement, const tob_sql_value *params, size_t count,
                         tob_sql_row_fn fn, void *user, uint64_t *ret_count);
tob_error tob_sqlite_run_many(tob_sql *sql, const char *statement, size_t count, size_t rows,
                              tob_sql_next_fn next, void *user, uint64_t *ret_changed);
const char *tob_sqlite_row_text(const tob_sql_row *row, unsigned column);
uint64_t tob_sqlite_row_integer(const tob_sql_row *row, unsigned column);
const void *tob_sqlite_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size);

#endif
