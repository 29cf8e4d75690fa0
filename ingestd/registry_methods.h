// The methods of the Registry service, as the worker thread carries them out. Inside the service only.
//
// Threads: the worker's. Each answers its call exactly once.
#ifndef TOB_INGESTD_REGISTRY_METHODS_H
#define TOB_INGESTD_REGISTRY_METHODS_H

#include <stddef.h>

#include "ingestd/registry_service.h"

typedef const tob_registry_service_options *tob_registry_service_arg;

typedef struct tob_registry_method {
    const char *name;
    void (*carry_out)(tob_registry_service_arg service, tob_rpc_call *call, const ProtobufCMessage *request);
} tob_registry_method;

#define TOB_REGISTRY_METHOD_COUNT 10

extern const tob_registry_method tob_registry_methods[TOB_REGISTRY_METHOD_COUNT];

// Those of registry_lists.c.
void tob_registry_method_list_clusters(tob_registry_service_arg service, tob_rpc_call *call,
                                       const ProtobufCMessage *request);
void tob_registry_method_list_clients(tob_registry_service_arg service, tob_rpc_call *call,
                                      const ProtobufCMessage *request);
void tob_registry_method_list_headends(tob_registry_service_arg service, tob_rpc_call *call,
                                       const ProtobufCMessage *request);

// tob_registry_fail answers for a failed call of the registry. What the database says goes to the log, not to the
// caller.
//   id_field   the field that held the id
void tob_registry_fail(tob_registry_service_arg service, tob_rpc_call *call, tob_error err,
                       const char *id_field);

#endif
