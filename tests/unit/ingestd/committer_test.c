#include "committer_rig.h"

static void an_acked_report_is_on_the_bus_in_its_bucket_with_its_labels(void **state) {
    rig *r = *state;
    tob_position at = rig_submit(r, "c-1", 1000, 42);
    for (;;) {
        Tobogganing__V1__BusMessage *message = rig_receive(r);
        bool rows = message->heartbeat == NULL;
        if (rows) {
            assert_int_equal(message->instance, RIG_INSTANCE);
            assert_int_equal(message->topic, 1 + tob_id_hash("c-1", 3) % TOB_BUS_BUCKETS);
            assert_int_equal(message->sequence, 1);
            assert_int_equal(message->n_clients, 1);
            assert_string_equal(message->clients[0]->name, "laptop");
            assert_string_equal(message->clients[0]->type, "native");
            assert_int_equal(message->clients[0]->bytes_sent, 42);
            assert_int_equal(message->clients[0]->present, 1);
            assert_int_equal(message->position->segment, at.segment);
            assert_true(message->position->offset > at.offset); // behind the record that it has
        } else {
            assert_int_equal(message->topic, TOB_BUS_TOPIC_HEARTBEAT);
            assert_int_equal(message->heartbeat->n_last_sequences, TOB_BUS_BUCKETS);
            assert_int_equal(message->heartbeat->manager->clients, 1);
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
        if (rows) {
            return;
        }
    }
}

// An exporter goes on from there: nothing before it may be still unpublished.
static void a_heartbeat_is_never_ahead_of_the_rows(void **state) {
    rig *r = *state;
    uint64_t seen[TOB_BUS_BUCKETS] = {0};
    for (int64_t i = 1; i <= 50; i++) {
        rig_submit(r, "c-1", i, i);
    }
    tob_committer_stats stats;
    tob_committer_get_stats(r->committer, &stats);
    bool caught_up = false;
    while (!caught_up) {
        Tobogganing__V1__BusMessage *message = rig_receive(r);
        if (message->heartbeat) {
            for (size_t b = 0; b < TOB_BUS_BUCKETS; b++) {
                assert_int_equal(message->heartbeat->last_sequences[b], seen[b]);
            }
            caught_up = message->position->offset >= stats.journal_end.offset;
        } else {
            seen[message->topic - 1] = message->sequence;
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
    }
    assert_true(seen[tob_id_hash("c-1", 3) % TOB_BUS_BUCKETS] > 0);
}

static void what_was_acked_is_there_after_a_restart(void **state) {
    rig *r = *state;
    rig_submit(r, "c-1", 1000, 42);
    rig_submit(r, "c-1", 2000, 43);
    rig_submit(r, "c-1", 1500, 1); // late: changes nothing
    Tobogganing__V1__SnapshotResponse *before = rig_snapshot(r, 0, 0, 0);
    rig_stop(r);
    rig_start(r);
    Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, 0, 0, 0);
    assert_int_equal(page->n_clients, 1);
    assert_int_equal(page->clients[0]->bytes_sent, 43);
    assert_int_equal(page->clients[0]->last_check_in_unix_ms, before->clients[0]->last_check_in_unix_ms);
    assert_int_not_equal(page->epoch, before->epoch);
    assert_int_equal(page->instance, before->instance);
    tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    tobogganing__v1__snapshot_response__free_unpacked(before, NULL);
}

static void a_repeat_is_answered_as_the_first_and_counted_once(void **state) {
    rig *r = *state;
    tob_committer_stats stats;
    tob_position first = rig_submit(r, "c-1", 1000, 42);
    for (int i = 0; i < 3; i++) {
        Tobogganing__V1__SubmitResponse *again = rig_submit_as(r, r->number, "c-1", 1000, 42);
        assert_true(again->repeated);
        assert_int_equal(again->stored_series, 1);
        assert_int_equal(again->stored_samples, 1);
        assert_true(again->durable->segment > first.segment || again->durable->offset > first.offset);
        tobogganing__v1__submit_response__free_unpacked(again, NULL);
    }
    tob_committer_get_stats(r->committer, &stats);
    assert_int_equal(stats.stored_batches, 1);
    assert_int_equal(stats.stored_samples, 1);
    assert_int_equal(stats.repeated_batches, 3);
    rig_stop(r);
    rig_start(r);
    Tobogganing__V1__SubmitResponse *again = rig_submit_as(r, r->number, "c-1", 1000, 42);
    assert_true(again->repeated);
    tobogganing__v1__submit_response__free_unpacked(again, NULL);
    tob_committer_get_stats(r->committer, &stats);
    assert_int_equal(stats.stored_batches, 1);
}

static void submit_many(rig *r, int clients, int headends) {
    tob_batch_builder *builder = NULL;
    char id[16];
    assert_int_equal(tob_batch_builder_new("many", 1, 4 << 20, &builder), TOB_OK);
    for (int i = 0; i < clients; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        rig_register(r, id, id);
        assert_int_equal(tob_batch_add_client(builder, id, "k", false,
                                              &(tob_client_sample){.time_unix_ms = 1}, 1),
                         0);
    }
    for (int i = 0; i < headends; i++) {
        snprintf(id, sizeof(id), "h-%d", i);
        tob_directory_headend headend = {
            .id = id, .name = id, .cluster_id = "", .region = "", .datacenter = ""};
        assert_int_equal(tob_directory_put_headend(r->directory, &headend, NULL), TOB_OK);
        assert_int_equal(tob_batch_add_headend(builder, id, "", "k", &(tob_headend_sample){.time_unix_ms = 1},
                                               1),
                         0);
    }
    tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, 1), NULL);
    tob_batch_builder_free(builder);
}

