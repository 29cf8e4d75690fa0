// Clients and their keys in the registry. Threads and errors: registry.h.
#ifndef TOB_INGESTD_REGISTRY_CLIENTS_H
#define TOB_INGESTD_REGISTRY_CLIENTS_H

#include "ingestd/registry.h"

// Strings are never NULL; "" is none. Borrowed, for the call.
typedef struct tob_registry_client {
    const char *id;
    const char *name;
    const char *type;
    const char *cluster_id;
    const char *public_key;
    const char *location;
    uint8_t key_hash[TOB_SHA256_BYTES]; // SHA-256 of the newest API key
    uint64_t created_unix_ms;
    // Filled when read, ignored when added:
    uint64_t revoked_unix_ms; // 0: not revoked
    uint32_t key_generation;
    uint64_t key_created_unix_ms;
    uint8_t previous_key_hash[TOB_SHA256_BYTES];
    uint64_t previous_key_expires_unix_ms; // 0: there is no key before
} tob_registry_client;

typedef tob_error (*tob_registry_client_fn)(void *user, const tob_registry_client *client);

// In a change. TOB_ALREADY_EXISTS the id; TOB_NOT_FOUND the cluster; TOB_PRECONDITION when the cluster is revoked.
TOB_MUST_USE tob_error tob_registry_add_client(tob_registry *registry, const tob_registry_client *client);
// In a change: replaces name, type, cluster_id, public_key and location. TOB_NOT_FOUND the client or the cluster: the
// problem says which; TOB_PRECONDITION when it would move to a revoked cluster.
TOB_MUST_USE tob_error tob_registry_update_client(tob_registry *registry, const tob_registry_client *client);
// In a change. The key before is good until `previous_expires_unix_ms` (0: it is not). TOB_NOT_FOUND; TOB_PRECONDITION for a
// revoked client.
TOB_MUST_USE tob_error tob_registry_rotate_client_key(tob_registry *registry, const char *id,
                                                      const uint8_t key_hash[TOB_SHA256_BYTES],
                                                      uint64_t previous_expires_unix_ms);
// In a change: ends the overlap. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_previous_key(tob_registry *registry, const char *id);
// In a change; its certificates are revoked too. One that is revoked keeps its time. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_client(tob_registry *registry, const char *id);
// In a change; its keys go with it, and its certificates are revoked. When it is erased only their serials and times are kept,
// for the revocation list.
//   erase   its reports are to leave the journal too; of a client that was deleted before, the deletion is marked
// TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_delete_client(tob_registry *registry, const char *id, bool erase);

// In a change: all or none.
//   skip_existing   leave out those whose id is registered; else TOB_ALREADY_EXISTS
//   on_existing     called with each id that is left out or in the way, at most 1 000; may be NULL
//   ret_added       may be NULL
// Errors: TOB_NOT_FOUND and TOB_PRECONDITION a cluster, that does not exist or is revoked: the problem names it.
typedef void (*tob_registry_id_fn)(void *user, const char *id);
TOB_MUST_USE tob_error tob_registry_import_clients(tob_registry *registry, const tob_registry_client *clients,
                                                   size_t count, bool skip_existing,
                                                   tob_registry_id_fn on_existing, void *user,
                                                   uint64_t *ret_added);

// In the byte order of ids: at most `max` rows after the id `after` ("": from the first).
TOB_MUST_USE tob_error tob_registry_list_clients(tob_registry *registry, const char *after, uint32_t max,
                                                 tob_registry_client_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_get_client(tob_registry *registry, const char *id,
                                               tob_registry_client_fn fn, void *user); // TOB_NOT_FOUND
// Those that changed after change `since`.
TOB_MUST_USE tob_error tob_registry_changed_clients(tob_registry *registry, uint64_t since,
                                                    tob_registry_client_fn fn, void *user);

#endif
