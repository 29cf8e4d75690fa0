#include "ingestd/bus_service.h"

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_committer_snapshot(service->committer, call, (const Tobogganing__V1__SnapshotRequest *)request);
    }
}

static void on_replay(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_replayer_call(service->replayer, call, (const Tobogganing__V1__ReplayRequest *)request);
    }
}

static void on_commit(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_committer_commit(service->committer, call, (const Tobogganing__V1__CommitRequest *)request);
    }
}

static void on_list_consumers(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request; // has no fields
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_committer_list_consumers(service->committer, call);
    }
}

static void on_forget_consumer(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    tob_bus_service *service = user;
    if (tob_door_open(&service->door, call)) {
        tob_committer_forget(service->committer, call,
                             (const Tobogganing__V1__ForgetConsumerRequest *)request);
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
    const struct {
        const ProtobufCServiceDescriptor *service;
        const char *method;
        tob_rpc_handler handler;
    } methods[] = {
        {&tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot},
        {&tobogganing__v1__bus__descriptor, "Replay", on_replay},
        {&tobogganing__v1__bus__descriptor, "Commit", on_commit},
        {&tobogganing__v1__bus__descriptor, "ListConsumers", on_list_consumers},
        {&tobogganing__v1__bus__descriptor, "ForgetConsumer", on_forget_consumer},
        {&tobogganing__v1__processes__descriptor, "Report", on_report},
    };
    tob_error err = TOB_OK;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]) && !err; i++) {
        err = tob_rpc_server_add(server, methods[i].service, methods[i].method, methods[i].handler, service);
    }
    return err;
}
