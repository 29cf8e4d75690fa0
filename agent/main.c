#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/run.h"
#include "agent/sender.h"
#include "agent/settings.h"
#include "util/daemon.h"
#include "util/log.h"
#include "util/random.h"
#include "util/secret.h"

static const struct mode {
    const char *name;
    tob_source_kind kind;
    const char *help;
} modes[] = {
    {"client", TOB_SOURCE_CLIENT, "report a VPN client's tunnel"},
    {"headend", TOB_SOURCE_HEADEND, "report a network gateway"},
};

static int usage(FILE *to, int status) {
    fprintf(to, "Usage: tobogganing-agent MODE [OPTION]…\n\nModes:\n");
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        fprintf(to, "  %-10s %s\n", modes[i].name, modes[i].help);
    }
    fprintf(to, "\nOptions: tobogganing-agent MODE --help; --version\n");
    return status;
}

static void log_stopped(tob_sender *sender) {
    tob_sender_stats stats = tob_sender_statistics(sender);
    if (stats.waiting) {
        tob_warn("samples_lost", TOB_UINT("samples", stats.waiting));
    }
    tob_info("stopped", TOB_UINT("samples", stats.pushed), TOB_UINT("acked", stats.acked),
             TOB_UINT("rejected", stats.rejected), TOB_UINT("dropped", stats.dropped),
             TOB_UINT("lost", stats.waiting));
}

static void warn_of_file(const tob_agent_settings *settings) {
    const char *path = settings->secret_file;
    if (tob_secret_file_exposed(path)) {
        tob_warn("token_file_readable", TOB_STR("file", path),
                 TOB_STR("hint", "others may read it: chmod 600"));
    }
    if (settings->watch_errno) {
        tob_warn("watch_failed", TOB_STR("file", path), TOB_STR("error", strerror(settings->watch_errno)),
                 TOB_STR("hint", "changes are read on SIGHUP only"));
    }
}

static int run(tob_agent_settings *settings) {
    uint64_t dropped = 0;
    const tob_sender_options options = {.server = settings->server,
                                        .agent_id = settings->agent_id,
                                        .boot_id = tob_random_u64(),
                                        .interval_ms = settings->batch_interval_ms,
                                        .call_timeout_ms = settings->call_timeout_ms,
                                        .max_queued = (size_t)settings->max_queued,
                                        .on_event = tob_agent_log_event,
                                        .user = &dropped};
    tob_sender *sender = NULL;
    tob_error err = tob_sender_new(&options, &sender);
    if (err) {
        tob_err("bad_configuration", TOB_STR("option", "--server (INGEST_URL)"),
                TOB_STR("value", settings->server), TOB_ERR(err));
        return err == TOB_INVALID ? TOB_EXIT_USAGE : 1;
    }
    int status = 1;
    err = tob_sender_start(sender);
    if (err) {
        tob_err("start_failed", TOB_ERR(err));
    } else {
        bool brief = settings->once || settings->from_stdin;
        if (!brief) {
            tob_info("ready", TOB_STR("agent_id", settings->agent_id), TOB_STR("server", settings->server));
            tob_daemon_notify("READY=1");
        }
        status = settings->from_stdin ? tob_agent_run_stdin(settings, sender, STDIN_FILENO)
                                      : tob_agent_run_sampling(settings, sender);
        tob_sender_stop(sender);
        if (!brief && status == 0) {
            log_stopped(sender);
        }
    }
    tob_sender_free(sender);
    return status;
}

int main(int argc, char **argv) {
    tob_daemon_keep_secrets();
    if (argc < 2) {
        return usage(stderr, TOB_EXIT_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0) {
        return usage(stdout, 0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("tobogganing-agent %s\n", TOB_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            tob_agent_settings settings;
            tob_daemon_block_signals();
            int status = tob_agent_settings_parse(modes[i].kind, argc - 1, argv + 1, &settings);
            if (status < 0) {
                warn_of_file(&settings);
                status = run(&settings);
            }
            tob_agent_settings_fini(&settings);
            return status;
        }
    }
    fprintf(stderr, "tobogganing-agent: no mode '%s'; see --help\n", argv[1]);
    return TOB_EXIT_USAGE;
}