static void a_snapshot_pages_through_every_row_once(void **state) {
    rig *r = *state;
    enum { CLIENTS = 25, HEADENDS = 7, PAGE = 10 };
    char id[16];
    size_t clients = 0, headends = 0;
    uint64_t cursor = 0;
    submit_many(r, CLIENTS, HEADENDS);
    do {
        Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, cursor, PAGE, 0);
        assert_true(page->n_clients + page->n_headends <= PAGE);
        assert_non_null(page->position);
        for (size_t i = 0; i < page->n_clients; i++) {
            snprintf(id, sizeof(id), "c-%zu", clients++);
            assert_string_equal(page->clients[i]->client_id, id);
        }
        headends += page->n_headends;
        cursor = page->next_cursor;
        tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    } while (cursor);
    assert_int_equal(clients, CLIENTS);
    assert_int_equal(headends, HEADENDS);
}

static void snapshots_of_disjoint_buckets_are_disjoint_and_complete(void **state) {
    rig *r = *state;
    enum { CLIENTS = 300 };
    const uint64_t masks[] = {0x5555555555555555u, 0xaaaaaaaaaaaaaaaau};
    size_t clients = 0;
    submit_many(r, CLIENTS, 3);
    for (size_t m = 0; m < 2; m++) {
        uint64_t cursor = 0;
        do {
            Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, cursor, 50, masks[m]);
            for (size_t i = 0; i < page->n_clients; i++) {
                const char *id = page->clients[i]->client_id;
                assert_true(masks[m] >> (tob_id_hash(id, strlen(id)) % TOB_BUS_BUCKETS) & 1);
            }
            clients += page->n_clients;
            cursor = page->next_cursor;
            tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
        } while (cursor);
    }
    assert_int_equal(clients, CLIENTS);
}

static uint64_t counted(rig *r, uint64_t process_id) {
    Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, 0, 0, 0);
    uint64_t value = 0;
    for (size_t i = 0; i < page->manager->n_processes; i++) {
        const Tobogganing__V1__Process *p = page->manager->processes[i];
        value += p->id == process_id && p->n_counters ? p->counters[0]->value : 0;
    }
    tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    return value;
}

static void report(rig *r, uint64_t process_id, uint64_t value) {
    Tobogganing__V1__Process gateway = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Counter *counters[] = {&counter};
    ProtobufCMessage *response = NULL;
    gateway.id = process_id;
    gateway.kind = (char *)"gateway";
    gateway.counters = counters;
    gateway.n_counters = 1;
    counter.value = value;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Processes/Report", &gateway.base,
                              &tobogganing__v1__report_response__descriptor, &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(response, NULL);
}

