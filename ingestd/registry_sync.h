// tob_registry_sync brings the directory, and whoever else keeps a copy of what the registry holds, up to the registry's newest
// change: our own changes before they are answered, others' when the database says that there may be some. There is one way
// for both, so that what one process changes is seen by all in the same form.
//
// Threads: the registry worker's, except tob_registry_sync_away and _set_away (any).
#ifndef TOB_INGESTD_REGISTRY_SYNC_H
#define TOB_INGESTD_REGISTRY_SYNC_H

#include "ingestd/directory.h"
#include "ingestd/registry.h"
#include "wire/metrics.h"

typedef struct tob_registry_sync tob_registry_sync;

// Who else wants to know. All may be NULL; called from tob_registry_sync_run.
typedef struct tob_registry_sync_listener {
    // A source is not registered any more, or its labels are others now: its row has to be looked at again.
    void (*source_changed)(void *user, tob_source_kind kind, const char *id);
    // Everything is about to be read, of a registry whose newest change is `last`.
    void (*numbered)(void *user, uint64_t last);
    // A client's reports are to leave the journal. `change` grows.
    void (*client_erased)(void *user, const char *id, uint64_t change);
    // Signing keys changed: read them again. An error is logged, and it is called again by the next run.
    tob_error (*signing_keys_changed)(void *user, tob_registry *registry);
    // Certificates changed; likewise.
    tob_error (*certificates_changed)(void *user, tob_registry *registry);
    void *user;
} tob_registry_sync_listener;

// TOB_NO_MEMORY. All borrowed.
TOB_MUST_USE tob_error tob_registry_sync_new(tob_registry *registry, tob_directory *directory,
                                             tob_registry_sync **ret);
void tob_registry_sync_free(tob_registry_sync *sync);

// Before the first run that shall tell it: at most four.
void tob_registry_sync_listen(tob_registry_sync *sync, const tob_registry_sync_listener *listener);

// tob_registry_sync_run reads what changed since the last run, the first time and after too long a time everything, and
// returns when all of it is in the directory and the listeners have heard.
// Errors: those of the registry: nothing is lost, the next run goes on.
TOB_MUST_USE tob_error tob_registry_sync_run(tob_registry_sync *sync);

// tob_registry_sync_away: did the last run, or the database's watcher, find the database away? Lock-free. Whoever finds out that
// it has gone away or come back logs it.
bool tob_registry_sync_away(const tob_registry_sync *sync);
void tob_registry_sync_set_away(tob_registry_sync *sync, bool away);

#endif
