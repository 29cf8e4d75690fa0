#include "exporter/instances.h"
#include "support.h"

typedef struct world {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_instances *instances;
    tob_moment now;
    uint64_t version;
    uint64_t last[TOB_BUS_BUCKETS]; // of whichever instance
    Tobogganing__V1__Position end;
} world;

#define READY_MS 30000

static world new_world(uint64_t expire_after_ms) {
    world w = {.mirror = new_mirror(1000, expire_after_ms), .manager = new_manager()};
    w.now = (tob_moment){.monotonic_ms = 1000000, .unix_ms = 1700000000000};
    w.end = (Tobogganing__V1__Position)TOBOGGANING__V1__POSITION__INIT;
    w.end.segment = 1;
    w.end.offset = 40;
    tob_instances_options options = {.mirror = w.mirror, .manager = w.manager, .ready_timeout_ms = READY_MS};
    assert_int_equal(tob_instances_new(&options, w.now, &w.instances), TOB_OK);
    return w;
}

static void free_world(world *w) {
    tob_instances_free(w->instances);
    tob_manager_free(w->manager);
    tob_mirror_free(w->mirror);
}

static void pass_ms(world *w, uint64_t ms) {
    w->now.monotonic_ms += ms;
    w->now.unix_ms += ms;
    tob_instances_tick(w->instances, w->now);
}

static void beat(world *w, uint64_t instance) {
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__Manager manager = TOBOGGANING__V1__MANAGER__INIT;
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    uint64_t last[TOB_BUS_BUCKETS];
    memcpy(last, w->last, sizeof(last));
    manager.clients = instance;
    message.topic = TOB_BUS_TOPIC_HEARTBEAT;
    message.instance = instance;
    message.epoch = instance + 1000;
    message.position = &w->end;
    message.heartbeat = &heartbeat;
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    heartbeat.last_sequences = last;
    heartbeat.manager = &manager;
    tob_instances_bus(w->instances, &message, w->now);
}

static bool asks(world *w, uint64_t instance, tob_resync_kind *ret_kind) {
    tob_page_request request;
    bool asked = tob_instances_request(w->instances, instance, w->now, &request);
    *ret_kind = asked ? request.kind : TOB_RESYNC_NONE;
    return asked;
}

static void expect(world *w, uint64_t instance, tob_resync_kind kind) {
    tob_resync_kind got = TOB_RESYNC_NONE;
    asks(w, instance, &got);
    assert_int_equal(got, kind);
}

// The answer to a page of a snapshot: its only one, with one client.
static void give_snapshot(world *w, uint64_t instance, const char *id, uint64_t bytes_sent) {
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    Tobogganing__V1__ClientRow *rows[] = {&row};
    uint64_t last[TOB_BUS_BUCKETS];
    memcpy(last, w->last, sizeof(last));
    row.client_id = (char *)(uintptr_t)id;
    row.type = (char *)"native";
    row.version = ++w->version;
    row.last_check_in_unix_ms = w->now.unix_ms;
    row.present = 1;
    row.bytes_sent = bytes_sent;
    page.instance = instance;
    page.epoch = instance + 1000;
    page.version = w->version;
    page.n_clients = id ? 1 : 0;
    page.clients = rows;
    page.n_last_sequences = TOB_BUS_BUCKETS;
    page.last_sequences = last;
    page.position = &w->end;
    tob_instances_snapshot(w->instances, instance, &page, 100, w->now);
}

static void give_replay(world *w, uint64_t instance) {
    Tobogganing__V1__ReplayResponse page = TOBOGGANING__V1__REPLAY_RESPONSE__INIT;
    uint64_t last[TOB_BUS_BUCKETS];
    memcpy(last, w->last, sizeof(last));
    page.instance = instance;
    page.epoch = instance + 1000;
    page.version = w->version;
    page.n_last_sequences = TOB_BUS_BUCKETS;
    page.last_sequences = last;
    page.next = &w->end;
    page.end = &w->end;
    tob_instances_replay(w->instances, instance, &page, 100, w->now);
}

static void sync_with(world *w, uint64_t instance, const char *id, uint64_t bytes_sent) {
    tob_instances_hello(w->instances, instance, instance + 1000, w->now);
    expect(w, instance, TOB_RESYNC_SNAPSHOT);
    give_snapshot(w, instance, id, bytes_sent);
}

