#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/registry_backend.h"

void tob_registry_say(tob_registry_problem *problem, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
}

tob_error tob_registry_open(const char *url, tob_registry **ret, tob_registry_problem *ret_problem) {
    static const char sqlite[] = "sqlite:";
    size_t n = sizeof(sqlite) - 1;
    if (strncmp(url, sqlite, n) == 0 && url[n]) {
        return tob_registry_sqlite_open(url + n, ret, ret_problem);
    }
    // The URL is not repeated: of another kind, it may hold a password.
    tob_registry_say(ret_problem, "the registry's URL must be sqlite:PATH");
    return TOB_INVALID;
}

void tob_registry_close(tob_registry *registry) {
    if (registry) {
        registry->backend->close(registry);
    }
}

const char *tob_registry_last_problem(const tob_registry *registry) {
    return registry->problem.text;
}

tob_error tob_registry_add_cluster(tob_registry *registry, const tob_registry_cluster *cluster) {
    return registry->backend->add_cluster(registry, cluster);
}

tob_error tob_registry_add_client(tob_registry *registry, const tob_registry_client *client) {
    return registry->backend->add_client(registry, client);
}

tob_error tob_registry_add_headend(tob_registry *registry, const tob_registry_headend *headend) {
    return registry->backend->add_headend(registry, headend);
}

tob_error tob_registry_revoke_client(tob_registry *registry, const char *id, uint64_t now_unix_ms) {
    return registry->backend->revoke_client(registry, id, now_unix_ms);
}

tob_error tob_registry_delete_client(tob_registry *registry, const char *id) {
    return registry->backend->delete_client(registry, id);
}

tob_error tob_registry_delete_headend(tob_registry *registry, const char *id) {
    return registry->backend->delete_headend(registry, id);
}

tob_error tob_registry_list_clusters(tob_registry *registry, const char *after, uint32_t max,
                                     tob_registry_cluster_fn fn, void *user) {
    return registry->backend->list_clusters(registry, after, max, fn, user);
}

tob_error tob_registry_list_clients(tob_registry *registry, const char *after, uint32_t max,
                                    tob_registry_client_fn fn, void *user) {
    return registry->backend->list_clients(registry, after, max, fn, user);
}

tob_error tob_registry_list_headends(tob_registry *registry, const char *after, uint32_t max,
                                     tob_registry_headend_fn fn, void *user) {
    return registry->backend->list_headends(registry, after, max, fn, user);
}

tob_error tob_registry_get_client(tob_registry *registry, const char *id, tob_registry_client_fn fn,
                                  void *user) {
    return registry->backend->get_client(registry, id, fn, user);
}

tob_error tob_registry_get_headend(tob_registry *registry, const char *id, tob_registry_headend_fn fn,
                                   void *user) {
    return registry->backend->get_headend(registry, id, fn, user);
}

tob_directory_client tob_registry_directory_client(const tob_registry_client *client) {
    tob_directory_client row = {.id = client->id,
                                .name = client->name,
                                .type = client->type,
                                .revoked = client->revoked_unix_ms != 0};
    memcpy(row.key_hash, client->key_hash, sizeof(row.key_hash));
    return row;
}

tob_directory_headend tob_registry_directory_headend(const tob_registry_headend *headend) {
    return (tob_directory_headend){.id = headend->id,
                                   .name = headend->name,
                                   .region = headend->region,
                                   .datacenter = headend->datacenter};
}

static tob_error load_cluster(void *user, const tob_registry_cluster *cluster) {
    (void)cluster;
    tob_directory_count_cluster(user);
    return TOB_OK;
}

static tob_error load_client(void *user, const tob_registry_client *client) {
    tob_directory_client row = tob_registry_directory_client(client);
    return tob_directory_put_client(user, &row);
}

static tob_error load_headend(void *user, const tob_registry_headend *headend) {
    tob_directory_headend row = tob_registry_directory_headend(headend);
    return tob_directory_put_headend(user, &row);
}

tob_error tob_registry_load(tob_registry *registry, tob_directory *directory) {
    tob_error err = tob_registry_list_clusters(registry, "", UINT32_MAX, load_cluster, directory);
    if (!err) {
        err = tob_registry_list_clients(registry, "", UINT32_MAX, load_client, directory);
    }
    if (!err) {
        err = tob_registry_list_headends(registry, "", UINT32_MAX, load_headend, directory);
    }
    return err;
}
