#include <stdlib.h>
#include <string.h>

#include "sql/postgresql.h"

#define PIPELINE_ROWS                                                                                        \
    500 // between two waits; their answers, some 30 bytes each, fit into the socket's buffers

// The answers to what was sent up to the pipeline's synchronisation point.
static tob_error read_answers(tob_pg *pg, uint64_t *changed) {
    PGresult *result = NULL;
    tob_error err = TOB_OK;
    for (bool synced = false; !synced;) {
        tob_error waiting = tob_pg_next_result(&pg->link, &result);
        if (waiting) {
            return tob_pg_lost(pg, waiting);
        }
        if (!result) {
            continue; // the end of one statement's answers
        }
        switch (PQresultStatus(result)) {
        case PGRES_COMMAND_OK: *changed += strtoull(PQcmdTuples(result), NULL, 10); break;
        case PGRES_PIPELINE_SYNC: synced = true; break;
        case PGRES_PIPELINE_ABORTED: break; // follows the error
        default: err = err ? err : tob_pg_refused(pg, result); break;
        }
        PQclear(result);
        if (!pg->link.conn) {
            return err;
        }
    }
    return err;
}

typedef struct feeding {
    size_t count;
    size_t rows;
    tob_sql_next_fn next;
    void *user;
    size_t sent;
    tob_sql_value params[TOB_SQL_MAX_PARAMS]; // of the next row to send
} feeding;

static tob_error fetch(feeding *f) {
    memset(f->params, 0, sizeof(f->params));
    return f->sent < f->rows ? f->next(f->user, f->sent, f->params) : TOB_OK;
}

// Sends some rows. An error of `next` still sends the synchronisation point, so that the pipeline can be left.
static tob_error send_rows(tob_pg *pg, const char *name, feeding *f) {
    tob_error err = TOB_OK;
    for (size_t i = 0; !err && i < PIPELINE_ROWS && f->sent < f->rows; i++) {
        err = tob_pg_send(pg, name, f->params, f->count);
        f->sent++;
        if (!err) {
            err = fetch(f);
        }
    }
    if (pg->link.conn && !PQpipelineSync(pg->link.conn)) {
        return tob_pg_lost(pg, TOB_UNAVAILABLE);
    }
    return err;
}

static tob_error feed(tob_pg *pg, const char *name, feeding *f, uint64_t *ret_changed) {
    tob_error err = TOB_OK;
    if (!PQenterPipelineMode(pg->link.conn)) {
        return tob_pg_lost(pg, TOB_UNAVAILABLE);
    }
    while (!err && f->sent < f->rows) {
        err = send_rows(pg, name, f);
        if (pg->link.conn) {
            tob_error answered = read_answers(pg, ret_changed);
            err = err ? err : answered;
        }
    }
    if (pg->link.conn && !PQexitPipelineMode(pg->link.conn)) {
        tob_error lost = tob_pg_lost(pg, TOB_UNAVAILABLE);
        err = err ? err : lost;
    }
    return err;
}

tob_error tob_pg_run_many(tob_sql *sql, const char *statement, size_t count, size_t rows,
                          tob_sql_next_fn next, void *user, uint64_t *ret_changed) {
    tob_pg *pg = (tob_pg *)sql;
    feeding f = {.count = count, .rows = rows, .next = next, .user = user};
    char name[TOB_PG_NAME_BYTES];
    tob_error err = tob_pg_ready(pg);
    if (err || rows == 0) {
        return err;
    }
    err = fetch(&f); // the kinds are wanted before the first is sent
    if (!err) {
        err = tob_pg_prepare(pg, statement, f.params, count, name);
    }
    return err ? err : feed(pg, name, &f, ret_changed);
}
