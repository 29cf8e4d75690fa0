// EraseClient: a client leaves the registry, the fleet and the journal. Inside the services only.
//
// Threads: the worker's.
#ifndef TOB_INGESTD_CLIENT_ERASE_H
#define TOB_INGESTD_CLIENT_ERASE_H

#include <stddef.h>
#include <stdint.h>

#include "ingestd/registry_methods.h"
#include "util/text.h"

#define TOB_ERASED_MAX 256 // whose fleet rows are remembered; the oldest make room

// How many fleet rows went with an erased client: nobody else knows later, when the caller asks again how far it is.
struct tob_erased {
    struct {
        char client_id[TOB_MAX_ID_BYTES + 1];
        uint32_t fleet_rows;
    } rows[TOB_ERASED_MAX];
    size_t next;
};

void tob_erase_client(tob_registry_call *call, const ProtobufCMessage *request);

#endif
