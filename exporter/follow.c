#include "exporter/follow.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

struct tob_follow {
    tob_feed feed;
    tob_resync resync;
    tob_gaps gaps;
    uint64_t epoch;
    uint64_t left_epoch; // the one before: its last messages may come late, by another connection
    bool has_left;
    bool full;    // only a snapshot helps
    bool synced;  // one was completed
    bool counted; // counters of this epoch came by the bus
    bool failing; // the last page was not to be had, and that is logged
    unsigned replay_failures;
    tob_place beat_place; // of the last heartbeat
    uint64_t not_before_ms;
    uint64_t progress_ms; // when a resync began or a page came
    uint64_t resynced_ms; // the end of the last one
    uint64_t asked_ms;    // for the page under way
    uint64_t paging_ms; // of the resync under way: the time in which a page was, without failures and pauses
    uint64_t took_ms;   // of the last one: likewise
    uint64_t bus_ms;
    uint64_t heard_ms;
    atomic_bool silent;
};

tob_error tob_follow_new(const tob_follow_options *options, uint64_t epoch, tob_moment now,
                         tob_follow **ret) {
    tob_follow *follow = calloc(1, sizeof(*follow));
    if (!follow) {
        return TOB_NO_MEMORY;
    }
    follow->feed = (tob_feed){.mirror = options->mirror,
                              .manager = options->manager,
                              .owner = options->owner,
                              .instance = options->instance,
                              .buckets = options->buckets};
    follow->epoch = epoch;
    follow->full = true;
    follow->bus_ms = now.monotonic_ms;
    follow->heard_ms = now.monotonic_ms;
    tob_resync_init(&follow->resync);
    tob_info("epoch_found", TOB_UINT("instance", options->instance), TOB_UINT("epoch", epoch));
    *ret = follow;
    return TOB_OK;
}

void tob_follow_free(tob_follow *follow) {
    if (follow) {
        tob_resync_fini(&follow->resync);
        free(follow);
    }
}

bool tob_follow_synced(const tob_follow *follow) {
    return follow->synced;
}

bool tob_follow_busy(const tob_follow *follow) {
    return follow->resync.kind != TOB_RESYNC_NONE;
}

bool tob_follow_working(const tob_follow *follow, tob_moment now) {
    return tob_follow_busy(follow) && now.monotonic_ms - follow->progress_ms < TOB_RESYNC_STALLED_MS;
}

uint64_t tob_follow_took_ms(const tob_follow *follow) {
    return follow->took_ms;
}

bool tob_follow_silent(const tob_follow *follow) {
    return atomic_load(&follow->silent);
}

uint64_t tob_follow_heard_ms(const tob_follow *follow) {
    return follow->heard_ms;
}

uint64_t tob_follow_instance(const tob_follow *follow) {
    return follow->feed.instance;
}

static bool own(const tob_follow *follow, unsigned b) {
    return follow->feed.buckets >> b & 1;
}

// Something is missing that no replay brings.
static void need_snapshot(tob_follow *follow) {
    tob_resync_abort(&follow->resync);
    follow->full = true;
}

static void adopt(tob_follow *follow, uint64_t epoch) {
    tob_info("epoch_changed", TOB_UINT("instance", follow->feed.instance), TOB_UINT("epoch", epoch));
    follow->left_epoch = follow->epoch;
    follow->has_left = true;
    follow->epoch = epoch;
    follow->counted = false;
    follow->beat_place = (tob_place){.segment = 0};
    follow->gaps = (tob_gaps){0};
    tob_mirror_begin_epoch(follow->feed.mirror, follow->feed.owner);
    need_snapshot(follow);
}

static void lose(tob_follow *follow, unsigned b, uint64_t last) {
    bool first = !follow->full && !tob_follow_busy(follow) && !tob_gaps_holes(&follow->gaps);
    uint64_t lost = tob_gaps_lose(&follow->gaps, b, last);
    if (first) {
        tob_warn("bus_gap", TOB_UINT("instance", follow->feed.instance), TOB_UINT("bucket", b),
                 TOB_UINT("lost", lost));
    }
}

