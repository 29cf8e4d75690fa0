// What methods about clients, clusters and headends have in common: how a change of one is carried out and answered, by its id.
// Inside the services only.
//
// Threads: the worker's. Each answers its call, unless it says otherwise, exactly once.
#ifndef TOB_INGESTD_REGISTRY_KIND_H
#define TOB_INGESTD_REGISTRY_KIND_H

#include "ingestd/registry_methods.h"

typedef struct tob_registry_kind {
    const char *id_field; // "client_id"
    const char *name;     // "client"
    // The row of an id, in the call's arena; inside a change as that has made it. TOB_NOT_FOUND.
    tob_error (*read)(tob_registry_call *call, const char *id, const ProtobufCMessage **ret);
} tob_registry_kind;

// One that needs nothing but the id.
typedef tob_error (*tob_registry_act)(tob_registry *registry, const char *id);

// tob_kind_get answers with the row.
void tob_kind_get(tob_registry_call *call, const tob_registry_kind *kind, const char *id);

// tob_kind_act carries out `act` as one change, logs `event` and answers with the row.
void tob_kind_act(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                  tob_registry_act act, const char *event);

// tob_kind_delete does the same with a deletion; the committer, which owns the fleet's rows, has the last part: it answers.
void tob_kind_delete(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                     tob_registry_act act, const char *event, tob_source_kind source);

// tob_kind_end is tob_registry_call_end for a change of one that exists: what can be missing or revoked is its cluster.
TOB_MUST_USE bool tob_kind_end(tob_registry_call *call, const tob_registry_kind *kind, tob_error err);

// tob_kind_end_update ends an update that went like `err`, logs `event` and answers with the row.
void tob_kind_end_update(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                         tob_error err, const char *event);

#endif
