// tob_registry is the durable list of who may report: clusters, clients and headends, in a database that a
// URL chooses: "sqlite:PATH". It checks what the database can check (unique ids, existing clusters); fields
// are checked by the service before.
//
// Threads: one at a time. Calls block on the database: never from an RPC callback.
// Errors:  TOB_BUSY another process has the database; TOB_IO the disk; TOB_DAMAGED not a database, or a
//          broken one; TOB_NO_MEMORY; TOB_INTERNAL anything else the database says. tob_registry_last_problem tells
//          more.
#ifndef TOB_INGESTD_REGISTRY_H
#define TOB_INGESTD_REGISTRY_H

#include <stdint.h>

#include "ingestd/directory.h"
#include "util/error.h"
#include "util/secret.h"

typedef struct tob_registry tob_registry;

// Strings are never NULL; "" is none. Borrowed, for the call.
typedef struct tob_registry_cluster {
    const char *id;
    const char *name;
    const char *region;
    const char *datacenter;
    const char *headend_url;
    uint64_t created_unix_ms;
} tob_registry_cluster;

typedef struct tob_registry_client {
    const char *id;
    const char *name;
    const char *type;
    const char *cluster_id;
    uint8_t key_hash[TOB_SHA256_BYTES];
    uint64_t created_unix_ms;
    uint64_t revoked_unix_ms; // 0: not revoked
} tob_registry_client;

typedef struct tob_registry_headend {
    const char *id;
    const char *name;
    const char *cluster_id;
    const char *region;     // of its cluster: filled when read, ignored when added
    const char *datacenter; // likewise
    uint64_t created_unix_ms;
} tob_registry_headend;

// A failure, for a person: which database and why.
typedef struct tob_registry_problem {
    char text[512];
} tob_registry_problem;

// tob_registry_open opens or makes the database (mode 0600) and brings its schema up to date.
//   ret           owned by the caller; free with tob_registry_close
//   ret_problem   filled on an error
// Errors: TOB_INVALID for the URL; TOB_PRECONDITION when a newer version of this program made the schema.
TOB_MUST_USE tob_error tob_registry_open(const char *url, tob_registry **ret,
                                         tob_registry_problem *ret_problem);
void tob_registry_close(tob_registry *registry);

// tob_registry_last_problem: the text of the last call that failed.
const char *tob_registry_last_problem(const tob_registry *registry);

// Adding is durable on return. Errors: TOB_ALREADY_EXISTS the id; TOB_NOT_FOUND the cluster.
TOB_MUST_USE tob_error tob_registry_add_cluster(tob_registry *registry, const tob_registry_cluster *cluster);
TOB_MUST_USE tob_error tob_registry_add_client(tob_registry *registry, const tob_registry_client *client);
TOB_MUST_USE tob_error tob_registry_add_headend(tob_registry *registry, const tob_registry_headend *headend);

// tob_registry_revoke_client is durable on return; one that is revoked keeps its time. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_client(tob_registry *registry, const char *id,
                                                  uint64_t now_unix_ms);

// Deleting is durable on return; a client's key goes with it. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_delete_client(tob_registry *registry, const char *id);
TOB_MUST_USE tob_error tob_registry_delete_headend(tob_registry *registry, const char *id);

// Called for each row, which is borrowed; an error ends the reading and is returned.
typedef tob_error (*tob_registry_cluster_fn)(void *user, const tob_registry_cluster *cluster);
typedef tob_error (*tob_registry_client_fn)(void *user, const tob_registry_client *client);
typedef tob_error (*tob_registry_headend_fn)(void *user, const tob_registry_headend *headend);

// Reading, in the byte order of ids: at most `max` rows after the id `after` ("": from the first).
TOB_MUST_USE tob_error tob_registry_list_clusters(tob_registry *registry, const char *after, uint32_t max,
                                                  tob_registry_cluster_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_list_clients(tob_registry *registry, const char *after, uint32_t max,
                                                 tob_registry_client_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_list_headends(tob_registry *registry, const char *after, uint32_t max,
                                                  tob_registry_headend_fn fn, void *user);

// One row. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_get_client(tob_registry *registry, const char *id,
                                               tob_registry_client_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_get_headend(tob_registry *registry, const char *id,
                                                tob_registry_headend_fn fn, void *user);

// tob_registry_load puts everything into an empty directory.
TOB_MUST_USE tob_error tob_registry_load(tob_registry *registry, tob_directory *directory);

// What of a registered row the directory keeps; borrows the row's strings.
tob_directory_client tob_registry_directory_client(const tob_registry_client *client);
tob_directory_headend tob_registry_directory_headend(const tob_registry_headend *headend);

#endif