static void apply_heartbeat(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    const Tobogganing__V1__Heartbeat *heartbeat = message->heartbeat;
    tob_place place = tob_place_of(message->position);
    if (heartbeat->n_last_sequences != TOB_BUS_BUCKETS) {
        tob_feed_refuse(&follow->feed, TOB_MALFORMED, now);
        return;
    }
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        if (!own(follow, b)) {
            continue;
        }
        if (heartbeat->last_sequences[b] > follow->gaps.buckets[b].seen) {
            lose(follow, b, heartbeat->last_sequences[b]);
        }
        tob_gaps_arrived(&follow->gaps, b, place);
    }
    if (heartbeat->manager && !tob_place_before(place, follow->beat_place)) {
        tob_feed_manager(&follow->feed, heartbeat->manager, now);
        follow->beat_place = place;
        follow->counted = true;
    }
}

static void apply_removals(tob_follow *follow, tob_source_kind kind, size_t n, char *const *ids,
                           uint64_t sequence) {
    for (size_t i = 0; i < n; i++) {
        tob_feed_removal(&follow->feed, kind, ids[i], UINT64_MAX);
        if (tob_resync_removed(&follow->resync, kind, ids[i], sequence)) {
            need_snapshot(follow);
        }
    }
}

static void apply_rows(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    unsigned b = message->topic - 1;
    struct tob_gap *gap = &follow->gaps.buckets[b];
    if (!own(follow, b) || message->sequence <= gap->seen) {
        return; // older than a resync
    }
    if (message->sequence - 1 > gap->seen) {
        lose(follow, b, message->sequence - 1);
    }
    gap->seen = message->sequence;
    if (tob_resync_contains(&follow->resync, b, message->sequence)) {
        return;
    }
    for (size_t i = 0; i < message->n_clients; i++) {
        tob_feed_client(&follow->feed, message->clients[i], false, now);
    }
    for (size_t i = 0; i < message->n_headends; i++) {
        tob_feed_headend(&follow->feed, message->headends[i], false, now);
    }
    apply_removals(follow, TOB_SOURCE_CLIENT, message->n_removed_clients, message->removed_clients,
                   message->sequence);
    apply_removals(follow, TOB_SOURCE_HEADEND, message->n_removed_headends, message->removed_headends,
                   message->sequence);
    tob_gaps_arrived(&follow->gaps, b, tob_place_of(message->position));
}

// A row that was lost for want of memory is only lost until there is memory again.
static void check_memory(tob_follow *follow) {
    if (follow->feed.starved) {
        follow->feed.starved = false;
        follow->full = true;
    }
}

void tob_follow_bus(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    bool rows = message->topic >= 1 && message->topic <= TOB_BUS_BUCKETS;
    if (!rows && !(message->topic == TOB_BUS_TOPIC_HEARTBEAT && message->heartbeat)) {
        return; // a topic of a later version
    }
    if (follow->has_left && message->epoch == follow->left_epoch) {
        return;
    }
    follow->bus_ms = now.monotonic_ms;
    follow->heard_ms = now.monotonic_ms;
    if (atomic_exchange(&follow->silent, false)) {
        tob_info("bus_live", TOB_UINT("instance", follow->feed.instance));
    }
    if (message->epoch != follow->epoch) {
        adopt(follow, message->epoch);
    }
    if (rows) {
        apply_rows(follow, message, now);
    } else {
        apply_heartbeat(follow, message, now);
    }
    check_memory(follow);
}

void tob_follow_hello(tob_follow *follow, uint64_t epoch, tob_moment now) {
    follow->heard_ms = now.monotonic_ms;
    bool left = follow->has_left && epoch == follow->left_epoch;
    if (epoch != follow->epoch && !left && tob_follow_silent(follow)) {
        adopt(follow, epoch);
    }
}

