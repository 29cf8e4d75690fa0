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
} world;

static world new_world(void) {
    world w = {.mirror = new_mirror(1000, DAY_MS), .manager = new_manager(), .instance = 11, .epoch = 1};
    w.now = (tob_moment){.monotonic_ms = 1000000, .unix_ms = 1700000000000};
    assert_int_equal(tob_follow_new(w.mirror, w.manager, w.now, &w.follow), TOB_OK);
    return w;
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

static Tobogganing__V1__BusMessage message_of(const world *w, unsigned topic, uint64_t sequence) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    message.topic = topic;
    message.instance = w->instance;
    message.epoch = w->epoch;
    message.sequence = sequence;
    return message;
}

// ingestd publishes a client's new value; it gets to us, or is lost on the way.
static uint64_t publish(world *w, const char *id, uint64_t bytes_sent, bool lost) {
    unsigned bucket = bucket_of(id);
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
}

static void add_row(page *p, const char *id, uint64_t version, uint64_t bytes_sent) {
    size_t i = p->response.n_clients++;
    assert_true(i < MAX_ROWS);
    p->rows[i] = row_of(id, version, bytes_sent);
    p->pointers[i] = &p->rows[i];
}

static void expect_request(world *w, uint64_t cursor) {
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    assert_true(tob_follow_request(w->follow, w->now, &request));
    assert_int_equal(request.cursor, cursor);
    assert_int_equal(request.max_rows, TOB_SNAPSHOT_PAGE_ROWS);
}

static void expect_no_request(world *w) {
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    assert_false(tob_follow_request(w->follow, w->now, &request));
}

// A world whose mirror has clients "a" = 1 and "b" = 2 of a complete snapshot.
static world new_converged(void) {
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    w.version = 2;
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    add_row(&p, "b", 2, 2);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_true(tob_follow_ready(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    return w;
}

static void the_first_sign_of_life_starts_a_snapshot_and_its_end_makes_ready(void **state) {
    (void)state;
    world w = new_world();
    page p;
    expect_no_request(&w);
    beat(&w);
    expect_request(&w, 0);
    expect_no_request(&w); // one page at a time
    make_page(&w, &p, 5);
    add_row(&p, "a", 1, 1);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_false(tob_follow_ready(w.follow));
    expect_request(&w, 5);
    make_page(&w, &p, 0);
    add_row(&p, "b", 2, 2);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_true(tob_follow_ready(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 77);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
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
    publish_removal(&w, "b");
    assert_int_equal(bytes_sent_of(w.mirror, "b"), -1);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
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
    add_row(&p, "b", 2, 2);
    publish(&w, "a", 10, false);
    publish_removal(&w, "b");
    publish(&w, "c", 30, false);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 10);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), -1);
    assert_int_equal(bytes_sent_of(w.mirror, "c"), 30);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
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
    tob_follow_page(w.follow, &first.response, w.now);
    expect_request(&w, 9);
    publish(&w, "b", 2, true); // lost, but in the second page
    w.last[bucket_of("b")]--;
    publish_removal(&w, "b");
    uint64_t version = publish(&w, "b", 3, true);
    make_page(&w, &second, 0);
    add_row(&second, "b", version, 3);
    tob_follow_page(w.follow, &second.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 3);
    free_world(&w);
}

static void a_gap_in_a_bucket_asks_for_a_new_snapshot(void **state) {
    (void)state;
    world w = new_converged();
    page p;
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    publish(&w, "a", 10, true);
    uint64_t version = publish(&w, "a", 11, false);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 11); // what arrived counts at once
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", version, 11);
    add_row(&p, "b", 2, 2);
    tob_follow_page(w.follow, &p.response, w.now);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    beat(&w);
    expect_no_request(&w);
    free_world(&w);
}

static void a_heartbeat_shows_the_loss_of_the_last_message(void **state) {
    (void)state;
    world w = new_converged();
    page p;
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    uint64_t version = publish(&w, "a", 10, true);
    expect_no_request(&w);
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", version, 10);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 10);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), -1); // its removal was what got lost
    free_world(&w);
}

static void a_loss_after_a_snapshot_began_needs_another_one(void **state) {
    (void)state;
    world w = new_world();
    page p;
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    publish(&w, "a", 10, true);
    uint64_t version = publish(&w, "a", 11, false); // the page has neither
    tob_follow_page(w.follow, &p.response, w.now);
    assert_true(tob_follow_ready(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 11);
    expect_no_request(&w); // not at once
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", version, 11);
    tob_follow_page(w.follow, &p.response, w.now);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    expect_no_request(&w);
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
    tob_follow_page(w.follow, &p.response, w.now);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
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
    tob_follow_page(w.follow, &p.response, w.now);
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
    assert_true(tob_follow_ready(w.follow));
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    expect_request(&w, 0);
    uint64_t version = publish(&w, "a", 70, false); // version 1, as it had: but of this epoch
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 70);
    make_page(&w, &p, 3);
    add_row(&p, "a", version, 70);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    expect_request(&w, 3);
    make_page(&w, &p, 0);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 70);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), -1);
    free_world(&w);
}

