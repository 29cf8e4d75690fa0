#include "exporter/follow.h"
#include "support.h"
#include "util/index.h"

#define MAX_ROWS 8

typedef struct world {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_follow *follow;
    tob_moment now;
    // What ingestd would have.
    uint64_t instance;
    uint64_t epoch;
    uint64_t last[TOB_BUS_BUCKETS];
    uint64_t version;
    Tobogganing__V1__Position end; // of the journal
} world;

static world new_world_of(uint64_t buckets) {
    world w = {.mirror = new_mirror(1000, DAY_MS), .manager = new_manager(), .instance = 11, .epoch = 1};
    w.now = (tob_moment){.monotonic_ms = 1000000, .unix_ms = 1700000000000};
    w.end = (Tobogganing__V1__Position)TOBOGGANING__V1__POSITION__INIT;
    w.end.segment = 1;
    w.end.offset = 40;
    tob_follow_options options = {
        .mirror = w.mirror, .manager = w.manager, .owner = 3, .instance = w.instance, .buckets = buckets};
    tob_mirror_begin_owner(w.mirror, options.owner, w.instance);
    assert_int_equal(tob_follow_new(&options, w.epoch, w.now, &w.follow), TOB_OK);
    return w;
}

static world new_world(void) {
    return new_world_of(UINT64_MAX);
}

static void free_world(world *w) {
    tob_follow_free(w->follow);
    tob_manager_free(w->manager);
    tob_mirror_free(w->mirror);
}

static void pass_ms(world *w, uint64_t ms) {
    w->now.monotonic_ms += ms;
    w->now.unix_ms += ms;
    tob_follow_tick(w->follow, w->now);
}

static unsigned bucket_of(const char *id) {
    return (unsigned)(tob_id_hash(id, strlen(id)) % TOB_BUS_BUCKETS);
}

// The journal grows by a record; returns where it began.
static uint64_t journal(world *w) {
    uint64_t at = w->end.offset;
    w->end.offset += 10;
    return at;
}

static Tobogganing__V1__ClientRow row_of(const char *id, uint64_t version, uint64_t bytes_sent) {
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    row.client_id = (char *)(uintptr_t)id;
    row.name = row.client_id;
    row.type = (char *)"native";
    row.version = version;
    row.last_check_in_unix_ms = 1700000000000;
    row.present = 1;
    row.bytes_sent = bytes_sent;
    return row;
}

static Tobogganing__V1__BusMessage message_of(world *w, unsigned topic, uint64_t sequence) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    message.topic = topic;
    message.instance = w->instance;
    message.epoch = w->epoch;
    message.sequence = sequence;
    message.position = &w->end;
    return message;
}

// ingestd publishes a client's new value; it gets to us, or is lost on the way.
static uint64_t publish(world *w, const char *id, uint64_t bytes_sent, bool lost) {
    unsigned bucket = bucket_of(id);
    journal(w);
    Tobogganing__V1__ClientRow row = row_of(id, ++w->version, bytes_sent);
    Tobogganing__V1__ClientRow *rows[] = {&row};
    Tobogganing__V1__BusMessage message = message_of(w, 1 + bucket, ++w->last[bucket]);
    message.n_clients = 1;
    message.clients = rows;
    if (!lost) {
        tob_follow_bus(w->follow, &message, w->now);
    }
    return row.version;
}

static void publish_removal(world *w, const char *id) {
    unsigned bucket = bucket_of(id);
    journal(w);
    char *ids[] = {(char *)(uintptr_t)id};
    Tobogganing__V1__BusMessage message = message_of(w, 1 + bucket, ++w->last[bucket]);
    message.n_removed_clients = 1;
    message.removed_clients = ids;
    tob_follow_bus(w->follow, &message, w->now);
}

static void beat(world *w) {
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__Manager manager = TOBOGGANING__V1__MANAGER__INIT;
    Tobogganing__V1__BusMessage message = message_of(w, TOB_BUS_TOPIC_HEARTBEAT, 0);
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    heartbeat.last_sequences = w->last;
    manager.clients = 77;
    heartbeat.manager = &manager;
    message.heartbeat = &heartbeat;
    tob_follow_bus(w->follow, &message, w->now);
}

