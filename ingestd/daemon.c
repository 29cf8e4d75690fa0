#include "ingestd/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ingestd/bus_service.h"
#include "ingestd/checkpointer.h"
#include "ingestd/committer.h"
#include "ingestd/eraser.h"
#include "ingestd/health_service.h"
#include "ingestd/identity.h"
#include "ingestd/ingest_service.h"
#include "ingestd/instance.h"
#include "ingestd/registry_service.h"
#include "ingestd/replayer.h"
#include "ingestd/reports_service.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"
#include "wire/batch.h"

#define MAX_PATH_BYTES  4096

// A message holds at most an inflated body and its copies; an unpacked column takes up to 8 times its bytes.
#define MAX_ARENA_BYTES ((size_t)64 << 20)
#define ENVELOPE_BYTES  16384 // of a Request around its body

struct tob_ingestd {
    const tob_ingestd_settings *settings;
    tob_process *process;
    tob_identity identity;
    tob_arena_budget request_memory; // of all calls
    char journal_dir[MAX_PATH_BYTES];
    uint64_t instance;
    tob_committer *committer;
    tob_checkpointer *checkpointer;
    tob_replayer *replayer;
    tob_eraser *eraser;
    tob_ingest_service *ingest;
    tob_reports_service reports;
    tob_registry_service *registrar;
    tob_bus_service bus;
    tob_health_service health;
    tob_rpc_server *server;
};

static tob_error join_path(const char *dir, const char *name, char *to, tob_start_problem *p) {
    int n = snprintf(to, MAX_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= MAX_PATH_BYTES) {
        return tob_start_fail(p, TOB_INVALID, "state-dir", "the path is too long");
    }
    return TOB_OK;
}

static tob_error make_state_dir(const char *dir, tob_start_problem *p) {
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return tob_start_fail(p, TOB_IO, "state-dir", "can't make %s: %s", dir, strerror(errno));
    }
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return tob_start_fail(p, TOB_INVALID, "state-dir", "%s is not a directory", dir);
    }
    return TOB_OK;
}

static void log_recovery(tob_ingestd *d, const tob_store_recovery *recovery, uint64_t took_ms) {
    char checkpoint[64] = "none";
    tob_committer_stats stats;
    tob_committer_get_stats(d->committer, &stats);
    if (recovery->checkpoint.segment) {
        snprintf(checkpoint, sizeof(checkpoint), "%" PRIu64 ":%" PRIu64, recovery->checkpoint.segment,
                 recovery->checkpoint.offset);
    }
    tob_info("recovered", TOB_UINT("records", recovery->records),
             TOB_UINT("clients", stats.reporting_clients), TOB_UINT("headends", stats.reporting_headends),
             TOB_UINT("took_ms", took_ms), TOB_STR("checkpoint", checkpoint));
    if (recovery->cut_bytes) {
        tob_warn("journal_tail_cut", TOB_UINT("bytes", recovery->cut_bytes),
                 TOB_STR("reason", "the last write was not finished; nothing of it was acknowledged"));
    }
}

// Recovers. What is wrong with the files names the tool that helps.
static tob_error recover(tob_ingestd *d, tob_store_recovery *ret_recovery, tob_start_problem *p) {
    const tob_ingestd_settings *s = d->settings;
    uint64_t taken = s->rpc_contexts / 2;
    tob_committer_options options = {.store = {.journal = {.dir = d->journal_dir,
                                                           .segment_bytes = s->journal_segment_bytes,
                                                           .sync = s->journal_sync,
                                                           .sync_interval_ms = s->journal_sync_interval_ms},
                                               .retain_ms = s->journal_retain_ms,
                                               .retain_bytes = s->journal_retain_bytes},
                                     .bus_url = s->bus_listen,
                                     .instance = d->instance,
                                     .report_interval_ms = s->report_interval_ms,
                                     .max_taken = taken ? taken : 1,
                                     .request_memory = &d->request_memory,
                                     .directory = d->identity.directory,
                                     .expiries = d->identity.expiries,
                                     .process = d->process};
    tob_journal_problem why = {.text = ""};
    bool bus_failed = false;
    uint64_t before = tob_clock_monotonic_ms();
    tob_error err = tob_committer_new(&options, &d->committer, ret_recovery, &why, &bus_failed);
    if (err == TOB_DAMAGED) {
        return tob_start_fail(p, err, NULL, "%s; tobogganctl journal repair %s", why.text, d->journal_dir);
    }
    if (err) {
        return tob_start_fail(p, err, bus_failed ? "bus-listen" : NULL, "%s", why.text);
    }
    log_recovery(d, ret_recovery, tob_clock_monotonic_ms() - before);
    return TOB_OK;
}

