// tob_agent_settings is what the command line and the environment say: one table of options for each mode.
//
// Threads: main thread.
#ifndef TOB_AGENT_SETTINGS_H
#define TOB_AGENT_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/problem.h"
#include "agent/queue.h"
#include "util/options.h"
#include "util/text.h"
#include "util/watch.h"

typedef struct tob_agent_settings {
    tob_source_kind kind;
    const char *server;
    const char *id;   // NULL: only with from_stdin
    const char *name; // of a headend, or NULL
    char *credential; // owned; NULL: only with from_stdin
    const char *interface;
    const char *ports;
    const char *root;
    bool headless;
    bool once;
    bool from_stdin;
    uint64_t sample_interval_ms;
    uint64_t batch_interval_ms; // 0: as the server asks
    uint64_t call_timeout_ms;
    uint64_t deadline_ms;
    uint64_t max_queued;
    char agent_id[TOB_MAX_ID_BYTES + 1];

    const char *secret; // where the credential comes from
    const char *secret_file;
    tob_watch *watch; // of that file; NULL without one, with once, and when it can't be watched; owned
    int watch_errno;  // why it can't, or 0
    const char *agent_id_option;
    tob_log_options log;
} tob_agent_settings;

// tob_agent_settings_parse reads the options of one mode; argv[0] is skipped.
// Returns -1 to go on, else the status to exit with, as tob_options_parse. Call _fini in any case.
TOB_MUST_USE int tob_agent_settings_parse(tob_source_kind kind, int argc, char **argv,
                                          tob_agent_settings *ret);
void tob_agent_settings_fini(tob_agent_settings *settings);

// tob_agent_settings_reload reads the credential's file again; on an error the old one stays.
// Errors: as tob_secret_read_first.
TOB_MUST_USE tob_error tob_agent_settings_reload(tob_agent_settings *settings);

#endif