// A page as ingestd made it at some moment.
typedef struct page {
    Tobogganing__V1__SnapshotResponse response;
    Tobogganing__V1__ClientRow rows[MAX_ROWS];
    Tobogganing__V1__ClientRow *pointers[MAX_ROWS];
    uint64_t last[TOB_BUS_BUCKETS];
    Tobogganing__V1__Position position;
} page;

static void make_page(const world *w, page *p, uint64_t next_cursor) {
    *p = (page){.response = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT};
    memcpy(p->last, w->last, sizeof(p->last));
    p->response.instance = w->instance;
    p->response.epoch = w->epoch;
    p->response.version = w->version;
    p->response.next_cursor = next_cursor;
    p->response.n_last_sequences = TOB_BUS_BUCKETS;
    p->response.last_sequences = p->last;
    p->response.clients = p->pointers;
    p->position = w->end;
    p->response.position = &p->position;
}

static void add_row(page *p, const char *id, uint64_t version, uint64_t bytes_sent) {
    size_t i = p->response.n_clients++;
    assert_true(i < MAX_ROWS);
    p->rows[i] = row_of(id, version, bytes_sent);
    p->pointers[i] = &p->rows[i];
}

static void expect_request(world *w, uint64_t cursor) {
    tob_page_request request;
    assert_true(tob_follow_request(w->follow, true, w->now, &request));
    assert_int_equal(request.kind, TOB_RESYNC_SNAPSHOT);
    assert_int_equal(request.snapshot.cursor, cursor);
    assert_int_equal(request.snapshot.max_rows, TOB_SNAPSHOT_PAGE_ROWS);
    assert_int_equal(request.snapshot.buckets, 0);
}

static void expect_replay(world *w, uint64_t from_offset, uint64_t buckets) {
    tob_page_request request;
    assert_true(tob_follow_request(w->follow, true, w->now, &request));
    assert_int_equal(request.kind, TOB_RESYNC_REPLAY);
    assert_int_equal(request.replay.instance, w->instance);
    assert_int_equal(request.replay.view, TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_ROWS);
    assert_int_equal(request.replay.from->segment, 1);
    assert_int_equal(request.replay.from->offset, from_offset);
    assert_true(request.replay.buckets == buckets);
    assert_int_equal(request.replay.max_bytes, TOB_REPLAY_PAGE_BYTES);
}

static void expect_no_request(world *w) {
    tob_page_request request;
    assert_false(tob_follow_request(w->follow, true, w->now, &request));
}

static void give(world *w, const page *p) {
    tob_follow_snapshot(w->follow, &p->response, 100, w->now);
}

static uint64_t mask_of(const char *id) {
    return UINT64_C(1) << bucket_of(id);
}

// A page of a replay as ingestd made it at some moment, which has the journal up to an offset.
typedef struct replay {
    Tobogganing__V1__ReplayResponse response;
    Tobogganing__V1__ClientRow rows[MAX_ROWS];
    Tobogganing__V1__ClientRow *pointers[MAX_ROWS];
    char *removed[MAX_ROWS];
    uint64_t last[TOB_BUS_BUCKETS];
    Tobogganing__V1__Position next;
    Tobogganing__V1__Position end;
} replay;

static void make_replay(const world *w, replay *p, uint64_t next_offset) {
    *p = (replay){.response = TOBOGGANING__V1__REPLAY_RESPONSE__INIT};
    memcpy(p->last, w->last, sizeof(p->last));
    p->response.instance = w->instance;
    p->response.epoch = w->epoch;
    p->response.version = w->version;
    p->response.n_last_sequences = TOB_BUS_BUCKETS;
    p->response.last_sequences = p->last;
    p->response.clients = p->pointers;
    p->response.removed_clients = p->removed;
    p->next = w->end;
    p->next.offset = next_offset;
    p->end = w->end;
    p->response.next = &p->next;
    p->response.end = &p->end;
}

