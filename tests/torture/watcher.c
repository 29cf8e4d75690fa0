#include "watcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare_mirror.h"
#include "exporter/follow.h"
#include "ingestd/bus.h"
#include "ingestd/positions.h"
#include "ingestd/replay_rows.h"
#include "ingestd/snapshot.h"
#include "journal/reader.h"
#include "wire/arena.h"

enum {
    INSTANCE = 77,
    PAGE_ROWS = 4,    // so that snapshots have several pages
    PAGE_BYTES = 300, // and replays
    ARENA_BYTES = 64 << 20,
    MAX_ROUNDS = 400,
    ALL = 1 << 20,
};

#define LONG_MS (100 * UINT64_C(86400000))

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        tob_error must_err = (call);                                                                         \
        if (must_err) {                                                                                      \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, tob_error_string(must_err));       \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

// Bytes of a message on its way.
typedef struct parcel {
    uint8_t *bytes;
    size_t n;
} parcel;

struct watcher {
    tob_directory *directory;
    tob_arena *arena;
    tob_store *store; // NULL: not attached
    uint64_t epoch;
    tob_bus *bus;
    tob_journal_reader *reader;
    tob_replay_rows *rows;
    tob_position read_from; // of the replay's page
    parcel *queue;
    size_t queued;
    tob_mirror *mirror;
    tob_manager *manager;
    tob_follow *follow;
    tob_resync_kind asked; // for a page, that is in `page` or not to be had
    tob_error page_error;
    parcel page;
};

static watcher_counts counts;

watcher_counts watcher_count(void) {
    return counts;
}

static parcel pack(const ProtobufCMessage *message) {
    size_t n = protobuf_c_message_get_packed_size(message);
    parcel p = {.bytes = malloc(n + 1), .n = n};
    if (!p.bytes) {
        abort();
    }
    protobuf_c_message_pack(message, p.bytes);
    return p;
}

static const ProtobufCMessage *unpack(watcher *w, const ProtobufCMessageDescriptor *type, const parcel *p) {
    ProtobufCMessage *message = NULL;
    tob_arena_clear(w->arena);
    MUST(tob_arena_unpack(w->arena, type, p->bytes, p->n, &message));
    return message;
}

static tob_error take_message(void *user, const void *message, size_t n) {
    watcher *w = user;
    parcel p = {.bytes = malloc(n), .n = n};
    w->queue = realloc(w->queue, (w->queued + 1) * sizeof(*w->queue));
    if (!w->queue || !p.bytes) {
        abort();
    }
    memcpy(p.bytes, message, n);
    w->queue[w->queued++] = p;
    return TOB_OK;
}

static void drop_first(watcher *w) {
    free(w->queue[0].bytes);
    memmove(&w->queue[0], &w->queue[1], --w->queued * sizeof(*w->queue));
}

static void new_exporter(watcher *w) {
    tob_mirror_options options = {.max_sources = 1000, .expire_after_ms = WATCHER_EXPIRE_MS};
    MUST(tob_mirror_new(&options, &w->mirror));
    MUST(tob_manager_new(&w->manager));
}

static void free_exporter(watcher *w) {
    tob_follow_free(w->follow);
    tob_mirror_free(w->mirror);
    tob_manager_free(w->manager);
    w->follow = NULL;
}

static void new_follow(watcher *w, tob_moment now) {
    tob_follow_options options = {.mirror = w->mirror,
                                  .owner = 0,
                                  .instance = INSTANCE,
                                  .buckets = UINT64_MAX};
    tob_mirror_begin_owner(w->mirror, 0, INSTANCE);
    MUST(tob_follow_new(&options, w->epoch, now, &w->follow));
}

watcher *watcher_new(void) {
    watcher *w = calloc(1, sizeof(*w));
    if (!w) {
        abort();
    }
    MUST(tob_arena_new(ARENA_BYTES, &w->arena));
    MUST(tob_directory_new(&w->directory));
    MUST(tob_replay_rows_new(&w->rows));
    new_exporter(w);
    return w;
}

void watcher_free(watcher *w) {
    if (!w) {
        return;
    }
    watcher_detach(w);
    watcher_lose(w, w->queued);
    free(w->queue);
    free(w->page.bytes);
    free_exporter(w);
    tob_replay_rows_free(w->rows);
    tob_directory_free(w->directory);
    tob_arena_free(w->arena);
    free(w);
}