static void counters_of_other_processes_survive_a_restart(void **state) {
    rig *r = *state;
    report(r, 12345, 17);
    assert_int_equal(counted(r, 12345), 17);
    rig_stop(r);
    rig_start(r);
    assert_int_equal(counted(r, 12345), 17);
}

// An exporter may show them from here on, so a kill must not take them back.
static void counters_are_in_the_journal_when_their_report_is_answered(void **state) {
    rig *r = *state;
    Tobogganing__V1__ReplayRequest request = TOBOGGANING__V1__REPLAY_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    uint64_t value = 0;
    report(r, 12345, 17);
    request.instance = RIG_INSTANCE;
    request.view = TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_RECORDS;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Bus/Replay", &request.base,
                              &tobogganing__v1__replay_response__descriptor, &response, NULL),
                     TOB_OK);
    const Tobogganing__V1__ReplayResponse *page = (const Tobogganing__V1__ReplayResponse *)response;
    for (size_t i = 0; i < page->n_records; i++) {
        const ProtobufCBinaryData *bytes = &page->records[i]->record;
        Tobogganing__V1__Record *record = tobogganing__v1__record__unpack(NULL, bytes->len, bytes->data);
        assert_non_null(record);
        for (size_t p = 0; p < record->n_processes; p++) {
            value = record->processes[p]->id == 12345 ? record->processes[p]->counters[0]->value : value;
        }
        tobogganing__v1__record__free_unpacked(record, NULL);
    }
    assert_int_equal(value, 17);
    protobuf_c_message_free_unpacked(response, NULL);
}

static void a_page_over_the_limit_is_refused(void **state) {
    rig *r = *state;
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    tob_rpc_failure failure;
    request.max_rows = TOB_SNAPSHOT_MAX_ROWS + 1;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Bus/Snapshot", &request.base,
                              &tobogganing__v1__snapshot_response__descriptor, &response, &failure),
                     TOB_INVALID);
    assert_string_equal(failure.message, "max_rows: over 10000");
}

static void delete_client(rig *r, const char *id) {
    Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT;
    ProtobufCMessage *response = NULL;
    request.client_id = (char *)id;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Registry/DeleteClient", &request.base,
                              &tobogganing__v1__delete_response__descriptor, &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(response, NULL);
}

static void a_removed_row_is_gone_published_and_stays_away(void **state) {
    rig *r = *state;
    uint64_t sent = 0;
    bool published = false;
    rig_submit(r, "c-1", 1000, 42);
    delete_client(r, "c-1");
    delete_client(r, "c-1"); // nothing is left to remove, and that is fine
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 0);
    while (!published) {
        Tobogganing__V1__BusMessage *message = rig_receive(r);
        published = message->n_removed_clients == 1;
        if (published) {
            assert_string_equal(message->removed_clients[0], "c-1");
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
    }
    rig_stop(r);
    rig_start(r);
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 0);
    rig_submit(r, "c-1", 500, 7); // registered again: begins without the old values
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 1);
    assert_int_equal(sent, 7);
}

static void rows_that_nobody_is_registered_for_are_swept_at_the_start(void **state) {
    rig *r = *state;
    uint64_t sent = 0, until = tob_clock_monotonic_ms() + RIG_TIMEOUT_MS;
    rig_submit(r, "c-1", 1000, 42);
    rig_submit(r, "stranger", 1000, 43);
    rig_stop(r);
    rig_start(r);
    while (rig_rows_of(r, "stranger", &sent) > 0) {
        assert_true(tob_clock_monotonic_ms() < until);
    }
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 1);
}

// ---- a disk that hangs

typedef struct outcome {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned done;
    tob_error error;
    uint32_t retry_after_ms;
} outcome;

