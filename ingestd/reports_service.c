#include "ingestd/reports_service.h"

#include <string.h>

#include "tobogganing/v1/reports.pb-c.h"

#include "util/text.h"

static void on_last(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_reports_service *service = user;
    const Tobogganing__V1__LastRequest *request = (const Tobogganing__V1__LastRequest *)message;
    bool client = *request->client_id != 0;
    const char *id = client ? request->client_id : request->headend_id;
    if (client == (*request->headend_id != 0)) {
        tob_rpc_fail(call, TOB_INVALID, 0, "client_id, headend_id: must be one of the two");
        return;
    }
    if (!tob_id_valid(id, strlen(id))) {
        tob_rpc_fail(call, TOB_INVALID, 0, "%s: must be 1-128 bytes of [A-Za-z0-9._:-]",
                     client ? "client_id" : "headend_id");
        return;
    }
    tob_claim claim = {.id = id, .credential = request->credential};
    if (client) {
        tob_credentials_clients(service->credentials, call, &claim, 1);
    } else {
        tob_credentials_headends(service->credentials, call, &claim, 1);
    }
    if (claim.error) {
        tob_rpc_fail(call, claim.error, claim.retry_after_ms, "%s", claim.reason);
        return;
    }
    tob_committer_last(service->committer, call, client ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND, id);
}

tob_error tob_reports_service_register(tob_reports_service *service, tob_rpc_server *server) {
    return tob_rpc_server_add(server, &tobogganing__v1__reports__descriptor, "Last", on_last, service);
}
