#include "ingestd/registry_sync.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/registry_certificates.h"
#include "ingestd/registry_clients.h"
#include "ingestd/registry_clusters.h"
#include "ingestd/registry_headends.h"
#include "ingestd/registry_signing_keys.h"
#include "util/log.h"

#define MAX_LISTENERS 4

typedef struct listening {
    tob_registry_sync_listener listener;
    bool signing_keys; // changed since it has read them
    bool certificates;
} listening;

struct tob_registry_sync {
    tob_registry *registry;
    tob_directory *directory;
    listening listeners[MAX_LISTENERS];
    size_t listener_count;
    bool loaded;
    uint64_t since;        // everything up to this change is in the directory
    bool clusters_changed; // since they were counted
    uint64_t signing_keys; // the newest change of one
    uint64_t certificates;
    _Atomic bool away;
    _Atomic bool was_away; // since everything was read
};

tob_error tob_registry_sync_new(tob_registry *registry, tob_directory *directory, tob_registry_sync **ret) {
    tob_registry_sync *sync = calloc(1, sizeof(*sync));
    if (!sync) {
        return TOB_NO_MEMORY;
    }
    sync->registry = registry;
    sync->directory = directory;
    *ret = sync;
    return TOB_OK;
}

void tob_registry_sync_free(tob_registry_sync *sync) {
    free(sync);
}

void tob_registry_sync_listen(tob_registry_sync *sync, const tob_registry_sync_listener *listener) {
    assert(sync->listener_count < MAX_LISTENERS);
    sync->listeners[sync->listener_count++] = (listening){.listener = *listener};
}

bool tob_registry_sync_away(const tob_registry_sync *sync) {
    return atomic_load_explicit(&sync->away, memory_order_relaxed);
}

void tob_registry_sync_set_away(tob_registry_sync *sync, bool away) {
    if (away) {
        atomic_store_explicit(&sync->was_away, true, memory_order_relaxed);
    }
    if (atomic_exchange_explicit(&sync->away, away, memory_order_relaxed) != away) {
        if (away) {
            tob_warn("registry_away", TOB_STR("registry", tob_registry_engine(sync->registry)));
        } else {
            tob_info("registry_back", TOB_STR("registry", tob_registry_engine(sync->registry)));
        }
    }
}

static void source_changed(const tob_registry_sync *sync, tob_source_kind kind, const char *id) {
    for (size_t i = 0; i < sync->listener_count; i++) {
        const tob_registry_sync_listener *l = &sync->listeners[i].listener;
        if (l->source_changed) {
            l->source_changed(l->user, kind, id);
        }
    }
}

static tob_error take_client(void *user, const tob_registry_client *client) {
    const tob_registry_sync *sync = user;
    tob_directory_previous_key previous = {.expires_unix_ms = client->previous_key_expires_unix_ms};
    tob_directory_client row = {.id = client->id,
                                .name = client->name,
                                .type = client->type,
                                .previous_key = previous.expires_unix_ms ? &previous : NULL,
                                .revoked = client->revoked_unix_ms != 0};
    memcpy(row.key_hash, client->key_hash, sizeof(row.key_hash));
    memcpy(previous.hash, client->previous_key_hash, sizeof(previous.hash));
    bool relabelled = false;
    tob_error err = tob_directory_put_client(sync->directory, &row, &relabelled);
    if (!err && relabelled) {
        source_changed(sync, TOB_SOURCE_CLIENT, client->id);
    }
    return err;
}

static tob_error take_headend(void *user, const tob_registry_headend *headend) {
    const tob_registry_sync *sync = user;
    tob_directory_headend row = {.id = headend->id,
                                 .name = headend->name,
                                 .cluster_id = headend->cluster_id,
                                 .region = headend->region,
                                 .datacenter = headend->datacenter,
                                 .tokens_not_before_unix_s = headend->tokens_not_before_unix_s,
                                 .revoked = headend->revoked_unix_ms != 0 || headend->cluster_revoked};
    bool relabelled = false;
    tob_error err = tob_directory_put_headend(sync->directory, &row, &relabelled);
    if (!err && relabelled) {
        source_changed(sync, TOB_SOURCE_HEADEND, headend->id);
    }
    return err;
}

static void client_erased(const tob_registry_sync *sync, const tob_registry_deletion *deletion) {
    for (size_t i = 0; deletion->erase && i < sync->listener_count; i++) {
        const tob_registry_sync_listener *l = &sync->listeners[i].listener;
        if (l->client_erased) {
            l->client_erased(l->user, deletion->id, deletion->change);
        }
    }
}

static tob_error take_erasure(void *user, const tob_registry_deletion *deletion) {
    client_erased(user, deletion);
    return TOB_OK;
}

static tob_error take_deletion(void *user, const tob_registry_deletion *deletion) {
    tob_registry_sync *sync = user;
    if (strcmp(deletion->kind, "client") == 0) {
        if (tob_directory_remove_client(sync->directory, deletion->id)) {
            source_changed(sync, TOB_SOURCE_CLIENT, deletion->id);
        }
        client_erased(sync, deletion);
    } else if (strcmp(deletion->kind, "headend") == 0) {
        if (tob_directory_remove_headend(sync->directory, deletion->id)) {
            source_changed(sync, TOB_SOURCE_HEADEND, deletion->id);
        }
    } else {
        sync->clusters_changed = true;
    }
    return TOB_OK;
}

static void swept(void *user, bool headend, const char *id) {
    source_changed(user, headend ? TOB_SOURCE_HEADEND : TOB_SOURCE_CLIENT, id);
}

