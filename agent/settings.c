#include "agent/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"
#include "util/secret.h"

#define COMMON_OPTIONS(s)                                                                                    \
    {.name = "server",                                                                                       \
     .env = "INGEST_URL",                                                                                    \
     .value = "URL",                                                                                         \
     .fallback = "tcp://127.0.0.1:8010",                                                                     \
     .kind = TOB_OPTION_STRING,                                                                              \
     .target = &(s)->server,                                                                                 \
     .help = "Where ingestd listens. Of several, comma-separated or addresses of one name, one is used "     \
             "until it fails."},                                                                             \
        {.name = "once",                                                                                     \
         .kind = TOB_OPTION_FLAG,                                                                            \
         .target = &(s)->once,                                                                               \
         .help = "Take one sample, submit it, and exit 0 once it is acknowledged: for cron."},               \
        {.name = "from-stdin",                                                                               \
         .kind = TOB_OPTION_FLAG,                                                                            \
         .target = &(s)->from_stdin,                                                                         \
         .help = "Submit reports from standard input instead of sampling: one JSON object a line."},         \
        {.name = "sample-interval",                                                                          \
         .env = "TOBOGGANING_SAMPLE_INTERVAL",                                                               \
         .value = "TIME",                                                                                    \
         .fallback = "10s",                                                                                  \
         .kind = TOB_OPTION_DURATION,                                                                        \
         .target = &(s)->sample_interval_ms,                                                                 \
         .min = 100,                                                                                         \
         .max = 3600000,                                                                                     \
         .help = "How often to take a sample."},                                                             \
        {.name = "batch-interval",                                                                           \
         .env = "TOBOGGANING_BATCH_INTERVAL",                                                                \
         .value = "TIME",                                                                                    \
         .kind = TOB_OPTION_DURATION,                                                                        \
         .target = &(s)->batch_interval_ms,                                                                  \
         .min = 100,                                                                                         \
         .max = 3600000,                                                                                     \
         .help = "How often to submit what was sampled, give or take a tenth. Default: 60s, then as the "    \
                 "server asks."},                                                                            \
        {.name = "call-timeout",                                                                             \
         .env = "TOBOGGANING_CALL_TIMEOUT",                                                                  \
         .value = "TIME",                                                                                    \
         .fallback = "10s",                                                                                  \
         .kind = TOB_OPTION_DURATION,                                                                        \
         .target = &(s)->call_timeout_ms,                                                                    \
         .min = 100,                                                                                         \
         .max = 600000,                                                                                      \
         .help = "How long one attempt to submit may take. Failed ones are repeated after 1 s to 5 min."},   \
        {.name = "deadline",                                                                                 \
         .value = "TIME",                                                                                    \
         .fallback = "30s",                                                                                  \
         .kind = TOB_OPTION_DURATION,                                                                        \
         .target = &(s)->deadline_ms,                                                                        \
         .min = 100,                                                                                         \
         .max = 86400000,                                                                                    \
         .help = "How long --once, and --from-stdin at the end of its input, may take until everything is "  \
                 "acknowledged; all attempts together."},                                                    \
        {.name = "max-queued",                                                                               \
         .env = "TOBOGGANING_MAX_QUEUED",                                                                    \
         .value = "N",                                                                                       \
         .fallback = "20000",                                                                                \
         .kind = TOB_OPTION_NUMBER,                                                                          \
         .target = &(s)->max_queued,                                                                         \
         .min = 1,                                                                                           \
         .max = 10000000,                                                                                    \
         .help = "Samples to keep while the server is away; then the oldest are dropped, or with "           \
                 "--from-stdin no more lines are read."},                                                    \
        {.name = "agent-id",                                                                                 \
         .env = "TOBOGGANING_AGENT_ID",                                                                      \
         .value = "ID",                                                                                      \
         .kind = TOB_OPTION_STRING,                                                                          \
         .target = &(s)->agent_id_option,                                                                    \
         .help = "Names this sender of batches. Default: agent- and the id above, or the host's name."},     \
    {                                                                                                        \
        .name = "root", .env = "TOBOGGANING_ROOT", .value = "DIR", .fallback = "/",                          \
        .kind = TOB_OPTION_STRING, .target = &(s)->root,                                                     \
        .help = "Where the machine's /proc, /sys and /run are: /host in a container that mounts them there." \
    }

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static int check_names(const tob_command *command, const tob_agent_settings *s, const char *id_option) {
    if (s->id && !tob_id_valid(s->id, strlen(s->id))) {
        return tob_options_error(command, id_option, "must be 1 to %d bytes of [A-Za-z0-9._:-]",
                                 TOB_MAX_ID_BYTES);
    }
    if (!s->id && !s->from_stdin) {
        return tob_options_error(command, id_option, "is needed");
    }
    if (s->name && !tob_name_valid(s->name, strlen(s->name))) {
        return tob_options_error(command, "name",
                                 "must be at most %d bytes of UTF-8 without control characters",
                                 TOB_MAX_NAME_BYTES);
    }
    if (s->agent_id_option && !tob_id_valid(s->agent_id_option, strlen(s->agent_id_option))) {
        return tob_options_error(command, "agent-id", "must be 1 to %d bytes of [A-Za-z0-9._:-]",
                                 TOB_MAX_ID_BYTES);
    }
    if (s->once && s->from_stdin) {
        return tob_options_error(command, "once", "--from-stdin ends with its input: leave out one of them");
    }
    return -1;
}

