#include "sql/sqlite.h"

typedef struct sqlite_row {
    tob_sql_row base;
    sqlite3_stmt *statement;
    bool *no_memory; // set when a value could not be had
} sqlite_row;

static sqlite3_stmt *statement_of(const tob_sql_row *row) {
    return ((const sqlite_row *)row)->statement;
}

const char *tob_sqlite_row_text(const tob_sql_row *row, unsigned column) {
    sqlite3_stmt *statement = statement_of(row);
    const char *text = (const char *)sqlite3_column_text(statement, (int)column);
    if (!text && sqlite3_column_type(statement, (int)column) != SQLITE_NULL) {
        *((const sqlite_row *)row)->no_memory = true;
    }
    return text ? text : "";
}

uint64_t tob_sqlite_row_integer(const tob_sql_row *row, unsigned column) {
    return (uint64_t)sqlite3_column_int64(statement_of(row), (int)column);
}

const void *tob_sqlite_row_blob(const tob_sql_row *row, unsigned column, size_t *ret_size) {
    sqlite3_stmt *statement = statement_of(row);
    if (sqlite3_column_type(statement, (int)column) == SQLITE_NULL) {
        *ret_size = 0;
        return NULL;
    }
    const void *bytes = sqlite3_column_blob(statement, (int)column);
    *ret_size = (size_t)sqlite3_column_bytes(statement, (int)column);
    return bytes ? bytes : ""; // SQLite gives NULL for zero bytes
}

static tob_error prepare(tob_sqlite *s, const char *text, sqlite3_stmt **ret) {
    size_t at = tob_sql_statements_find(&s->statements, text);
    sqlite3_stmt *statement = NULL;
    if (at < s->statements.count) {
        *ret = s->statements.items[at].handle;
        return TOB_OK;
    }
    if (sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        return tob_sqlite_failed(s);
    }
    tob_error err = tob_sql_statements_add(&s->statements, text, statement);
    if (err) {
        sqlite3_finalize(statement);
        return err;
    }
    *ret = statement;
    return TOB_OK;
}

static int bind_value(sqlite3_stmt *statement, int at, const tob_sql_value *value) {
    if (value->null) {
        return sqlite3_bind_null(statement, at);
    }
    switch (value->kind) {
    case TOB_SQL_TEXT: return sqlite3_bind_text(statement, at, value->bytes, -1, SQLITE_STATIC);
    case TOB_SQL_INTEGER: return sqlite3_bind_int64(statement, at, value->integer);
    case TOB_SQL_BLOB:
        return value->size ? sqlite3_bind_blob64(statement, at, value->bytes, value->size, SQLITE_STATIC)
                           : sqlite3_bind_zeroblob(statement, at, 0);
    }
    return SQLITE_MISUSE;
}

static tob_error bind_all(tob_sqlite *s, sqlite3_stmt *statement, const tob_sql_value *params, size_t count) {
    if (sqlite3_bind_parameter_count(statement) != (int)count) {
        tob_sql_tell(&s->base, "a statement has %d parameters and is given %zu",
                     sqlite3_bind_parameter_count(statement), count);
        return TOB_INTERNAL;
    }
    for (size_t i = 0; i < count; i++) {
        if (bind_value(statement, (int)i + 1, &params[i]) != SQLITE_OK) {
            return tob_sqlite_failed(s);
        }
    }
    return TOB_OK;
}

// A step to the end; `fn` gets the rows.
static tob_error step_all(tob_sqlite *s, sqlite3_stmt *statement, tob_sql_row_fn fn, void *user,
                          uint64_t *ret_count) {
    bool no_memory = false;
    sqlite_row row = {.base = {.driver = s->base.driver}, .statement = statement, .no_memory = &no_memory};
    uint64_t count = 0;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        tob_error err = fn ? fn(user, &row.base) : TOB_OK;
        if (no_memory) {
            return TOB_NO_MEMORY;
        }
        if (err) {
            return err;
        }
        count++;
    }
    if (code != SQLITE_DONE) {
        return tob_sqlite_failed(s);
    }
    *ret_count = sqlite3_column_count(statement) ? count : (uint64_t)sqlite3_changes64(s->db);
    return TOB_OK;
}

tob_error tob_sqlite_run(tob_sql *sql, const char *text, const tob_sql_value *params, size_t count,
                         tob_sql_row_fn fn, void *user, uint64_t *ret_count) {
    tob_sqlite *s = (tob_sqlite *)sql;
    sqlite3_stmt *statement = NULL;
    tob_error err = prepare(s, text, &statement);
    if (err) {
        return err;
    }
    err = bind_all(s, statement, params, count);
    if (!err) {
        err = step_all(s, statement, fn, user, ret_count);
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return err;
}

tob_error tob_sqlite_run_many(tob_sql *sql, const char *text, size_t count, size_t rows, tob_sql_next_fn next,
                              void *user, uint64_t *ret_changed) {
    tob_sqlite *s = (tob_sqlite *)sql;
    sqlite3_stmt *statement = NULL;
    tob_error err = prepare(s, text, &statement);
    for (size_t i = 0; !err && i < rows; i++) {
        tob_sql_value params[TOB_SQL_MAX_PARAMS] = {0};
        uint64_t changed = 0;
        err = next(user, i, params);
        if (!err) {
            err = bind_all(s, statement, params, count);
        }
        if (!err) {
            err = step_all(s, statement, NULL, NULL, &changed);
        }
        *ret_changed += changed;
        sqlite3_reset(statement);
    }
    if (statement) {
        sqlite3_clear_bindings(statement);
    }
    return err;
}
