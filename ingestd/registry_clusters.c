#include "ingestd/registry_clusters.h"

#include "ingestd/registry_certificates.h"
#include "util/text.h"

const char *tob_registry_cluster_status(const tob_registry_cluster *cluster, uint64_t now_unix_ms) {
    if (cluster->revoked_unix_ms) {
        return "revoked";
    }
    bool silent = cluster->heartbeat_unix_ms && now_unix_ms > cluster->heartbeat_unix_ms &&
                  now_unix_ms - cluster->heartbeat_unix_ms > TOB_CLUSTER_SILENT_MS;
    return silent ? "silent" : "active";
}

static tob_error no_such_cluster(tob_registry *registry, const char *id) {
    tob_registry_say(registry, "no such cluster: %s", id);
    return TOB_NOT_FOUND;
}

tob_error tob_registry_add_cluster(tob_registry *registry, const tob_registry_cluster *cluster) {
    static const char statement[] =
        "INSERT INTO clusters (id, name, region, datacenter, headend_url, created_unix_ms, change) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)";
    tob_sql_value params[] = {tob_sql_text(cluster->id),
                              tob_sql_text(cluster->name),
                              tob_sql_text(cluster->region),
                              tob_sql_text(cluster->datacenter),
                              tob_sql_text(cluster->headend_url),
                              tob_sql_integer(cluster->created_unix_ms),
                              tob_sql_integer(tob_registry_change(registry))};
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, 7, NULL, NULL, NULL);
    if (!err) {
        err = tob_registry_drop_deletion(registry, "cluster", cluster->id);
    }
    return err ? err : tob_registry_audit(registry, "cluster.add", cluster->id, "");
}

// Who has its headends in memory has their region, datacenter and whether they are let in from the cluster.
static tob_error mark_headends(tob_registry *registry, const char *id) {
    static const char statement[] = "UPDATE headends SET change = $1 WHERE cluster_id = $2";
    tob_sql_value params[] = {tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 2, NULL, NULL, NULL);
}

// Carries out a statement that changes the one row of a cluster.
static tob_error change_cluster(tob_registry *registry, const char *id, const char *statement,
                                const tob_sql_value *params, size_t count) {
    uint64_t changed = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, count, NULL, NULL, &changed);
    return !err && changed == 0 ? no_such_cluster(registry, id) : err;
}

typedef struct cluster_update {
    const tob_registry_cluster *cluster;
    char changed[TOB_REGISTRY_DETAIL_BYTES];
} cluster_update;

static tob_error see_before(void *user, const tob_registry_cluster *before) {
    cluster_update *update = user;
    tob_registry_detail_changed(update->changed, "name", before->name, update->cluster->name);
    tob_registry_detail_changed(update->changed, "region", before->region, update->cluster->region);
    tob_registry_detail_changed(update->changed, "datacenter", before->datacenter,
                                update->cluster->datacenter);
    tob_registry_detail_changed(update->changed, "headend_url", before->headend_url,
                                update->cluster->headend_url);
    return TOB_OK;
}

tob_error tob_registry_update_cluster(tob_registry *registry, const tob_registry_cluster *cluster) {
    static const char statement[] = "UPDATE clusters SET name = $1, region = $2, datacenter = $3, "
                                    "headend_url = $4, change = $5 WHERE id = $6";
    tob_sql_value params[] = {tob_sql_text(cluster->name),
                              tob_sql_text(cluster->region),
                              tob_sql_text(cluster->datacenter),
                              tob_sql_text(cluster->headend_url),
                              tob_sql_integer(tob_registry_change(registry)),
                              tob_sql_text(cluster->id)};
    cluster_update update = {.cluster = cluster};
    tob_error err = tob_registry_get_cluster(registry, cluster->id, see_before, &update);
    if (!err) {
        err = change_cluster(registry, cluster->id, statement, params, 6);
    }
    if (!err) {
        err = mark_headends(registry, cluster->id);
    }
    return err ? err : tob_registry_audit(registry, "cluster.update", cluster->id, update.changed);
}