static void each_ingestd_is_followed_on_its_own(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    expect(&w, 7, TOB_RESYNC_NONE); // never heard of
    beat(&w, 7);
    tob_instances_hello(w.instances, 8, 1008, w.now);
    assert_int_equal(tob_instances_count(w.instances), 2);
    expect(&w, 7, TOB_RESYNC_SNAPSHOT); // first snapshots go side by side
    expect(&w, 8, TOB_RESYNC_SNAPSHOT);
    give_snapshot(&w, 8, "b", 2);
    give_snapshot(&w, 7, "a", 1);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    beat(&w, 8);
    assert_int_equal(tob_manager_gauge(w.manager, TOB_GAUGE_CLIENTS), 8); // the greatest
    free_world(&w);
}

static void another_instance_behind_an_address_keeps_the_rows_of_the_one_before(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    sync_with(&w, 7, "a", 1);
    pass_ms(&w, 60000);
    sync_with(&w, 8, NULL, 0); // with an empty disk
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    pass_ms(&w, 60000);
    beat(&w, 8);
    w.last[0]++; // something is lost: a replay of 8 says nothing about rows of 7
    beat(&w, 8);
    expect(&w, 8, TOB_RESYNC_REPLAY);
    give_replay(&w, 8);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    free_world(&w);
}

static void an_instance_is_forgotten_with_its_rows_when_nobody_hears_of_it(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    sync_with(&w, 7, "a", 1);
    sync_with(&w, 8, "b", 2);
    pass_ms(&w, DAY_MS / 2);
    beat(&w, 8);
    w.now.unix_ms -= DAY_MS; // nobody is forgotten by the wall clock
    pass_ms(&w, DAY_MS / 2);
    beat(&w, 8);
    assert_int_equal(tob_instances_count(w.instances), 2);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 2);
    pass_ms(&w, 1);
    assert_int_equal(tob_instances_count(w.instances), 1);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "b"), 2);
    sync_with(&w, 7, "a", 3); // and comes back
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 3);
    free_world(&w);
}

static void a_clock_step_of_a_day_hides_rows_for_its_time_only(void **state) {
    (void)state;
    world w = new_world(DAY_MS / 2);
    sync_with(&w, 7, "a", 1);
    w.now.unix_ms += DAY_MS;
    pass_ms(&w, 60000);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), -1);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 1);
    w.now.unix_ms -= DAY_MS;
    pass_ms(&w, 60000);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    w.now.unix_ms -= DAY_MS;
    pass_ms(&w, 60000);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    free_world(&w);
}

static void slots_are_capped_and_those_of_empty_instances_used_again(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    sync_with(&w, 1, "a", 1);
    for (uint64_t i = 2; i <= TOB_MAX_INSTANCES; i++) {
        sync_with(&w, i, NULL, 0);
    }
    tob_instances_hello(w.instances, 9999, 1, w.now);
    assert_int_equal(tob_instances_count(w.instances), TOB_MAX_INSTANCES);
    expect(&w, 9999, TOB_RESYNC_NONE);
    pass_ms(&w, TOB_INSTANCE_MIN_KEEP_MS / 2);
    beat(&w, 3);
    pass_ms(&w, TOB_INSTANCE_MIN_KEEP_MS / 2 + 1);
    sync_with(&w, 9999, "z", 26); // for 2: 1 has a row
    assert_int_equal(tob_instances_count(w.instances), TOB_MAX_INSTANCES);
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(bytes_sent_of(w.mirror, "z"), 26);
    for (uint64_t i = 0; i < 2 * TOB_MAX_INSTANCES; i++) {
        tob_instances_hello(w.instances, 20000 + i, 1, w.now);
    }
    assert_int_equal(bytes_sent_of(w.mirror, "a"), 1);
    assert_int_equal(tob_instances_count(w.instances), TOB_MAX_INSTANCES);
    free_world(&w);
}

static void one_that_was_synced_is_resynced_while_no_other_is(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    sync_with(&w, 7, "a", 1);
    sync_with(&w, 8, "b", 2);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w, 7);
    beat(&w, 8);
    w.last[0]++;
    beat(&w, 7);
    beat(&w, 8);
    expect(&w, 7, TOB_RESYNC_REPLAY);
    expect(&w, 8, TOB_RESYNC_NONE);
    sync_with(&w, 9, NULL, 0); // the first snapshot of another doesn't wait
    pass_ms(&w, 300);
    give_replay(&w, 7);
    expect(&w, 8, TOB_RESYNC_NONE); // a third of the time, all together
    pass_ms(&w, 600);
    expect(&w, 8, TOB_RESYNC_REPLAY);
    free_world(&w);
}

static void one_whose_calls_hang_does_not_hold_up_the_others(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    sync_with(&w, 7, "a", 1);
    sync_with(&w, 8, "b", 2);
    pass_ms(&w, TOB_RESYNC_INTERVAL_MS);
    beat(&w, 7);
    beat(&w, 8);
    w.last[0]++;
    beat(&w, 7);
    beat(&w, 8);
    expect(&w, 7, TOB_RESYNC_REPLAY);
    pass_ms(&w, TOB_RESYNC_STALLED_MS);
    expect(&w, 8, TOB_RESYNC_REPLAY);
    free_world(&w);
}