void watcher_attach(watcher *w, tob_store *store, const char *journal_dir, uint64_t epoch, tob_moment now) {
    w->store = store;
    w->epoch = epoch;
    tob_bus_options options = {.sink = take_message,
                               .sink_user = w,
                               .instance = INSTANCE,
                               .epoch = epoch,
                               .fleet = tob_store_fleet(store),
                               .directory = w->directory};
    MUST(tob_bus_new(&options, &w->bus));
    MUST(tob_journal_reader_new(journal_dir, &w->reader));
    if (!w->follow) {
        new_follow(w, now);
    }
}

void watcher_detach(watcher *w) {
    tob_bus_free(w->bus);
    tob_journal_reader_free(w->reader);
    w->bus = NULL;
    w->reader = NULL;
    w->store = NULL;
}

void watcher_register(watcher *w, unsigned source) {
    const char *id = plain_source_id(source);
    if (plain_is_client(source)) {
        tob_directory_client client = {.id = id, .name = "name", .type = "native"};
        MUST(tob_directory_put_client(w->directory, &client, NULL));
    } else {
        tob_directory_headend headend = {
            .id = id, .name = "registered", .cluster_id = "", .region = "", .datacenter = ""};
        MUST(tob_directory_put_headend(w->directory, &headend, NULL));
    }
}

void watcher_unregister(watcher *w, unsigned source) {
    const char *id = plain_source_id(source);
    if (plain_is_client(source)) {
        tob_directory_remove_client(w->directory, id);
    } else {
        tob_directory_remove_headend(w->directory, id);
    }
}

static tob_position end_of(const watcher *w) {
    tob_store_stats stats;
    tob_store_get_stats(w->store, &stats);
    return stats.end;
}

void watcher_publish(watcher *w) {
    bool more = true;
    while (more) {
        MUST(tob_bus_publish(w->bus, end_of(w), ALL, &more));
    }
}

void watcher_heartbeat(watcher *w) {
    Tobogganing__V1__Manager manager = TOBOGGANING__V1__MANAGER__INIT;
    watcher_publish(w);
    MUST(tob_bus_heartbeat(w->bus, &manager, end_of(w)));
}

void watcher_deliver(watcher *w, size_t n, tob_moment now) {
    for (; n > 0 && w->queued > 0; n--) {
        const ProtobufCMessage *message = unpack(w, &tobogganing__v1__bus_message__descriptor, &w->queue[0]);
        tob_follow_bus(w->follow, (const Tobogganing__V1__BusMessage *)message, now);
        drop_first(w);
        counts.delivered++;
    }
}

void watcher_lose(watcher *w, size_t n) {
    for (; n > 0 && w->queued > 0; n--) {
        drop_first(w);
        counts.lost++;
    }
}

static tob_error make_snapshot(watcher *w, const tob_page_request *request) {
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__Position position = tob_position_message(end_of(w));
    const tob_fleet *fleet = tob_store_fleet(w->store);
    tob_arena_clear(w->arena);
    MUST(tob_snapshot_rows(fleet, w->directory, w->arena, request->snapshot.cursor, PAGE_ROWS,
                           request->snapshot.buckets, &page));
    page.instance = INSTANCE;
    page.epoch = w->epoch;
    page.version = tob_fleet_version(fleet);
    page.position = &position;
    page.last_sequences = tob_bus_last_sequences(w->bus);
    page.n_last_sequences = TOB_BUS_BUCKETS;
    w->page = pack(&page.base);
    counts.snapshots += request->snapshot.cursor == 0;
    return TOB_OK;
}

static tob_error note_record(void *user, tob_position at, const void *payload, size_t n) {
    (void)at;
    return tob_replay_rows_add(user, payload, n);
}

