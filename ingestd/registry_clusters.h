// Clusters in the registry. Threads and errors: registry.h.
#ifndef TOB_INGESTD_REGISTRY_CLUSTERS_H
#define TOB_INGESTD_REGISTRY_CLUSTERS_H

#include "ingestd/registry.h"

// Strings are never NULL; "" is none. Borrowed, for the call.
typedef struct tob_registry_cluster {
    const char *id;
    const char *name;
    const char *region;
    const char *datacenter;
    const char *headend_url;
    uint64_t created_unix_ms;
    // Filled when read, ignored when added:
    uint64_t revoked_unix_ms; // 0: not revoked
    uint64_t heartbeat_unix_ms;
    uint64_t client_count;
    uint64_t registered_clients;
} tob_registry_cluster;

typedef tob_error (*tob_registry_cluster_fn)(void *user, const tob_registry_cluster *cluster);

// "active", "silent" or "revoked".
const char *tob_registry_cluster_status(const tob_registry_cluster *cluster, uint64_t now_unix_ms);

// In a change. TOB_ALREADY_EXISTS.
TOB_MUST_USE tob_error tob_registry_add_cluster(tob_registry *registry, const tob_registry_cluster *cluster);
// In a change: replaces name, region, datacenter and headend_url; its headends are marked as changed too. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_update_cluster(tob_registry *registry,
                                                   const tob_registry_cluster *cluster);
// In a change; its headends are marked as changed, and the certificates of its id are revoked. One that is revoked keeps
// its time. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_cluster(tob_registry *registry, const char *id);
// In a change; the certificates of its id are revoked. TOB_NOT_FOUND; TOB_PRECONDITION while clients or headends belong to it.
TOB_MUST_USE tob_error tob_registry_delete_cluster(tob_registry *registry, const char *id);

// Without a change, and not in the audit log. TOB_NOT_FOUND; TOB_PRECONDITION for a revoked one.
TOB_MUST_USE tob_error tob_registry_heartbeat_cluster(tob_registry *registry, const char *id,
                                                      uint64_t client_count, uint64_t now_unix_ms);

// In the byte order of ids: at most `max` rows after the id `after` ("": from the first).
TOB_MUST_USE tob_error tob_registry_list_clusters(tob_registry *registry, const char *after, uint32_t max,
                                                  tob_registry_cluster_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_get_cluster(tob_registry *registry, const char *id,
                                                tob_registry_cluster_fn fn, void *user); // TOB_NOT_FOUND
// How many are not revoked, and whether one was added or changed after change `since`.
TOB_MUST_USE tob_error tob_registry_count_clusters(tob_registry *registry, uint64_t *ret);
TOB_MUST_USE tob_error tob_registry_clusters_changed(tob_registry *registry, uint64_t since, bool *ret);

// tob_registry_place_client chooses a cluster for a client at `location` ("": anywhere), as AddClientRequest.place says, and
// calls fn with it. TOB_NOT_FOUND when none fits.
TOB_MUST_USE tob_error tob_registry_place_client(tob_registry *registry, const char *location,
                                                 uint64_t now_unix_ms, tob_registry_cluster_fn fn,
                                                 void *user);

// For registry_clients.c, in a change: `more` clients, not revoked ones, belong to the cluster; `fewer` do not any more.
// Joining: TOB_NOT_FOUND; TOB_PRECONDITION for a revoked one.
TOB_MUST_USE tob_error tob_registry_join_cluster(tob_registry *registry, const char *id, uint64_t more);
TOB_MUST_USE tob_error tob_registry_leave_cluster(tob_registry *registry, const char *id, uint64_t fewer);

#endif
