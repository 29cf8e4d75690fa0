#include "ingestd/registry_kind.h"

#include "ingestd/registry_fields.h"
#include "util/log.h"

void tob_kind_get(tob_registry_call *call, const tob_registry_kind *kind, const char *id) {
    const ProtobufCMessage *row = NULL;
    if (!tob_field_id(call->call, kind->id_field, id)) {
        return;
    }
    tob_error err = kind->read(call, id, &row);
    if (err) {
        tob_registry_call_fail(call, err, kind->id_field, kind->name);
        return;
    }
    tob_rpc_reply(call->call, row);
}

// False: answered.
static bool change(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                   tob_registry_act act, const char *event, const ProtobufCMessage **ret_row) {
    if (!tob_field_id(call->call, kind->id_field, id) || !tob_registry_call_begin(call)) {
        return false;
    }
    tob_error err = act(call->service->registry, id);
    if (!err && ret_row) {
        err = kind->read(call, id, ret_row);
    }
    if (!tob_registry_call_end(call, err, kind->id_field, kind->name)) {
        return false;
    }
    tob_info(event, TOB_STR(kind->id_field, id));
    return true;
}

void tob_kind_act(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                  tob_registry_act act, const char *event) {
    const ProtobufCMessage *row = NULL;
    if (change(call, kind, id, act, event, &row)) {
        tob_rpc_reply(call->call, row);
    }
}

void tob_kind_delete(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                     tob_registry_act act, const char *event, tob_source_kind source) {
    if (change(call, kind, id, act, event, NULL)) {
        tob_committer_remove(call->service->committer, call->call, source, id);
    }
}

bool tob_kind_end(tob_registry_call *call, const tob_registry_kind *kind, tob_error err) {
    if (err == TOB_PRECONDITION) {
        tob_registry_call_refuse(call, err, "cluster_id: the cluster is revoked");
        return false;
    }
    if (err == TOB_NOT_FOUND) {
        return tob_registry_call_end(call, err, "cluster_id", "cluster");
    }
    return tob_registry_call_end(call, err, kind->id_field, kind->name);
}

void tob_kind_end_update(tob_registry_call *call, const tob_registry_kind *kind, const char *id,
                         tob_error err, const char *event) {
    const ProtobufCMessage *row = NULL;
    if (!err) {
        err = kind->read(call, id, &row);
    }
    if (tob_kind_end(call, kind, err)) {
        tob_info(event, TOB_STR(kind->id_field, id));
        tob_rpc_reply(call->call, row);
    }
}