static bool begin(tob_follow *follow, tob_moment now) {
    uint64_t mask = tob_gaps_holes(&follow->gaps);
    bool poll = tob_follow_silent(follow) && now.monotonic_ms - follow->resynced_ms >= TOB_RESYNC_POLL_MS;
    if (!follow->full && !mask && !poll) {
        return false;
    }
    follow->progress_ms = now.monotonic_ms;
    follow->paging_ms = 0;
    mask = poll ? follow->feed.buckets : mask;
    tob_place from = tob_gaps_place(&follow->gaps, mask);
    if (follow->full || !tob_place_known(from)) {
        follow->full = false;
        tob_resync_begin_snapshot(&follow->resync, &follow->feed, now);
    } else {
        tob_resync_begin_replay(&follow->resync, mask, from, now);
    }
    return true;
}

bool tob_follow_request(tob_follow *follow, bool may_begin, tob_moment now, tob_page_request *ret) {
    if (follow->resync.asked || now.monotonic_ms < follow->not_before_ms) {
        return false;
    }
    if (!tob_follow_busy(follow) && !(may_begin && begin(follow, now))) {
        return false;
    }
    follow->asked_ms = now.monotonic_ms;
    tob_resync_request(&follow->resync, follow->feed.instance, follow->feed.buckets, ret);
    return true;
}

// Not to be had there: the journal doesn't reach back, or is another's, or ingestd is of an earlier version.
static bool replay_is_hopeless(tob_error error) {
    return error == TOB_OUT_OF_RANGE || error == TOB_PRECONDITION || error == TOB_UNIMPLEMENTED ||
           error == TOB_INVALID;
}

static void fail(tob_follow *follow, tob_error error, const char *message, uint32_t retry_after_ms,
                 tob_moment now) {
    uint64_t wait_ms = retry_after_ms > TOB_RESYNC_RETRY_MS ? retry_after_ms : TOB_RESYNC_RETRY_MS;
    bool hopeless = false;
    if (follow->resync.kind == TOB_RESYNC_REPLAY && error != TOB_CANCELLED && error != TOB_BUSY) {
        follow->replay_failures++;
        hopeless = replay_is_hopeless(error) || follow->replay_failures >= TOB_REPLAY_MAX_FAILURES;
    }
    follow->not_before_ms = now.monotonic_ms + wait_ms;
    if (hopeless) {
        tob_info("replay_given_up", TOB_UINT("instance", follow->feed.instance), TOB_ERR(error),
                 TOB_STR("message", message));
        follow->replay_failures = 0;
        need_snapshot(follow);
    } else if (!follow->failing && error != TOB_CANCELLED) {
        tob_warn(follow->resync.kind == TOB_RESYNC_REPLAY ? "replay_failed" : "snapshot_failed",
                 TOB_UINT("instance", follow->feed.instance), TOB_ERR(error), TOB_STR("message", message));
        follow->failing = true;
    }
}

void tob_follow_page_failed(tob_follow *follow, tob_error error, const char *message, uint32_t retry_after_ms,
                            tob_moment now) {
    follow->resync.asked = false;
    if (tob_follow_busy(follow)) {
        fail(follow, error, message, retry_after_ms, now);
    }
}

static void log_complete(const tob_follow *follow, uint64_t removed, tob_moment now) {
    const tob_resync *r = &follow->resync;
    const tob_mirror *mirror = follow->feed.mirror;
    if (r->kind == TOB_RESYNC_REPLAY) {
        tob_info("replay_complete", TOB_UINT("instance", follow->feed.instance), TOB_UINT("rows", r->rows),
                 TOB_UINT("bytes", r->bytes), TOB_UINT("pages", r->pages),
                 TOB_UINT("took_ms", now.monotonic_ms - r->start_ms));
        return;
    }
    tob_info("snapshot_complete", TOB_UINT("instance", follow->feed.instance),
             TOB_UINT("clients", tob_mirror_count(mirror, TOB_SOURCE_CLIENT)),
             TOB_UINT("headends", tob_mirror_count(mirror, TOB_SOURCE_HEADEND)), TOB_UINT("rows", r->rows),
             TOB_UINT("removed", removed), TOB_UINT("bytes", r->bytes), TOB_UINT("pages", r->pages),
             TOB_UINT("took_ms", now.monotonic_ms - r->start_ms));
}