static tob_error make_replay(watcher *w, const tob_page_request *request) {
    Tobogganing__V1__ReplayResponse page = TOBOGGANING__V1__REPLAY_RESPONSE__INIT;
    tob_position from = {request->from.segment, request->from.offset}, next = from, end = end_of(w);
    tob_journal_problem problem;
    tob_replay_rows_clear(w->rows, request->replay.buckets);
    tob_error err = tob_journal_read(w->reader, from, end, PAGE_BYTES, note_record, w->rows, &next, &problem);
    if (err) {
        counts.refused_replays++;
        return err == TOB_NOT_FOUND ? TOB_OUT_OF_RANGE : err;
    }
    const tob_fleet *fleet = tob_store_fleet(w->store);
    Tobogganing__V1__Position next_message = tob_position_message(next);
    Tobogganing__V1__Position end_message = tob_position_message(end);
    tob_arena_clear(w->arena);
    MUST(tob_replay_rows_render(w->rows, 0, ALL, fleet, w->directory, w->arena, &page));
    page.instance = INSTANCE;
    page.epoch = w->epoch;
    page.next = &next_message;
    page.end = &end_message;
    page.version = tob_fleet_version(fleet);
    page.last_sequences = tob_bus_last_sequences(w->bus);
    page.n_last_sequences = TOB_BUS_BUCKETS;
    w->page = pack(&page.base);
    counts.replays++;
    return TOB_OK;
}

void watcher_ask(watcher *w, tob_moment now) {
    tob_page_request request;
    if (w->asked != TOB_RESYNC_NONE || !tob_follow_request(w->follow, true, now, &request)) {
        return;
    }
    w->asked = request.kind;
    w->page_error = !w->store                             ? TOB_UNAVAILABLE
                    : request.kind == TOB_RESYNC_SNAPSHOT ? make_snapshot(w, &request)
                                                          : make_replay(w, &request);
}

static void hand_over(watcher *w, tob_error err, tob_moment now) {
    if (err) {
        tob_follow_page_failed(w->follow, err, "", 0, now);
    } else if (w->asked == TOB_RESYNC_SNAPSHOT) {
        tob_follow_snapshot(w->follow,
                            (const Tobogganing__V1__SnapshotResponse *)
                                unpack(w, &tobogganing__v1__snapshot_response__descriptor, &w->page),
                            w->page.n, now);
    } else if (w->asked == TOB_RESYNC_REPLAY) {
        tob_follow_replay(w->follow,
                          (const Tobogganing__V1__ReplayResponse *)
                              unpack(w, &tobogganing__v1__replay_response__descriptor, &w->page),
                          w->page.n, now);
    }
    free(w->page.bytes);
    w->page = (parcel){0};
    w->asked = TOB_RESYNC_NONE;
}

void watcher_answer(watcher *w, tob_moment now) {
    if (w->asked != TOB_RESYNC_NONE) {
        hand_over(w, w->page_error, now);
    }
}

void watcher_refuse(watcher *w, tob_moment now) {
    if (w->asked != TOB_RESYNC_NONE) {
        hand_over(w, TOB_UNAVAILABLE, now);
    }
}

void watcher_restart(watcher *w, tob_moment now) {
    free(w->page.bytes);
    w->page = (parcel){0};
    w->asked = TOB_RESYNC_NONE;
    watcher_lose(w, w->queued);
    free_exporter(w);
    new_exporter(w);
    if (w->store) {
        new_follow(w, now);
    }
}

void watcher_tick(watcher *w, tob_moment now) {
    tob_follow_tick(w->follow, now);
    tob_mirror_expire(w->mirror, now.unix_ms);
}

bool watcher_converge(watcher *w, tob_moment *now) {
    for (unsigned i = 0, quiet = 0; i < MAX_ROUNDS; i++) {
        watcher_heartbeat(w);
        watcher_deliver(w, w->queued, *now);
        watcher_tick(w, *now);
        watcher_answer(w, *now);
        watcher_ask(w, *now);
        quiet = w->asked == TOB_RESYNC_NONE && !tob_follow_busy(w->follow) ? quiet + 1 : 0;
        if (quiet == 2) {
            now->monotonic_ms += LONG_MS; // it may wait for twice as long as its last resync took
        }
        if (quiet == 5 && tob_follow_synced(w->follow)) {
            return true;
        }
        now->monotonic_ms += TOB_RESYNC_INTERVAL_MS / 2;
        now->unix_ms += TOB_RESYNC_INTERVAL_MS / 2;
    }
    return false;
}

bool watcher_compare(watcher *w, const plain_state *plain, tob_moment now,
                     char ret_text[COMPARE_TEXT_BYTES]) {
    tob_mirror_expire(w->mirror, now.unix_ms);
    return compare_mirror(w->mirror, plain, now, ret_text);
}