static void replay_row(replay *p, const char *id, uint64_t version, uint64_t bytes_sent) {
    size_t i = p->response.n_clients++;
    assert_true(i < MAX_ROWS);
    p->rows[i] = row_of(id, version, bytes_sent);
    p->pointers[i] = &p->rows[i];
}

static void replay_removal(replay *p, const char *id) {
    size_t i = p->response.n_removed_clients++;
    assert_true(i < MAX_ROWS);
    p->removed[i] = (char *)(uintptr_t)id;
}

static void give_replay(world *w, const replay *p) {
    tob_follow_replay(w->follow, &p->response, 100, w->now);
}

// A world whose mirror has clients "a" = 1 and "d" = 2, of two buckets, of a complete snapshot.
static world new_converged(void) {
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    w.version = 2;
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    add_row(&p, "d", 2, 2);
    give(&w, &p);
    assert_true(tob_follow_synced(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    return w;
}

static void a_snapshot_comes_first_and_its_end_makes_synced(void **state) {
    (void)state;
    world w = new_world();
    page p;
    expect_request(&w, 0);
    expect_no_request(&w); // one page at a time
    beat(&w);
    make_page(&w, &p, 5);
    add_row(&p, "a", 1, 1);
    give(&w, &p);
    assert_false(tob_follow_synced(w.follow));
    expect_request(&w, 5);
    make_page(&w, &p, 0);
    add_row(&p, "d", 2, 2);
    give(&w, &p);
    assert_true(tob_follow_synced(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 77);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w); // nothing was missed
    free_world(&w);
}

static void deltas_are_applied_in_order(void **state) {
    (void)state;
    world w = new_converged();
    publish(&w, "a", 10, false);
    publish(&w, "a", 11, false);
    publish(&w, "c", 30, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 11);
    assert_int_equal(bytes_sent_of(w.mirror, "c"), 30);
    publish_removal(&w, "d");
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void a_page_that_was_made_before_a_delta_does_not_undo_it(void **state) {
    (void)state;
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    w.version = 2;
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    add_row(&p, "d", 2, 2);
    publish(&w, "a", 10, false);
    publish_removal(&w, "d");
    publish(&w, "c", 30, false);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 10);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    assert_int_equal(bytes_sent_of(w.mirror, "c"), 30);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void a_source_that_came_back_before_the_page_was_made_is_kept(void **state) {
    (void)state;
    world w = new_world();
    page first;
    page second;
    beat(&w);
    expect_request(&w, 0);
    w.version = 1;
    make_page(&w, &first, 9);
    give(&w, &first);
    expect_request(&w, 9);
    publish(&w, "d", 2, true); // lost, but in the second page
    w.last[bucket_of("d")]--;
    publish_removal(&w, "d");
    uint64_t version = publish(&w, "d", 3, true);
    make_page(&w, &second, 0);
    add_row(&second, "d", version, 3);
    give(&w, &second);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 3);
    free_world(&w);
}

static void a_gap_in_a_bucket_is_replayed_from_its_place(void **state) {
    (void)state;
    world w = new_converged();
    replay p;
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    publish(&w, "a", 9, false);
    uint64_t place = w.end.offset;
    publish(&w, "d", 20, false);
    publish(&w, "a", 10, true);
    uint64_t version = publish(&w, "a", 11, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 11); // what arrived counts at once
    expect_replay(&w, place, mask_of("a"));
    expect_no_request(&w); // one page at a time
    make_replay(&w, &p, place + 10);
    give_replay(&w, &p);
    assert_true(tob_follow_busy(w.follow));
    expect_replay(&w, place + 10, mask_of("a"));
    make_replay(&w, &p, w.end.offset);
    replay_row(&p, "a", version, 11);
    give_replay(&w, &p);
    assert_false(tob_follow_busy(w.follow));
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void heartbeats_advance_the_place_of_buckets_that_are_quiet(void **state) {
    (void)state;
    world w = new_converged();
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    for (int i = 0; i < 5; i++) {
        publish(&w, "d", (uint64_t)i, false);
    }
    beat(&w);
    uint64_t place = w.end.offset;
    publish(&w, "d", 9, false);
    publish(&w, "a", 10, true);
    publish(&w, "a", 11, false);
    beat(&w); // not past what is missing
    expect_replay(&w, place, mask_of("a"));
    free_world(&w);
}

static void a_heartbeat_shows_the_loss_of_the_last_message(void **state) {
    (void)state;
    world w = new_converged();
    replay p;
    uint64_t place = w.end.offset;
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    uint64_t version = publish(&w, "a", 10, true);
    journal(&w);
    w.last[bucket_of("d")]++; // a removal that gets lost
    expect_no_request(&w);
    beat(&w);
    expect_replay(&w, place, mask_of("a") | mask_of("d"));
    make_replay(&w, &p, w.end.offset);
    replay_row(&p, "a", version, 10);
    replay_removal(&p, "d");
    replay_removal(&p, "was never here");
    give_replay(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 10);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    free_world(&w);
}

static void a_loss_after_a_snapshot_began_is_replayed_afterwards(void **state) {
    (void)state;
    world w = new_world();
    page p;
    replay r;
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    uint64_t place = w.end.offset;
    publish(&w, "a", 10, true);
    uint64_t version = publish(&w, "a", 11, false); // the page has neither
    give(&w, &p);
    assert_true(tob_follow_synced(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 11);
    expect_no_request(&w); // not at once
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_replay(&w, place, mask_of("a"));
    make_replay(&w, &r, w.end.offset);
    replay_row(&r, "a", version, 11);
    give_replay(&w, &r);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_no_request(&w);
    free_world(&w);
}

// A world in which a message of "a" was lost, and a replay from `place` asked for.
static world new_replaying(uint64_t *ret_place) {
    world w = new_converged();
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    *ret_place = w.end.offset;
    publish(&w, "a", 10, true);
    publish(&w, "a", 11, false);
    expect_replay(&w, *ret_place, mask_of("a"));
    return w;
}

static void a_loss_during_a_replay_is_replayed_afterwards(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay first;
    replay second;
    uint64_t middle = w.end.offset - 10;
    uint64_t end = w.end.offset;
    make_replay(&w, &first, middle);
    publish(&w, "a", 12, true);
    uint64_t version = publish(&w, "a", 13, false);
    publish(&w, "d", 30, true);
    publish(&w, "d", 31, false);
    give_replay(&w, &first);
    expect_replay(&w, middle, mask_of("a"));
    make_replay(&w, &second, end); // its own end is further: the first page's counts
    replay_row(&second, "a", version, 13);
    give_replay(&w, &second);
    assert_false(tob_follow_busy(w.follow));
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    // Each from where it misses something: "d" since the snapshot.
    expect_replay(&w, place, mask_of("a") | mask_of("d"));
    free_world(&w);
}

static void a_replay_does_not_undo_what_came_after_its_page(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay p;
    uint64_t end = w.end.offset;
    make_replay(&w, &p, end);
    replay_row(&p, "a", w.version, 11);
    replay_removal(&p, "a-too");
    publish_removal(&w, "a");
    Tobogganing__V1__ClientRow back = row_of("a-too", ++w.version, 5); // was removed, and is back since
    tob_mirror_row row = client_row(back.client_id, back.version, 5);
    row.owner = 3;
    assert_int_equal(tob_mirror_put(w.mirror, TOB_SOURCE_CLIENT, &row, false, w.now.unix_ms), TOB_OK);
    give_replay(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    assert_int_equal(bytes_sent_of(w.mirror, "a-too"), 5);
    free_world(&w);
}

static void late_messages_do_not_undo_what_a_replay_brought(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay first;
    world late = w; // the bus lags behind from here on: two messages in one bucket
    publish(&w, "a", 12, true);
    journal(&w);
    w.last[bucket_of("a")]++; // a removal
    make_replay(&w, &first, w.end.offset - 10);
    replay_removal(&first, "a"); // as it is now
    give_replay(&w, &first);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    publish(&late, "a", 12, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    publish_removal(&late, "a");
    expect_replay(&w, w.end.offset - 10, mask_of("a"));
    make_replay(&w, &first, w.end.offset);
    give_replay(&w, &first);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void a_replay_that_is_not_to_be_had_becomes_a_snapshot(void **state) {
    (void)state;
    tob_error hopeless[] = {TOB_OUT_OF_RANGE, TOB_PRECONDITION, TOB_UNIMPLEMENTED};
    for (size_t i = 0; i < sizeof(hopeless) / sizeof(hopeless[0]); i++) {
        uint64_t place = 0;
        world w = new_replaying(&place);
        tob_follow_page_failed(w.follow, hopeless[i], "the oldest is 2:40", 0, w.now);
        expect_no_request(&w);
        pass_ms(&w, TOB_RESYNC_RETRY_MS);
        expect_request(&w, 0);
        free_world(&w);
    }
}

static void a_replay_that_fails_again_and_again_becomes_a_snapshot(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    for (unsigned i = 1; i < TOB_REPLAY_MAX_FAILURES; i++) {
        tob_follow_page_failed(w.follow, TOB_DEADLINE, "", 0, w.now);
        pass_ms(&w, TOB_RESYNC_RETRY_MS);
        expect_replay(&w, place, mask_of("a"));
        tob_follow_page_failed(w.follow, TOB_BUSY, "later", 2000, w.now); // it will do
        pass_ms(&w, 2000);
        expect_replay(&w, place, mask_of("a"));
    }
    replay bad;
    make_replay(&w, &bad, place); // would never end
    give_replay(&w, &bad);
    pass_ms(&w, TOB_RESYNC_RETRY_MS);
    expect_request(&w, 0);
    free_world(&w);
}

static void pages_of_a_replay_without_their_parts_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        uint64_t place = 0;
        world w = new_replaying(&place);
        replay p;
        make_replay(&w, &p, w.end.offset);
        replay_removal(&p, "d");
        p.response.next = i == 0 ? NULL : p.response.next;
        p.response.end = i == 1 ? NULL : p.response.end;
        p.response.n_last_sequences -= i == 2;
        p.response.instance += i == 3;
        give_replay(&w, &p);
        assert_true(tob_follow_busy(w.follow) == (i != 3)); // another's journal: no replay helps
        assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
        free_world(&w);
    }
}

static void without_a_place_a_gap_needs_a_snapshot(void **state) {
    (void)state;
    world w = new_world();
    page p;
    w.version = 1;
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    p.response.position = NULL; // an earlier version of ingestd
    add_row(&p, "a", 1, 1);
    give(&w, &p);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    publish(&w, "a", 10, true);
    publish(&w, "a", 11, false);
    expect_request(&w, 0);
    free_world(&w);
}

static void another_epoch_ends_a_replay(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay p;
    w.epoch = 2; // the page knows it before the bus says so
    make_replay(&w, &p, w.end.offset);
    replay_removal(&p, "d");
    give_replay(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_request(&w, 0);
    free_world(&w);
}

static void messages_of_an_epoch_that_was_left_are_late(void **state) {
    (void)state;
    world w = new_converged();
    world late = w;
    page p;
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    w.epoch = 2;
    memset(w.last, 0, sizeof(w.last));
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 7);
    publish(&late, "a", 6, false); // by another connection, perhaps
    beat(&late);
    tob_follow_hello(w.follow, 1, w.now);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 7);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_no_request(&w);
    free_world(&w);
}

static void no_resync_begins_when_it_may_not_but_one_that_is_under_way_goes_on(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay p;
    tob_page_request request;
    make_replay(&w, &p, place + 10);
    give_replay(&w, &p);
    assert_true(tob_follow_request(w.follow, false, w.now, &request));
    make_replay(&w, &p, w.end.offset);
    give_replay(&w, &p);
    publish(&w, "a", 1, true);
    publish(&w, "a", 2, false);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    assert_false(tob_follow_request(w.follow, false, w.now, &request));
    assert_true(tob_follow_request(w.follow, true, w.now, &request));
    free_world(&w);
}

static void resyncs_take_a_third_of_the_time_at_most(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay p;
    pass_ms(&w, 3000);
    make_replay(&w, &p, w.end.offset);
    give_replay(&w, &p);
    assert_int_equal(tob_follow_took_ms(w.follow), 3000);
    publish(&w, "a", 1, true);
    publish(&w, "a", 2, false);
    pass_ms(&w, 5999);
    expect_no_request(&w);
    pass_ms(&w, 1);
    tob_page_request request;
    assert_true(tob_follow_request(w.follow, true, w.now, &request));
    free_world(&w);
}

static void the_time_in_which_ingestd_was_away_is_no_reason_to_wait_longer(void **state) {
    (void)state;
    uint64_t place = 0;
    world w = new_replaying(&place);
    replay p;
    tob_follow_page_failed(w.follow, TOB_UNAVAILABLE, "", 0, w.now);
    pass_ms(&w, 600000);
    beat(&w);
    expect_replay(&w, place, mask_of("a"));
    pass_ms(&w, 700);
    make_replay(&w, &p, w.end.offset);
    give_replay(&w, &p);
    assert_int_equal(tob_follow_took_ms(w.follow), 700);
    publish(&w, "a", 1, true);
    publish(&w, "a", 2, false);
    pass_ms(&w, 1400);
    tob_page_request request;
    assert_true(tob_follow_request(w.follow, true, w.now, &request));
    free_world(&w);
}

static void a_shard_has_its_buckets_only(void **state) {
    (void)state;
    world w = new_world_of(mask_of("a"));
    page p;
    tob_page_request request;
    assert_int_not_equal(bucket_of("a"), bucket_of("d"));
    beat(&w);
    assert_true(tob_follow_request(w.follow, true, w.now, &request));
    assert_true(request.snapshot.buckets == mask_of("a"));
    w.version = 2;
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    add_row(&p, "d", 2, 2); // of a server that doesn't know shards
    give(&w, &p);
    publish(&w, "d", 3, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    publish(&w, "d", 3, true);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w); // others' losses are theirs
    uint64_t place = w.end.offset;
    publish(&w, "a", 5, true);
    beat(&w);
    expect_replay(&w, place, mask_of("a"));
    free_world(&w);
}

static void losses_that_the_snapshot_contains_need_no_other(void **state) {
    (void)state;
    world w = new_world();
    page p;
    uint64_t version = publish(&w, "a", 10, true);
    version = publish(&w, "a", 11, false); // sequence 2 is the first that we hear
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", version, 11);
    give(&w, &p);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void deltas_older_than_the_snapshot_change_nothing(void **state) {
    (void)state;
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    world late = w; // the bus lags behind: these messages come after the page that contains them
    publish(&w, "a", 10, true);
    w.last[bucket_of("a")]++; // and a removal
    make_page(&w, &p, 0);
    give(&w, &p);
    publish(&late, "a", 10, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    free_world(&w);
}

static void a_new_epoch_keeps_the_fleet_until_its_snapshot_is_complete(void **state) {
    (void)state;
    world w = new_converged();
    page p;
    pass_ms(&w, 60000);
    w.epoch = 2;
    w.version = 0;
    memset(w.last, 0, sizeof(w.last));
    beat(&w);
    assert_true(tob_follow_synced(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    expect_request(&w, 0);
    uint64_t version = publish(&w, "a", 70, false); // version 1, as it had: but of this epoch
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 70);
    make_page(&w, &p, 3);
    add_row(&p, "a", version, 70);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    expect_request(&w, 3);
    make_page(&w, &p, 0);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 70);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    free_world(&w);
}

static void an_epoch_that_changes_between_pages_starts_the_snapshot_again(void **state) {
    (void)state;
    world w = new_converged();
    page p;
    page old;
    pass_ms(&w, 60000);

    w.epoch = 2;
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 3);
    add_row(&p, "a", 1, 50);
    give(&w, &p);
    expect_request(&w, 3);
    make_page(&w, &old, 0); // a page of epoch 2 is on its way when epoch 3 is heard
    w.epoch = 3;
    beat(&w);
    give(&w, &old);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2); // nothing was finished
    expect_request(&w, 0);
    w.epoch = 4; // ingestd restarts again: a page knows it before the bus says so
    make_page(&w, &p, 0);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 2);
    expect_no_request(&w);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 51);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 51);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), -1);
    free_world(&w);
}

