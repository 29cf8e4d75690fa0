// tobogganing-ingestd: arguments, signals, and the life of the daemon.
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/daemon.h"
#include "ingestd/limiter.h"
#include "sql/sql.h"
#include "util/daemon.h"
#include "util/log.h"
#include "util/options.h"
#include "util/secret.h"
#include "util/watch.h"

#define MIN_REQUEST_MEMORY   (16ull << 20)
#define MAX_SYNC_INTERVAL_MS 60000
#define MMAP_THRESHOLD       (128 << 10)
#define DATABASE_RETRY_MS    1000
#define REGISTRY_VARIABLE    "TOBOGGANING_REGISTRY"

static tob_ingestd_settings settings;
static tob_log_options log_options;
static const char *sync_name;

static const tob_option options[] = {
    {.name = "listen",
     .env = "TOBOGGANING_INGESTD_LISTEN",
     .value = "URL",
     .fallback = "tcp://127.0.0.1:8010",
     .kind = TOB_OPTION_STRING,
     .target = &settings.listen,
     .help = "Where calls arrive: agents, gateways, exporters and tobogganctl. tcp://HOST:PORT; port 0 picks "
             "one."},
    {.name = "bus-listen",
     .env = "TOBOGGANING_BUS_LISTEN",
     .value = "URL",
     .fallback = "tcp://127.0.0.1:8011",
     .kind = TOB_OPTION_STRING,
     .target = &settings.bus_listen,
     .help = "Where exporters subscribe to the bus. It has no authentication of its own: keep it inside."},
    {.name = "state-dir",
     .env = "TOBOGGANING_STATE_DIR",
     .value = "DIR",
     .kind = TOB_OPTION_STRING,
     .target = &settings.state_dir,
     .help = "Where everything durable is: journal/, registry.db, instance, erased. Made if missing. "
             "Required."},
    {.name = "registry",
     .env = REGISTRY_VARIABLE,
     .value = "URL",
     .kind = TOB_OPTION_STRING,
     .target = &settings.registry_url,
     .help = "The database of who may report: sqlite:PATH, for one ingestd, or postgresql://USER@HOST/NAME "
             "for several. Without it, STATE_DIR/registry.db. A password is taken from the environment "
             "variable or the file below, not from the flag, which every user of the machine can see."},
    {.name = "registry-password-file",
     .env = "TOBOGGANING_REGISTRY_PASSWORD_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.registry_password_file,
     .help = "The database's password, in the first line; read for every connection."},
    {.name = "ca-cert-file",
     .env = "CA_CERT_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.ca_cert_file,
     .help =
         "The certificate (PEM) of the authority that signs the fleet's certificates, with --ca-key-file. "
         "Without them one is made at the first start, and kept in the registry."},
    {.name = "ca-key-file",
     .env = "CA_KEY_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.ca_key_file,
     .help = "Its private key (PEM), readable by its owner only."},
    {.name = "wrong-credentials-burst",
     .env = "TOBOGGANING_WRONG_CREDENTIALS_BURST",
     .value = "N",
     .fallback = "50",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.wrong_credentials_burst,
     .min = 1,
     .max = TOB_LIMITER_MAX_BURST,
     .help =
         "Wrong credentials that an address may present one after the other; then one a second. A right one "
         "is always let in."},
    {.name = "jwks-file",
     .env = "JWKS_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.jwks_file,
     .help = "Public keys (JWKS, RFC 7517) of another issuer whose headend tokens are accepted too. Read "
             "again when it changes."},
    {.name = "jwks-issuer",
     .env = "JWKS_ISSUER",
     .value = "NAME",
     .kind = TOB_OPTION_STRING,
     .target = &settings.jwks_issuer,
     .help = "The `iss` that tokens of those keys must have. Without it, any."},
    {.name = "jwks-audience",
     .env = "JWKS_AUDIENCE",
     .value = "NAME",
     .kind = TOB_OPTION_STRING,
     .target = &settings.jwks_audience,
     .help = "What the `aud` of tokens of those keys must hold. Without it, anything."},
    {.name = "journal-sync",
     .env = "TOBOGGANING_JOURNAL_SYNC",
     .value = "MODE",
     .fallback = "always",
     .kind = TOB_OPTION_STRING,
     .target = &sync_name,
     .help =
         "always: a report is acknowledged when it is on stable storage. interval:MS (1-60000): when the "
         "operating system has it, which writes it to stable storage at most so many milliseconds later; it "
         "survives a crash of the daemon, and that of the machine but for those last milliseconds. never: "
         "likewise, without a limit."},
    {.name = "journal-segment-bytes",
     .env = "TOBOGGANING_JOURNAL_SEGMENT_BYTES",
     .value = "SIZE",
     .fallback = "64MiB",
     .kind = TOB_OPTION_BYTES,
     .target = &settings.journal_segment_bytes,
     .min = TOB_JOURNAL_MIN_SEGMENT,
     .max = 1ull << 32,
     .help = "A new file of the journal is begun past this size."},
    {.name = "journal-retain",
     .env = "TOBOGGANING_JOURNAL_RETAIN",
     .value = "DURATION",
     .fallback = "24h",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.journal_retain_ms,
     .help = "How long files of the journal are kept for those who read it (exporters that missed something, "
             "consumers), or until --journal-retain-bytes, whichever is less. What recovery needs is always "
             "kept."},
    {.name = "journal-retain-bytes",
     .env = "TOBOGGANING_JOURNAL_RETAIN_BYTES",
     .value = "SIZE",
     .fallback = "2GiB",
     .kind = TOB_OPTION_BYTES,
     .target = &settings.journal_retain_bytes,
     .help = "How much of the journal is kept for them."},
    {.name = "checkpoint-interval",
     .env = "TOBOGGANING_CHECKPOINT_INTERVAL",
     .value = "DURATION",
     .fallback = "10m",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.checkpoint_interval_ms,
     .min = 1,
     .help =
         "How often the fleet table is written to a checkpoint, so that a start reads less of the journal."},
    {.name = "checkpoint-bytes",
     .env = "TOBOGGANING_CHECKPOINT_BYTES",
     .value = "SIZE",
     .fallback = "64MiB",
     .kind = TOB_OPTION_BYTES,
     .target = &settings.checkpoint_bytes,
     .min = 1,
     .help =
         "Also when the journal has grown by so much since the last one, and by as much as that one had."},
    {.name = "report-interval",
     .env = "TOBOGGANING_REPORT_INTERVAL",
     .value = "DURATION",
     .fallback = "60s",
     .kind = TOB_OPTION_DURATION,
     .target = &settings.report_interval_ms,
     .min = 1000,
     .max = 86400000,
     .help =
         "How often agents are asked to report; each gets up to a tenth more or less, so that they spread."},
    {.name = "rpc-contexts",
     .env = "TOBOGGANING_RPC_CONTEXTS",
     .value = "N",
     .fallback = "256",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.rpc_contexts,
     .min = 1,
     .max = 65536,
     .help = "Calls that are worked on at once; more wait in their connections."},
    {.name = "max-connections",
     .env = "TOBOGGANING_MAX_CONNECTIONS",
     .value = "N",
     .fallback = "100000",
     .kind = TOB_OPTION_NUMBER,
     .target = &settings.max_connections,
     .min = 1,
     .max = 10000000,
     .help = "Connections for calls; further ones are closed at once."},
    {.name = "max-request-memory",
     .env = "TOBOGGANING_MAX_REQUEST_MEMORY",
     .value = "SIZE",
     .fallback = "1GiB",
     .kind = TOB_OPTION_BYTES,
     .target = &settings.max_request_memory,
     .min = MIN_REQUEST_MEMORY,
     .help =
         "Memory of all calls that are being worked on, from their arrival to their answer: as received, "
         "decompressed and unpacked; one call gets at most half of it, or 64MiB. Over it, callers are "
         "told to come back later (a sixteenth is set aside for small ones); from half of it on agents are "
         "asked to report less often. Not in it: the fleet table, the journal's buffer, and one message "
         "of at most "
         "4 MiB for each connection that waits to be worked on."},
    {.name = "admin-token-file",
     .env = "ADMIN_TOKEN_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.admin_token_file,
     .help = "Tokens of admins (the Registry service), one a line. Read again on SIGHUP."},
    {.env = "ADMIN_TOKEN",
     .value = "TOKEN[,TOKEN…]",
     .kind = TOB_OPTION_STRING,
     .target = &settings.admin_tokens,
     .help = "The same, in the environment. At least one admin token is required."},
    {.name = "cluster-token-file",
     .env = "CLUSTER_TOKEN_FILE",
     .value = "FILE",
     .kind = TOB_OPTION_STRING,
     .target = &settings.cluster_token_file,
     .help = "Tokens of gateways and exporters, one a line. Read again on SIGHUP."},
    {.env = "CLUSTER_TOKEN",
     .value = "TOKEN[,TOKEN…]",
     .kind = TOB_OPTION_STRING,
     .target = &settings.cluster_tokens,
     .help = "The same, in the environment. At least one cluster token is required."},
    TOB_LOG_OPTIONS(&log_options),
};

