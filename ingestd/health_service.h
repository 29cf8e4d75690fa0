// The Health service: what ingestd knows of itself. Needs no credential, answers at once.
//
// Threads: calls come on NNG's.
#ifndef TOB_INGESTD_HEALTH_SERVICE_H
#define TOB_INGESTD_HEALTH_SERVICE_H

#include <stdint.h>

#include "ingestd/checkpointer.h"
#include "ingestd/committer.h"
#include "ingestd/directory.h"
#include "ingestd/ingest_service.h"
#include "ingestd/registry_sync.h"
#include "rpc/server.h"

typedef struct tob_health_service {
    tob_committer *committer; // borrowed, like the others
    tob_checkpointer *checkpointer;
    tob_directory *directory;
    tob_ingest_service *ingest;
    const tob_rpc_server *server;
    const tob_arena_budget *request_memory;
    const tob_registry_sync *sync;
    const char *registry_engine; // static text
    uint64_t instance;
    uint64_t started_unix_ms;
} tob_health_service;

// `service` is borrowed and must outlive the server.
TOB_MUST_USE tob_error tob_health_service_register(tob_health_service *service, tob_rpc_server *server);

#endif
