// What becomes of rows when the registry changes, and rows one at a time.
#include "committer_rig.h"

#define LAST   "/tobogganing.v1.Reports/Last"
#define REPLAY "/tobogganing.v1.Bus/Replay"

// The next message on the bus that has rows or removals.
static Tobogganing__V1__BusMessage *next_rows(rig *r) {
    for (;;) {
        Tobogganing__V1__BusMessage *message = rig_receive(r);
        if (!message->heartbeat) {
            return message;
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
    }
}

static Tobogganing__V1__ClientRow only_row(rig *r, const char *name) {
    Tobogganing__V1__BusMessage *message = next_rows(r);
    assert_int_equal(message->n_clients, 1);
    assert_string_equal(message->clients[0]->name, name);
    Tobogganing__V1__ClientRow row = *message->clients[0]; // its numbers
    tobogganing__v1__bus_message__free_unpacked(message, NULL);
    return row;
}

static void put_headend(rig *r, const char *id, const char *name, const char *region) {
    tob_directory_headend headend = {
        .id = id, .name = name, .cluster_id = "k-1", .region = region, .datacenter = "d-1"};
    assert_int_equal(tob_directory_put_headend(r->directory, &headend, NULL), TOB_OK);
}

static void submit_headend(rig *r, const char *id) {
    tob_batch_builder *builder = NULL;
    tob_headend_sample sample = {.time_unix_ms = 1,
                                 .present = 1u << TOB_HEADEND_CPU_USAGE,
                                 .values = {[TOB_HEADEND_CPU_USAGE] = 12.5}};
    assert_int_equal(tob_batch_builder_new("h", 1, 1 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_headend(builder, id, "", "k", &sample, 1), TOB_OK);
    tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, ++r->number), NULL);
    tob_batch_builder_free(builder);
}

static tob_position journal_end(rig *r) {
    tob_committer_stats stats;
    tob_committer_get_stats(r->committer, &stats);
    return stats.journal_end;
}

static void a_relabelled_source_is_published_again_without_a_new_check_in(void **state) {
    rig *r = *state;
    rig_submit(r, "c-1", 1000, 42);
    Tobogganing__V1__ClientRow before = only_row(r, "laptop");
    rig_register(r, "c-1", "a better laptop");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "c-1");
    Tobogganing__V1__ClientRow after = only_row(r, "a better laptop");
    assert_true(after.version > before.version);
    assert_int_equal(after.last_check_in_unix_ms, before.last_check_in_unix_ms);
    assert_int_equal(after.bytes_sent, 42);
    assert_int_equal(after.present, before.present);
    rig_stop(r);
    rig_start(r); // nothing of it is in the journal
    uint64_t sent = 0;
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 1);
    assert_int_equal(sent, 42);
}

static void a_moved_headend_is_published_again_with_its_region(void **state) {
    rig *r = *state;
    put_headend(r, "h-1", "edge", "eu");
    submit_headend(r, "h-1");
    Tobogganing__V1__BusMessage *message = next_rows(r);
    assert_string_equal(message->headends[0]->region, "eu");
    tobogganing__v1__bus_message__free_unpacked(message, NULL);
    put_headend(r, "h-1", "edge", "us");
    tob_committer_source_changed(r->committer, TOB_SOURCE_HEADEND, "h-1");
    message = next_rows(r);
    assert_int_equal(message->n_headends, 1);
    assert_string_equal(message->headends[0]->region, "us");
    assert_true(message->headends[0]->cpu_usage == 12.5);
    tobogganing__v1__bus_message__free_unpacked(message, NULL);
}

static void a_source_that_never_reported_gets_no_row(void **state) {
    rig *r = *state;
    uint64_t sent = 0;
    char too_long[TOB_MAX_ID_BYTES + 2];
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = 0;
    rig_submit(r, "c-1", 1000, 42);
    (void)only_row(r, "laptop");
    rig_register(r, "c-2", "phone");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "c-2");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "nobody");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, too_long);
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT,
                                 "c-1"); // in their order: done when this one is
    (void)only_row(r, "laptop");
    assert_int_equal(rig_rows_of(r, "c-2", &sent), 0);
    assert_int_equal(rig_rows_of(r, "nobody", &sent), 0);
}

