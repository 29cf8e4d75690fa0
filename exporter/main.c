// tobogganing-exporter: follows ingestd's bus and serves GET /metrics.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exporter/exposition.h"
#include "exporter/follower.h"
#include "exporter/scrape.h"
#include "exporter/shard.h"
#include "util/clock.h"
#include "util/daemon.h"
#include "util/log.h"
#include "util/options.h"
#include "util/text.h"
#include "util/watch.h"

#define PROGRAM       "tobogganing-exporter"
#define STOP_GRACE_MS 5000
#define TICK_MS       200

typedef struct config {
    const char *listen;
    const char *ingest;
    const char *bus;
    const char *metrics_token;
    const char *metrics_token_file;
    const char *cluster_token;
    const char *cluster_token_file;
    const char *shard;
    uint64_t expire_after_ms;
    uint64_t ready_timeout_ms;
    uint64_t max_sources;
    uint64_t max_scrapes;
    uint64_t workers;
    uint64_t max_connections;
    tob_log_options log;
} config;

typedef struct exporter {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_instances *instances;
    tob_shard shard;
    tob_follower *follower;
    tob_secrets *tokens;
    tob_watch *watch; // of the token files; may be NULL
    char *cluster_token;
    tob_rpc_client *client;
    tob_process *process;
    tob_scrape *scrape;
    tob_http_server *server;
} exporter;

static config settings;

static const tob_option options[] = {
    {.name = "listen",
     .env = "TOBOGGANING_EXPORTER_LISTEN",
     .value = "HOST:PORT",
     .fallback = "127.0.0.1:8001",
     .kind = TOB_OPTION_STRING,
     .target = &settings.listen,
     .help = "Where to serve HTTP; port 0 picks one."},
    {.name = "ingest",
     .env = "INGEST_URL",
     .value = "URLS",
     .fallback = "tcp://127.0.0.1:8010",
     .kind = TOB_OPTION_STRING,
     .target = &settings.ingest,
     .help =
         "The calls of every ingestd, comma-separated; of a name, all addresses, resolved again and again."},
    {.name = "bus",
     .env = "BUS_URL",
     .value = "URLS",
     .fallback = "tcp://127.0.0.1:8011",
     .kind = TOB_OPTION_STRING,
     .target = &settings.bus,
     .help = "The bus of every ingestd, likewise, in any order."},
    {.name = "shard",
     .env = "TOBOGGANING_SHARD",
     .value = "I/N",
     .fallback = "0/1",
     .kind = TOB_OPTION_STRING,
     .target = &settings.shard,
     .help =
         "Follow and show every N-th bucket of sources only, from I on: 0/2 and 1/2 are two halves of the "
         "fleet. N is at most 64. The manager's families are shown by shard 0 alone."},
    {.env = "METRICS_TOKEN",
     .value = "TOKENS",
     .kind = TOB_OPTION_STRING,
     .target = &settings.metrics_token,
     .help = "Tokens that may scrape, comma-separated. This or a file of them is required."},
    {.name = "metrics-token-file",
     .env = "METRICS_TOKEN_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.metrics_token_file,
     .help = "Tokens that may scrape, one a line; read again when it changes, and on SIGHUP."},
    {.env = "CLUSTER_TOKEN",
     .value = "TOKEN",
     .kind = TOB_OPTION_STRING,
     .target = &settings.cluster_token,
     .help = "The token for ingestd. This or a file with it is required."},
    {.name = "cluster-token-file",
     .env = "CLUSTER_TOKEN_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.cluster_token_file,
     .help = "The token for ingestd; read again when it changes, and on SIGHUP."},
    {.name = "expire-after",
     .env = "TOBOGGANING_EXPIRE_AFTER",
     .value = "DURATION",
     .fallback = "7d",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.expire_after_ms,
     .min = 1000,
     .help = "Sources that were silent for longer are not shown until they report again."},
    {.name = "ready-timeout",
     .env = "TOBOGGANING_READY_TIMEOUT",
     .value = "DURATION",
     .fallback = "30s",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.ready_timeout_ms,
     .help = "Show what there is after this long, though an ingestd is away, as long as one is there."},
    {.name = "max-series-sources",
     .env = "TOBOGGANING_MAX_SERIES_SOURCES",
     .value = "N",
     .fallback = "20000000",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.max_sources,
     .min = 1,
     .max = TOB_MIRROR_MAX_SOURCES,
     .help = "Clients, and headends, to keep at most; more are left out and logged."},
    {.name = "max-scrapes",
     .env = "TOBOGGANING_MAX_SCRAPES",
     .value = "N",
     .fallback = "16",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.max_scrapes,
     .min = 1,
     .max = 10000,
     .help = "Scrapes at once; more are answered 503."},
    {.name = "workers",
     .env = "TOBOGGANING_EXPORTER_WORKERS",
     .value = "N",
     .fallback = "0",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.workers,
     .max = TOB_HTTP_MAX_WORKERS,
     .help = "HTTP threads; 0: one for each CPU."},
    {.name = "max-connections",
     .env = "TOBOGGANING_EXPORTER_MAX_CONNECTIONS",
     .value = "N",
     .fallback = "1000",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.max_connections,
     .min = 1,
     .max = 1000000,
     .help = "HTTP connections at once; more wait."},
    TOB_LOG_OPTIONS(&settings.log),
};

