// tobogganing-gateway: the documented HTTP endpoints.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "util/daemon.h"
#include "util/log.h"
#include "util/options.h"
#include "util/secret.h"
#include "util/text.h"
#include "util/watch.h"

#define PROGRAM       "tobogganing-gateway"
#define STOP_GRACE_MS 10000
#define TICK_MS       1000
#define SPARE_FDS     256 // beside the connections: loops, listeners, ingestd, scrapes

typedef struct config {
    tob_gateway_options gateway;
    uint64_t max_body_bytes;
    const char *cluster_token;
    const char *cluster_token_file;
    tob_log_options log;
} config;

static config settings;

static const tob_option options[] = {
    {.name = "listen",
     .env = "TOBOGGANING_GATEWAY_LISTEN",
     .value = "HOST:PORT",
     .fallback = "127.0.0.1:8000",
     .kind = TOB_OPTION_STRING,
     .target = &settings.gateway.listen,
     .help = "Where to serve HTTP; port 0 picks one."},
    {.name = "ingest",
     .env = "INGEST_URL",
     .value = "URL",
     .fallback = "tcp://127.0.0.1:8010",
     .kind = TOB_OPTION_STRING,
     .target = &settings.gateway.ingest,
     .help = "Where ingestd is called. Several, separated by commas, and all addresses of a name share the "
             "calls; one that fails a call is replaced by another."},
    {.name = "exporter",
     .env = "EXPORTER_URL",
     .value = "URL",
     .fallback = "http://127.0.0.1:8001",
     .kind = TOB_OPTION_STRING,
     .target = &settings.gateway.exporter,
     .help = "The exporter that answers GET /metrics: http://HOST:PORT."},
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
     .help = "The token for ingestd. Read again when it changes, and on SIGHUP."},
    {.name = "workers",
     .env = "TOBOGGANING_GATEWAY_WORKERS",
     .value = "N",
     .fallback = "0",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.gateway.workers,
     .max = TOB_HTTP_MAX_WORKERS,
     .help = "HTTP threads; 0: one for each CPU."},
    {.name = "max-connections",
     .env = "TOBOGGANING_GATEWAY_MAX_CONNECTIONS",
     .value = "N",
     .fallback = "10000",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.gateway.max_connections,
     .min = 1,
     .max = 1000000,
     .help = "HTTP connections at once; more wait."},
    {.name = "max-body-bytes",
     .env = "TOBOGGANING_GATEWAY_MAX_BODY_BYTES",
     .value = "BYTES",
     .fallback = "64KiB",
     .kind = TOB_OPTION_BYTES,
     .target = &settings.max_body_bytes,
     .min = 1,
     .max = TOB_GATEWAY_MAX_JSON_BYTES,
     .help = "The longest JSON body; a protobuf batch may always have 4 MiB."},
    {.name = "request-timeout",
     .env = "TOBOGGANING_GATEWAY_REQUEST_TIMEOUT",
     .value = "DURATION",
     .fallback = "5s",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.gateway.request_timeout_ms,
     .min = 100,
     .max = 60000,
     .help = "How long a report may wait for ingestd; then it is answered 503 or 504."},
    TOB_LOG_OPTIONS(&settings.log),
};

static const tob_command command = {
    .program = PROGRAM,
    .summary = "take reports by HTTP and hand them to ingestd",
    .description = "Serves POST /api/v1/clients/ID/metrics and POST /api/v1/headends/ID/metrics with the "
                   "documented JSON, the "
                   "endpoints of the registry (GET /openapi.json describes all of them), "
                   "POST /tobogganing.v1.Ingest/Submit with protobuf, GET /metrics as the exporter answers "
                   "it, /healthz and "
                   "/readyz. Reports that arrive together travel to ingestd in one batch, and a report is "
                   "answered once it is "
                   "durable there. The gateway keeps nothing: run as many as needed.",
    .examples =
        "  CLUSTER_TOKEN_FILE=/etc/tobogganing/cluster.token tobogganing-gateway --listen 0.0.0.0:8000\n"
        "  curl -X POST http://127.0.0.1:8000/api/v1/clients/laptop-1/metrics -H \"Authorization: Bearer "
        "$API_KEY\" \\\n"
        "    -H 'Content-Type: application/json' -d '{\"metrics\":{\"bytes_sent\":1000}}'",
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
};

static void limit_connections(void) {
    uint64_t limit = tob_raise_fd_limit();
    uint64_t room = limit > 2 * SPARE_FDS ? limit - SPARE_FDS : limit / 2;
    if (settings.gateway.max_connections > room) {
        tob_warn("max_connections_lowered", TOB_UINT("wanted", settings.gateway.max_connections),
                 TOB_UINT("now", room), TOB_UINT("open_files", limit));
        settings.gateway.max_connections = room;
    }
}

// Returns an exit status, or -1 to go on.
static int read_cluster_token(char **ret) {
    tob_error error = tob_secret_read_first(settings.cluster_token, settings.cluster_token_file, ret);
    bool from_file = settings.cluster_token_file && *settings.cluster_token_file;
    if (error == TOB_NOT_FOUND && !from_file) {
        return tob_options_error(&command, "CLUSTER_TOKEN", "is required; or --cluster-token-file FILE");
    }
    if (error) {
        return tob_options_error(&command, from_file ? "cluster-token-file" : "CLUSTER_TOKEN", "%s",
                                 tob_error_string(error));
    }
    return -1;
}

