#include <assert.h>
#include <string.h>

#include "ingestd/registry.h"

// Notes of what was deleted, for those who have it in memory and for those who have to erase it.

typedef struct deletion_reading {
    tob_registry_deletion_fn fn;
    void *user;
} deletion_reading;

static tob_error see_deletion(void *user, const tob_sql_row *row) {
    const deletion_reading *reading = user;
    tob_registry_deletion deletion = {.kind = tob_sql_row_text(row, 0),
                                      .id = tob_sql_row_text(row, 1),
                                      .deleted_unix_ms = tob_sql_row_integer(row, 2),
                                      .erase = tob_sql_row_integer(row, 3) != 0,
                                      .certificates = (uint32_t)tob_sql_row_integer(row, 4),
                                      .change = tob_sql_row_integer(row, 5)};
    return reading->fn(reading->user, &deletion);
}

#define DELETIONS "SELECT kind, id, deleted_unix_ms, erase, certificates, change FROM deletions"

tob_error tob_registry_deletions(tob_registry *registry, uint64_t since, tob_registry_deletion_fn fn,
                                 void *user) {
    static const char statement[] = DELETIONS " WHERE change > $1 ORDER BY change, kind, id";
    deletion_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_integer(since)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_deletion, &reading, NULL);
}

tob_error tob_registry_get_deletion(tob_registry *registry, const char *kind, const char *id,
                                    tob_registry_deletion_fn fn, void *user) {
    static const char statement[] = DELETIONS " WHERE kind = $1 AND id = $2";
    deletion_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(kind), tob_sql_text(id)};
    uint64_t rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 2, see_deletion, &reading, &rows);
    if (!err && rows == 0) {
        tob_registry_say(registry, "no such %s was deleted: %s", kind, id);
        err = TOB_NOT_FOUND;
    }
    return err;
}

static tob_error see_greatest(void *user, const tob_sql_row *row) {
    uint64_t *greatest = user, change = tob_sql_row_integer(row, 0);
    *greatest = change > *greatest ? change : *greatest;
    return TOB_OK;
}

// Who knows less than what is dropped here can't find out any more what was deleted, and has to read everything.
static tob_error forget_old(tob_registry *registry) {
    // A headend's note keeps the tokens refused that it had, should its id be registered again: it stays as long as one may
    // be good.
    static const char drop[] = "DELETE FROM deletions WHERE deleted_unix_ms < $1 AND "
                               "(kind <> 'headend' OR deleted_unix_ms < $2) RETURNING change";
    static const char remember[] = "UPDATE registry_state SET forgotten = $1 WHERE id = 1 AND forgotten < $1";
    uint64_t now_unix_ms = tob_registry_now(registry), greatest = 0;
    if (now_unix_ms <= TOB_REGISTRY_FORGET_MS) {
        return TOB_OK;
    }
    uint64_t headends =
        now_unix_ms > TOB_REGISTRY_FORGET_HEADEND_MS ? now_unix_ms - TOB_REGISTRY_FORGET_HEADEND_MS : 0;
    tob_sql_value old[] = {tob_sql_integer(now_unix_ms - TOB_REGISTRY_FORGET_MS), tob_sql_integer(headends)};
    tob_error err = tob_sql_run(tob_registry_sql(registry), drop, old, 2, see_greatest, &greatest, NULL);
    if (err || greatest == 0) {
        return err;
    }
    tob_sql_value forgotten[] = {tob_sql_integer(greatest)};
    return tob_sql_run(tob_registry_sql(registry), remember, forgotten, 1, NULL, NULL, NULL);
}

tob_error tob_registry_note_deletion(tob_registry *registry, const tob_registry_deletion *deletion) {
    static const char statement[] =
        "INSERT INTO deletions (kind, id, deleted_unix_ms, erase, certificates, change) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, id) DO UPDATE SET "
        "deleted_unix_ms = excluded.deleted_unix_ms, change = excluded.change, "
        "certificates = deletions.certificates + excluded.certificates, "
        "erase = CASE WHEN deletions.erase = 1 THEN 1 ELSE excluded.erase END";
    tob_sql_value params[] = {tob_sql_text(deletion->kind),
                              tob_sql_text(deletion->id),
                              tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_integer(deletion->erase ? 1 : 0),
                              tob_sql_integer(deletion->certificates),
                              tob_sql_integer(tob_registry_change(registry))};
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, 6, NULL, NULL, NULL);
    return err ? err : forget_old(registry);
}

tob_error tob_registry_drop_deletion(tob_registry *registry, const char *kind, const char *id) {
    static const char statement[] = "DELETE FROM deletions WHERE kind = $1 AND id = $2 AND erase = 0";
    tob_sql_value params[] = {tob_sql_text(kind), tob_sql_text(id)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 2, NULL, NULL, NULL);
}
