// The services that processes of ours use: Bus (snapshots) and Processes (counters), behind the cluster
// token.
//
// Threads: calls come on NNG's.
#ifndef TOB_INGESTD_BUS_SERVICE_H
#define TOB_INGESTD_BUS_SERVICE_H

#include "ingestd/committer.h"
#include "ingestd/door.h"
#include "rpc/server.h"

typedef struct tob_bus_service {
    tob_committer *committer; // borrowed
    tob_door door;
} tob_bus_service;

// `service` is borrowed and must outlive the server.
TOB_MUST_USE tob_error tob_bus_service_register(tob_bus_service *service, tob_rpc_server *server);

#endif