static const tob_command command = {
    .program = "tobogganing-ingestd",
    .summary = "takes the reports of the fleet, keeps them safe, and publishes them",
    .description =
        "Authenticates and checks batches of reports that agents and gateways submit over NNG, journals "
        "them, "
        "acknowledges them once they are durable, keeps the last values of every client and headend, and "
        "publishes "
        "changes on the bus for exporters. It also serves the registry of who may report.\n"
        "SIGTERM and SIGINT answer what is under way and stop; SIGHUP reads token files and the JWKS again, "
        "which "
        "also happens when they change.",
    .examples = "  ADMIN_TOKEN=… CLUSTER_TOKEN=… tobogganing-ingestd --state-dir /var/lib/tobogganing",
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
};

static bool parse_sync(const char *text) {
    static const char interval[] = "interval:";
    if (strcmp(text, "always") == 0 || strcmp(text, "never") == 0) {
        settings.journal_sync = *text == 'a' ? TOB_JOURNAL_SYNC_ALWAYS : TOB_JOURNAL_SYNC_NEVER;
        return true;
    }
    if (strncmp(text, interval, sizeof(interval) - 1) != 0) {
        return false;
    }
    const char *digits = text + sizeof(interval) - 1;
    size_t n = strspn(digits, "0123456789");
    unsigned long ms = n > 0 && n <= 5 && !digits[n] ? strtoul(digits, NULL, 10) : 0;
    settings.journal_sync = TOB_JOURNAL_SYNC_INTERVAL;
    settings.journal_sync_interval_ms = ms;
    return ms >= 1 && ms <= MAX_SYNC_INTERVAL_MS;
}

