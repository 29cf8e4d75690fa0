// A registry's backend: one database engine. Inside the registry only.
#ifndef TOB_INGESTD_REGISTRY_BACKEND_H
#define TOB_INGESTD_REGISTRY_BACKEND_H

#include "ingestd/registry.h"

// The functions of registry.h, each for one engine; `registry` is the engine's own struct, which begins with
// struct tob_registry.
typedef struct tob_registry_backend {
    void (*close)(tob_registry *registry);
    tob_error (*add_cluster)(tob_registry *registry, const tob_registry_cluster *cluster);
    tob_error (*add_client)(tob_registry *registry, const tob_registry_client *client);
    tob_error (*add_headend)(tob_registry *registry, const tob_registry_headend *headend);
    tob_error (*revoke_client)(tob_registry *registry, const char *id, uint64_t now_unix_ms);
    tob_error (*delete_client)(tob_registry *registry, const char *id);
    tob_error (*delete_headend)(tob_registry *registry, const char *id);
    tob_error (*list_clusters)(tob_registry *registry, const char *after, uint32_t max,
                               tob_registry_cluster_fn fn, void *user);
    tob_error (*list_clients)(tob_registry *registry, const char *after, uint32_t max,
                              tob_registry_client_fn fn, void *user);
    tob_error (*list_headends)(tob_registry *registry, const char *after, uint32_t max,
                               tob_registry_headend_fn fn, void *user);
    tob_error (*get_client)(tob_registry *registry, const char *id, tob_registry_client_fn fn, void *user);
    tob_error (*get_headend)(tob_registry *registry, const char *id, tob_registry_headend_fn fn, void *user);
} tob_registry_backend;

struct tob_registry {
    const tob_registry_backend *backend;
    tob_registry_problem problem;
};

void tob_registry_say(tob_registry_problem *problem, const char *format, ...) TOB_PRINTF(2, 3);

// path: of the database file.
TOB_MUST_USE tob_error tob_registry_sqlite_open(const char *path, tob_registry **ret,
                                                tob_registry_problem *ret_problem);

#endif
