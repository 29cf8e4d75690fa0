#include "ingestd/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ingestd/bus_service.h"
#include "ingestd/checkpointer.h"
#include "ingestd/committer.h"
#include "ingestd/health_service.h"
#include "ingestd/ingest_service.h"
#include "ingestd/instance.h"
#include "ingestd/jwt.h"
#include "ingestd/registry.h"
#include "ingestd/registry_service.h"
#include "ingestd/replayer.h"
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
    tob_secrets *admin_secrets;
    tob_secrets *cluster_secrets;
    tob_directory *directory;
    tob_registry *registry;
    tob_jwt *jwt;
    tob_arena_budget request_memory; // of all calls
    char journal_dir[MAX_PATH_BYTES];
    uint64_t instance;
    tob_committer *committer;
    tob_checkpointer *checkpointer;
    tob_replayer *replayer;
    tob_ingest_service *ingest;
    tob_registry_service *registrar;
    tob_bus_service bus;
    tob_health_service health;
    tob_rpc_server *server;
};

// Where a failing step says what was wrong.
typedef struct problem {
    char *text;
    const char **option;
} problem;

static tob_error fail(problem p, tob_error error, const char *option, const char *format, ...)
    TOB_PRINTF(4, 5);
static tob_error fail(problem p, tob_error error, const char *option, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(p.text, TOB_INGESTD_PROBLEM_BYTES, format, args);
    va_end(args);
    *p.option = option;
    return error;
}

static tob_error join_path(const char *dir, const char *name, char *to, problem p) {
    int n = snprintf(to, MAX_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= MAX_PATH_BYTES) {
        return fail(p, TOB_INVALID, "state-dir", "the path is too long");
    }
    return TOB_OK;
}

static tob_error make_state_dir(const char *dir, problem p) {
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return fail(p, TOB_IO, "state-dir", "can't make %s: %s", dir, strerror(errno));
    }
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return fail(p, TOB_INVALID, "state-dir", "%s is not a directory", dir);
    }
    return TOB_OK;
}

static tob_error open_secrets(const char *list, const char *file, const char *env, const char *option,
                              tob_secrets **ret, problem p) {
    tob_error err = tob_secrets_new(list, file, ret);
    if (err) {
        return fail(p, err, option, "can't read the tokens%s%s: %s", file && *file ? " of " : "",
                    file ? file : "", tob_error_string(err));
    }
    if (tob_secrets_count(*ret) == 0) {
        return fail(p, TOB_INVALID, option, "no token: set %s or --%s", env, option);
    }
    return TOB_OK;
}

static tob_error open_registry(tob_ingestd *d, problem p) {
    char url[MAX_PATH_BYTES + 32];
    const char *given = d->settings->registry_url;
    snprintf(url, sizeof(url), "sqlite:%s/registry.db", d->settings->state_dir);
    tob_registry_problem why = {.text = ""};
    tob_error err = tob_registry_open(given && *given ? given : url, &d->registry, &why);
    if (err) {
        return fail(p, err, "registry", "%s", why.text);
    }
    err = tob_directory_new(&d->directory);
    if (!err) {
        err = tob_registry_load(d->registry, d->directory);
    }
    return err ? fail(p, err, "registry", "can't load the registry: %s",
                      tob_registry_last_problem(d->registry))
               : TOB_OK;
}