static void set_behind(tob_registry_sync *sync, bool signing_keys, bool certificates) {
    for (size_t i = 0; i < sync->listener_count; i++) {
        sync->listeners[i].signing_keys = sync->listeners[i].signing_keys || signing_keys;
        sync->listeners[i].certificates = sync->listeners[i].certificates || certificates;
    }
}

static void numbered(const tob_registry_sync *sync, uint64_t last) {
    for (size_t i = 0; i < sync->listener_count; i++) {
        const tob_registry_sync_listener *l = &sync->listeners[i].listener;
        if (l->numbered) {
            l->numbered(l->user, last);
        }
    }
}

// Reads all there is. Which erasures are done the eraser knows, so it hears of all that are remembered.
static tob_error load(tob_registry_sync *sync, uint64_t last) {
    numbered(sync, last);
    tob_directory_mark(sync->directory);
    tob_error err = tob_registry_list_clients(sync->registry, "", UINT32_MAX, take_client, sync);
    if (!err) {
        err = tob_registry_list_headends(sync->registry, "", UINT32_MAX, take_headend, sync);
    }
    if (!err) {
        err = tob_directory_sweep(sync->directory, swept, sync);
    }
    if (!err) {
        err = tob_registry_deletions(sync->registry, 0, take_erasure, sync);
    }
    sync->clusters_changed = true;
    set_behind(sync, true, true);
    return err;
}

// Deletions come first: of an id that was deleted and registered again, the row is read after the note.
static tob_error follow(tob_registry_sync *sync) {
    bool changed = false;
    tob_error err = tob_registry_deletions(sync->registry, sync->since, take_deletion, sync);
    if (!err) {
        err = tob_registry_changed_clients(sync->registry, sync->since, take_client, sync);
    }
    if (!err) {
        err = tob_registry_changed_headends(sync->registry, sync->since, take_headend, sync);
    }
    if (!err) {
        err = tob_registry_clusters_changed(sync->registry, sync->since, &changed);
        sync->clusters_changed = sync->clusters_changed || changed;
    }
    return err;
}

static tob_error count_clusters(tob_registry_sync *sync) {
    uint64_t count = 0;
    tob_error err = tob_registry_count_clusters(sync->registry, &count);
    if (!err) {
        tob_directory_set_clusters(sync->directory, count);
        sync->clusters_changed = false;
    }
    return err;
}

typedef tob_error (*tell_fn)(void *user, tob_registry *registry);

// An error of the database is the run's. Another is the listener's own, which must not stop all else: it is logged, and the
// next run tells again.
static tob_error tell(tob_registry_sync *sync, tell_fn fn, void *user, const char *event, bool *behind) {
    if (!fn || !*behind) {
        return TOB_OK;
    }
    tob_error err = fn(user, sync->registry);
    *behind = err != TOB_OK;
    if (!err || err == TOB_UNAVAILABLE) {
        return err;
    }
    tob_err(event, TOB_ERR(err));
    return TOB_OK;
}

// Finds out whether keys or certificates are among what changed.
static tob_error look_for_others(tob_registry_sync *sync) {
    uint64_t signing_keys = 0, certificates = 0;
    tob_error err = tob_registry_signing_keys_change(sync->registry, &signing_keys);
    if (!err) {
        err = tob_registry_certificates_change(sync->registry, &certificates);
    }
    if (!err) {
        set_behind(sync, signing_keys != sync->signing_keys, certificates != sync->certificates);
        sync->signing_keys = signing_keys;
        sync->certificates = certificates;
    }
    return err;
}

static tob_error tell_listeners(tob_registry_sync *sync) {
    tob_error err = TOB_OK;
    for (size_t i = 0; i < sync->listener_count && !err; i++) {
        listening *l = &sync->listeners[i];
        err = tell(sync, l->listener.signing_keys_changed, l->listener.user, "signing_keys_not_read",
                   &l->signing_keys);
        if (!err) {
            err = tell(sync, l->listener.certificates_changed, l->listener.user, "certificates_not_read",
                       &l->certificates);
        }
    }
    return err;
}

// Brings everything up to the registry's newest change. Its number is read before anything else: what is committed while we
// read has a greater one, may be seen now and is seen again by the next run.
static tob_error read_changes(tob_registry_sync *sync, bool was_away) {
    uint64_t last = 0, forgotten = 0;
    tob_error err = tob_registry_last_change(sync->registry, &last, &forgotten);
    if (err || (sync->loaded && last == sync->since && !was_away)) {
        return err;
    }
    // A number that is smaller than ours is that of a database that was restored from a backup.
    bool follows = sync->loaded && sync->since >= forgotten && sync->since < last && !was_away;
    err = follows ? follow(sync) : load(sync, last);
    if (!err && sync->clusters_changed) {
        err = count_clusters(sync);
    }
    if (!err) {
        err = look_for_others(sync);
    }
    if (!err) {
        sync->loaded = true;
        sync->since = last;
    }
    return err;
}

// A database that was away may have come back without its last changes (a standby that lagged behind, a backup), and then
// have given their numbers to others: everything is read.
static tob_error bring_up_to_date(tob_registry_sync *sync) {
    bool was_away = atomic_exchange_explicit(&sync->was_away, false, memory_order_relaxed);
    tob_error err = read_changes(sync, was_away);
    if (err && was_away) {
        atomic_store_explicit(&sync->was_away, true, memory_order_relaxed);
    }
    return err;
}

tob_error tob_registry_sync_run(tob_registry_sync *sync) {
    tob_error err = bring_up_to_date(sync);
    if (!err) {
        err = tell_listeners(sync);
    }
    if (!err || err == TOB_UNAVAILABLE) {
        tob_registry_sync_set_away(sync, err == TOB_UNAVAILABLE);
    }
    return err;
}
