#include "ingestd/health_service.h"

#include "tobogganing/v1/health.pb-c.h"

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request; // has no fields
    const tob_health_service *service = user;
    tob_committer_stats stats;
    tob_committer_get_stats(service->committer, &stats);
    Tobogganing__V1__Position end = TOBOGGANING__V1__POSITION__INIT;
    end.segment = stats.journal_end.segment;
    end.offset = stats.journal_end.offset;
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = stats.journal_failing
                          ? TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_NOT_SERVING
                          : TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    response.reason = (char *)(stats.journal_failing ? "the journal can't be written" : "");
    response.version = (char *)TOB_VERSION;
    response.instance = service->instance;
    response.epoch = stats.epoch;
    response.started_unix_ms = service->started_unix_ms;
    response.clusters = tob_directory_clusters(service->directory);
    response.clients = tob_directory_clients(service->directory);
    response.headends = tob_directory_headends(service->directory);
    response.reporting_clients = stats.reporting_clients;
    response.reporting_headends = stats.reporting_headends;
    response.stored_samples = stats.stored_samples;
    response.rejected_series = tob_ingest_service_rejected(service->ingest);
    response.commits = stats.commits;
    response.journal_end = &end;
    response.journal_bytes = stats.journal_bytes;
    tob_rpc_reply(call, &response.base);
}

tob_error tob_health_service_register(tob_health_service *service, tob_rpc_server *server) {
    return tob_rpc_server_add(server, &tobogganing__v1__health__descriptor, "Check", on_check, service);
}