static tob_error open_tokens(tob_ingestd *d, problem p) {
    const tob_ingestd_settings *s = d->settings;
    tob_error err = open_secrets(s->admin_tokens, s->admin_token_file, "ADMIN_TOKEN", "admin-token-file",
                                 &d->admin_secrets, p);
    if (!err) {
        err = open_secrets(s->cluster_tokens, s->cluster_token_file, "CLUSTER_TOKEN", "cluster-token-file",
                           &d->cluster_secrets, p);
    }
    if (err) {
        return err;
    }
    char key_path[MAX_PATH_BYTES];
    char why[TOB_JWT_PROBLEM_BYTES] = "";
    err = join_path(s->state_dir, "issuer-key.jwk", key_path, p);
    if (err) {
        return err;
    }
    err =
        tob_jwt_new(&(tob_jwt_options){.issuer_key_path = key_path, .jwks_path = s->jwks_file}, why, &d->jwt);
    return err ? fail(p, err, "jwks-file", "%s", why) : TOB_OK;
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
static tob_error recover(tob_ingestd *d, tob_store_recovery *ret_recovery, problem p) {
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
                                     .directory = d->directory,
                                     .process = d->process};
    tob_journal_problem why = {.text = ""};
    bool bus_failed = false;
    uint64_t before = tob_clock_monotonic_ms();
    tob_error err = tob_committer_new(&options, &d->committer, ret_recovery, &why, &bus_failed);
    if (err == TOB_DAMAGED) {
        return fail(p, err, NULL, "%s; tobogganctl journal repair %s", why.text, d->journal_dir);
    }
    if (err) {
        return fail(p, err, bus_failed ? "bus-listen" : NULL, "%s", why.text);
    }
    log_recovery(d, ret_recovery, tob_clock_monotonic_ms() - before);
    return TOB_OK;
}

// The threads beside the committer's.
static tob_error open_helpers(tob_ingestd *d, const tob_store_recovery *recovery, problem p) {
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
    return err ? fail(p, err, "state-dir", "can't read %s: %s", d->journal_dir, tob_error_string(err))
               : TOB_OK;
}

static tob_error open_committer(tob_ingestd *d, problem p) {
    const tob_ingestd_settings *s = d->settings;
    tob_store_recovery recovery = {0};
    tob_error err = join_path(s->state_dir, "journal", d->journal_dir, p);
    if (err) {
        return err;
    }
    err = tob_instance_load(s->state_dir, &d->instance);
    if (err) {
        return fail(p, err, "state-dir", "can't read or make %s/instance: %s", s->state_dir,
                    tob_error_string(err));
    }
    tob_arena_budget_init(&d->request_memory, s->max_request_memory);
    err = recover(d, &recovery, p);
    return err ? err : open_helpers(d, &recovery, p);
}

static tob_error open_services(tob_ingestd *d) {
    const tob_ingestd_settings *s = d->settings;
    tob_rpc_server_options options = {.url = s->listen,
                                      .contexts = s->rpc_contexts,
                                      .max_connections = s->max_connections,
                                      .max_message_bytes = TOB_MAX_BATCH_BYTES + ENVELOPE_BYTES,
                                      .max_inflated_bytes = TOB_MAX_INFLATED_BYTES,
                                      .max_arena_bytes = s->max_request_memory / 2 < MAX_ARENA_BYTES
                                                             ? s->max_request_memory / 2
                                                             : MAX_ARENA_BYTES,
                                      .budget = &d->request_memory};
    tob_error err = tob_rpc_server_new(&options, &d->server);
    if (!err) {
        err = tob_ingest_service_new(d->committer, d->directory, d->jwt, d->process, &d->ingest);
    }
    if (!err) {
        err = tob_ingest_service_register(d->ingest, d->server);
    }
    if (!err) {
        tob_registry_service_options registrar = {.registry = d->registry,
                                                  .directory = d->directory,
                                                  .jwt = d->jwt,
                                                  .committer = d->committer,
                                                  .admin_secrets = d->admin_secrets,
                                                  .process = d->process};
        err = tob_registry_service_new(&registrar, &d->registrar);
    }
    if (!err) {
        err = tob_registry_service_register(d->registrar, d->server);
    }
    if (!err) {
        d->bus.committer = d->committer;
        d->bus.replayer = d->replayer;
        tob_door_init(&d->bus.door, d->cluster_secrets, "CLUSTER_TOKEN", "cluster", d->process);
        err = tob_bus_service_register(&d->bus, d->server);
    }
    if (!err) {
        d->health = (tob_health_service){.committer = d->committer,
                                         .checkpointer = d->checkpointer,
                                         .directory = d->directory,
                                         .ingest = d->ingest,
                                         .server = d->server,
                                         .request_memory = &d->request_memory,
                                         .instance = d->instance,
                                         .started_unix_ms = tob_clock_unix_ms()};
        err = tob_health_service_register(&d->health, d->server);
    }
    return err;
}