static const tob_command command = {
    .program = PROGRAM,
    .summary = "show the fleet to Prometheus",
    .description =
        "Follows ingestd's bus and serves the last state of every client and headend, and the manager's "
        "own counters, at /metrics. It keeps nothing on disk: after a restart it takes a snapshot from "
        "every ingestd, and answers 503 until those are complete.\n\n"
        "Several ingestd: a source's row is that of the one which heard from it last. The numbers of "
        "clusters and "
        "clients are the greatest that one of them reports, as they share one registry.",
    .examples =
        "  METRICS_TOKEN=secret CLUSTER_TOKEN_FILE=/etc/tobogganing/cluster.token tobogganing-exporter\n"
        "  curl -H 'Authorization: Bearer secret' http://127.0.0.1:8001/metrics",
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
};

// Before the files are read, so that no change is missed.
static void watch_token_files(exporter *e) {
    const char *const paths[] = {settings.metrics_token_file, settings.cluster_token_file};
    const size_t count = sizeof(paths) / sizeof(paths[0]);
    for (size_t i = 0; i < count; i++) {
        if (tob_secret_file_exposed(paths[i])) {
            tob_warn("token_file_readable", TOB_STR("file", paths[i]),
                     TOB_STR("hint", "others may read it: chmod 600"));
        }
    }
    if (tob_watch_open(paths, count, &e->watch)) {
        tob_warn("watch_failed", TOB_STR("error", strerror(errno)),
                 TOB_STR("hint", "token files are read again on SIGHUP only"));
    }
}

static int read_tokens(exporter *e) {
    tob_error err = tob_secrets_new(settings.metrics_token, settings.metrics_token_file, &e->tokens);
    if (err) {
        return tob_options_error(&command, "METRICS_TOKEN_FILE", "can't be read: %s", tob_error_string(err));
    }
    if (tob_secrets_count(e->tokens) == 0) {
        return tob_options_error(&command, "METRICS_TOKEN",
                                 "no token: /metrics would be open to nobody; set it, or "
                                 "--metrics-token-file (METRICS_TOKEN_FILE)");
    }
    err = tob_secret_read_first(settings.cluster_token, settings.cluster_token_file, &e->cluster_token);
    if (err == TOB_NOT_FOUND && !(settings.cluster_token_file && *settings.cluster_token_file)) {
        return tob_options_error(&command, "CLUSTER_TOKEN",
                                 "no token: ingestd would refuse the snapshot; set it, or "
                                 "--cluster-token-file (CLUSTER_TOKEN_FILE)");
    }
    if (err) {
        return tob_options_error(&command, "CLUSTER_TOKEN_FILE", "can't be read: %s", tob_error_string(err));
    }
    return -1;
}

static int fail(const char *what, tob_error err) {
    tob_err("start_failed", TOB_STR("what", what), TOB_ERR(err));
    return EXIT_FAILURE;
}

