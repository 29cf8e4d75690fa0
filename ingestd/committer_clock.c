// What the committer does by the clock. Each step is short: reports wait meanwhile.
#include "ingestd/committer_state.h"
#include "util/clock.h"
#include "util/index.h"
#include "util/log.h"

void tob_committer_publish(tob_committer *c, bool all) {
    uint64_t at = tob_clock_monotonic_ms();
    if (!c->unpublished || (!all && at - c->published_ms < TOB_PUBLISH_INTERVAL_MS)) {
        return;
    }
    tob_store_stats stats;
    bool more = false;
    tob_store_get_stats(c->store, &stats);
    tob_error err = tob_bus_publish(c->bus, stats.end, all ? SIZE_MAX : TOB_BUS_ROWS_PER_PUBLISH, &more);
    if (err) {
        tob_warn("publish_failed", TOB_ERR(err));
    }
    c->unpublished = more;
    c->published_ms = more ? 0 : at;
}

// Our own counters into the table, when they have changed, and now and then in any case: who is silent is forgotten.
static tob_error count_ourselves(tob_committer *c, uint64_t now) {
    Tobogganing__V1__Process *message = NULL;
    const char *reason = NULL;
    tob_arena_clear(c->arena);
    tob_error err = tob_process_message(c->options.process, c->arena, &message);
    uint8_t *packed =
        err ? NULL : tob_arena_alloc(c->arena, tobogganing__v1__process__get_packed_size(message) + 1);
    if (!packed) {
        return err ? err : tob_arena_error(c->arena);
    }
    uint64_t hash = tob_id_hash((const char *)packed, tobogganing__v1__process__pack(message, packed));
    if (hash == c->counters_hash && now < c->counters_ms + TOB_COUNTERS_INTERVAL_MS) {
        return TOB_OK;
    }
    c->counters_hash = hash;
    c->counters_ms = now;
    return tob_process_table_put(tob_store_processes(c->store), message, now, &reason);
}

// What a heartbeat says of counters is durable: who has heard it never sees a total go back. While the journal can't be
// written that is tried only now and then.
static void journal_counters(tob_committer *c, uint64_t now) {
    if (c->stats.journal_failing && now < c->counters_tried_ms + TOB_COUNTERS_INTERVAL_MS) {
        return;
    }
    c->counters_tried_ms = now;
    tob_error err = tob_store_add_counters(c->store, tob_clock_unix_ms());
    if (!err) {
        err = tob_committer_sync(c, 0);
    }
    if (err) {
        tob_warn("counters_not_journalled", TOB_ERR(err));
    }
}

// Rows first, so that the heartbeat's position is true for all buckets.
void tob_committer_heartbeat(tob_committer *c) {
    Tobogganing__V1__Manager manager;
    tob_store_stats stats;
    uint64_t now = tob_clock_monotonic_ms();
    tob_committer_publish(c, true);
    tob_error err = count_ourselves(c, now);
    if (!err) {
        err = tob_process_table_retire(tob_store_processes(c->store), now);
    }
    if (err) {
        tob_warn("counters_not_updated", TOB_ERR(err));
    }
    journal_counters(c, now);
    tob_committer_fill_manager(c, &manager);
    tob_store_get_stats(c->store, &stats);
    err = tob_bus_heartbeat(c->bus, &manager, stats.end);
    if (err) {
        tob_warn("heartbeat_failed", TOB_ERR(err));
    }
    c->heartbeat_ms = tob_clock_monotonic_ms();
}

static void sweep(tob_committer *c) {
    uint64_t added = 0, touched = 0, now = tob_clock_monotonic_ms();
    tob_error err = tob_sweep_slice(&c->sweep, c->store, c->options.directory, now, tob_clock_unix_ms(),
                                    &added, &touched);
    tob_error failed = added ? tob_committer_sync(c, 0) : TOB_OK;
    if (touched) {
        tob_committer_relabelled(c);
    }
    err = err ? err : failed;
    if (err) {
        tob_warn("sweep_failed", TOB_ERR(err));
        tob_sweep_failed(&c->sweep, now);
    } else if (added) {
        tob_info("rows_swept", TOB_UINT("rows", added),
                 TOB_STR("reason", "their sources are not registered any more"));
    }
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t tob_committer_due(const tob_committer *c) {
    uint64_t due = earlier(c->heartbeat_ms + TOB_HEARTBEAT_INTERVAL_MS, c->sweep.due_ms);
    due = earlier(due, tob_store_settle_due(c->store));
    due = earlier(due, c->changes.due_ms);
    return c->unpublished ? earlier(due, c->published_ms + TOB_PUBLISH_INTERVAL_MS) : due;
}

void tob_committer_tick(tob_committer *c) {
    uint64_t now = tob_clock_monotonic_ms();
    tob_committer_publish(c, false);
    if (now >= c->heartbeat_ms + TOB_HEARTBEAT_INTERVAL_MS) {
        tob_committer_heartbeat(c);
    }
    if (now >= tob_store_settle_due(c->store)) {
        tob_committer_settle(c);
    }
    tob_committer_follow_changes(c, now);
    if (atomic_exchange(&c->sweep_wanted, false)) {
        tob_sweep_want(&c->sweep, now, TOB_SWEEP_DELAY_MS);
    }
    if (now >= c->sweep.due_ms) {
        sweep(c);
    }
}