// The threads beside the committer's.
static tob_error open_helpers(tob_ingestd *d, const tob_store_recovery *recovery, tob_start_problem *p) {
    const tob_ingestd_settings *s = d->settings;
    uint64_t waiting = s->rpc_contexts / 8;
    tob_checkpointer_options checkpointer = {.committer = d->committer,
                                             .journal_dir = d->journal_dir,
                                             .segment_bytes = s->journal_segment_bytes,
                                             .interval_ms = s->checkpoint_interval_ms,
                                             .bytes = s->checkpoint_bytes,
                                             .last = recovery->checkpoint,
                                             .last_bytes = recovery->checkpoint_bytes};
    tob_replayer_options replayer = {.committer = d->committer,
                                     .journal_dir = d->journal_dir,
                                     .segment_bytes = s->journal_segment_bytes,
                                     .instance = d->instance,
                                     .max_waiting = waiting ? waiting : 1};
    tob_error err = tob_checkpointer_new(&checkpointer, &d->checkpointer);
    if (!err) {
        err = tob_replayer_new(&replayer, &d->replayer);
    }
    if (!err) {
        const tob_eraser_options eraser = {.committer = d->committer,
                                           .checkpointer = d->checkpointer,
                                           .journal_dir = d->journal_dir,
                                           .state_dir = s->state_dir};
        err = tob_eraser_new(&eraser, &d->eraser);
    }
    return err ? tob_start_fail(p, err, "state-dir", "can't read %s: %s", d->journal_dir,
                                tob_error_string(err))
               : TOB_OK;
}

static tob_error open_committer(tob_ingestd *d, tob_start_problem *p) {
    const tob_ingestd_settings *s = d->settings;
    tob_store_recovery recovery = {0};
    tob_error err = join_path(s->state_dir, "journal", d->journal_dir, p);
    if (err) {
        return err;
    }
    err = tob_instance_load(s->state_dir, &d->instance);
    if (err) {
        return tob_start_fail(p, err, "state-dir", "can't read or make %s/instance: %s", s->state_dir,
                              tob_error_string(err));
    }
    tob_arena_budget_init(&d->request_memory, s->max_request_memory);
    err = recover(d, &recovery, p);
    return err ? err : open_helpers(d, &recovery, p);
}

static tob_error open_registrar(tob_ingestd *d) {
    const tob_identity *i = &d->identity;
    tob_registry_service_options options = {.registry = i->registry,
                                            .sync = i->sync,
                                            .directory = i->directory,
                                            .committer = d->committer,
                                            .eraser = d->eraser,
                                            .jwt = i->jwt,
                                            .ca = i->ca,
                                            .revocations = i->revocations,
                                            .limiter = i->limiter,
                                            .credentials = i->credentials,
                                            .admin_secrets = i->admin_secrets,
                                            .process = d->process};
    tob_error err = tob_registry_service_new(&options, &d->registrar);
    return err ? err : tob_registry_service_register(d->registrar, d->server);
}

static tob_error open_health(tob_ingestd *d) {
    d->health = (tob_health_service){.committer = d->committer,
                                     .checkpointer = d->checkpointer,
                                     .directory = d->identity.directory,
                                     .ingest = d->ingest,
                                     .server = d->server,
                                     .request_memory = &d->request_memory,
                                     .sync = d->identity.sync,
                                     .registry_engine = tob_registry_engine(d->identity.registry),
                                     .instance = d->instance,
                                     .started_unix_ms = tob_clock_unix_ms()};
    return tob_health_service_register(&d->health, d->server);
}

static tob_error open_ingest(tob_ingestd *d) {
    const tob_ingest_service_options options = {.committer = d->committer,
                                                .credentials = d->identity.credentials,
                                                .forwarder_secrets = d->identity.cluster_secrets};
    tob_error err = tob_ingest_service_new(&options, &d->ingest);
    if (!err) {
        err = tob_ingest_service_register(d->ingest, d->server);
    }
    if (!err) {
        d->reports = (tob_reports_service){.committer = d->committer, .credentials = d->identity.credentials};
        err = tob_reports_service_register(&d->reports, d->server);
    }
    return err;
}

