#include "exporter/follow.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "exporter/tombstones.h"
#include "util/index.h"
#include "util/log.h"

#define MAX_SWEEP_MS 60000u // how often expired rows are looked for, at least
#define MIN_SWEEP_MS 500u
#define COMPLAIN_MS  60000u // how often refused rows are logged

// The snapshot that is being paged through.
typedef struct snapshot {
    bool under_way;
    bool asked; // a page is
    uint64_t cursor;
    uint64_t pages;
    uint64_t start_ms;
    uint64_t start_version;
    uint64_t cover[TOB_BUS_BUCKETS]; // the first page, and so all of them, contain the messages up to here
    tob_tombstones removed;
} snapshot;

struct tob_follow {
    tob_mirror *mirror;
    tob_manager *manager;
    bool known; // instance and epoch are
    uint64_t instance;
    uint64_t epoch;
    uint64_t seen[TOB_BUS_BUCKETS]; // last sequence that arrived or is known to be lost
    uint64_t
        hole[TOB_BUS_BUCKETS]; // last sequence that was lost, and not yet replaced by a snapshot; 0: none
    bool needed;               // a snapshot is
    bool failing;              // the last page was not to be had, and that is logged
    uint64_t not_before_ms;
    uint64_t last_snapshot_ms;
    uint64_t heard_ms;
    uint64_t sweep_ms;
    uint64_t swept_ms;
    uint64_t refused; // rows, since the last complaint
    uint64_t complained_ms;
    snapshot snapshot;
    atomic_bool ready;
    atomic_bool silent;
};

static uint64_t sweep_interval(uint64_t expire_after_ms) {
    uint64_t ms = expire_after_ms / 100;
    return ms < MIN_SWEEP_MS ? MIN_SWEEP_MS : ms > MAX_SWEEP_MS ? MAX_SWEEP_MS : ms;
}

tob_error tob_follow_new(tob_mirror *mirror, tob_manager *manager, tob_moment now, tob_follow **ret) {
    tob_follow *follow = calloc(1, sizeof(*follow));
    if (!follow) {
        return TOB_NO_MEMORY;
    }
    follow->mirror = mirror;
    follow->manager = manager;
    follow->heard_ms = now.monotonic_ms;
    follow->sweep_ms = sweep_interval(tob_mirror_expire_after_ms(mirror));
    tob_tombstones_init(&follow->snapshot.removed);
    *ret = follow;
    return TOB_OK;
}

void tob_follow_free(tob_follow *follow) {
    if (follow) {
        tob_tombstones_fini(&follow->snapshot.removed);
        free(follow);
    }
}

bool tob_follow_ready(const tob_follow *follow) {
    return atomic_load(&follow->ready);
}

bool tob_follow_silent(const tob_follow *follow) {
    return atomic_load(&follow->silent);
}

static void refuse(tob_follow *follow, tob_error err, tob_moment now) {
    follow->refused++;
    if (err == TOB_NO_MEMORY) {
        follow->needed = true; // the row is only lost until there is memory again
    }
    if (follow->complained_ms && now.monotonic_ms - follow->complained_ms < COMPLAIN_MS) {
        return;
    }
    tob_warn("rows_refused", TOB_UINT("count", follow->refused), TOB_ERR(err));
    follow->refused = 0;
    follow->complained_ms = now.monotonic_ms;
}

static void put_client(tob_follow *follow, const Tobogganing__V1__ClientRow *row, bool in_snapshot,
                       tob_moment now) {
    tob_mirror_row r = {
        .id = row->client_id,
        .labels = {row->name, row->type, row->headless ? "true" : "false"},
        .version = row->version,
        .last_check_in_unix_ms = row->last_check_in_unix_ms,
        .present = row->present,
        .values = {{.integer = row->bytes_sent},
                   {.integer = row->bytes_received},
                   {.integer = row->packets_sent},
                   {.integer = row->packets_received},
                   {.integer = row->connection_uptime_ms}},
    };
    tob_error err = tob_mirror_put(follow->mirror, TOB_SOURCE_CLIENT, &r, in_snapshot, now.unix_ms);
    if (err) {
        refuse(follow, err, now);
    }
}

