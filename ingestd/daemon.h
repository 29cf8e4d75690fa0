// tob_ingestd puts the modules together: who is who (identity.h), committer, checkpointer, replayer, eraser, services, RPC
// server.
//
// Threads: one.
#ifndef TOB_INGESTD_DAEMON_H
#define TOB_INGESTD_DAEMON_H

#include <stdint.h>

#include "ingestd/start_problem.h"
#include "journal/journal.h"
#include "util/error.h"

typedef struct tob_ingestd tob_ingestd;

typedef struct tob_ingestd_settings {
    const char *listen;
    const char *bus_listen;
    const char *state_dir;
    const char *registry_url;           // "" or NULL: sqlite:STATE_DIR/registry.db
    const char *registry_password_file; // for the rest of these, too: "" or NULL: none
    const char *jwks_file;
    const char *jwks_issuer;
    const char *jwks_audience;
    const char *ca_cert_file; // both or none of the two
    const char *ca_key_file;
    const char *admin_tokens; // lists and files as util/secret.h takes them
    const char *admin_token_file;
    const char *cluster_tokens;
    const char *cluster_token_file;
    uint64_t wrong_credentials_burst;
    tob_journal_sync_mode journal_sync;
    uint64_t journal_sync_interval_ms;
    uint64_t journal_segment_bytes;
    uint64_t journal_retain_ms;
    uint64_t journal_retain_bytes;
    uint64_t checkpoint_interval_ms;
    uint64_t checkpoint_bytes;
    uint64_t max_request_memory;
    uint64_t report_interval_ms;
    uint64_t rpc_contexts;
    uint64_t max_connections;
} tob_ingestd_settings;

// tob_ingestd_new opens everything and recovers; nothing listens but the bus.
//   settings   borrowed for the life of the object
// Errors: with the problem filled; TOB_UNAVAILABLE when the registry's database is away: it may be tried again.
TOB_MUST_USE tob_error tob_ingestd_new(const tob_ingestd_settings *settings, tob_ingestd **ret,
                                       tob_start_problem *ret_problem);

// tob_ingestd_start begins to serve.
TOB_MUST_USE tob_error tob_ingestd_start(tob_ingestd *ingestd, tob_start_problem *ret_problem);

// tob_ingestd_reload reads token files and the JWKS again; what can't be read is logged and stays as it was.
void tob_ingestd_reload(tob_ingestd *ingestd);

// tob_ingestd_stop answers what is under way, journals, makes a checkpoint, and ends all threads.
void tob_ingestd_stop(tob_ingestd *ingestd);
void tob_ingestd_free(tob_ingestd *ingestd);

#endif