tob_error tob_registry_revoke_cluster(tob_registry *registry, const char *id) {
    static const char statement[] =
        "UPDATE clusters SET revoked_unix_ms = coalesce(revoked_unix_ms, $1), change = $2 WHERE id = $3";
    tob_sql_value params[] = {tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    uint32_t certificates = 0;
    tob_error err = change_cluster(registry, id, statement, params, 3);
    if (!err) {
        err = mark_headends(registry, id);
    }
    if (!err) {
        err = tob_registry_revoke_certificates_of(registry, "headend", id, "privilege_withdrawn",
                                                  &certificates);
    }
    return err ? err : tob_registry_audit(registry, "cluster.revoke", id, "");
}

static tob_error see_nothing(void *user, const tob_sql_row *row) {
    (void)user, (void)row;
    return TOB_OK;
}

static tob_error refuse_members(tob_registry *registry, const char *id, const char *statement,
                                const char *whose) {
    tob_sql_value params[] = {tob_sql_text(id)};
    uint64_t rows = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_nothing, NULL, &rows);
    if (!err && rows > 0) {
        tob_registry_say(registry, "%s belong to cluster %s", whose, id);
        err = TOB_PRECONDITION;
    }
    return err;
}

tob_error tob_registry_delete_cluster(tob_registry *registry, const char *id) {
    static const char clients[] = "SELECT id FROM clients WHERE cluster_id = $1 LIMIT 1";
    static const char headends[] = "SELECT id FROM headends WHERE cluster_id = $1 LIMIT 1";
    static const char statement[] = "DELETE FROM clusters WHERE id = $1";
    tob_sql_value params[] = {tob_sql_text(id)};
    uint32_t certificates = 0;
    tob_error err = refuse_members(registry, id, clients, "clients");
    if (!err) {
        err = refuse_members(registry, id, headends, "headends");
    }
    if (!err) {
        err = change_cluster(registry, id, statement, params, 1);
    }
    if (!err) {
        err = tob_registry_revoke_certificates_of(registry, "headend", id, "cessation_of_operation",
                                                  &certificates);
    }
    if (!err) {
        err = tob_registry_note_deletion(registry, &(tob_registry_deletion){.kind = "cluster", .id = id});
    }
    return err ? err : tob_registry_audit(registry, "cluster.delete", id, "");
}

static tob_error see_integer(void *user, const tob_sql_row *row) {
    *(uint64_t *)user = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

// TOB_NOT_FOUND; TOB_PRECONDITION for a revoked one.
static tob_error check_cluster(tob_registry *registry, const char *id) {
    static const char statement[] = "SELECT revoked_unix_ms FROM clusters WHERE id = $1";
    tob_sql_value params[] = {tob_sql_text(id)};
    uint64_t revoked_unix_ms = 0, rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_integer, &revoked_unix_ms, &rows);
    if (err) {
        return err;
    }
    if (rows == 0) {
        return no_such_cluster(registry, id);
    }
    if (revoked_unix_ms) {
        tob_registry_say(registry, "cluster %s is revoked", id);
        return TOB_PRECONDITION;
    }
    return TOB_OK;
}

tob_error tob_registry_heartbeat_cluster(tob_registry *registry, const char *id, uint64_t client_count,
                                         uint64_t now_unix_ms) {
    static const char statement[] = "UPDATE clusters SET heartbeat_unix_ms = $1, client_count = $2 "
                                    "WHERE id = $3 AND revoked_unix_ms IS NULL";
    tob_sql_value params[] = {tob_sql_integer(now_unix_ms), tob_sql_integer(client_count), tob_sql_text(id)};
    uint64_t changed = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, 3, NULL, NULL, &changed);
    return !err && changed == 0 ? check_cluster(registry, id) : err;
}

tob_error tob_registry_join_cluster(tob_registry *registry, const char *id, uint64_t more) {
    static const char statement[] =
        "UPDATE clusters SET registered_clients = registered_clients + $1 WHERE id = $2";
    tob_sql_value params[] = {tob_sql_integer(more), tob_sql_text(id)};
    tob_error err = check_cluster(registry, id);
    return err ? err : change_cluster(registry, id, statement, params, 2);
}

tob_error tob_registry_leave_cluster(tob_registry *registry, const char *id, uint64_t fewer) {
    static const char statement[] =
        "UPDATE clusters SET registered_clients = registered_clients - $1 WHERE id = $2";
    tob_sql_value params[] = {tob_sql_integer(fewer), tob_sql_text(id)};
    return change_cluster(registry, id, statement, params, 2);
}

typedef struct cluster_reading {
    tob_registry_cluster_fn fn;
    void *user;
} cluster_reading;