static void finish(tob_follow *follow, tob_moment now) {
    const tob_resync *r = &follow->resync;
    uint64_t removed = 0;
    if (r->kind == TOB_RESYNC_SNAPSHOT) {
        removed = tob_mirror_end_snapshot(follow->feed.mirror, follow->feed.owner, r->start_version);
        follow->synced = true;
    }
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        if (r->buckets >> b & 1) {
            tob_gaps_cover(&follow->gaps, b, r->cover[b], r->place);
        }
    }
    follow->took_ms = follow->paging_ms;
    follow->resynced_ms = now.monotonic_ms;
    // However often the bus loses messages: paging takes a third of the time at most.
    uint64_t pause_ms = 2 * follow->took_ms;
    follow->not_before_ms =
        now.monotonic_ms + (pause_ms > TOB_RESYNC_INTERVAL_MS ? pause_ms : TOB_RESYNC_INTERVAL_MS);
    follow->replay_failures = 0;
    log_complete(follow, removed, now);
    tob_resync_abort(&follow->resync);
}

static void start_again(tob_follow *follow, tob_moment now) {
    need_snapshot(follow);
    follow->not_before_ms = now.monotonic_ms + TOB_RESYNC_INTERVAL_MS;
}

// Is the page of the epoch that we follow? A bus that talks has the last word; when it doesn't, the page has.
static bool same_epoch(tob_follow *follow, uint64_t instance, uint64_t epoch, tob_moment now) {
    if (instance != follow->feed.instance) {
        fail(follow, TOB_PRECONDITION, "the page is another instance's", 0, now);
        return false;
    }
    if (epoch == follow->epoch) {
        return true;
    }
    bool first = follow->resync.kind == TOB_RESYNC_SNAPSHOT && follow->resync.pages == 0;
    if (!tob_follow_silent(follow)) {
        start_again(follow, now);
        return false;
    }
    adopt(follow, epoch);
    if (!first) {
        start_again(follow, now);
        return false;
    }
    follow->full = false;
    tob_resync_begin_snapshot(&follow->resync, &follow->feed, now);
    return true;
}

static void take_page(tob_follow *follow, tob_error error, bool complete, tob_moment now) {
    if (error) {
        fail(follow, error, "a page without its sequences or its place", 0, now);
        return;
    }
    follow->failing = false;
    follow->progress_ms = now.monotonic_ms;
    follow->paging_ms += now.monotonic_ms - follow->asked_ms;
    check_memory(follow);
    if (complete) {
        finish(follow, now);
    }
}

void tob_follow_snapshot(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, size_t bytes,
                         tob_moment now) {
    bool complete = false;
    follow->heard_ms = now.monotonic_ms;
    follow->resync.asked = false;
    if (follow->resync.kind != TOB_RESYNC_SNAPSHOT || !same_epoch(follow, page->instance, page->epoch, now)) {
        return;
    }
    bool with_manager = !follow->counted || tob_follow_silent(follow);
    tob_error err =
        tob_resync_snapshot(&follow->resync, &follow->feed, page, bytes, with_manager, now, &complete);
    take_page(follow, err, complete, now);
}

void tob_follow_replay(tob_follow *follow, const Tobogganing__V1__ReplayResponse *page, size_t bytes,
                       tob_moment now) {
    bool complete = false;
    follow->heard_ms = now.monotonic_ms;
    follow->resync.asked = false;
    if (follow->resync.kind != TOB_RESYNC_REPLAY || !same_epoch(follow, page->instance, page->epoch, now)) {
        return;
    }
    tob_error err = tob_resync_replay(&follow->resync, &follow->feed, page, bytes, now, &complete);
    take_page(follow, err, complete, now);
}

void tob_follow_tick(tob_follow *follow, tob_moment now) {
    if (now.monotonic_ms - follow->bus_ms > TOB_BUS_SILENT_MS && !atomic_exchange(&follow->silent, true)) {
        tob_warn("bus_silent", TOB_UINT("instance", follow->feed.instance),
                 TOB_UINT("since_ms", now.monotonic_ms - follow->bus_ms));
    }
}
