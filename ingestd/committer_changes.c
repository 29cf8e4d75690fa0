// What the registry changed: sources that are gone, or have other labels.
#include <string.h>

#include "ingestd/committer_state.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

enum {
    WAITING_MAX_BYTES = 16 << 20, // more than the largest import's ids
    SLICE = 2048,                 // sources
    SLICE_INTERVAL_MS = 10,
    HEAD_BYTES = 2,
};

void tob_committer_changes_init(tob_committer_changes *changes) {
    *changes = (tob_committer_changes){.due_ms = UINT64_MAX};
    tob_buffer_init(&changes->waiting, WAITING_MAX_BYTES);
    tob_buffer_init(&changes->taken, WAITING_MAX_BYTES);
}

void tob_committer_changes_fini(tob_committer_changes *changes) {
    tob_buffer_fini(&changes->waiting);
    tob_buffer_fini(&changes->taken);
}

bool tob_committer_changes_wait(const tob_committer_changes *changes) {
    return changes->due_ms == UINT64_MAX && (changes->waiting.len > 0 || changes->all);
}

static bool add(tob_buffer *to, tob_source_kind kind, const char *id, size_t len) {
    uint8_t *at = NULL;
    if (tob_buffer_reserve(to, HEAD_BYTES + len, &at)) {
        return false;
    }
    at[0] = (uint8_t)kind;
    at[1] = (uint8_t)len;
    memcpy(at + HEAD_BYTES, id, len);
    to->len += HEAD_BYTES + len;
    return true;
}

void tob_committer_source_changed(tob_committer *c, tob_source_kind kind, const char *id) {
    tob_committer_changes *changes = &c->changes;
    size_t len = strnlen(id, TOB_MAX_ID_BYTES + 1);
    if (len > TOB_MAX_ID_BYTES) {
        return; // no source has such an id
    }
    pthread_mutex_lock(&c->lock);
    bool first = changes->waiting.len == 0 && !changes->all;
    if (!changes->all && !add(&changes->waiting, kind, id, len)) {
        changes->all = true; // which names are in it does not matter any more
        tob_buffer_fini(&changes->waiting);
        tob_buffer_init(&changes->waiting, WAITING_MAX_BYTES);
    }
    if (first) {
        pthread_cond_signal(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
}

void tob_committer_relabelled(tob_committer *c) {
    tob_store_stats stats;
    tob_store_get_stats(c->store, &stats);
    c->relabelled = stats.end;
    c->unpublished = true;
}

// Takes what waits. When that is everything, the sweep does it.
static void take(tob_committer *c, uint64_t now_ms) {
    tob_committer_changes *changes = &c->changes;
    pthread_mutex_lock(&c->lock);
    tob_buffer emptied = changes->taken;
    bool all = changes->all;
    changes->taken = changes->waiting;
    changes->waiting = emptied;
    changes->all = false;
    changes->done = 0;
    changes->due_ms = changes->taken.len > 0 ? now_ms : UINT64_MAX;
    pthread_mutex_unlock(&c->lock);
    if (all) {
        tob_sweep_want_relabelled(&c->sweep, now_ms);
    }
}

// A row with another label is a new version; one whose source is gone goes.
static tob_error follow(tob_committer *c, tob_source_kind kind, const char *id, size_t len, bool *ret_touched,
                        bool *ret_removed) {
    tob_fleet *fleet = tob_store_fleet(c->store);
    bool client = kind == TOB_SOURCE_CLIENT;
    tob_directory_read_lock(c->options.directory);
    bool known = client ? tob_directory_find_client(c->options.directory, id, len) != NULL
                        : tob_directory_find_headend(c->options.directory, id, len) != NULL;
    tob_directory_read_unlock(c->options.directory);
    if (!known) {
        *ret_removed = true;
        return tob_store_add_removal(c->store, kind, id, tob_clock_unix_ms());
    }
    uint32_t row = client ? tob_fleet_find_client(fleet, id, len) : tob_fleet_find_headend(fleet, id, len);
    if (row != TOB_FLEET_NONE) {
        tob_fleet_touch(fleet, kind, row);
        *ret_touched = true;
    }
    return TOB_OK;
}

static void follow_slice(tob_committer *c, uint64_t now_ms) {
    tob_committer_changes *changes = &c->changes;
    char id[TOB_MAX_ID_BYTES + 1];
    bool touched = false, removed = false;
    tob_error err = TOB_OK;
    for (size_t n = 0; n < SLICE && changes->done < changes->taken.len; n++) {
        const uint8_t *at = changes->taken.data + changes->done;
        size_t len = at[1];
        memcpy(id, at + HEAD_BYTES, len);
        id[len] = 0;
        tob_error failed = follow(c, (tob_source_kind)at[0], id, len, &touched, &removed);
        err = err ? err : failed;
        changes->done += HEAD_BYTES + len;
    }
    if (removed) { // also of what was checked before and arrives later
        tob_error failed = tob_committer_sync(c, 0);
        err = err ? err : failed;
        tob_sweep_want(&c->sweep, now_ms, TOB_SWEEP_DELAY_MS);
    }
    if (touched) {
        tob_committer_relabelled(c);
    }
    if (err) {
        tob_warn("rows_not_removed", TOB_ERR(err),
                 TOB_STR("reason", "their sources are gone; they go later"));
    }
}

void tob_committer_follow_changes(tob_committer *c, uint64_t now_ms) {
    tob_committer_changes *changes = &c->changes;
    if (changes->due_ms == UINT64_MAX) {
        take(c, now_ms);
    }
    if (now_ms < changes->due_ms) {
        return;
    }
    follow_slice(c, now_ms);
    changes->due_ms = now_ms + SLICE_INTERVAL_MS;
    if (changes->done == changes->taken.len) {
        tob_buffer_fini(&changes->taken);
        tob_buffer_init(&changes->taken, WAITING_MAX_BYTES);
        changes->due_ms = UINT64_MAX;
    }
}