static void put_headend(tob_follow *follow, const Tobogganing__V1__HeadendRow *row, bool in_snapshot,
                        tob_moment now) {
    tob_mirror_row r = {
        .id = row->headend_id,
        .labels = {row->name, row->region, row->datacenter},
        .version = row->version,
        .last_check_in_unix_ms = row->last_check_in_unix_ms,
        .present = row->present,
        .values = {{.real = row->active_connections},
                   {.real = row->bandwidth_in},
                   {.real = row->bandwidth_out},
                   {.real = row->cpu_usage},
                   {.real = row->memory_usage}},
    };
    tob_error err = tob_mirror_put(follow->mirror, TOB_SOURCE_HEADEND, &r, in_snapshot, now.unix_ms);
    if (err) {
        refuse(follow, err, now);
    }
}

static void apply_manager(tob_follow *follow, const Tobogganing__V1__Manager *message, tob_moment now) {
    uint64_t ignored = 0;
    tob_error err = tob_manager_apply(follow->manager, message, &ignored);
    if (err || ignored) {
        refuse(follow, err ? err : TOB_INVALID, now);
    }
}

// Forgets the pages so far. A page that is asked for will be dropped when it comes.
static void abort_snapshot(tob_follow *follow) {
    follow->snapshot.under_way = false;
    tob_tombstones_clear(&follow->snapshot.removed);
}

static void adopt(tob_follow *follow, uint64_t instance, uint64_t epoch) {
    tob_info(follow->known ? "epoch_changed" : "epoch_found", TOB_UINT("instance", instance),
             TOB_UINT("epoch", epoch));
    follow->known = true;
    follow->instance = instance;
    follow->epoch = epoch;
    follow->needed = true;
    memset(follow->seen, 0, sizeof(follow->seen));
    memset(follow->hole, 0, sizeof(follow->hole));
    tob_mirror_begin_epoch(follow->mirror);
    abort_snapshot(follow);
}

static void lose(tob_follow *follow, unsigned bucket, uint64_t last) {
    if (!follow->needed && !follow->snapshot.under_way) {
        tob_warn("bus_gap", TOB_UINT("bucket", bucket), TOB_UINT("lost", last - follow->seen[bucket]));
    }
    // A snapshot that is under way may already contain it: its end decides.
    follow->needed |= !follow->snapshot.under_way;
    follow->hole[bucket] = last;
    follow->seen[bucket] = last;
}

static void apply_heartbeat(tob_follow *follow, const Tobogganing__V1__Heartbeat *heartbeat, tob_moment now) {
    if (heartbeat->n_last_sequences != TOB_BUS_BUCKETS) {
        refuse(follow, TOB_MALFORMED, now);
        return;
    }
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        if (heartbeat->last_sequences[b] > follow->seen[b]) {
            lose(follow, b, heartbeat->last_sequences[b]);
        }
    }
    if (heartbeat->manager) {
        apply_manager(follow, heartbeat->manager, now);
    }
}

static void apply_removal(tob_follow *follow, tob_source_kind kind, const char *id, uint64_t sequence) {
    tob_mirror_remove(follow->mirror, kind, id);
    if (!follow->snapshot.under_way) {
        return;
    }
    tob_error err = tob_tombstones_add(&follow->snapshot.removed, kind, id, sequence);
    if (err && err != TOB_INVALID) { // the pages could bring it back: page again
        abort_snapshot(follow);
        follow->needed = true;
    }
}