static void an_epoch_that_changes_between_pages_starts_the_snapshot_again(void **state) {
    (void)state;
    world w = new_converged();
    page p;
    page old;
    pass_ms(&w, 60000);
    w.instance = 12;
    w.epoch = 2;
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 3);
    add_row(&p, "a", 1, 50);
    tob_follow_page(w.follow, &p.response, w.now);
    expect_request(&w, 3);
    make_page(&w, &old, 0); // a page of epoch 2 is on its way when epoch 3 is heard
    w.epoch = 3;
    beat(&w);
    tob_follow_page(w.follow, &old.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2); // nothing was finished
    expect_request(&w, 0);
    w.epoch = 4; // ingestd restarts again: a page knows it before the bus says so
    make_page(&w, &p, 0);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    expect_no_request(&w);
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    beat(&w);
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 51);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 51);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), -1);
    free_world(&w);
}

static void a_silent_bus_is_noticed_and_replaced_by_snapshots(void **state) {
    (void)state;
    world w = new_world();
    page p;
    pass_ms(&w, TOB_BUS_SILENT_MS);
    assert_false(tob_follow_silent(w.follow));
    expect_no_request(&w);
    pass_ms(&w, 1);
    assert_true(tob_follow_silent(w.follow));
    expect_request(&w, 0);
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 1);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_true(tob_follow_ready(w.follow));
    pass_ms(&w, TOB_SNAPSHOT_POLL_MS - 1);
    expect_no_request(&w);
    pass_ms(&w, 1);
    expect_request(&w, 0);
    w.epoch = 9; // without the bus the page has the last word
    make_page(&w, &p, 0);
    add_row(&p, "a", 1, 5);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 5);
    beat(&w);
    assert_false(tob_follow_silent(w.follow));
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    expect_no_request(&w);
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
    tob_follow_page(w.follow, &p.response, w.now);
    expect_request(&w, 4);
    tob_follow_page_failed(w.follow, TOB_UNAVAILABLE, "", 0, w.now);
    expect_no_request(&w);
    pass_ms(&w, TOB_SNAPSHOT_RETRY_MS);
    expect_request(&w, 4);
    tob_follow_page_failed(w.follow, TOB_BUSY, "slow down", 3000, w.now);
    pass_ms(&w, 2999);
    expect_no_request(&w);
    pass_ms(&w, 1);
    expect_request(&w, 4);
    make_page(&w, &p, 4); // would never end
    tob_follow_page(w.follow, &p.response, w.now);
    pass_ms(&w, TOB_SNAPSHOT_RETRY_MS);
    expect_request(&w, 4);
    make_page(&w, &p, 0);
    p.response.n_last_sequences = TOB_BUS_BUCKETS - 1;
    tob_follow_page(w.follow, &p.response, w.now);
    assert_false(tob_follow_ready(w.follow));
    pass_ms(&w, TOB_SNAPSHOT_RETRY_MS);
    expect_request(&w, 4);
    make_page(&w, &p, 0);
    tob_follow_page(w.follow, &p.response, w.now);
    assert_true(tob_follow_ready(w.follow));
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
    pass_ms(&w, TOB_SNAPSHOT_INTERVAL_MS);
    expect_no_request(&w);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 2);
    free_world(&w);
}

static void silent_sources_expire_by_time_alone(void **state) {
    (void)state;
    world w = new_converged();
    pass_ms(&w, DAY_MS);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    pass_ms(&w, 60000);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    free_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_sign_of_life_starts_a_snapshot_and_its_end_makes_ready),
        cmocka_unit_test(deltas_are_applied_in_order),
        cmocka_unit_test(a_page_that_was_made_before_a_delta_does_not_undo_it),
        cmocka_unit_test(a_source_that_came_back_before_the_page_was_made_is_kept),
        cmocka_unit_test(a_gap_in_a_bucket_asks_for_a_new_snapshot),
        cmocka_unit_test(a_heartbeat_shows_the_loss_of_the_last_message),
        cmocka_unit_test(a_loss_after_a_snapshot_began_needs_another_one),
        cmocka_unit_test(losses_that_the_snapshot_contains_need_no_other),
        cmocka_unit_test(deltas_older_than_the_snapshot_change_nothing),
        cmocka_unit_test(a_new_epoch_keeps_the_fleet_until_its_snapshot_is_complete),
        cmocka_unit_test(an_epoch_that_changes_between_pages_starts_the_snapshot_again),
        cmocka_unit_test(a_silent_bus_is_noticed_and_replaced_by_snapshots),
        cmocka_unit_test(a_page_that_fails_is_asked_for_again),
        cmocka_unit_test(messages_of_other_topics_and_short_heartbeats_do_no_harm),
        cmocka_unit_test(silent_sources_expire_by_time_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