// Begins to talk to ingestd: the follower to each of them, the counters to whichever is there.
static tob_error connect_to_ingestd(exporter *e) {
    tob_rpc_client_options o = {.urls = settings.ingest, .bearer = e->cluster_token};
    tob_error err = tob_rpc_client_new(&o, &e->client);
    if (!err) {
        err = tob_follower_start(e->follower);
    }
    if (!err) {
        err = tob_process_report_start(e->process, e->client);
    }
    return err;
}

static void disconnect_from_ingestd(exporter *e) {
    if (e->client) {
        tob_process_report_stop(e->process);
        tob_rpc_client_stop(e->client);
    }
    tob_follower_stop(e->follower);
    tob_rpc_client_free(e->client);
    e->client = NULL;
}

static tob_error make_mirror(exporter *e) {
    tob_mirror_options o = {.max_sources = settings.max_sources, .expire_after_ms = settings.expire_after_ms};
    tob_moment now = {.monotonic_ms = tob_clock_monotonic_ms(), .unix_ms = tob_clock_unix_ms()};
    tob_error err = tob_mirror_new(&o, &e->mirror);
    if (!err) {
        err = tob_manager_new(&e->manager);
    }
    if (!err) {
        tob_instances_options instances = {.mirror = e->mirror,
                                           .manager = tob_shard_has_manager(e->shard) ? e->manager : NULL,
                                           .buckets = tob_shard_buckets(e->shard),
                                           .ready_timeout_ms = settings.ready_timeout_ms};
        err = tob_instances_new(&instances, now, &e->instances);
    }
    if (!err) {
        err = tob_process_new("exporter", &e->process);
    }
    return err;
}

static int bad_urls(const char *option) {
    bool bus = strcmp(option, "bus") == 0;
    return tob_options_error(&command, option, "'%s' is not a list of URLs like tcp://127.0.0.1:%s",
                             bus ? settings.bus : settings.ingest, bus ? "8011" : "8010");
}

static int start_following(exporter *e) {
    const char *at_fault = NULL;
    if (tob_shard_parse(settings.shard, &e->shard)) {
        return tob_options_error(&command, "shard", "'%s' is not I/N with I below N, N at most %u",
                                 settings.shard, TOB_SHARD_MAX_COUNT);
    }
    tob_error err = make_mirror(e);
    if (err) {
        return fail("mirror", err);
    }
    tob_follower_options o = {.instances = e->instances,
                              .ingest_urls = settings.ingest,
                              .bus_urls = settings.bus,
                              .bearer = e->cluster_token,
                              .buckets = tob_shard_buckets(e->shard)};
    err = tob_follower_new(&o, &e->follower, &at_fault);
    if (at_fault && (err == TOB_INVALID || err == TOB_TOO_LARGE)) {
        return bad_urls(at_fault);
    }
    if (err) {
        return fail("follower", err);
    }
    err = connect_to_ingestd(e);
    return err == TOB_INVALID ? bad_urls("ingest") : err ? fail("ingest", err) : -1;
}

static tob_counter *auth_counter(exporter *e, const char *result) {
    return tob_process_counter(e->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS,
                               "metrics", result, NULL);
}

static tob_error make_server(exporter *e) {
    tob_scrape_options o = {
        .mirror = e->mirror,
        .manager = e->manager,
        .instances = e->instances,
        .parts = tob_shard_has_manager(e->shard) ? TOB_PART_ALL : TOB_PART_ALL & ~(unsigned)TOB_PART_MANAGER,
        .tokens = e->tokens,
        .auth_success = auth_counter(e, "success"),
        .auth_failure = auth_counter(e, "failure"),
        .max_scrapes = settings.max_scrapes,
        .stall_ms = TOB_SCRAPE_STALL_MS,
    };
    tob_error err = tob_scrape_new(&o, &e->scrape);
    if (err) {
        return err;
    }
    tob_http_server_options http = {
        .listen = settings.listen,
        .workers = settings.workers,
        .max_connections = settings.max_connections,
        .on_worker_start = tob_scrape_worker_start,
        .on_worker_stop = tob_scrape_worker_stop,
        .user = e->scrape,
    };
    err = tob_http_server_new(&http, &e->server);
    return err ? err : tob_scrape_register(e->scrape, e->server);
}