static void apply_rows(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    unsigned bucket = message->topic - 1;
    if (message->sequence <= follow->seen[bucket]) {
        return; // older than a snapshot
    }
    if (message->sequence - 1 > follow->seen[bucket]) {
        lose(follow, bucket, message->sequence - 1);
    }
    follow->seen[bucket] = message->sequence;
    for (size_t i = 0; i < message->n_clients; i++) {
        put_client(follow, message->clients[i], false, now);
    }
    for (size_t i = 0; i < message->n_headends; i++) {
        put_headend(follow, message->headends[i], false, now);
    }
    for (size_t i = 0; i < message->n_removed_clients; i++) {
        apply_removal(follow, TOB_SOURCE_CLIENT, message->removed_clients[i], message->sequence);
    }
    for (size_t i = 0; i < message->n_removed_headends; i++) {
        apply_removal(follow, TOB_SOURCE_HEADEND, message->removed_headends[i], message->sequence);
    }
}

void tob_follow_bus(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now) {
    bool rows = message->topic >= 1 && message->topic <= TOB_BUS_BUCKETS;
    if (!rows && !(message->topic == TOB_BUS_TOPIC_HEARTBEAT && message->heartbeat)) {
        return; // a topic of a later version
    }
    follow->heard_ms = now.monotonic_ms;
    if (atomic_exchange(&follow->silent, false)) {
        tob_info("bus_back");
    }
    if (!follow->known || message->instance != follow->instance || message->epoch != follow->epoch) {
        adopt(follow, message->instance, message->epoch);
    }
    if (rows) {
        apply_rows(follow, message, now);
    } else {
        apply_heartbeat(follow, message->heartbeat, now);
    }
}

static bool wanted(const tob_follow *follow, tob_moment now) {
    return follow->needed || (tob_follow_silent(follow) &&
                              (!follow->last_snapshot_ms ||
                               now.monotonic_ms - follow->last_snapshot_ms >= TOB_SNAPSHOT_POLL_MS));
}

bool tob_follow_request(tob_follow *follow, tob_moment now, Tobogganing__V1__SnapshotRequest *ret) {
    snapshot *s = &follow->snapshot;
    if (s->asked || now.monotonic_ms < follow->not_before_ms || (!s->under_way && !wanted(follow, now))) {
        return false;
    }
    if (!s->under_way) {
        s->under_way = true;
        s->cursor = 0;
        s->pages = 0;
        s->start_ms = now.monotonic_ms;
        follow->needed = false; // from here on a loss is one that this snapshot may miss
        tob_mirror_begin_snapshot(follow->mirror);
    }
    s->asked = true;
    *ret = (Tobogganing__V1__SnapshotRequest)TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    ret->cursor = s->cursor;
    ret->max_rows = TOB_SNAPSHOT_PAGE_ROWS;
    return true;
}

void tob_follow_page_failed(tob_follow *follow, tob_error error, const char *message, uint32_t retry_after_ms,
                            tob_moment now) {
    follow->snapshot.asked = false;
    uint64_t wait_ms = retry_after_ms > TOB_SNAPSHOT_RETRY_MS ? retry_after_ms : TOB_SNAPSHOT_RETRY_MS;
    follow->not_before_ms = now.monotonic_ms + wait_ms;
    if (!follow->failing && error != TOB_CANCELLED) {
        tob_warn("snapshot_failed", TOB_ERR(error), TOB_STR("message", message));
        follow->failing = true;
    }
}

static void restart_snapshot(tob_follow *follow, tob_moment now) {
    abort_snapshot(follow);
    follow->needed = true;
    follow->not_before_ms = now.monotonic_ms + TOB_SNAPSHOT_INTERVAL_MS;
}