static void a_silent_bus_is_noticed_and_replaced_by_replays(void **state) {
    (void)state;
    world w = new_world();
    page p;
    replay r;
    pass_ms(&w, TOB_BUS_SILENT_MS);
    assert_false(tob_follow_silent(w.follow));
    pass_ms(&w, 1);
    assert_true(tob_follow_silent(w.follow));
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    uint64_t place = w.end.offset;
    give(&w, &p);
    assert_true(tob_follow_synced(w.follow));
    pass_ms(&w, TOB_RESYNC_POLL_MS - 1);
    expect_no_request(&w);
    pass_ms(&w, 1);
    expect_replay(&w, place, 0);
    uint64_t version = publish(&w, "d", 4, true);
    make_replay(&w, &r, w.end.offset);
    replay_row(&r, "d", version, 4);
    give_replay(&w, &r);
    assert_int_equal(bytes_sent_of(w.mirror, "d"), 4);
    pass_ms(&w, TOB_RESYNC_POLL_MS);
    expect_replay(&w, place + 10, 0);
    w.epoch = 9; // without the bus the page has the last word
    make_replay(&w, &r, w.end.offset);
    give_replay(&w, &r);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 5);
    give(&w, &p);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 5);
    beat(&w);
    assert_false(tob_follow_silent(w.follow));
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_no_request(&w);
    free_world(&w);
}