tob_error tob_ingestd_new(const tob_ingestd_settings *settings, tob_ingestd **ret, char *ret_problem,
                          const char **ret_option) {
    problem p = {.text = ret_problem, .option = ret_option};
    *ret_option = NULL;
    snprintf(ret_problem, TOB_INGESTD_PROBLEM_BYTES, "out of memory");
    tob_ingestd *d = calloc(1, sizeof(*d));
    if (!d) {
        return TOB_NO_MEMORY;
    }
    d->settings = settings;
    tob_error err = tob_process_new("ingestd", &d->process);
    if (!err) {
        err = make_state_dir(settings->state_dir, p);
    }
    if (!err) {
        err = open_tokens(d, p);
    }
    if (!err) {
        err = open_registry(d, p);
    }
    if (!err) {
        err = open_committer(d, p);
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

tob_error tob_ingestd_start(tob_ingestd *d, char *ret_problem, const char **ret_option) {
    problem p = {.text = ret_problem, .option = ret_option};
    tob_error err = tob_committer_start(d->committer);
    if (!err) {
        err = tob_checkpointer_start(d->checkpointer);
    }
    if (!err) {
        err = tob_replayer_start(d->replayer);
    }
    if (err) {
        return fail(p, err, NULL, "can't start a thread: %s", tob_error_string(err));
    }
    err = tob_rpc_server_start(d->server);
    if (err) {
        return fail(p, err, "listen", "can't listen on %s: %s", d->settings->listen,
                    err == TOB_UNAVAILABLE ? "the address is taken or not this machine's"
                                           : tob_error_string(err));
    }
    log_listening("rpc", d->settings->listen, tob_rpc_server_port(d->server));
    log_listening("bus", d->settings->bus_listen, tob_committer_bus_port(d->committer));
    return TOB_OK;
}

static void reload_secrets(tob_secrets *secrets, const char *what) {
    tob_error err = tob_secrets_reload(secrets);
    if (err) {
        tob_warn("reload_failed", TOB_STR("what", what), TOB_ERR(err));
    }
}

void tob_ingestd_reload(tob_ingestd *d) {
    char why[TOB_JWT_PROBLEM_BYTES] = "";
    reload_secrets(d->admin_secrets, "admin tokens");
    reload_secrets(d->cluster_secrets, "cluster tokens");
    if (tob_jwt_reload(d->jwt, why) != TOB_OK) {
        tob_warn("reload_failed", TOB_STR("what", "JWKS"), TOB_STR("problem", why));
    }
    tob_info("reloaded", TOB_STR("what", "token files and JWKS"));
}

void tob_ingestd_stop(tob_ingestd *d) {
    // Data flows one way, so things stop in its direction: no more calls, then what they left behind.
    tob_replayer_hurry(d->replayer);
    tob_rpc_server_stop(d->server);
    tob_registry_service_stop(d->registrar);
    tob_replayer_stop(d->replayer);
    tob_committer_drain(d->committer);
    tob_checkpointer_stop(d->checkpointer);
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
    tob_checkpointer_free(d->checkpointer);
    tob_committer_free(d->committer);
    tob_jwt_free(d->jwt);
    tob_registry_close(d->registry);
    tob_directory_free(d->directory);
    tob_secrets_free(d->admin_secrets);
    tob_secrets_free(d->cluster_secrets);
    tob_process_free(d->process);
    free(d);
}
