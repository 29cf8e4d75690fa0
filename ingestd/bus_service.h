// The services that processes of ours use: Bus (snapshots, replays, consumers) and Processes (counters), behind the cluster
// token.
//
// Threads: calls come on NNG's.
#ifndef TOB_INGESTD_BUS_SERVICE_H
#define TOB_INGESTD_BUS_SERVICE_H

#include "ingestd/committer.h"
#include "ingestd/door.h"
#include "ingestd/replayer.h"
#include "rpc/server.h"

typedef struct tob_bus_service {
    tob_committer *committer; // borrowed
    tob_replayer *replayer;   // likewise
    tob_door door;
} tob_bus_service;

// `service` is borrowed and must outlive the server.
TOB_MUST_USE tob_error tob_bus_service_register(tob_bus_service *service, tob_rpc_server *server);

#endif
