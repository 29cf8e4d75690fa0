#include "exporter/resync.h"

#include <string.h>

void tob_resync_init(tob_resync *resync) {
    *resync = (tob_resync){.kind = TOB_RESYNC_NONE};
    tob_tombstones_init(&resync->removed);
}

void tob_resync_fini(tob_resync *resync) {
    tob_tombstones_fini(&resync->removed);
}

void tob_resync_abort(tob_resync *resync) {
    resync->kind = TOB_RESYNC_NONE;
    tob_tombstones_clear(&resync->removed);
}

static void begin(tob_resync *resync, tob_resync_kind kind, uint64_t buckets, tob_moment now) {
    bool asked = resync->asked;
    tob_resync_fini(resync);
    tob_resync_init(resync);
    resync->asked = asked;
    resync->kind = kind;
    resync->buckets = buckets;
    resync->start_ms = now.monotonic_ms;
}

void tob_resync_begin_snapshot(tob_resync *resync, tob_feed *feed, tob_moment now) {
    begin(resync, TOB_RESYNC_SNAPSHOT, feed->buckets, now);
    tob_mirror_begin_snapshot(feed->mirror, feed->owner);
}

void tob_resync_begin_replay(tob_resync *resync, uint64_t buckets, tob_place from, tob_moment now) {
    begin(resync, TOB_RESYNC_REPLAY, buckets, now);
    resync->next = from;
}

void tob_resync_request(tob_resync *resync, uint64_t instance, uint64_t own_buckets, tob_page_request *ret) {
    resync->asked = true;
    ret->kind = resync->kind;
    tobogganing__v1__snapshot_request__init(&ret->snapshot);
    tobogganing__v1__replay_request__init(&ret->replay);
    tobogganing__v1__position__init(&ret->from);
    if (resync->kind == TOB_RESYNC_SNAPSHOT) {
        ret->snapshot.cursor = resync->cursor;
        ret->snapshot.max_rows = TOB_SNAPSHOT_PAGE_ROWS;
        ret->snapshot.buckets = own_buckets == UINT64_MAX ? 0 : own_buckets;
        return;
    }
    ret->from.segment = resync->next.segment;
    ret->from.offset = resync->next.offset;
    ret->replay.from = &ret->from;
    ret->replay.instance = instance;
    ret->replay.view = TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_ROWS;
    ret->replay.buckets = resync->buckets == UINT64_MAX ? 0 : resync->buckets;
    ret->replay.max_bytes = TOB_REPLAY_PAGE_BYTES;
}

bool tob_resync_contains(const tob_resync *resync, unsigned bucket, uint64_t sequence) {
    return resync->kind != TOB_RESYNC_NONE && resync->pages && (resync->buckets >> bucket & 1) &&
           sequence <= resync->cover[bucket];
}

tob_error tob_resync_removed(tob_resync *resync, tob_source_kind kind, const char *id, uint64_t sequence) {
    if (resync->kind == TOB_RESYNC_NONE) {
        return TOB_OK;
    }
    tob_error err = tob_tombstones_add(&resync->removed, kind, id, sequence);
    return err == TOB_INVALID ? TOB_OK : err;
}

// The rows and removals that pages of both kinds have.
typedef struct page_rows {
    size_t n_clients;
    Tobogganing__V1__ClientRow *const *clients;
    size_t n_headends;
    Tobogganing__V1__HeadendRow *const *headends;
    size_t n_removed[TOB_SOURCE_KINDS];
    char *const *removed[TOB_SOURCE_KINDS];
    const uint64_t *last_sequences;
    uint64_t version;
} page_rows;

// Was the source removed after this page was made?
static bool outdated(const tob_resync *resync, const page_rows *page, tob_source_kind kind, const char *id) {
    return resync->removed.count &&
           tob_tombstones_newer(&resync->removed, kind, id, page->last_sequences[tob_bucket_of(id)]);
}

static void apply(tob_resync *resync, tob_feed *feed, const page_rows *page, tob_moment now) {
    bool in_snapshot = resync->kind == TOB_RESYNC_SNAPSHOT;
    for (size_t i = 0; i < page->n_clients; i++) {
        if (!outdated(resync, page, TOB_SOURCE_CLIENT, page->clients[i]->client_id)) {
            tob_feed_client(feed, page->clients[i], in_snapshot, now);
        }
    }
    for (size_t i = 0; i < page->n_headends; i++) {
        if (!outdated(resync, page, TOB_SOURCE_HEADEND, page->headends[i]->headend_id)) {
            tob_feed_headend(feed, page->headends[i], in_snapshot, now);
        }
    }
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        for (size_t i = 0; i < page->n_removed[kind]; i++) {
            tob_feed_removal(feed, (tob_source_kind)kind, page->removed[kind][i], page->version);
        }
    }
}

static void count_page(tob_resync *resync, const page_rows *page, size_t bytes) {
    if (resync->pages++ == 0) {
        resync->start_version = page->version;
        memcpy(resync->cover, page->last_sequences, sizeof(resync->cover));
    }
    resync->rows += page->n_clients + page->n_headends + page->n_removed[TOB_SOURCE_CLIENT] +
                    page->n_removed[TOB_SOURCE_HEADEND];
    resync->bytes += bytes;
}

tob_error tob_resync_snapshot(tob_resync *resync, tob_feed *feed,
                              const Tobogganing__V1__SnapshotResponse *page, size_t bytes, bool with_manager,
                              tob_moment now, bool *ret_complete) {
    if (resync->kind != TOB_RESYNC_SNAPSHOT || page->n_last_sequences != TOB_BUS_BUCKETS ||
        (page->next_cursor && page->next_cursor == resync->cursor)) {
        return TOB_MALFORMED;
    }
    page_rows rows = {.n_clients = page->n_clients,
                      .clients = page->clients,
                      .n_headends = page->n_headends,
                      .headends = page->headends,
                      .last_sequences = page->last_sequences,
                      .version = page->version};
    if (resync->pages == 0) {
        resync->place = tob_place_of(page->position);
    }
    count_page(resync, &rows, bytes);
    apply(resync, feed, &rows, now);
    if (page->manager && with_manager) {
        tob_feed_manager(feed, page->manager, now);
    }
    resync->cursor = page->next_cursor;
    *ret_complete = page->next_cursor == 0;
    return TOB_OK;
}

tob_error tob_resync_replay(tob_resync *resync, tob_feed *feed, const Tobogganing__V1__ReplayResponse *page,
                            size_t bytes, tob_moment now, bool *ret_complete) {
    tob_place next = tob_place_of(page->next);
    tob_place end = resync->pages ? resync->end : tob_place_of(page->end);
    bool complete = !tob_place_before(next, end);
    if (resync->kind != TOB_RESYNC_REPLAY || page->n_last_sequences != TOB_BUS_BUCKETS || !page->end ||
        !page->next || (!complete && !tob_place_before(resync->next, next))) {
        return TOB_MALFORMED;
    }
    page_rows rows = {.n_clients = page->n_clients,
                      .clients = page->clients,
                      .n_headends = page->n_headends,
                      .headends = page->headends,
                      .n_removed = {page->n_removed_clients, page->n_removed_headends},
                      .removed = {page->removed_clients, page->removed_headends},
                      .last_sequences = page->last_sequences,
                      .version = page->version};
    count_page(resync, &rows, bytes);
    apply(resync, feed, &rows, now);
    resync->end = end;
    resync->next = next;
    resync->place = next;
    *ret_complete = complete;
    return TOB_OK;
}
