// Headends in the registry. Threads and errors: registry.h.
#ifndef TOB_INGESTD_REGISTRY_HEADENDS_H
#define TOB_INGESTD_REGISTRY_HEADENDS_H

#include "ingestd/registry.h"

// Strings are never NULL; "" is none. Borrowed, for the call.
typedef struct tob_registry_headend {
    const char *id;
    const char *name;
    const char *cluster_id;
    uint64_t created_unix_ms;
    // Filled when read, ignored when added:
    uint64_t revoked_unix_ms; // 0: not revoked
    uint64_t tokens_not_before_unix_s;
    const char *region; // of its cluster
    const char *datacenter;
    bool cluster_revoked;
} tob_registry_headend;

typedef tob_error (*tob_registry_headend_fn)(void *user, const tob_registry_headend *headend);

// In a change. TOB_ALREADY_EXISTS the id; TOB_NOT_FOUND the cluster.
TOB_MUST_USE tob_error tob_registry_add_headend(tob_registry *registry, const tob_registry_headend *headend);
// In a change: replaces name and cluster_id. TOB_NOT_FOUND the headend or the cluster: the problem says which.
TOB_MUST_USE tob_error tob_registry_update_headend(tob_registry *registry,
                                                   const tob_registry_headend *headend);
// In a change; its certificates are revoked too. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_headend(tob_registry *registry, const char *id);
// In a change: tokens issued before are refused. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_headend_tokens(tob_registry *registry, const char *id,
                                                          uint64_t not_before_unix_s);
// In a change; its certificates are revoked. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_delete_headend(tob_registry *registry, const char *id);

// As those of clients.
TOB_MUST_USE tob_error tob_registry_list_headends(tob_registry *registry, const char *after, uint32_t max,
                                                  tob_registry_headend_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_get_headend(tob_registry *registry, const char *id,
                                                tob_registry_headend_fn fn, void *user); // TOB_NOT_FOUND
TOB_MUST_USE tob_error tob_registry_changed_headends(tob_registry *registry, uint64_t since,
                                                     tob_registry_headend_fn fn, void *user);

#endif
