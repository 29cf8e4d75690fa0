// tob_registry_door judges who calls a method of the registry's services, before the call waits for its turn. Inside the services
// only.
//
// Threads: any.
#ifndef TOB_INGESTD_REGISTRY_DOOR_H
#define TOB_INGESTD_REGISTRY_DOOR_H

#include <stdbool.h>

#include "ingestd/credentials.h"
#include "ingestd/door.h"
#include "ingestd/registry_methods.h"

typedef struct tob_registry_door {
    tob_door admins;
    tob_credentials *credentials; // borrowed
} tob_registry_door;

void tob_registry_door_init(tob_registry_door *door, const tob_registry_service_options *options);

// tob_registry_door_open fills in the call's actor, client_id and headend_id. False: the caller is not let in, and the call has
// been answered.
TOB_MUST_USE bool tob_registry_door_open(const tob_registry_door *door, tob_registry_access access,
                                         const ProtobufCMessage *request, tob_registry_call *call);

#endif
