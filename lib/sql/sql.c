#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sql/driver.h"

static void make_one_line(tob_sql_problem_text *problem) {
    size_t n = strlen(problem->text);
    while (n > 0 && (unsigned char)problem->text[n - 1] <= ' ') {
        problem->text[--n] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)problem->text[i] < ' ') {
            problem->text[i] = ' ';
        }
    }
}

void tob_sql_say(tob_sql_problem_text *problem, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
    make_one_line(problem);
}

void tob_sql_tell(tob_sql *sql, const char *format, ...) {
    tob_sql_problem_text what;
    va_list args;
    va_start(args, format);
    vsnprintf(what.text, sizeof(what.text), format, args);
    va_end(args);
    tob_sql_say(&sql->problem, "%s: %s", sql->name, what.text);
}

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

tob_error tob_sql_open(const char *url, const char *password_file, tob_sql **ret,
                       tob_sql_problem_text *ret_problem) {
    static const char sqlite[] = "sqlite:";
    size_t n = sizeof(sqlite) - 1;
    if (starts_with(url, sqlite) && url[n]) {
        return tob_sql_sqlite_open(url + n, ret, ret_problem);
    }
    if (starts_with(url, "postgresql://") || starts_with(url, "postgres://")) {
        return tob_sql_postgresql_open(url, password_file, ret, ret_problem);
    }
    // The URL is not repeated: it may hold a password.
    tob_sql_say(ret_problem, "the database's URL must be sqlite:PATH or postgresql://…");
    return TOB_INVALID;
}

void tob_sql_close(tob_sql *sql) {
    if (sql) {
        tob_sql_unwatch(sql);
        tob_sql_rollback(sql);
        sql->driver->close(sql);
    }
}

const char *tob_sql_engine(const tob_sql *sql) {
    return sql->driver->engine;
}

const char *tob_sql_problem(const tob_sql *sql) {
    return sql->problem.text;
}

tob_error tob_sql_begin(tob_sql *sql) {
    assert(!sql->in_transaction);
    tob_error err = sql->driver->begin(sql);
    sql->in_transaction = !err;
    sql->failed = TOB_OK;
    return err;
}

tob_error tob_sql_commit(tob_sql *sql) {
    assert(sql->in_transaction);
    tob_error err = sql->failed ? sql->failed : sql->driver->commit(sql);
    if (err) {
        sql->driver->rollback(sql);
    }
    sql->in_transaction = false;
    sql->failed = TOB_OK;
    return err;
}

void tob_sql_rollback(tob_sql *sql) {
    if (sql->in_transaction) {
        sql->driver->rollback(sql);
        sql->in_transaction = false;
        sql->failed = TOB_OK;
    }
}

// PostgreSQL ends a transaction with its first error, SQLite does not: here both do, so that a program can't come to
// rely on the one.
static tob_error keep_first(tob_sql *sql, tob_error err) {
    if (err && sql->in_transaction && !sql->failed) {
        sql->failed = err;
    }
    return err;
}

// The caller's own error is no error of the database's.
typedef struct caller {
    tob_sql_row_fn row;
    tob_sql_next_fn next;
    void *user;
    tob_error err;
} caller;

static tob_error on_row(void *user, const tob_sql_row *row) {
    caller *c = user;
    c->err = c->row(c->user, row);
    return c->err;
}

static tob_error on_next(void *user, size_t row, tob_sql_value *ret_params) {
    caller *c = user;
    c->err = c->next(c->user, row, ret_params);
    return c->err;
}

tob_error tob_sql_run(tob_sql *sql, const char *statement, const tob_sql_value *params, size_t count,
                      tob_sql_row_fn fn, void *user, uint64_t *ret_count) {
    assert(count <= TOB_SQL_MAX_PARAMS);
    caller c = {.row = fn, .user = user};
    uint64_t rows = 0;
    if (sql->failed) {
        return sql->failed;
    }
    tob_error err = sql->driver->run(sql, statement, params, count, fn ? on_row : NULL, &c, &rows);
    if (c.err) {
        return c.err;
    }
    if (!err && ret_count) {
        *ret_count = rows;
    }
    return keep_first(sql, err);
}

tob_error tob_sql_run_many(tob_sql *sql, const char *statement, size_t count, size_t rows,
                           tob_sql_next_fn next, void *user, uint64_t *ret_changed) {
    assert(count <= TOB_SQL_MAX_PARAMS && sql->in_transaction);
    caller c = {.next = next, .user = user};
    uint64_t changed = 0;
    if (sql->failed) {
        return sql->failed;
    }
    // Half of the rows is nothing that may be committed, whoever stopped it.
    tob_error err =
        keep_first(sql, sql->driver->run_many(sql, statement, count, rows, on_next, &c, &changed));
    if (!err && ret_changed) {
        *ret_changed = changed;
    }
    return err;
}

tob_error tob_sql_notify(tob_sql *sql, const char *channel) {
    assert(sql->in_transaction);
    if (sql->failed) {
        return sql->failed;
    }
    return sql->driver->notify ? keep_first(sql, sql->driver->notify(sql, channel)) : TOB_OK;
}

tob_error tob_sql_watch(tob_sql *sql, const char *channel, void (*fn)(void *user, bool away), void *user) {
    return sql->driver->watch ? sql->driver->watch(sql, channel, fn, user) : TOB_OK;
}

void tob_sql_unwatch(tob_sql *sql) {
    if (sql->driver->unwatch) {
        sql->driver->unwatch(sql);
    }
}
