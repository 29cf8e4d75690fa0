#include <inttypes.h>
#include <string.h>

#include "sql/driver.h"

static tob_error take_version(void *user, const tob_sql_row *row) {
    *(uint64_t *)user = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

static tob_error read_version(tob_sql *sql, uint64_t *ret) {
    tob_error err = sql->driver->script(sql, sql->driver->make_schema_version);
    if (!err) {
        err = tob_sql_run(sql, "SELECT coalesce(max(version), 0) FROM schema_version", NULL, 0, take_version,
                          ret, NULL);
    }
    return err;
}

static tob_error take_step(tob_sql *sql, const tob_sql_migration *step, uint64_t version,
                           uint64_t now_unix_ms) {
    tob_sql_value params[] = {tob_sql_integer(version), tob_sql_integer(now_unix_ms)};
    bool is_sqlite = strcmp(sql->driver->engine, "sqlite") == 0;
    tob_error err = sql->driver->script(sql, is_sqlite ? step->sqlite : step->postgresql);
    if (!err) {
        err = tob_sql_run(sql, "INSERT INTO schema_version (version, applied_unix_ms) VALUES ($1, $2)",
                          params, 2, NULL, NULL, NULL);
    }
    return err;
}

// One transaction: a step, or the finding that there is none to take.
static tob_error advance(tob_sql *sql, const tob_sql_migration *steps, size_t count, uint64_t now_unix_ms,
                         uint64_t *ret_version) {
    uint64_t version = 0;
    tob_error err = tob_sql_begin(sql);
    if (!err) {
        err = sql->driver->lock_schema(sql);
    }
    if (!err) {
        err = read_version(sql, &version);
    }
    if (!err && version > count) {
        tob_sql_tell(sql,
                     "its schema has version %" PRIu64
                     ", and this program knows only %zu: it was made by a newer version of this program",
                     version, count);
        err = TOB_PRECONDITION;
    }
    if (!err && version < count) {
        version++;
        err = take_step(sql, &steps[version - 1], version, now_unix_ms);
    }
    if (!err) {
        err = tob_sql_commit(sql);
    }
    if (err) {
        tob_sql_rollback(sql);
        return err;
    }
    *ret_version = version;
    return TOB_OK;
}

tob_error tob_sql_migrate(tob_sql *sql, const tob_sql_migration *steps, size_t count, uint64_t now_unix_ms) {
    uint64_t version = 0;
    tob_error err = TOB_OK;
    do { // the version is read again for each step, with the lock held: another process may have been quicker
        err = advance(sql, steps, count, now_unix_ms, &version);
    } while (!err && version < count);
    return err;
}