static void ready_needs_a_snapshot_from_every_address(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    tob_behind addresses[] = {{.known = true, .instance = 7}, {.known = false}};
    tob_instances_check_ready(w.instances, NULL, 0, 1, w.now);
    assert_false(tob_instances_ready(w.instances));
    tob_instances_hello(w.instances, 7, 1007, w.now);
    tob_instances_check_ready(w.instances, addresses, 1, 1, w.now);
    assert_false(tob_instances_ready(w.instances)); // heard of, but nothing taken over yet
    sync_with(&w, 7, "a", 1);
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_false(tob_instances_ready(w.instances));
    tob_instances_check_ready(w.instances, addresses, 1, 2, w.now); // a name is not resolved yet
    assert_false(tob_instances_ready(w.instances));
    addresses[1] = (tob_behind){.known = true, .instance = 8};
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_false(tob_instances_ready(w.instances));
    sync_with(&w, 8, "b", 2);
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_true(tob_instances_ready(w.instances));
    free_world(&w);
}

static void an_address_of_the_other_ip_version_that_never_answers_is_not_waited_for(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    tob_behind addresses[] = {{.needless = true}, {.known = true, .instance = 7}};
    tob_instances_hello(w.instances, 7, 1007, w.now);
    tob_instances_check_ready(w.instances, addresses, 2, 1, w.now);
    assert_false(tob_instances_ready(w.instances));
    sync_with(&w, 7, "a", 1);
    tob_instances_check_ready(w.instances, addresses, 2, 1, w.now);
    assert_true(tob_instances_ready(w.instances));
    free_world(&w);
}

static void one_that_is_away_holds_up_ready_for_a_while_only(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    tob_behind addresses[] = {{.known = true, .instance = 7}, {.known = false}};
    pass_ms(&w, READY_MS);
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_false(tob_instances_ready(w.instances)); // nothing at all would be shown
    sync_with(&w, 7, "a", 1);
    w.now.monotonic_ms--;
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_false(tob_instances_ready(w.instances));
    w.now.monotonic_ms++;
    tob_instances_check_ready(w.instances, addresses, 2, 2, w.now);
    assert_true(tob_instances_ready(w.instances));
    tob_instances_check_ready(w.instances, NULL, 0, 2, w.now);
    assert_true(tob_instances_ready(w.instances)); // stays so
    free_world(&w);
}

static void the_bus_is_silent_when_none_is_heard(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    beat(&w, 7);
    pass_ms(&w, TOB_BUS_SILENT_MS);
    beat(&w, 8);
    pass_ms(&w, TOB_BUS_SILENT_MS);
    assert_false(tob_instances_silent(w.instances));
    pass_ms(&w, 1);
    assert_true(tob_instances_silent(w.instances));
    beat(&w, 7);
    assert_false(tob_instances_silent(w.instances));
    free_world(&w);
}

static void answers_for_nobody_do_no_harm(void **state) {
    (void)state;
    world w = new_world(DAY_MS);
    give_snapshot(&w, 7, "a", 1);
    give_replay(&w, 7);
    tob_instances_page_failed(w.instances, 7, TOB_DEADLINE, "", 0, w.now);
    sync_with(&w, 7, "a", 1);
    give_snapshot(&w, 7, "b", 1); // nobody asked
    give_replay(&w, 7);
    assert_int_equal(tob_mirror_count(w.mirror, TOB_SOURCE_CLIENT), 1);
    free_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ingestd_is_followed_on_its_own),
        cmocka_unit_test(another_instance_behind_an_address_keeps_the_rows_of_the_one_before),
        cmocka_unit_test(an_instance_is_forgotten_with_its_rows_when_nobody_hears_of_it),
        cmocka_unit_test(a_clock_step_of_a_day_hides_rows_for_its_time_only),
        cmocka_unit_test(slots_are_capped_and_those_of_empty_instances_used_again),
        cmocka_unit_test(one_that_was_synced_is_resynced_while_no_other_is),
        cmocka_unit_test(one_whose_calls_hang_does_not_hold_up_the_others),
        cmocka_unit_test(ready_needs_a_snapshot_from_every_address),
        cmocka_unit_test(an_address_of_the_other_ip_version_that_never_answers_is_not_waited_for),
        cmocka_unit_test(one_that_is_away_holds_up_ready_for_a_while_only),
        cmocka_unit_test(the_bus_is_silent_when_none_is_heard),
        cmocka_unit_test(answers_for_nobody_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