// Reads the credential; `secret_option` is an environment variable, `file_option` a flag.
static int read_credential(const tob_command *command, tob_agent_settings *s, const char *secret_option,
                           const char *file_option) {
    bool given = (s->secret && *s->secret) || (s->secret_file && *s->secret_file);
    if (!given && s->from_stdin) {
        return -1; // then each line must have one
    }
    if (!given) {
        return tob_options_error(command, secret_option, "is needed, or a file with it: --%s", file_option);
    }
    tob_error err = tob_secret_read_first(s->secret, s->secret_file, &s->credential);
    if (err) {
        bool file = s->secret_file && *s->secret_file;
        return tob_options_error(command, file ? file_option : secret_option, "%s%s%s",
                                 file ? s->secret_file : "", file ? ": " : "", tob_error_string(err));
    }
    return -1;
}

static void set_agent_id(tob_agent_settings *s) {
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);
    const char *from = s->agent_id_option ? s->agent_id_option : s->id ? s->id : *host ? host : "relay";
    bool prefix = !s->agent_id_option && strlen(from) + 6 <= TOB_MAX_ID_BYTES;
    snprintf(s->agent_id, sizeof(s->agent_id), "%s%s", prefix ? "agent-" : "", from);
    for (char *c = s->agent_id; *c; c++) { // a host's name may be anything
        *c = tob_id_valid(c, 1) ? *c : '-';
    }
}

// An empty text, as scripts leave behind in the environment, is none.
static const char *none_if_empty(const char *text) {
    return text && *text ? text : NULL;
}

static int parse(const tob_command *command, int argc, char **argv, tob_agent_settings *s,
                 const char *id_option, const char *secret_option, const char *file_option) {
    char **args = NULL;
    size_t arg_count = 0;
    int status = tob_options_parse(command, argc, argv, &args, &arg_count);
    s->id = none_if_empty(s->id);
    s->name = none_if_empty(s->name);
    s->interface = none_if_empty(s->interface);
    s->agent_id_option = none_if_empty(s->agent_id_option);
    status = status < 0 ? tob_log_options_apply(command, &s->log) : status;
    status = status < 0 ? check_names(command, s, id_option) : status;
    if (status < 0 && !s->once && tob_watch_open(&s->secret_file, 1, &s->watch)) {
        s->watch_errno = errno;
    }
    // Once it is watched, so that no change is missed.
    status = status < 0 ? read_credential(command, s, secret_option, file_option) : status;
    if (status < 0) {
        set_agent_id(s);
    }
    return status;
}

static int parse_client(int argc, char **argv, tob_agent_settings *s) {
    const tob_option options[] = {
        {.name = "client-id",
         .env = "CLIENT_ID",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &s->id,
         .help = "The client, as registered."},
        {.env = "API_KEY",
         .value = "KEY",
         .kind = TOB_OPTION_STRING,
         .target = &s->secret,
         .help = "The client's API key."},
        {.name = "api-key-file",
         .env = "API_KEY_FILE",
         .value = "FILE",
         .kind = TOB_OPTION_STRING,
         .target = &s->secret_file,
         .help = "A file with the API key; read again when it changes, and on SIGHUP."},
        {.name = "interface",
         .env = "TOBOGGANING_INTERFACE",
         .value = "IF",
         .fallback = "wg0",
         .kind = TOB_OPTION_STRING,
         .target = &s->interface,
         .help = "The tunnel's network interface."},
        {.name = "headless",
         .env = "TOBOGGANING_HEADLESS",
         .kind = TOB_OPTION_FLAG,
         .target = &s->headless,
         .help = "This client runs without a user interface."},
        COMMON_OPTIONS(s),
        TOB_LOG_OPTIONS(&s->log),
    };
    const tob_command command = {
        .program = "tobogganing-agent",
        .name = "client",
        .summary = "report a VPN client's tunnel",
        .description =
            "Samples the counters of the tunnel's interface and how long it has been up, and submits them in "
            "compressed batches. While the server is away samples wait, and batches are repeated.\n"
            "With --from-stdin each line is a report: {\"headless\": false, \"metrics\": {\"bytes_sent\": "
            "1048576, "
            "\"bytes_received\": 2097152, \"packets_sent\": 1000, \"packets_received\": 1500, "
            "\"connection_uptime\": "
            "3600}}, and may have \"time\" (Unix seconds) and, to relay for others, \"client_id\" and "
            "\"api_key\".\n"
            "A bad or rejected line is logged with its number and makes the exit status 1; the others are "
            "stored.",
        .examples =
            "  tobogganing-agent client --client-id laptop-7 --api-key-file /etc/tobogganing/api-key\n"
            "  API_KEY=tobk_… tobogganing-agent client --client-id laptop-7 --interface eth0 --once\n"
            "  tobogganing-agent client --from-stdin < reports.jsonl",
        .options = options,
        .option_count = COUNT(options),
    };
    return parse(&command, argc, argv, s, "client-id", "API_KEY", "api-key-file");
}