static tob_error see_cluster(void *user, const tob_sql_row *row) {
    const cluster_reading *reading = user;
    tob_registry_cluster cluster = {.id = tob_sql_row_text(row, 0),
                                    .name = tob_sql_row_text(row, 1),
                                    .region = tob_sql_row_text(row, 2),
                                    .datacenter = tob_sql_row_text(row, 3),
                                    .headend_url = tob_sql_row_text(row, 4),
                                    .created_unix_ms = tob_sql_row_integer(row, 5),
                                    .revoked_unix_ms = tob_sql_row_integer(row, 6),
                                    .heartbeat_unix_ms = tob_sql_row_integer(row, 7),
                                    .client_count = tob_sql_row_integer(row, 8),
                                    .registered_clients = tob_sql_row_integer(row, 9)};
    return reading->fn(reading->user, &cluster);
}

#define CLUSTERS                                                                                             \
    "SELECT id, name, region, datacenter, headend_url, created_unix_ms, revoked_unix_ms, "                   \
    "heartbeat_unix_ms, client_count, registered_clients FROM clusters"

tob_error tob_registry_list_clusters(tob_registry *registry, const char *after, uint32_t max,
                                     tob_registry_cluster_fn fn, void *user) {
    static const char statement[] = CLUSTERS " WHERE id > $1 ORDER BY id LIMIT $2";
    cluster_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(after), tob_sql_integer(max)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 2, see_cluster, &reading, NULL);
}

tob_error tob_registry_get_cluster(tob_registry *registry, const char *id, tob_registry_cluster_fn fn,
                                   void *user) {
    static const char statement[] = CLUSTERS " WHERE id = $1";
    cluster_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(id)};
    uint64_t rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_cluster, &reading, &rows);
    return !err && rows == 0 ? no_such_cluster(registry, id) : err;
}

tob_error tob_registry_count_clusters(tob_registry *registry, uint64_t *ret) {
    static const char statement[] = "SELECT count(*) FROM clusters WHERE revoked_unix_ms IS NULL";
    return tob_sql_run(tob_registry_sql(registry), statement, NULL, 0, see_integer, ret, NULL);
}

tob_error tob_registry_clusters_changed(tob_registry *registry, uint64_t since, bool *ret) {
    static const char statement[] = "SELECT id FROM clusters WHERE change > $1 LIMIT 1";
    tob_sql_value params[] = {tob_sql_integer(since)};
    uint64_t rows = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_nothing, NULL, &rows);
    if (!err) {
        *ret = rows > 0;
    }
    return err;
}

// ASCII only, as lower() does it in both databases.
static void lower_case(const char *text, char ret[TOB_MAX_NAME_BYTES + 1]) {
    size_t n = 0;
    for (; text[n] && n < TOB_MAX_NAME_BYTES; n++) {
        ret[n] = text[n] >= 'A' && text[n] <= 'Z' ? (char)(text[n] - 'A' + 'a') : text[n];
    }
    ret[n] = 0;
}

tob_error tob_registry_place_client(tob_registry *registry, const char *location, uint64_t now_unix_ms,
                                    tob_registry_cluster_fn fn, void *user) {
    // With a location of NULL the comparisons are NULL too, and so all are alike.
    static const char statement[] =
        CLUSTERS " WHERE revoked_unix_ms IS NULL AND headend_url <> '' "
                 "AND (heartbeat_unix_ms = 0 OR heartbeat_unix_ms >= $1) "
                 "ORDER BY CASE WHEN lower(region) = $2 OR lower(datacenter) = $2 THEN 0 ELSE 1 END, "
                 "registered_clients, id LIMIT 1";
    cluster_reading reading = {.fn = fn, .user = user};
    char lower[TOB_MAX_NAME_BYTES + 1];
    lower_case(location, lower);
    uint64_t heard_since = now_unix_ms > TOB_CLUSTER_SILENT_MS ? now_unix_ms - TOB_CLUSTER_SILENT_MS : 0;
    tob_sql_value params[] = {tob_sql_integer(heard_since), tob_sql_text_or_null(lower)};
    uint64_t rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 2, see_cluster, &reading, &rows);
    if (!err && rows == 0) {
        tob_registry_say(registry, "no active cluster has a headend_url");
        err = TOB_NOT_FOUND;
    }
    return err;
}
