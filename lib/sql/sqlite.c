#include "sql/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 2000 // for a backup that reads, or the process before us that is about to end

static tob_error error_of(int code) {
    switch (code) {
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_ROWID: return TOB_ALREADY_EXISTS;
    case SQLITE_CONSTRAINT_FOREIGNKEY: return TOB_NOT_FOUND;
    default: break;
    }
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT: return TOB_PRECONDITION;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return TOB_BUSY;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN: return TOB_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return TOB_DAMAGED;
    case SQLITE_NOMEM: return TOB_NO_MEMORY;
    default: return TOB_INTERNAL;
    }
}

tob_error tob_sqlite_failed(tob_sqlite *s) {
    tob_error err = error_of(sqlite3_extended_errcode(s->db));
    if (err == TOB_BUSY) {
        tob_sql_tell(&s->base, "another process has it open: one ingestd at a time; several need "
                               "--registry postgresql://…");
    } else {
        tob_sql_tell(&s->base, "%s", sqlite3_errmsg(s->db));
    }
    return err;
}

static tob_error script(tob_sql *sql, const char *text) {
    tob_sqlite *s = (tob_sqlite *)sql;
    return sqlite3_exec(s->db, text, NULL, NULL, NULL) == SQLITE_OK ? TOB_OK : tob_sqlite_failed(s);
}

static tob_error begin(tob_sql *sql) {
    return script(sql, "BEGIN IMMEDIATE");
}

static tob_error commit(tob_sql *sql) {
    return script(sql, "COMMIT");
}

static void rollback(tob_sql *sql) {
    // SQLite has done it already when the disk was full or memory was out; that there is none then is no news.
    sqlite3_exec(((tob_sqlite *)sql)->db, "ROLLBACK", NULL, NULL, NULL);
}

static tob_error lock_schema(tob_sql *sql) {
    (void)sql; // the file is ours alone
    return TOB_OK;
}

static void sqlite_close(tob_sql *sql) {
    tob_sqlite *s = (tob_sqlite *)sql;
    for (size_t i = 0; i < s->statements.count; i++) {
        sqlite3_finalize(s->statements.items[i].handle);
    }
    tob_sql_statements_fini(&s->statements);
    sqlite3_close(s->db);
    free(s->path);
    free(s->name);
    free(s);
}

static const tob_sql_driver driver = {
    .engine = "sqlite",
    .close = sqlite_close,
    .script = script,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .lock_schema = lock_schema,
    .make_schema_version = "CREATE TABLE IF NOT EXISTS schema_version ("
                           "  version INTEGER NOT NULL PRIMARY KEY, applied_unix_ms INTEGER NOT NULL) STRICT",
    .run = tob_sqlite_run,
    .run_many = tob_sqlite_run_many,
    .row_text = tob_sqlite_row_text,
    .row_integer = tob_sqlite_row_integer,
    .row_blob = tob_sqlite_row_blob,
};

// SQLite would make the file readable for everyone; its -wal and -shm files take the mode of this one.
static tob_error make_private_file(tob_sqlite *s) {
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        tob_sql_tell(&s->base, "%s", strerror(errno));
        return TOB_IO;
    }
    close(fd);
    return TOB_OK;
}

static tob_error take_flag(void *user, const tob_sql_row *row) {
    *(bool *)user = tob_sql_row_integer(row, 0) != 0;
    return TOB_OK;
}

static tob_error connect_database(tob_sqlite *s) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK) {
        return s->db ? tob_sqlite_failed(s) : TOB_NO_MEMORY;
    }
    sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
    // What the program keeps in memory of it would not see what a second process changes: the file is ours alone.
    // Exclusive locking before the first access also means WAL without shared memory.
    tob_error err =
        script(&s->base, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                         "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                         "BEGIN EXCLUSIVE; COMMIT");
    bool foreign_keys = false;
    if (!err) {
        err = tob_sqlite_run(&s->base, "PRAGMA foreign_keys", NULL, 0, take_flag, &foreign_keys,
                             &(uint64_t){0});
    }
    if (!err && !foreign_keys) {
        tob_sql_tell(&s->base, "this SQLite has no foreign keys");
        err = TOB_INTERNAL;
    }
    return err;
}

tob_error tob_sql_sqlite_open(const char *path, tob_sql **ret, tob_sql_problem_text *ret_problem) {
    tob_error err = TOB_NO_MEMORY;
    tob_sqlite *s = calloc(1, sizeof(*s));
    if (!s) {
        tob_sql_say(ret_problem, "out of memory");
        return TOB_NO_MEMORY;
    }
    s->base.driver = &driver;
    // "./" keeps names like ":memory:" from meaning something else to SQLite.
    s->path = NULL;
    if (asprintf(&s->path, "%s%s", path[0] == '/' ? "" : "./", path) < 0) {
        s->path = NULL;
        goto out;
    }
    if (asprintf(&s->name, "sqlite:%s", path) < 0) {
        s->name = NULL;
        goto out;
    }
    s->base.name = s->name;
    err = make_private_file(s);
    if (!err) {
        err = connect_database(s);
    }
    if (err) {
        goto out;
    }
    *ret = &s->base;
    return TOB_OK;
out:
    *ret_problem = s->base.problem;
    if (!ret_problem->text[0]) {
        tob_sql_say(ret_problem, "sqlite:%s: %s", path, tob_error_string(err));
    }
    sqlite_close(&s->base);
    return err;
}