static int start_serving(exporter *e) {
    tob_error err = make_server(e);
    if (!err) {
        err = tob_http_server_start(e->server);
    }
    if (err == TOB_INVALID) {
        return tob_options_error(&command, "listen", "'%s' is not HOST:PORT", settings.listen);
    }
    if (err) {
        tob_err("start_failed", TOB_STR("what", "listen"), TOB_STR("address", settings.listen), TOB_ERR(err));
        return EXIT_FAILURE;
    }
    char address[TOB_ADDRESS_BYTES];
    tob_address_with_port(settings.listen, tob_http_server_port(e->server), address);
    tob_info("listening", TOB_STR("address", address), TOB_UINT("port", tob_http_server_port(e->server)));
    return -1;
}

static void reload(exporter *e) {
    char *token = NULL;
    tob_error err = tob_secrets_reload(e->tokens);
    if (err) {
        tob_err("reload_failed", TOB_STR("option", "METRICS_TOKEN_FILE"), TOB_ERR(err));
    }
    tob_error cluster_err =
        tob_secret_read_first(settings.cluster_token, settings.cluster_token_file, &token);
    if (cluster_err) {
        tob_err("reload_failed", TOB_STR("option", "CLUSTER_TOKEN_FILE"), TOB_ERR(cluster_err));
    } else {
        cluster_err = tob_rpc_client_set_bearer(e->client, token);
        tob_error follower_err = tob_follower_set_bearer(e->follower, token);
        cluster_err = cluster_err ? cluster_err : follower_err;
    }
    if (token) {
        explicit_bzero(token, strlen(token));
        free(token);
    }
    if (!err && !cluster_err) {
        tob_info("reloaded");
    }
}

static void serve(exporter *e) {
    bool ready = false;
    tob_daemon_notify("READY=1");
    for (;;) {
        tob_signal got = tob_daemon_wait_or_watch(e->watch, ready ? 0 : TICK_MS);
        if (got == TOB_SIGNAL_STOP) {
            return;
        }
        if (got == TOB_SIGNAL_RELOAD) {
            reload(e);
        }
        if (!ready && tob_instances_ready(e->instances)) {
            ready = true;
            tob_info("ready", TOB_UINT("clients", tob_mirror_count(e->mirror, TOB_SOURCE_CLIENT)),
                     TOB_UINT("headends", tob_mirror_count(e->mirror, TOB_SOURCE_HEADEND)));
        }
    }
}

static void stop(exporter *e) {
    tob_daemon_notify("STOPPING=1");
    if (e->server) {
        tob_http_server_stop(e->server, STOP_GRACE_MS);
    }
    disconnect_from_ingestd(e);
    tob_http_server_free(e->server);
    tob_scrape_free(e->scrape);
    tob_follower_free(e->follower);
    tob_instances_free(e->instances);
    tob_process_free(e->process);
    tob_manager_free(e->manager);
    tob_mirror_free(e->mirror);
    tob_secrets_free(e->tokens);
    tob_watch_free(e->watch);
    if (e->cluster_token) {
        explicit_bzero(e->cluster_token, strlen(e->cluster_token));
    }
    free(e->cluster_token);
}

int main(int argc, char **argv) {
    char **arguments = NULL;
    size_t argument_count = 0;
    exporter e = {.mirror = NULL};
    tob_daemon_keep_secrets();
    int status = tob_options_parse(&command, argc, argv, &arguments, &argument_count);
    if (status >= 0) {
        return status;
    }
    status = tob_log_options_apply(&command, &settings.log);
    if (status >= 0) {
        return status;
    }
    tob_daemon_block_signals();
    tob_raise_fd_limit();
    watch_token_files(&e);
    status = read_tokens(&e);
    if (status < 0) {
        status = start_following(&e);
    }
    if (status < 0) {
        status = start_serving(&e);
    }
    if (status < 0) {
        serve(&e);
        status = EXIT_SUCCESS;
    }
    stop(&e);
    if (status == EXIT_SUCCESS) {
        tob_info("stopped");
    }
    return status;
}