static int check_settings(void) {
    int status = tob_log_options_apply(&command, &log_options);
    if (status >= 0) {
        return status;
    }
    if (!settings.state_dir || !*settings.state_dir) {
        return tob_options_error(&command, "state-dir", "is required");
    }
    if (settings.registry_url && settings.registry_url != getenv(REGISTRY_VARIABLE) &&
        tob_sql_url_has_password(settings.registry_url)) {
        return tob_options_error(&command, "registry",
                                 "a password in the flag can be seen by every user of this machine; use the "
                                 "environment variable or --registry-password-file");
    }
    if (!settings.ca_cert_file != !settings.ca_key_file) {
        return tob_options_error(&command, settings.ca_cert_file ? "ca-key-file" : "ca-cert-file",
                                 "is needed: certificate and key come together");
    }
    if (!parse_sync(sync_name)) {
        return tob_options_error(&command, "journal-sync", "'%s' is not always, interval:MS (1-%d) or never",
                                 sync_name, MAX_SYNC_INTERVAL_MS);
    }
    return -1;
}

static int report_failure(const tob_start_problem *problem) {
    if (problem->option) {
        return tob_options_error(&command, problem->option, "%s", problem->text);
    }
    tob_err("start_failed", TOB_STR("problem", problem->text));
    return 1;
}