static void a_source_that_is_gone_loses_its_row_for_good(void **state) {
    rig *r = *state;
    uint64_t sent = 0;
    rig_submit(r, "c-1", 1000, 42);
    (void)only_row(r, "laptop");
    assert_true(tob_directory_remove_client(r->directory, "c-1"));
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "c-1");
    Tobogganing__V1__BusMessage *message = next_rows(r);
    assert_int_equal(message->n_removed_clients, 1);
    assert_string_equal(message->removed_clients[0], "c-1");
    tobogganing__v1__bus_message__free_unpacked(message, NULL);
    rig_register(r, "c-1", "laptop"); // or the start would sweep it
    rig_stop(r);
    rig_start(r);
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 0);
}

// ---- many

static void name_of(unsigned i, char ret[32]) {
    snprintf(ret, 32, "c-%u", i);
}

static void submit_many(rig *r, unsigned first, unsigned n) {
    tob_batch_builder *builder = NULL;
    char id[32];
    assert_int_equal(tob_batch_builder_new("many", 1, 8 << 20, &builder), TOB_OK);
    for (unsigned i = first; i < first + n; i++) {
        name_of(i, id);
        rig_register(r, id, "old");
        assert_int_equal(tob_batch_add_client(builder, id, "k", false,
                                              &(tob_client_sample){.time_unix_ms = 1}, 1),
                         TOB_OK);
    }
    tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, ++r->number), NULL);
    tob_batch_builder_free(builder);
}

// Receives until so many rows of that name have come.
static void await_named(rig *r, const char *name, size_t count) {
    while (count > 0) {
        Tobogganing__V1__BusMessage *message = next_rows(r);
        for (size_t i = 0; i < message->n_clients && count > 0; i++) {
            count -= strcmp(message->clients[i]->name, name) == 0;
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
    }
}

static void many_sources_are_relabelled_while_reports_are_answered(void **state) {
    enum { BATCH = 5000, SOURCES = 4 * BATCH };
    rig *r = *state;
    char id[32];
    for (unsigned i = 0; i < SOURCES; i += BATCH) {
        submit_many(r, i, BATCH);
    }
    await_named(r, "old", SOURCES);
    for (unsigned i = 0; i < SOURCES; i++) {
        name_of(i, id);
        rig_register(r, id, "new");
        tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, id);
    }
    rig_register(r, "other", "other");
    for (int64_t i = 1; i <= 20; i++) {
        rig_submit(r, "other", i, i);
    }
    await_named(r, "new", SOURCES);
}

// What was changed while the committer hung is more than is kept: every row is published again.
static void more_changes_than_are_kept_lose_nothing(void **state) {
    enum { CHANGES = 200000 };
    rig *r = *state;
    rig_hang hang;
    char id[TOB_MAX_ID_BYTES + 1];
    put_headend(r, "h-1", "edge", "eu");
    submit_headend(r, "h-1");
    rig_submit(r, "c-1", 1000, 42);
    await_named(r, "laptop", 1);
    rig_hang_begin(&hang, r);
    rig_register(r, "c-1", "a better laptop");
    put_headend(r, "h-1", "edge", "us");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "c-1");
    tob_committer_source_changed(r->committer, TOB_SOURCE_HEADEND, "h-1");
    for (unsigned i = 0; i < CHANGES; i++) {
        snprintf(id, sizeof(id), "%0128u", i);
        tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, id);
    }
    rig_hang_end(&hang);
    bool client = false, headend = false;
    while (!client || !headend) {
        Tobogganing__V1__BusMessage *message = next_rows(r);
        client = client || (message->n_clients && strcmp(message->clients[0]->name, "a better laptop") == 0);
        headend = headend || (message->n_headends && strcmp(message->headends[0]->region, "us") == 0);
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
    }
}

// ---- replays

static tob_error replay(rig *r, tob_position from) {
    Tobogganing__V1__ReplayRequest request = TOBOGGANING__V1__REPLAY_REQUEST__INIT;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    ProtobufCMessage *response = NULL;
    position.segment = from.segment;
    position.offset = from.offset;
    request.instance = RIG_INSTANCE;
    request.from = &position;
    tob_error err =
        rig_call(r, REPLAY, &request.base, &tobogganing__v1__replay_response__descriptor, &response, NULL);
    if (!err) {
        protobuf_c_message_free_unpacked(response, NULL);
    }
    return err;
}

