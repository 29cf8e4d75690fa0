#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"

#define MAX_TOLD 1000 // ids that were left out or in the way

// Many clients in one change. They are looked at in the order of their ids, beside the ids that are registered, so that one
// pass over these finds all that are taken.
typedef struct importing {
    tob_registry *registry;
    const tob_registry_client **clients; // in the order of ids; what is left out is taken from it
    size_t count;
    size_t looked_at; // by the pass
    size_t kept;
    size_t existing;
    tob_registry_id_fn on_existing;
    void *user;
} importing;

static int by_id(const void *a, const void *b) {
    const tob_registry_client *const *left = a, *const *right = b;
    return strcmp((*left)->id, (*right)->id);
}

static int by_cluster(const void *a, const void *b) {
    const tob_registry_client *const *left = a, *const *right = b;
    return strcmp((*left)->cluster_id, (*right)->cluster_id);
}

static void leave_out(importing *i, const char *id) {
    if (i->on_existing && i->existing < MAX_TOLD) {
        i->on_existing(i->user, id);
    }
    i->existing++;
}

// Keeps those whose ids come before `id` (NULL: all that are left), and leaves out those that have it. Of several with one id
// the first is kept.
static void look_up_to(importing *i, const char *id) {
    while (i->looked_at < i->count) {
        const tob_registry_client *client = i->clients[i->looked_at];
        int order = id ? strcmp(client->id, id) : -1;
        if (order > 0) {
            return;
        }
        i->looked_at++;
        if (order == 0 || (i->kept > 0 && strcmp(i->clients[i->kept - 1]->id, client->id) == 0)) {
            leave_out(i, client->id);
        } else {
            i->clients[i->kept++] = client;
        }
    }
}

static tob_error see_id(void *user, const tob_sql_row *row) {
    look_up_to(user, tob_sql_row_text(row, 0));
    return TOB_OK;
}

static tob_error find_existing(importing *i) {
    static const char statement[] = "SELECT id FROM clients WHERE id >= $1 AND id <= $2 ORDER BY id";
    tob_sql_value params[] = {tob_sql_text(i->clients[0]->id), tob_sql_text(i->clients[i->count - 1]->id)};
    tob_error err = tob_sql_run(tob_registry_sql(i->registry), statement, params, 2, see_id, i, NULL);
    if (!err) {
        look_up_to(i, NULL);
    }
    return err;
}

static tob_error join_clusters(importing *i) {
    qsort(i->clients, i->kept, sizeof(i->clients[0]), by_cluster);
    tob_error err = TOB_OK;
    for (size_t from = 0, to = 0; from < i->kept && !err; from = to) {
        const char *id = i->clients[from]->cluster_id;
        while (to < i->kept && strcmp(i->clients[to]->cluster_id, id) == 0) {
            to++;
        }
        err = *id ? tob_registry_join_cluster(i->registry, id, to - from) : TOB_OK;
    }
    return err;
}

static tob_error next_client(void *user, size_t row, tob_sql_value *ret_params) {
    const importing *i = user;
    const tob_registry_client *client = i->clients[row];
    ret_params[0] = tob_sql_text(client->id);
    ret_params[1] = tob_sql_text(client->name);
    ret_params[2] = tob_sql_text(client->type);
    ret_params[3] = tob_sql_text_or_null(client->cluster_id);
    ret_params[4] = tob_sql_text(client->public_key);
    ret_params[5] = tob_sql_text(client->location);
    ret_params[6] = tob_sql_blob(client->key_hash, sizeof(client->key_hash));
    ret_params[7] = tob_sql_integer(client->created_unix_ms);
    ret_params[8] = tob_sql_integer(client->created_unix_ms);
    ret_params[9] = tob_sql_integer(tob_registry_change(i->registry));
    return TOB_OK;
}

// The rows, and what follows from them: the notes of deletions, as tob_registry_drop_deletion does it, and the audit line.
static tob_error add_rows(importing *i) {
    static const char add[] =
        "INSERT INTO clients (id, name, type, cluster_id, public_key, location, key_hash, created_unix_ms, "
        "key_created_unix_ms, change) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    static const char drop_notes[] = "DELETE FROM deletions WHERE kind = 'client' AND erase = 0 AND id IN "
                                     "(SELECT id FROM clients WHERE change = $1)";
    tob_sql_value change[] = {tob_sql_integer(tob_registry_change(i->registry))};
    char detail[128];
    snprintf(detail, sizeof(detail), "%zu added, %zu left out", i->kept, i->existing);
    qsort(i->clients, i->kept, sizeof(i->clients[0]), by_id);
    tob_error err = tob_sql_run_many(tob_registry_sql(i->registry), add, 10, i->kept, next_client, i, NULL);
    if (!err) {
        err = tob_sql_run(tob_registry_sql(i->registry), drop_notes, change, 1, NULL, NULL, NULL);
    }
    return err ? err : tob_registry_audit(i->registry, "client.import", "", detail);
}

tob_error tob_registry_import_clients(tob_registry *registry, const tob_registry_client *clients,
                                      size_t count, bool skip_existing, tob_registry_id_fn on_existing,
                                      void *user, uint64_t *ret_added) {
    tob_error err = TOB_OK;
    importing i = {.registry = registry, .count = count, .on_existing = on_existing, .user = user};
    i.clients = calloc(count ? count : 1, sizeof(i.clients[0]));
    if (!i.clients) {
        return TOB_NO_MEMORY;
    }
    for (size_t n = 0; n < count; n++) {
        i.clients[n] = &clients[n];
    }
    qsort(i.clients, count, sizeof(i.clients[0]), by_id);
    if (count > 0) {
        err = find_existing(&i);
    }
    if (!err && i.existing > 0 && !skip_existing) {
        tob_registry_say(registry, "%zu of the ids are registered, or occur twice", i.existing);
        err = TOB_ALREADY_EXISTS;
    }
    if (!err) {
        err = join_clusters(&i);
    }
    if (!err) {
        err = add_rows(&i);
    }
    if (!err && ret_added) {
        *ret_added = i.kept;
    }
    free(i.clients);
    return err;
}
