// Rows of the registry as the messages that answers hold. Inside the services only.
//
// Threads: the worker's. Everything is in the call's arena.
// Errors:  those of the registry; the arena's.
#ifndef TOB_INGESTD_REGISTRY_ROWS_H
#define TOB_INGESTD_REGISTRY_ROWS_H

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"
#include "ingestd/registry_headends.h"
#include "ingestd/registry_methods.h"

// tob_read_* read the row of an id, also inside a change, and then as that has made it. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_read_client(tob_registry_call *call, const char *id,
                                       Tobogganing__V1__Client **ret);
TOB_MUST_USE tob_error tob_read_cluster(tob_registry_call *call, const char *id,
                                        Tobogganing__V1__Cluster **ret);
TOB_MUST_USE tob_error tob_read_headend(tob_registry_call *call, const char *id,
                                        Tobogganing__V1__Headend **ret);

// For lists: callbacks whose user is a tob_rows.
typedef struct tob_rows {
    tob_registry_page page;
    uint64_t now_unix_ms;
    bool with_key_hashes;
} tob_rows;

tob_error tob_rows_client(void *user, const tob_registry_client *client);
tob_error tob_rows_cluster(void *user, const tob_registry_cluster *cluster);
tob_error tob_rows_headend(void *user, const tob_registry_headend *headend);

// tob_rows_begin checks a list request, and begins its page. False: the call has been answered.
TOB_MUST_USE bool tob_rows_begin(tob_registry_call *call, const Tobogganing__V1__ListRequest *request,
                                 tob_rows *ret);

#endif
