#include "ingestd/registry_clients.h"

#include <stdio.h>
#include <string.h>

#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clusters.h"
#include "util/text.h"

static tob_error no_such_client(tob_registry *registry, const char *id) {
    tob_registry_say(registry, "no such client: %s", id);
    return TOB_NOT_FOUND;
}

tob_error tob_registry_add_client(tob_registry *registry, const tob_registry_client *client) {
    static const char statement[] =
        "INSERT INTO clients (id, name, type, cluster_id, public_key, location, key_hash, created_unix_ms, "
        "key_created_unix_ms, change) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    tob_sql_value params[] = {tob_sql_text(client->id),
                              tob_sql_text(client->name),
                              tob_sql_text(client->type),
                              tob_sql_text_or_null(client->cluster_id),
                              tob_sql_text(client->public_key),
                              tob_sql_text(client->location),
                              tob_sql_blob(client->key_hash, sizeof(client->key_hash)),
                              tob_sql_integer(client->created_unix_ms),
                              tob_sql_integer(client->created_unix_ms),
                              tob_sql_integer(tob_registry_change(registry))};
    tob_error err = TOB_OK;
    if (*client->cluster_id) {
        err = tob_registry_join_cluster(registry, client->cluster_id, 1);
    }
    if (!err) {
        err = tob_sql_run(tob_registry_sql(registry), statement, params, 10, NULL, NULL, NULL);
    }
    if (!err) {
        err = tob_registry_drop_deletion(registry, "client", client->id);
    }
    return err ? err : tob_registry_audit(registry, "client.add", client->id, client->cluster_id);
}

// Carries out a statement that changes the one row of a client.
static tob_error change_client(tob_registry *registry, const char *id, const char *statement,
                               const tob_sql_value *params, size_t count) {
    uint64_t changed = 0;
    tob_error err = tob_sql_run(tob_registry_sql(registry), statement, params, count, NULL, NULL, &changed);
    return !err && changed == 0 ? no_such_client(registry, id) : err;
}

// A client as it is before a change: which cluster counts it.
typedef struct client_before {
    char cluster_id[TOB_MAX_ID_BYTES + 1];
    bool revoked;
    const tob_registry_client *after; // of an update, else NULL
    char changed[TOB_REGISTRY_DETAIL_BYTES];
} client_before;

static tob_error see_before(void *user, const tob_registry_client *client) {
    client_before *before = user;
    snprintf(before->cluster_id, sizeof(before->cluster_id), "%s", client->cluster_id);
    before->revoked = client->revoked_unix_ms != 0;
    const tob_registry_client *after = before->after;
    if (after) {
        tob_registry_detail_changed(before->changed, "name", client->name, after->name);
        tob_registry_detail_changed(before->changed, "type", client->type, after->type);
        tob_registry_detail_changed(before->changed, "cluster_id", client->cluster_id, after->cluster_id);
        tob_registry_detail_changed(before->changed, "public_key", client->public_key, after->public_key);
        tob_registry_detail_changed(before->changed, "location", client->location, after->location);
    }
    return TOB_OK;
}

// A client that is not revoked any more or not there any more belongs to no cluster's count.
static tob_error leave_cluster(tob_registry *registry, const client_before *before) {
    if (before->revoked || !*before->cluster_id) {
        return TOB_OK;
    }
    return tob_registry_leave_cluster(registry, before->cluster_id, 1);
}

tob_error tob_registry_update_client(tob_registry *registry, const tob_registry_client *client) {
    static const char statement[] = "UPDATE clients SET name = $1, type = $2, cluster_id = $3, "
                                    "public_key = $4, location = $5, change = $6 WHERE id = $7";
    tob_sql_value params[] = {tob_sql_text(client->name),
                              tob_sql_text(client->type),
                              tob_sql_text_or_null(client->cluster_id),
                              tob_sql_text(client->public_key),
                              tob_sql_text(client->location),
                              tob_sql_integer(tob_registry_change(registry)),
                              tob_sql_text(client->id)};
    client_before before = {.after = client};
    tob_error err = tob_registry_get_client(registry, client->id, see_before, &before);
    bool moves = !err && strcmp(before.cluster_id, client->cluster_id) != 0;
    if (moves && *client->cluster_id) {
        err = tob_registry_join_cluster(registry, client->cluster_id, before.revoked ? 0 : 1);
    }
    if (!err && moves) {
        err = leave_cluster(registry, &before);
    }
    if (!err) {
        err = change_client(registry, client->id, statement, params, 7);
    }
    return err ? err : tob_registry_audit(registry, "client.update", client->id, before.changed);
}