static void who_answers_in_another_epoch_is_believed_while_the_bus_is_silent(void **state) {
    (void)state;
    world w = new_converged();
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    tob_follow_hello(w.follow, 5, w.now);
    expect_no_request(&w);
    pass_ms(&w, TOB_BUS_SILENT_MS + 1);
    tob_follow_hello(w.follow, 5, w.now);
    expect_request(&w, 0);
    assert_int_equal(tob_follow_heard_ms(w.follow), w.now.monotonic_ms);
    free_world(&w);
}

static void a_page_that_fails_is_asked_for_again(void **state) {
    (void)state;
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 4);
    add_row(&p, "a", 1, 1);
    give(&w, &p);
    expect_request(&w, 4);
    tob_follow_page_failed(w.follow, TOB_UNAVAILABLE, "", 0, w.now);
    expect_no_request(&w);
    pass_ms(&w, TOB_RESYNC_RETRY_MS);
    expect_request(&w, 4);
    tob_follow_page_failed(w.follow, TOB_BUSY, "slow down", 3000, w.now);
    pass_ms(&w, 2999);
    expect_no_request(&w);
    pass_ms(&w, 1);
    expect_request(&w, 4);
    make_page(&w, &p, 4); // would never end
    give(&w, &p);
    pass_ms(&w, TOB_RESYNC_RETRY_MS);
    expect_request(&w, 4);
    make_page(&w, &p, 0);
    p.response.n_last_sequences = TOB_BUS_BUCKETS - 1;
    give(&w, &p);
    assert_false(tob_follow_synced(w.follow));
    pass_ms(&w, TOB_RESYNC_RETRY_MS);
    expect_request(&w, 4);
    make_page(&w, &p, 0);
    give(&w, &p);
    assert_true(tob_follow_synced(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    free_world(&w);
}

static void messages_of_other_topics_and_short_heartbeats_do_no_harm(void **state) {
    (void)state;
    world w = new_converged();
    unsigned topics[] = {0, TOB_BUS_BUCKETS + 1, 126, TOB_BUS_TOPIC_HEARTBEAT, 128, UINT32_MAX};
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        Tobogganing__V1__BusMessage message = message_of(&w, topics[i], 99);
        message.epoch = 77;
        tob_follow_bus(w.follow, &message, w.now);
    }
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__BusMessage message = message_of(&w, TOB_BUS_TOPIC_HEARTBEAT, 0);
    message.heartbeat = &heartbeat;
    tob_follow_bus(w.follow, &message, w.now);
    publish(&w, "not an id", 1, false);
    publish(&w, "", 1, false);
    publish_removal(&w, "not an id");
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    expect_no_request(&w);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 2);
    free_world(&w);
}