static void finish_snapshot(tob_follow *follow, tob_moment now) {
    snapshot *s = &follow->snapshot;
    uint64_t removed = tob_mirror_end_snapshot(follow->mirror, s->start_version);
    uint64_t took_ms = now.monotonic_ms - s->start_ms;
    for (unsigned b = 0; b < TOB_BUS_BUCKETS; b++) {
        if (follow->hole[b] > s->cover[b]) {
            follow->needed = true;
        }
        follow->hole[b] = 0;
        if (s->cover[b] > follow->seen[b]) {
            follow->seen[b] = s->cover[b];
        }
    }
    abort_snapshot(follow);
    follow->last_snapshot_ms = now.monotonic_ms;
    // However often the bus loses messages: paging takes a third of the time at most.
    uint64_t pause_ms = 2 * took_ms > TOB_SNAPSHOT_INTERVAL_MS ? 2 * took_ms : TOB_SNAPSHOT_INTERVAL_MS;
    follow->not_before_ms = now.monotonic_ms + pause_ms;
    atomic_store(&follow->ready, true);
    tob_info("snapshot_complete", TOB_UINT("clients", tob_mirror_count(follow->mirror, TOB_SOURCE_CLIENT)),
             TOB_UINT("headends", tob_mirror_count(follow->mirror, TOB_SOURCE_HEADEND)),
             TOB_UINT("removed", removed), TOB_UINT("pages", s->pages), TOB_UINT("took_ms", took_ms));
}

// Was the source removed after this page was made?
static bool outdated(const tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page,
                     tob_source_kind kind, const char *id) {
    const tob_tombstones *removed = &follow->snapshot.removed;
    if (removed->count == 0) {
        return false;
    }
    uint64_t sequence = page->last_sequences[tob_id_hash(id, strlen(id)) % TOB_BUS_BUCKETS];
    return tob_tombstones_newer(removed, kind, id, sequence);
}

static void apply_page(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, tob_moment now) {
    for (size_t i = 0; i < page->n_clients; i++) {
        if (!outdated(follow, page, TOB_SOURCE_CLIENT, page->clients[i]->client_id)) {
            put_client(follow, page->clients[i], true, now);
        }
    }
    for (size_t i = 0; i < page->n_headends; i++) {
        if (!outdated(follow, page, TOB_SOURCE_HEADEND, page->headends[i]->headend_id)) {
            put_headend(follow, page->headends[i], true, now);
        }
    }
    if (page->manager) {
        apply_manager(follow, page->manager, now);
    }
}

// Is the page of the epoch that we follow? A bus that talks has the last word; when it doesn't, the page has.
static bool same_epoch(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, tob_moment now) {
    if (follow->known && page->instance == follow->instance && page->epoch == follow->epoch) {
        return true;
    }
    bool first = follow->snapshot.pages == 0;
    if (follow->known && !tob_follow_silent(follow)) {
        restart_snapshot(follow, now);
        return false;
    }
    adopt(follow, page->instance, page->epoch);
    if (!first) {
        restart_snapshot(follow, now);
        return false;
    }
    follow->snapshot.under_way = true;
    follow->needed = false;
    return true;
}

void tob_follow_page(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, tob_moment now) {
    snapshot *s = &follow->snapshot;
    if (page->n_last_sequences != TOB_BUS_BUCKETS || (page->next_cursor && page->next_cursor == s->cursor)) {
        tob_follow_page_failed(follow, TOB_MALFORMED, "a page without its sequences or its place", 0, now);
        return;
    }
    s->asked = false;
    follow->failing = false;
    if (!s->under_way || !same_epoch(follow, page, now)) {
        return;
    }
    if (s->pages++ == 0) {
        s->start_version = page->version;
        memcpy(s->cover, page->last_sequences, sizeof(s->cover));
    }
    apply_page(follow, page, now);
    s->cursor = page->next_cursor;
    if (s->cursor == 0) {
        finish_snapshot(follow, now);
    }
}

void tob_follow_tick(tob_follow *follow, tob_moment now) {
    if (now.monotonic_ms - follow->heard_ms > TOB_BUS_SILENT_MS && !atomic_exchange(&follow->silent, true)) {
        tob_warn("bus_silent", TOB_UINT("since_ms", now.monotonic_ms - follow->heard_ms));
    }
    if (now.monotonic_ms - follow->swept_ms >= follow->sweep_ms) {
        follow->swept_ms = now.monotonic_ms;
        tob_mirror_expire(follow->mirror, now.unix_ms);
    }
}
