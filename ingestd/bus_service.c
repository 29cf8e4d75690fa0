#include "ingestd/bus_service.h"

#include "ingestd/process_table.h"

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_committer_snapshot(service->committer, call, (const Tobogganing__V1__SnapshotRequest *)request);
    }
}

static void on_report(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (!tob_door_open(&service->door, call)) {
        return;
    }
    const Tobogganing__V1__Process *process = (const Tobogganing__V1__Process *)request;
    if (process->id <= TOB_PROCESS_RETIRED) {
        tob_rpc_fail(call, TOB_INVALID, 0, "id: must be random, not %d", (int)process->id);
        return;
    }
    tob_committer_report(service->committer, call, process);
}

tob_error tob_bus_service_register(tob_bus_service *service, tob_rpc_server *server) {
    tob_error err =
        tob_rpc_server_add(server, &tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot, service);
    return err ? err
               : tob_rpc_server_add(server, &tobogganing__v1__processes__descriptor, "Report", on_report,
                                    service);
}
