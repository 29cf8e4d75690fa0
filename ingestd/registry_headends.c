#include "ingestd/registry_headends.h"

#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clusters.h"

static tob_error no_such_headend(tob_registry *registry, const char *id) {
    tob_registry_say(registry, "no such headend: %s", id);
    return TOB_NOT_FOUND;
}

static tob_error see_cluster(void *user, const tob_registry_cluster *cluster) {
    (void)user, (void)cluster;
    return TOB_OK;
}

// Looked at before the foreign key is, so that the problem says what was not found.
static tob_error check_cluster(tob_registry *registry, const char *id) {
    return *id ? tob_registry_get_cluster(registry, id, see_cluster, NULL) : TOB_OK;
}

tob_error tob_registry_add_headend(tob_registry *registry, const tob_registry_headend *headend) {
    static const char statement[] = "INSERT INTO headends (id, name, cluster_id, created_unix_ms, change) "
                                    "VALUES ($1, $2, $3, $4, $5)";
    tob_sql_value params[] = {tob_sql_text(headend->id), tob_sql_text(headend->name),
                              tob_sql_text_or_null(headend->cluster_id),
                              tob_sql_integer(headend->created_unix_ms),
                              tob_sql_integer(tob_registry_change(registry))};
    tob_error err = check_cluster(registry, headend->cluster_id);
    if (!err) {
        err = tob_sql_run(tob_registry_sql(registry), statement, params, 5, NULL, NULL, NULL);
    }
    if (!err) {
        err = tob_registry_drop_deletion(registry, "headend", headend->id);
    }
    return err ? err : tob_registry_audit(registry, "headend.add", headend->id, headend->cluster_id);
}

// Carries out a statement that changes the one row of a headend.
static tob_error change_headend(tob_registry *registry, const char *id, const char *statement,
                                const tob_sql_value *params, size_t count) {
    uint64_t changed = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, count, NULL, NULL, &changed);
    return !err && changed == 0 ? no_such_headend(registry, id) : err;
}

typedef struct headend_update {
    const tob_registry_headend *headend;
    char changed[TOB_REGISTRY_DETAIL_BYTES];
} headend_update;

static tob_error see_before(void *user, const tob_registry_headend *before) {
    headend_update *update = user;
    tob_registry_detail_changed(update->changed, "name", before->name, update->headend->name);
    tob_registry_detail_changed(update->changed, "cluster_id", before->cluster_id,
                                update->headend->cluster_id);
    return TOB_OK;
}

tob_error tob_registry_update_headend(tob_registry *registry, const tob_registry_headend *headend) {
    static const char statement[] =
        "UPDATE headends SET name = $1, cluster_id = $2, change = $3 WHERE id = $4";
    tob_sql_value params[] = {tob_sql_text(headend->name), tob_sql_text_or_null(headend->cluster_id),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(headend->id)};
    headend_update update = {.headend = headend};
    tob_error err = tob_registry_get_headend(registry, headend->id, see_before, &update);
    if (!err) {
        err = check_cluster(registry, headend->cluster_id);
    }
    if (!err) {
        err = change_headend(registry, headend->id, statement, params, 4);
    }
    return err ? err : tob_registry_audit(registry, "headend.update", headend->id, update.changed);
}

tob_error tob_registry_revoke_headend(tob_registry *registry, const char *id) {
    static const char statement[] =
        "UPDATE headends SET revoked_unix_ms = coalesce(revoked_unix_ms, $1), change = $2 WHERE id = $3";
    tob_sql_value params[] = {tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    uint32_t certificates = 0;
    tob_error err = change_headend(registry, id, statement, params, 3);
    if (!err) {
        err = tob_registry_revoke_certificates_of(registry, "headend", id, "privilege_withdrawn",
                                                  &certificates);
    }
    return err ? err : tob_registry_audit(registry, "headend.revoke", id, "");
}

tob_error tob_registry_revoke_headend_tokens(tob_registry *registry, const char *id,
                                             uint64_t not_before_unix_s) {
    // Never back: a clock that was set back must not make revoked tokens good again.
    static const char statement[] =
        "UPDATE headends SET tokens_not_before_unix_s = CASE WHEN tokens_not_before_unix_s > $1 "
        "THEN tokens_not_before_unix_s ELSE $1 END, change = $2 WHERE id = $3";
    tob_sql_value params[] = {tob_sql_integer(not_before_unix_s),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    tob_error err = change_headend(registry, id, statement, params, 3);
    return err ? err : tob_registry_audit(registry, "headend.revoke_tokens", id, "");
}

tob_error tob_registry_delete_headend(tob_registry *registry, const char *id) {
    static const char statement[] = "DELETE FROM headends WHERE id = $1";
    tob_sql_value params[] = {tob_sql_text(id)};
    uint32_t certificates = 0;
    tob_error err = change_headend(registry, id, statement, params, 1);
    if (!err) {
        err = tob_registry_revoke_certificates_of(registry, "headend", id, "cessation_of_operation",
                                                  &certificates);
    }
    if (!err) {
        err = tob_registry_note_deletion(registry, &(tob_registry_deletion){.kind = "headend", .id = id});
    }
    return err ? err : tob_registry_audit(registry, "headend.delete", id, "");
}

typedef struct headend_reading {
    tob_registry_headend_fn fn;
    void *user;
} headend_reading;

static tob_error see_headend(void *user, const tob_sql_row *row) {
    const headend_reading *reading = user;
    tob_registry_headend headend = {.id = tob_sql_row_text(row, 0),
                                    .name = tob_sql_row_text(row, 1),
                                    .cluster_id = tob_sql_row_text(row, 2),
                                    .created_unix_ms = tob_sql_row_integer(row, 3),
                                    .revoked_unix_ms = tob_sql_row_integer(row, 4),
                                    .tokens_not_before_unix_s = tob_sql_row_integer(row, 5),
                                    .region = tob_sql_row_text(row, 6),
                                    .datacenter = tob_sql_row_text(row, 7),
                                    .cluster_revoked = tob_sql_row_integer(row, 8) != 0};
    return reading->fn(reading->user, &headend);
}

#define HEADENDS                                                                                             \
    "SELECT h.id, h.name, h.cluster_id, h.created_unix_ms, h.revoked_unix_ms, h.tokens_not_before_unix_s, "  \
    "c.region, c.datacenter, c.revoked_unix_ms FROM headends AS h "                                          \
    "LEFT JOIN clusters AS c ON c.id = h.cluster_id"

tob_error tob_registry_list_headends(tob_registry *registry, const char *after, uint32_t max,
                                     tob_registry_headend_fn fn, void *user) {
    static const char statement[] = HEADENDS " WHERE h.id > $1 ORDER BY h.id LIMIT $2";
    headend_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(after), tob_sql_integer(max)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 2, see_headend, &reading, NULL);
}

tob_error tob_registry_get_headend(tob_registry *registry, const char *id, tob_registry_headend_fn fn,
                                   void *user) {
    static const char statement[] = HEADENDS " WHERE h.id = $1";
    headend_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(id)};
    uint64_t rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_headend, &reading, &rows);
    return !err && rows == 0 ? no_such_headend(registry, id) : err;
}

tob_error tob_registry_changed_headends(tob_registry *registry, uint64_t since, tob_registry_headend_fn fn,
                                        void *user) {
    static const char statement[] = HEADENDS " WHERE h.change > $1";
    headend_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_integer(since)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_headend, &reading, NULL);
}