static int parse_headend(int argc, char **argv, tob_agent_settings *s) {
    const tob_option options[] = {
        {.name = "headend-id",
         .env = "HEADEND_ID",
         .value = "ID",
         .kind = TOB_OPTION_STRING,
         .target = &s->id,
         .help = "The headend, as registered."},
        {.env = "HEADEND_TOKEN",
         .value = "JWT",
         .kind = TOB_OPTION_STRING,
         .target = &s->secret,
         .help = "The headend's token."},
        {.name = "token-file",
         .env = "HEADEND_TOKEN_FILE",
         .value = "FILE",
         .kind = TOB_OPTION_STRING,
         .target = &s->secret_file,
         .help = "A file with the token; read again when it changes, and on SIGHUP."},
        {.name = "name",
         .env = "HEADEND_NAME",
         .value = "NAME",
         .kind = TOB_OPTION_STRING,
         .target = &s->name,
         .help = "Shown as the label name. Default: as registered."},
        {.name = "interface",
         .env = "TOBOGGANING_INTERFACE",
         .value = "IF",
         .kind = TOB_OPTION_STRING,
         .target = &s->interface,
         .help = "Measure the bandwidth of this interface. Default: the sum of all but lo; where there are "
                 "bridges "
                 "name one, or bytes are counted once for each layer."},
        {.name = "ports",
         .env = "TOBOGGANING_PORTS",
         .value = "PORTS",
         .kind = TOB_OPTION_STRING,
         .target = &s->ports,
         .help = "Count established TCP connections to these local ports only, e.g. 443,8443. Default: all."},
        COMMON_OPTIONS(s),
        TOB_LOG_OPTIONS(&s->log),
    };
    const tob_command command = {
        .program = "tobogganing-agent",
        .name = "headend",
        .summary = "report a network gateway",
        .description =
            "Samples established TCP connections, bandwidth in bytes per second, CPU in percent of the "
            "machine and "
            "memory in use, and submits them in compressed batches. While the server is away samples wait, "
            "and "
            "batches are repeated.\n"
            "With --from-stdin each line is a report: {\"headend_name\": \"us-east-1\", \"metrics\": "
            "{\"active_connections\": 150, \"bandwidth_in\": 10485760, \"bandwidth_out\": 5242880, "
            "\"cpu_usage\": 45.2, "
            "\"memory_usage\": 2147483648}}, and may have \"time\" (Unix seconds) and, to relay for others, "
            "\"headend_id\" and \"token\".\n"
            "A bad or rejected line is logged with its number and makes the exit status 1; the others are "
            "stored.",
        .examples =
            "  tobogganing-agent headend --headend-id gw-1 --token-file /etc/tobogganing/headend-token\n"
            "  HEADEND_TOKEN=$(tobogganctl headend token gw-1) tobogganing-agent headend --headend-id gw-1 "
            "--once",
        .options = options,
        .option_count = COUNT(options),
    };
    return parse(&command, argc, argv, s, "headend-id", "HEADEND_TOKEN", "token-file");
}

int tob_agent_settings_parse(tob_source_kind kind, int argc, char **argv, tob_agent_settings *ret) {
    *ret = (tob_agent_settings){.kind = kind};
    return kind == TOB_SOURCE_CLIENT ? parse_client(argc, argv, ret) : parse_headend(argc, argv, ret);
}

static void wipe_credential(tob_agent_settings *settings) {
    if (settings->credential) {
        explicit_bzero(settings->credential, strlen(settings->credential));
    }
    free(settings->credential);
    settings->credential = NULL;
}

void tob_agent_settings_fini(tob_agent_settings *settings) {
    wipe_credential(settings);
    tob_watch_free(settings->watch);
    settings->watch = NULL;
}

tob_error tob_agent_settings_reload(tob_agent_settings *settings) {
    char *credential = NULL;
    if (!settings->secret_file || !*settings->secret_file) {
        return TOB_OK;
    }
    tob_error err = tob_secret_read_first(NULL, settings->secret_file, &credential);
    if (!err) {
        wipe_credential(settings);
        settings->credential = credential;
    }
    return err;
}