static void pages_bring_counters_until_the_bus_does(void **state) {
    (void)state;
    world w = new_world();
    page p;
    Tobogganing__V1__Manager manager = TOBOGGANING__V1__MANAGER__INIT;
    manager.clients = 5;
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    p.response.manager = &manager;
    give(&w, &p);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 5);
    beat(&w);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 77);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    publish(&w, "a", 1, true);
    publish(&w, "a", 2, false);
    expect_replay(&w, w.end.offset - 20, mask_of("a"));
    tob_follow_page_failed(w.follow, TOB_OUT_OF_RANGE, "", 0, w.now);
    pass_ms(&w, TOB_RESYNC_RETRY_MS);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    p.response.manager = &manager; // may be older than the heartbeat
    give(&w, &p);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 77);
    pass_ms(&w, TOB_BUS_SILENT_MS + 1);
    tob_follow_hello(w.follow, 2, w.now);
    expect_request(&w, 0);
    w.epoch = 2;
    make_page(&w, &p, 0);
    p.response.manager = &manager;
    give(&w, &p);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 5);
    free_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_comes_first_and_its_end_makes_synced),
        cmocka_unit_test(deltas_are_applied_in_order),
        cmocka_unit_test(a_page_that_was_made_before_a_delta_does_not_undo_it),
        cmocka_unit_test(a_source_that_came_back_before_the_page_was_made_is_kept),
        cmocka_unit_test(a_gap_in_a_bucket_is_replayed_from_its_place),
        cmocka_unit_test(heartbeats_advance_the_place_of_buckets_that_are_quiet),
        cmocka_unit_test(a_heartbeat_shows_the_loss_of_the_last_message),
        cmocka_unit_test(a_loss_after_a_snapshot_began_is_replayed_afterwards),
        cmocka_unit_test(a_loss_during_a_replay_is_replayed_afterwards),
        cmocka_unit_test(a_replay_does_not_undo_what_came_after_its_page),
        cmocka_unit_test(late_messages_do_not_undo_what_a_replay_brought),
        cmocka_unit_test(a_replay_that_is_not_to_be_had_becomes_a_snapshot),
        cmocka_unit_test(a_replay_that_fails_again_and_again_becomes_a_snapshot),
        cmocka_unit_test(pages_of_a_replay_without_their_parts_are_refused),
        cmocka_unit_test(without_a_place_a_gap_needs_a_snapshot),
        cmocka_unit_test(another_epoch_ends_a_replay),
        cmocka_unit_test(messages_of_an_epoch_that_was_left_are_late),
        cmocka_unit_test(no_resync_begins_when_it_may_not_but_one_that_is_under_way_goes_on),
        cmocka_unit_test(resyncs_take_a_third_of_the_time_at_most),
        cmocka_unit_test(the_time_in_which_ingestd_was_away_is_no_reason_to_wait_longer),
        cmocka_unit_test(a_shard_has_its_buckets_only),
        cmocka_unit_test(losses_that_the_snapshot_contains_need_no_other),
        cmocka_unit_test(deltas_older_than_the_snapshot_change_nothing),
        cmocka_unit_test(a_new_epoch_keeps_the_fleet_until_its_snapshot_is_complete),
        cmocka_unit_test(an_epoch_that_changes_between_pages_starts_the_snapshot_again),
        cmocka_unit_test(a_silent_bus_is_noticed_and_replaced_by_replays),
        cmocka_unit_test(who_answers_in_another_epoch_is_believed_while_the_bus_is_silent),
        cmocka_unit_test(a_page_that_fails_is_asked_for_again),
        cmocka_unit_test(messages_of_other_topics_and_short_heartbeats_do_no_harm),
        cmocka_unit_test(pages_bring_counters_until_the_bus_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