static void on_done(void *user, const tob_rpc_result *result) {
    outcome *o = user;
    pthread_mutex_lock(&o->lock);
    o->done++;
    o->error = result->error;
    o->retry_after_ms = result->retry_after_ms;
    pthread_cond_signal(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

static void submit_later(rig *r, uint64_t number, outcome *o) {
    tob_batch_builder *builder = NULL;
    tob_buffer packed;
    tob_buffer_init(&packed, 1 << 20);
    assert_int_equal(tob_batch_builder_new("b", 1, 1 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, "c-1", "k", false, &(tob_client_sample){.time_unix_ms = 1},
                                          1),
                     TOB_OK);
    assert_int_equal(tob_batch_pack(builder, number, &packed), TOB_OK);
    assert_int_equal(tob_rpc_client_call(r->client, "/tobogganing.v1.Ingest/Submit", packed.data, packed.len,
                                         RIG_TIMEOUT_MS, on_done, o),
                     TOB_OK);
    tob_batch_builder_free(builder);
    tob_buffer_fini(&packed);
}

static void while_the_journal_hangs_callers_are_refused_with_a_retry_and_later_served(void **state) {
    rig *r = *state;
    rig_hang hang;
    outcome waited = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    rig_submit(r, "c-1", 1000, 42);
    rig_hang_begin(&hang, r);
    submit_later(r, 1, &waited); // arrives while nothing seems wrong yet
    pthread_mutex_lock(&waited.lock);
    while (!waited.done) {
        pthread_cond_wait(&waited.changed, &waited.lock);
    }
    pthread_mutex_unlock(&waited.lock);
    assert_int_equal(waited.error, TOB_BUSY);
    assert_in_range(waited.retry_after_ms, TOB_STALL_MS, TOB_STALL_MAX_RETRY_MS);
    assert_true(tob_committer_stalled(r->committer));
    uint64_t before = tob_clock_monotonic_ms();
    waited.done = 0;
    submit_later(r, 2, &waited);
    pthread_mutex_lock(&waited.lock);
    while (!waited.done) {
        pthread_cond_wait(&waited.changed, &waited.lock);
    }
    pthread_mutex_unlock(&waited.lock);
    assert_int_equal(waited.error, TOB_BUSY);
    assert_true(tob_clock_monotonic_ms() - before < TOB_STALL_MS); // at once
    rig_hang_end(&hang);
    while (tob_committer_stalled(r->committer)) {
        assert_true(tob_clock_monotonic_ms() - before < RIG_TIMEOUT_MS);
    }
    Tobogganing__V1__SubmitResponse *response = rig_submit_as(r, ++r->number, "c-1", 2000, 43);
    assert_int_equal(response->stored_series, 1);
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
    tob_committer_stats stats;
    tob_committer_get_stats(r->committer, &stats);
    assert_int_equal(stats.stored_batches, 2); // those that were refused are not in it
}

static void agents_are_asked_to_report_less_often_as_memory_runs_out(void **state) {
    rig *r = *state;
    tob_arena_budget memory;
    Tobogganing__V1__SubmitResponse response;
    static const struct {
        size_t used;
        uint32_t at_least, at_most;
    } rows[] = {{0, 54000, 66000}, {500, 54000, 66000}, {750, 135000, 165000}, {1000, 216000, 264000}};
    rig_stop(r);
    tob_arena_budget_init(&memory, 1000);
    r->options.request_memory = &memory;
    rig_start(r);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        atomic_store(&memory.used, rows[i].used);
        for (int n = 0; n < 100; n++) {
            tob_submit_response_init(r->committer, &response);
            assert_in_range(response.next_report_in_ms, rows[i].at_least, rows[i].at_most);
        }
    }
    rig_stop(r);
    r->options.request_memory = NULL;
    rig_start(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(an_acked_report_is_on_the_bus_in_its_bucket_with_its_labels),
        RIG_TEST(a_heartbeat_is_never_ahead_of_the_rows),
        RIG_TEST(what_was_acked_is_there_after_a_restart),
        RIG_TEST(a_repeat_is_answered_as_the_first_and_counted_once),
        RIG_TEST(a_snapshot_pages_through_every_row_once),
        RIG_TEST(snapshots_of_disjoint_buckets_are_disjoint_and_complete),
        RIG_TEST(counters_of_other_processes_survive_a_restart),
        RIG_TEST(counters_are_in_the_journal_when_their_report_is_answered),
        RIG_TEST(a_page_over_the_limit_is_refused),
        RIG_TEST(a_removed_row_is_gone_published_and_stays_away),
        RIG_TEST(rows_that_nobody_is_registered_for_are_swept_at_the_start),
        RIG_TEST(while_the_journal_hangs_callers_are_refused_with_a_retry_and_later_served),
        RIG_TEST(agents_are_asked_to_report_less_often_as_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