// NULL when nothing is, or can be, watched.
static tob_watch *watch_token_file(void) {
    const char *path = settings.cluster_token_file;
    tob_watch *watch = NULL;
    if (tob_secret_file_exposed(path)) {
        tob_warn("token_file_readable", TOB_STR("file", path),
                 TOB_STR("hint", "others may read it: chmod 600"));
    }
    if (tob_watch_open(&path, 1, &watch)) {
        tob_warn("watch_failed", TOB_STR("file", path), TOB_STR("error", strerror(errno)),
                 TOB_STR("hint", "changes are read on SIGHUP only"));
    }
    return watch;
}

static int make_gateway(const char *cluster_token, tob_gateway **ret) {
    const char *option = NULL;
    settings.gateway.max_body_bytes = settings.max_body_bytes;
    settings.gateway.cluster_token = cluster_token;
    tob_error error = tob_gateway_new(&settings.gateway, &option, ret);
    if (error && option) {
        return tob_options_error(&command, option, "is not a URL that we know");
    }
    if (error) {
        tob_err("start_failed", TOB_ERR(error));
        return EXIT_FAILURE;
    }
    return -1;
}

static int start_gateway(tob_gateway *gateway) {
    char address[TOB_ADDRESS_BYTES];
    char url[TOB_ADDRESS_BYTES + sizeof("http://")];
    tob_error error = tob_gateway_start(gateway);
    if (error == TOB_INVALID) {
        return tob_options_error(&command, "listen", "is not an address of this machine: %s",
                                 settings.gateway.listen);
    }
    if (error) {
        tob_err("listen_failed", TOB_STR("address", settings.gateway.listen),
                TOB_STR("error",
                        error == TOB_UNAVAILABLE ? "the address is taken" : tob_error_string(error)));
        return EXIT_FAILURE;
    }
    tob_address_with_port(settings.gateway.listen, tob_gateway_port(gateway), address);
    snprintf(url, sizeof(url), "http://%s", address);
    tob_info("listening", TOB_STR("url", url), TOB_UINT("port", tob_gateway_port(gateway)));
    tob_info("ready", TOB_STR("version", TOB_VERSION));
    tob_daemon_notify("READY=1");
    return -1;
}

// Says once when ingestd comes and goes.
static void watch_ingestd(tob_gateway *gateway, bool *was_ready) {
    char reason[TOB_RPC_MESSAGE_BYTES];
    bool ready = tob_readiness_get(tob_gateway_readiness(gateway), reason);
    if (ready && !*was_ready) {
        tob_info("ingestd_serving", TOB_STR("url", settings.gateway.ingest));
    } else if (!ready && *was_ready) {
        tob_warn("ingestd_away", TOB_STR("url", settings.gateway.ingest), TOB_STR("reason", reason));
    }
    *was_ready = ready;
}

// Says once when the counters can't be reported although ingestd is there: a wrong cluster token, most likely.
static void watch_reports(tob_gateway *gateway, bool ready, tob_error *before) {
    tob_error error = tob_gateway_report_error(gateway);
    if (error == *before || !ready) {
        return;
    }
    if (error) {
        tob_err("counters_not_reported", TOB_ERR(error),
                TOB_STR("hint",
                        error == TOB_UNAUTHENTICATED ? "CLUSTER_TOKEN is not ingestd's" : "tried again"));
    } else {
        tob_info("counters_reported");
    }
    *before = error;
}

// What can't be read is logged and stays as it was.
static void reload(tob_gateway *gateway) {
    char *token = NULL;
    tob_error error = tob_secret_read_first(settings.cluster_token, settings.cluster_token_file, &token);
    if (!error) {
        error = tob_gateway_set_cluster_token(gateway, token);
        explicit_bzero(token, strlen(token));
    }
    free(token);
    if (error) {
        tob_err("reload_failed", TOB_STR("option", "CLUSTER_TOKEN_FILE"), TOB_ERR(error));
    } else {
        tob_info("reloaded");
    }
}

static void serve(tob_gateway *gateway, tob_watch *watch) {
    bool was_ready = false;
    tob_error report_error = TOB_OK;
    tob_signal got = TOB_SIGNAL_TICK;
    while (got != TOB_SIGNAL_STOP) {
        tob_gateway_tick(gateway);
        got = tob_daemon_wait_or_watch(watch, TICK_MS);
        if (got == TOB_SIGNAL_RELOAD) {
            reload(gateway);
        }
        watch_ingestd(gateway, &was_ready);
        watch_reports(gateway, was_ready, &report_error);
    }
    tob_daemon_notify("STOPPING=1");
    tob_info("stopping");
    tob_gateway_stop(gateway, STOP_GRACE_MS);
    tob_info("stopped");
}

int main(int argc, char **argv) {
    char **args = NULL;
    size_t arg_count = 0;
    char *cluster_token = NULL;
    tob_gateway *gateway = NULL;
    tob_watch *watch = NULL;
    tob_daemon_keep_secrets();
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status >= 0) {
        return status;
    }
    status = tob_log_options_apply(&command, &settings.log);
    if (status >= 0) {
        return status;
    }
    tob_daemon_block_signals();
    limit_connections();
    watch = watch_token_file(); // before it is read, so that no change is missed
    status = read_cluster_token(&cluster_token);
    if (status < 0) {
        status = make_gateway(cluster_token, &gateway);
    }
    if (status < 0) {
        status = start_gateway(gateway);
    }
    if (status < 0) {
        serve(gateway, watch);
        status = EXIT_SUCCESS;
    } else if (gateway) {
        tob_gateway_stop(gateway, 0);
    }
    tob_gateway_free(gateway);
    tob_watch_free(watch);
    if (cluster_token) {
        explicit_bzero(cluster_token, strlen(cluster_token));
    }
    free(cluster_token);
    return status;
}