static tob_error open_services(tob_ingestd *d) {
    const tob_ingestd_settings *s = d->settings;
    uint64_t half_memory = s->max_request_memory / 2;
    tob_rpc_server_options options = {.url = s->listen,
                                      .contexts = s->rpc_contexts,
                                      .max_connections = s->max_connections,
                                      .max_message_bytes = TOB_MAX_BATCH_BYTES + ENVELOPE_BYTES,
                                      .max_inflated_bytes = TOB_MAX_INFLATED_BYTES,
                                      .max_arena_bytes =
                                          half_memory < MAX_ARENA_BYTES ? half_memory : MAX_ARENA_BYTES,
                                      .budget = &d->request_memory,
                                      .forwarder_secrets = d->identity.cluster_secrets};
    tob_error err = tob_rpc_server_new(&options, &d->server);
    if (!err) {
        err = open_ingest(d);
    }
    if (!err) {
        err = open_registrar(d);
    }
    if (!err) {
        d->bus.committer = d->committer;
        d->bus.replayer = d->replayer;
        tob_door_init(&d->bus.door, d->identity.cluster_secrets, "CLUSTER_TOKEN", "cluster",
                      d->identity.limiter, d->process);
        err = tob_bus_service_register(&d->bus, d->server);
    }
    return err ? err : open_health(d);
}

tob_error tob_ingestd_new(const tob_ingestd_settings *settings, tob_ingestd **ret,
                          tob_start_problem *problem) {
    (void)!tob_start_fail(problem, TOB_NO_MEMORY, NULL, "out of memory");
    tob_ingestd *d = calloc(1, sizeof(*d));
    if (!d) {
        return TOB_NO_MEMORY;
    }
    d->settings = settings;
    tob_error err = tob_process_new("ingestd", &d->process);
    if (!err) {
        err = make_state_dir(settings->state_dir, problem);
    }
    if (!err) {
        err = tob_identity_open(&d->identity, settings, d->process, problem);
    }
    if (!err) {
        err = open_committer(d, problem);
    }
    if (!err) {
        err = tob_identity_load(&d->identity, d->committer, d->eraser, problem);
    }
    if (!err) {
        err = open_services(d);
    }
    if (err) {
        tob_ingestd_free(d);
        return err;
    }
    *ret = d;
    return TOB_OK;
}

static void log_listening(const char *what, const char *url, uint16_t port) {
    char bound[TOB_ADDRESS_BYTES];
    tob_address_with_port(url, port, bound);
    tob_info("listening", TOB_STR("service", what), TOB_STR("url", bound), TOB_UINT("port", port));
}

tob_error tob_ingestd_start(tob_ingestd *d, tob_start_problem *p) {
    tob_error err = tob_committer_start(d->committer);
    if (!err) {
        err = tob_checkpointer_start(d->checkpointer);
    }
    if (!err) {
        err = tob_replayer_start(d->replayer);
    }
    if (!err) {
        err = tob_eraser_start(d->eraser);
    }
    if (!err) {
        err = tob_registry_service_start(d->registrar);
    }
    if (err) {
        return tob_start_fail(p, err, NULL, "can't start a thread: %s", tob_error_string(err));
    }
    err = tob_rpc_server_start(d->server);
    if (err) {
        return tob_start_fail(p, err, "listen", "can't listen on %s: %s", d->settings->listen,
                              err == TOB_UNAVAILABLE ? "the address is taken or not this machine's"
                                                     : tob_error_string(err));
    }
    log_listening("rpc", d->settings->listen, tob_rpc_server_port(d->server));
    log_listening("bus", d->settings->bus_listen, tob_committer_bus_port(d->committer));
    return TOB_OK;
}

void tob_ingestd_reload(tob_ingestd *d) {
    tob_identity_reload(&d->identity);
}

void tob_ingestd_stop(tob_ingestd *d) {
    // Data flows one way, so things stop in its direction: no more calls, then what they left behind.
    tob_replayer_hurry(d->replayer);
    tob_rpc_server_stop(d->server);
    tob_registry_service_stop(d->registrar);
    tob_replayer_stop(d->replayer);
    tob_committer_drain(d->committer);
    tob_checkpointer_stop(d->checkpointer);
    tob_eraser_stop(d->eraser); // it may have waited for a checkpoint
    tob_committer_stop(d->committer);
}

void tob_ingestd_free(tob_ingestd *d) {
    if (!d) {
        return;
    }
    tob_rpc_server_free(d->server);
    tob_registry_service_free(d->registrar);
    tob_ingest_service_free(d->ingest);
    tob_replayer_free(d->replayer);
    tob_eraser_free(d->eraser);
    tob_checkpointer_free(d->checkpointer);
    tob_committer_free(d->committer);
    tob_identity_close(&d->identity);
    tob_process_free(d->process);
    free(d);
}