tob_error tob_registry_rotate_client_key(tob_registry *registry, const char *id,
                                         const uint8_t key_hash[TOB_SHA256_BYTES],
                                         uint64_t previous_expires_unix_ms) {
    // Both engines compute from the row as it was.
    static const char with_overlap[] =
        "UPDATE clients SET previous_key_hash = key_hash, previous_key_expires_unix_ms = $1, key_hash = $2, "
        "key_generation = key_generation + 1, key_created_unix_ms = $3, change = $4 WHERE id = $5";
    static const char at_once[] =
        "UPDATE clients SET previous_key_hash = NULL, previous_key_expires_unix_ms = NULL, key_hash = $1, "
        "key_generation = key_generation + 1, key_created_unix_ms = $2, change = $3 WHERE id = $4";
    bool overlap = previous_expires_unix_ms > 0;
    tob_sql_value params[] = {tob_sql_integer(previous_expires_unix_ms),
                              tob_sql_blob(key_hash, TOB_SHA256_BYTES),
                              tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    client_before before = {.after = NULL};
    tob_error err = tob_registry_get_client(registry, id, see_before, &before);
    if (!err && before.revoked) {
        tob_registry_say(registry, "client %s is revoked", id);
        err = TOB_PRECONDITION;
    }
    if (!err) {
        err = overlap ? change_client(registry, id, with_overlap, params, 5)
                      : change_client(registry, id, at_once, params + 1, 4);
    }
    return err ? err
               : tob_registry_audit(registry, "client.rotate_key", id,
                                    overlap ? "" : "the key before is refused at once");
}

tob_error tob_registry_revoke_previous_key(tob_registry *registry, const char *id) {
    static const char statement[] = "UPDATE clients SET previous_key_hash = NULL, "
                                    "previous_key_expires_unix_ms = NULL, change = $1 WHERE id = $2";
    tob_sql_value params[] = {tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    tob_error err = change_client(registry, id, statement, params, 2);
    return err ? err : tob_registry_audit(registry, "client.revoke_previous_key", id, "");
}

tob_error tob_registry_revoke_client(tob_registry *registry, const char *id) {
    static const char statement[] =
        "UPDATE clients SET revoked_unix_ms = coalesce(revoked_unix_ms, $1), change = $2 WHERE id = $3";
    tob_sql_value params[] = {tob_sql_integer(tob_registry_now(registry)),
                              tob_sql_integer(tob_registry_change(registry)), tob_sql_text(id)};
    client_before before = {.after = NULL};
    uint32_t certificates = 0;
    tob_error err = tob_registry_get_client(registry, id, see_before, &before);
    if (!err) {
        err = change_client(registry, id, statement, params, 3);
    }
    if (!err) {
        err = leave_cluster(registry, &before);
    }
    if (!err) {
        err =
            tob_registry_revoke_certificates_of(registry, "client", id, "privilege_withdrawn", &certificates);
    }
    return err ? err : tob_registry_audit(registry, "client.revoke", id, "");
}

static tob_error see_deletion(void *user, const tob_registry_deletion *deletion) {
    *(bool *)user = deletion->erase;
    return TOB_OK;
}

// Takes the client's row away, if it is there. Of one that was deleted before only the note is left; once that says erase,
// there is nothing more to do.
static tob_error take_away(tob_registry *registry, const char *id, bool erase, bool *ret_nothing_to_do) {
    static const char statement[] = "DELETE FROM clients WHERE id = $1";
    tob_sql_value params[] = {tob_sql_text(id)};
    client_before before = {.after = NULL};
    tob_error err = tob_registry_get_client(registry, id, see_before, &before);
    if (!err) {
        err = leave_cluster(registry, &before);
        return err ? err : change_client(registry, id, statement, params, 1);
    }
    if (err != TOB_NOT_FOUND || !erase) {
        return err;
    }
    err = tob_registry_get_deletion(registry, "client", id, see_deletion, ret_nothing_to_do);
    return err == TOB_NOT_FOUND ? no_such_client(registry, id) : err;
}

tob_error tob_registry_delete_client(tob_registry *registry, const char *id, bool erase) {
    bool nothing_to_do = false;
    uint32_t erased = 0, revoked = 0;
    tob_error err = take_away(registry, id, erase, &nothing_to_do);
    if (err || nothing_to_do) {
        return err;
    }
    err = erase ? tob_registry_erase_certificates_of(registry, "client", id, &erased)
                : tob_registry_revoke_certificates_of(registry, "client", id, "cessation_of_operation",
                                                      &revoked);
    if (!err) {
        tob_registry_deletion note = {.kind = "client", .id = id, .erase = erase, .certificates = erased};
        err = tob_registry_note_deletion(registry, &note);
    }
    return err ? err : tob_registry_audit(registry, erase ? "client.erase" : "client.delete", id, "");
}

typedef struct client_reading {
    tob_registry_client_fn fn;
    void *user;
} client_reading;

// False when it is there but no SHA-256.
static bool read_hash(const tob_sql_row *row, unsigned column, uint8_t ret[TOB_SHA256_BYTES]) {
    size_t size = 0;
    const void *hash = tob_sql_row_blob(row, column, &size);
    if (hash && size == TOB_SHA256_BYTES) {
        memcpy(ret, hash, TOB_SHA256_BYTES);
    }
    return !hash || size == TOB_SHA256_BYTES;
}

static tob_error see_client(void *user, const tob_sql_row *row) {
    const client_reading *reading = user;
    tob_registry_client client = {.id = tob_sql_row_text(row, 0),
                                  .name = tob_sql_row_text(row, 1),
                                  .type = tob_sql_row_text(row, 2),
                                  .cluster_id = tob_sql_row_text(row, 3),
                                  .public_key = tob_sql_row_text(row, 4),
                                  .location = tob_sql_row_text(row, 5),
                                  .created_unix_ms = tob_sql_row_integer(row, 6),
                                  .revoked_unix_ms = tob_sql_row_integer(row, 7),
                                  .key_generation = (uint32_t)tob_sql_row_integer(row, 8),
                                  .key_created_unix_ms = tob_sql_row_integer(row, 9),
                                  .previous_key_expires_unix_ms = tob_sql_row_integer(row, 10)};
    if (!read_hash(row, 11, client.key_hash) || !read_hash(row, 12, client.previous_key_hash)) {
        return TOB_DAMAGED;
    }
    return reading->fn(reading->user, &client);
}

#define CLIENTS                                                                                              \
    "SELECT id, name, type, cluster_id, public_key, location, created_unix_ms, revoked_unix_ms, "            \
    "key_generation, key_created_unix_ms, previous_key_expires_unix_ms, key_hash, previous_key_hash "        \
    "FROM clients"

tob_error tob_registry_list_clients(tob_registry *registry, const char *after, uint32_t max,
                                    tob_registry_client_fn fn, void *user) {
    static const char statement[] = CLIENTS " WHERE id > $1 ORDER BY id LIMIT $2";
    client_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(after), tob_sql_integer(max)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 2, see_client, &reading, NULL);
}

tob_error tob_registry_get_client(tob_registry *registry, const char *id, tob_registry_client_fn fn,
                                  void *user) {
    static const char statement[] = CLIENTS " WHERE id = $1";
    client_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_text(id)};
    uint64_t rows = 0;
    tob_error err =
        tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_client, &reading, &rows);
    return !err && rows == 0 ? no_such_client(registry, id) : err;
}

tob_error tob_registry_changed_clients(tob_registry *registry, uint64_t since, tob_registry_client_fn fn,
                                       void *user) {
    static const char statement[] = CLIENTS " WHERE change > $1";
    client_reading reading = {.fn = fn, .user = user};
    tob_sql_value params[] = {tob_sql_integer(since)};
    return tob_sql_run(tob_registry_sql(registry), statement, params, 1, see_client, &reading, NULL);
}
