#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/postgresql.h"

static Oid type_of(const tob_sql_value *value) {
    switch (value->kind) {
    case TOB_SQL_TEXT: return TOB_PG_TEXT;
    case TOB_SQL_INTEGER: return TOB_PG_INT8;
    case TOB_SQL_BLOB: return TOB_PG_BYTEA;
    }
    return 0;
}

// The one result of what was sent; frees it.
static tob_error expect_ok(tob_pg *pg) {
    PGresult *result = NULL;
    tob_error err = TOB_OK, waiting = TOB_OK;
    while (!(waiting = tob_pg_next_result(&pg->link, &result)) && result) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK && !err) {
            err = tob_pg_refused(pg, result);
        }
        PQclear(result);
        if (!pg->link.conn) {
            return err;
        }
    }
    return waiting ? tob_pg_lost(pg, waiting) : err;
}

tob_error tob_pg_prepare(tob_pg *pg, const char *statement, const tob_sql_value *params, size_t count,
                         char ret_name[TOB_PG_NAME_BYTES]) {
    size_t at = tob_sql_statements_find(&pg->statements, statement);
    Oid types[TOB_SQL_MAX_PARAMS] = {0};
    snprintf(ret_name, TOB_PG_NAME_BYTES, "t%zu", at);
    if (at < pg->statements.count) {
        return TOB_OK;
    }
    for (size_t i = 0; i < count; i++) {
        types[i] = type_of(&params[i]);
    }
    if (!PQsendPrepare(pg->link.conn, ret_name, statement, (int)count, types)) {
        return tob_pg_lost(pg, TOB_UNAVAILABLE);
    }
    tob_error err = expect_ok(pg);
    return err ? err : tob_sql_statements_add(&pg->statements, statement, NULL);
}

tob_error tob_pg_send(tob_pg *pg, const char *name, const tob_sql_value *params, size_t count) {
    const char *values[TOB_SQL_MAX_PARAMS] = {0};
    int lengths[TOB_SQL_MAX_PARAMS] = {0}, formats[TOB_SQL_MAX_PARAMS] = {0};
    char numbers[TOB_SQL_MAX_PARAMS][24];
    for (size_t i = 0; i < count; i++) {
        if (params[i].null) {
            continue;
        }
        switch (params[i].kind) {
        case TOB_SQL_TEXT: values[i] = params[i].bytes; break;
        case TOB_SQL_INTEGER:
            snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, params[i].integer);
            values[i] = numbers[i];
            break;
        case TOB_SQL_BLOB:
            values[i] = params[i].bytes;
            lengths[i] = (int)params[i].size;
            formats[i] = 1;
            break;
        }
    }
    return PQsendQueryPrepared(pg->link.conn, name, (int)count, values, lengths, formats, 1)
               ? TOB_OK
               : tob_pg_lost(pg, TOB_UNAVAILABLE);
}

typedef struct reading {
    tob_pg *pg;
    tob_sql_row_fn fn;
    void *user;
    uint64_t count;
} reading;

static tob_error take_row(reading *r, const PGresult *result) {
    tob_pg_row row = {.base = {.driver = r->pg->base.driver}, .result = result};
    tob_error err = r->count == 0 ? tob_pg_row_check(r->pg, result) : TOB_OK;
    if (!err) {
        r->count++;
        err = r->fn(r->user, &row.base);
    }
    return err;
}

static tob_error take_result(reading *r, const PGresult *result) {
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE: return take_row(r, result);
    case PGRES_TUPLES_OK: // after single rows: their end
        r->count += (uint64_t)PQntuples(result);
        return TOB_OK;
    case PGRES_COMMAND_OK:
        r->count = strtoull(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10);
        return TOB_OK;
    default: return tob_pg_refused(r->pg, result);
    }
}

tob_error tob_pg_run(tob_sql *sql, const char *statement, const tob_sql_value *params, size_t count,
                     tob_sql_row_fn fn, void *user, uint64_t *ret_count) {
    tob_pg *pg = (tob_pg *)sql;
    reading r = {.pg = pg, .fn = fn, .user = user};
    char name[TOB_PG_NAME_BYTES];
    PGresult *result = NULL;
    tob_error waiting = TOB_OK, err = tob_pg_ready(pg);
    if (!err) {
        err = tob_pg_prepare(pg, statement, params, count, name);
    }
    if (!err) {
        err = tob_pg_send(pg, name, params, count);
    }
    if (err) {
        return err;
    }
    if (fn) {
        PQsetSingleRowMode(pg->link.conn); // all at once if it can't: as good
    }
    // The rows after an error are read and thrown away: the connection is still of use.
    while (pg->link.conn && !(waiting = tob_pg_next_result(&pg->link, &result)) && result) {
        if (!err) {
            err = take_result(&r, result);
        }
        PQclear(result);
    }
    if (waiting) {
        tob_error lost = tob_pg_lost(pg, waiting);
        return err ? err : lost;
    }
    *ret_count = r.count;
    return err;
}