// The journal can't tell who missed a message which rows had other labels in it.
static void who_may_have_missed_new_labels_is_sent_for_a_snapshot(void **state) {
    rig *r = *state;
    tob_position at = rig_submit(r, "c-1", 1000, 42);
    (void)only_row(r, "laptop");
    assert_int_equal(replay(r, at), TOB_OK);
    rig_register(r, "c-1", "a better laptop");
    tob_committer_source_changed(r->committer, TOB_SOURCE_CLIENT, "c-1");
    (void)only_row(r, "a better laptop");
    assert_int_equal(replay(r, at), TOB_OUT_OF_RANGE);
    rig_submit(r, "c-1", 2000, 43);
    rig_submit(r, "c-1", 3000, 44);
    assert_int_equal(replay(r, at), TOB_OUT_OF_RANGE);
    assert_int_equal(replay(r, journal_end(r)), TOB_OK); // who is behind it has seen them
}

// ---- one row

static tob_error last_of(rig *r, const char *client_id, const char *headend_id,
                         Tobogganing__V1__LastReport **ret, tob_rpc_failure *failure) {
    Tobogganing__V1__LastRequest request = TOBOGGANING__V1__LAST_REQUEST__INIT;
    request.client_id = (char *)client_id;
    request.headend_id = (char *)headend_id;
    return rig_call(r, LAST, &request.base, &tobogganing__v1__last_report__descriptor,
                    (ProtobufCMessage **)ret, failure);
}

static void the_last_report_of_a_source_is_read_back_with_its_labels(void **state) {
    rig *r = *state;
    Tobogganing__V1__LastReport *report = NULL;
    rig_submit(r, "c-1", 1000, 41);
    rig_submit(r, "c-1", 2000, 42);
    assert_int_equal(last_of(r, "c-1", "", &report, NULL), TOB_OK);
    assert_null(report->headend);
    assert_string_equal(report->client->client_id, "c-1");
    assert_string_equal(report->client->name, "laptop");
    assert_string_equal(report->client->type, "native");
    assert_int_equal(report->client->bytes_sent, 42);
    assert_int_equal(report->client->present, 1);
    assert_true(report->client->last_check_in_unix_ms > 0);
    tobogganing__v1__last_report__free_unpacked(report, NULL);
    put_headend(r, "h-1", "edge", "eu");
    submit_headend(r, "h-1");
    assert_int_equal(last_of(r, "", "h-1", &report, NULL), TOB_OK);
    assert_null(report->client);
    assert_string_equal(report->headend->region, "eu");
    assert_string_equal(report->headend->datacenter, "d-1");
    assert_true(report->headend->cpu_usage == 12.5);
    tobogganing__v1__last_report__free_unpacked(report, NULL);
}

static void who_never_reported_has_no_last_report(void **state) {
    rig *r = *state;
    tob_rpc_failure failure;
    Tobogganing__V1__LastReport *report = NULL;
    rig_submit(r, "c-1", 1000, 42);
    assert_int_equal(last_of(r, "c-2", "", &report, &failure), TOB_NOT_FOUND);
    assert_string_equal(failure.message, "client_id: this client has not reported");
    assert_int_equal(last_of(r, "", "c-1", &report, &failure), TOB_NOT_FOUND); // another kind
    assert_string_equal(failure.message, "headend_id: this headend has not reported");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_relabelled_source_is_published_again_without_a_new_check_in),
        RIG_TEST(a_moved_headend_is_published_again_with_its_region),
        RIG_TEST(a_source_that_never_reported_gets_no_row),
        RIG_TEST(a_source_that_is_gone_loses_its_row_for_good),
        RIG_TEST(many_sources_are_relabelled_while_reports_are_answered),
        RIG_TEST(more_changes_than_are_kept_lose_nothing),
        RIG_TEST(who_may_have_missed_new_labels_is_sent_for_a_snapshot),
        RIG_TEST(the_last_report_of_a_source_is_read_back_with_its_labels),
        RIG_TEST(who_never_reported_has_no_last_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