static bool database_away(tob_error err, const tob_start_problem *problem) {
    return err == TOB_UNAVAILABLE && problem->option && strcmp(problem->option, "registry") == 0;
}

// A database that is away may be starting, too: it is waited for. Returns -1, or the status to exit with.
static int open_ingestd(tob_ingestd **ret, tob_start_problem *problem) {
    bool waiting = false;
    tob_error err = tob_ingestd_new(&settings, ret, problem);
    while (database_away(err, problem)) {
        if (!waiting) {
            tob_warn("registry_away", TOB_STR("problem", problem->text),
                     TOB_UINT("retry_ms", DATABASE_RETRY_MS));
        }
        waiting = true;
        if (tob_daemon_wait(DATABASE_RETRY_MS) == TOB_SIGNAL_STOP) {
            tob_info("stopped");
            return 0;
        }
        err = tob_ingestd_new(&settings, ret, problem);
    }
    return err ? report_failure(problem) : -1;
}

// Before the files are read, so that no change is missed. NULL when nothing is, or can be, watched.
static tob_watch *watch_files(void) {
    const char *const secrets[] = {settings.admin_token_file, settings.cluster_token_file,
                                   settings.registry_password_file, settings.ca_key_file};
    const char *const watched[] = {settings.admin_token_file, settings.cluster_token_file,
                                   settings.jwks_file};
    tob_watch *watch = NULL;
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        if (tob_secret_file_exposed(secrets[i])) {
            tob_warn("token_file_readable", TOB_STR("file", secrets[i]),
                     TOB_STR("hint", "others may read it: chmod 600"));
        }
    }
    if (tob_watch_open(watched, sizeof(watched) / sizeof(watched[0]), &watch)) {
        tob_warn("watch_failed", TOB_STR("error", strerror(errno)),
                 TOB_STR("hint", "token files and the JWKS are read again on SIGHUP only"));
    }
    return watch;
}

static void serve(tob_ingestd *ingestd, tob_watch *watch) {
    tob_info("ready", TOB_STR("version", TOB_VERSION), TOB_STR("state_dir", settings.state_dir));
    tob_daemon_notify("READY=1");
    tob_signal got = TOB_SIGNAL_TICK;
    while ((got = tob_daemon_wait_or_watch(watch, 0)) != TOB_SIGNAL_STOP) {
        if (got == TOB_SIGNAL_RELOAD) {
            tob_ingestd_reload(ingestd);
        }
    }
    tob_daemon_notify("STOPPING=1");
    tob_info("stopping");
    tob_ingestd_stop(ingestd);
    tob_info("stopped");
}

// Large pieces of memory go back to the system when they are freed. Without this glibc learns from the first large request
// to keep such pieces, in a heap for each thread, and --max-request-memory would say little about the process's size.
static void return_freed_memory(void) {
    mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}

int main(int argc, char **argv) {
    tob_daemon_keep_secrets();
    return_freed_memory();
    char **args = NULL;
    size_t arg_count = 0;
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status < 0) {
        status = check_settings();
    }
    if (status >= 0) {
        return status;
    }
    tob_daemon_block_signals();
    tob_raise_fd_limit();
    tob_ingestd *ingestd = NULL;
    tob_start_problem problem = {.text = ""};
    tob_watch *watch = watch_files();
    status = open_ingestd(&ingestd, &problem);
    if (status >= 0) {
        tob_watch_free(watch);
        return status;
    }
    if (tob_ingestd_start(ingestd, &problem)) {
        status = report_failure(&problem);
        tob_ingestd_stop(ingestd);
    } else {
        serve(ingestd, watch);
        status = 0;
    }
    tob_ingestd_free(ingestd);
    tob_watch_free(watch);
    return status;
}
