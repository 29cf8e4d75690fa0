#include "ingestd/health_service.h"

#include "tobogganing/v1/health.pb-c.h"

#include "ingestd/positions.h"

typedef Tobogganing__V1__HealthCheckResponse health_response;

// Why submits are refused; NULL: they are not.
static const char *trouble(const tob_health_service *service, const tob_committer_stats *stats) {
    if (tob_committer_stalled(service->committer)) {
        return "the journal can't keep up";
    }
    return stats->journal_failing ? "the journal can't be written" : NULL;
}

static void fill_counts(const tob_health_service *service, const tob_committer_stats *stats,
                        health_response *response) {
    response->clusters = tob_directory_clusters(service->directory);
    response->clients = tob_directory_clients(service->directory);
    response->headends = tob_directory_headends(service->directory);
    response->reporting_clients = stats->reporting_clients;
    response->reporting_headends = stats->reporting_headends;
    response->stored_batches = stats->stored_batches;
    response->stored_samples = stats->stored_samples;
    response->repeated_batches = stats->repeated_batches;
    response->rejected_series = tob_ingest_service_rejected(service->ingest);
    response->commits = stats->commits;
    response->journal_bytes = stats->journal_bytes;
    response->request_memory_bytes = tob_arena_budget_used(service->request_memory);
    response->request_memory_max_bytes = service->request_memory->max_bytes;
    response->refused_calls = tob_rpc_server_refused(service->server);
}

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request; // has no fields
    const tob_health_service *service = user;
    tob_committer_stats stats;
    tob_checkpointer_stats checkpoint;
    tob_committer_get_stats(service->committer, &stats);
    tob_checkpointer_get_stats(service->checkpointer, &checkpoint);
    Tobogganing__V1__Position oldest = tob_position_message(stats.journal_oldest);
    Tobogganing__V1__Position end = tob_position_message(stats.journal_end);
    Tobogganing__V1__Position place = tob_position_message(checkpoint.at);
    health_response response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    const char *reason = trouble(service, &stats);
    response.status = reason ? TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_NOT_SERVING
                             : TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    response.reason = (char *)(reason ? reason : "");
    response.version = (char *)TOB_VERSION;
    response.instance = service->instance;
    response.epoch = stats.epoch;
    response.started_unix_ms = service->started_unix_ms;
    fill_counts(service, &stats, &response);
    response.journal_oldest = &oldest;
    response.journal_end = &end;
    response.registry = (char *)service->registry_engine;
    response.registry_away = tob_registry_sync_away(service->sync);
    response.checkpoint = checkpoint.at.segment ? &place : NULL;
    response.checkpoint_unix_ms = checkpoint.unix_ms;
    response.checkpoint_bytes = checkpoint.bytes;
    response.checkpoint_took_ms = checkpoint.took_ms;
    response.checkpoint_longest_pause_us = checkpoint.longest_pause_us;
    tob_rpc_reply(call, &response.base);
}

tob_error tob_health_service_register(tob_health_service *service, tob_rpc_server *server) {
    return tob_rpc_server_add(server, &tobogganing__v1__health__descriptor, "Check", on_check, service);
}
