#include "committer_rig.h"
#include "ingestd/positions.h"

static const Tobogganing__V1__ReplayView rows_view = TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_ROWS;
static const Tobogganing__V1__ReplayView records_view = TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_RECORDS;

static tob_error try_replay(rig *r, const Tobogganing__V1__ReplayRequest *request,
                            Tobogganing__V1__ReplayResponse **ret, tob_rpc_failure *failure) {
    ProtobufCMessage *response = NULL;
    tob_error err = rig_call(r, "/tobogganing.v1.Bus/Replay", &request->base,
                             &tobogganing__v1__replay_response__descriptor, &response, failure);
    *ret = (Tobogganing__V1__ReplayResponse *)response;
    return err;
}

static Tobogganing__V1__ReplayRequest request_for(Tobogganing__V1__ReplayView view,
                                                  Tobogganing__V1__Position *from) {
    Tobogganing__V1__ReplayRequest request = TOBOGGANING__V1__REPLAY_REQUEST__INIT;
    request.instance = RIG_INSTANCE;
    request.view = view;
    request.from = from;
    return request;
}

static Tobogganing__V1__ReplayResponse *replay(rig *r, Tobogganing__V1__ReplayView view, tob_position from,
                                               uint32_t max_bytes) {
    Tobogganing__V1__Position place = tob_position_message(from);
    Tobogganing__V1__ReplayRequest request = request_for(view, from.segment ? &place : NULL);
    Tobogganing__V1__ReplayResponse *response = NULL;
    request.max_bytes = max_bytes;
    assert_int_equal(try_replay(r, &request, &response, NULL), TOB_OK);
    assert_int_equal(response->instance, RIG_INSTANCE);
    return response;
}

static void expect(rig *r, const Tobogganing__V1__ReplayRequest *request, tob_error error, const char *part) {
    Tobogganing__V1__ReplayResponse *response = NULL;
    tob_rpc_failure failure;
    assert_int_equal(try_replay(r, request, &response, &failure), error);
    if (!strstr(failure.message, part)) {
        fail_msg("'%s' has no '%s'", failure.message, part);
    }
}

static void done(Tobogganing__V1__ReplayResponse *response) {
    tobogganing__v1__replay_response__free_unpacked(response, NULL);
}

// Counts the client batches among the records, and checks that they are batch after batch.
static uint64_t count_batches(const Tobogganing__V1__ReplayResponse *page, uint64_t before) {
    for (size_t i = 0; i < page->n_records; i++) {
        const ProtobufCBinaryData *bytes = &page->records[i]->record;
        Tobogganing__V1__Record *record = tobogganing__v1__record__unpack(NULL, bytes->len, bytes->data);
        assert_non_null(record);
        if (record->batch.len) {
            Tobogganing__V1__Batch *batch =
                tobogganing__v1__batch__unpack(NULL, record->batch.len, record->batch.data);
            assert_non_null(batch);
            assert_int_equal(batch->number, ++before);
            tobogganing__v1__batch__free_unpacked(batch, NULL);
        }
        tobogganing__v1__record__free_unpacked(record, NULL);
    }
    return before;
}

static void every_record_comes_once_and_in_order_over_small_pages(void **state) {
    rig *r = *state;
    tob_position at = {0, 0};
    uint64_t batches = 0, pages = 0;
    for (int64_t i = 1; i <= 30; i++) {
        rig_submit(r, "c-1", i, i);
    }
    for (;;) {
        Tobogganing__V1__ReplayResponse *page = replay(r, records_view, at, 1);
        assert_int_equal(page->n_records <= 1, 1);
        batches = count_batches(page, batches);
        at = tob_position_of(page->next);
        bool end = tob_position_compare(at, tob_position_of(page->end)) >= 0;
        done(page);
        if (end) {
            break;
        }
        pages++;
    }
    assert_int_equal(batches, 30);
    assert_true(pages >= 29);
}

static void a_page_of_records_stays_well_under_the_message_limit(void **state) {
    rig *r = *state;
    enum { SAMPLES = 9000, BATCHES = 60 };
    tob_client_sample *samples = calloc(SAMPLES, sizeof(*samples));
    tob_batch_builder *builder = NULL;
    uint64_t batches = 0, seed = 1;
    tob_position at = {0, 0};
    for (size_t i = 0; i < SAMPLES; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        samples[i] = (tob_client_sample){.time_unix_ms = (int64_t)i,
                                         .present = 1u << TOB_CLIENT_BYTES_SENT,
                                         .values = {(int64_t)(seed >> 2)}};
    }
    assert_int_equal(tob_batch_builder_new("big", 1, 4 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, "c-1", "k", false, samples, SAMPLES), TOB_OK);
    for (uint64_t n = 1; n <= BATCHES; n++) {
        tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, n), NULL);
    }
    for (bool more = true; more;) {
        Tobogganing__V1__ReplayResponse *page = replay(r, records_view, at, TOB_REPLAY_MAX_BYTES);
        assert_true(tobogganing__v1__replay_response__get_packed_size(page) < TOB_REPLAY_MAX_BYTES);
        batches = count_batches(page, batches);
        at = tob_position_of(page->next);
        more = tob_position_compare(at, tob_position_of(page->end)) < 0;
        done(page);
    }
    assert_int_equal(batches, BATCHES);
    tob_batch_builder_free(builder);
    free(samples);
}

// ---- waiting

typedef struct waiting {
    rig *rig;
    pthread_t thread;
    tob_position from;
    uint32_t wait_ms;
    tob_error error;
    Tobogganing__V1__ReplayResponse *response;
    tob_rpc_failure failure;
} waiting;

static void *wait_for_records(void *user) {
    waiting *w = user;
    Tobogganing__V1__Position place = tob_position_message(w->from);
    Tobogganing__V1__ReplayRequest request = request_for(records_view, &place);
    request.wait_ms = w->wait_ms;
    w->error = try_replay(w->rig, &request, &w->response, &w->failure);
    return NULL;
}

static tob_position end_of(rig *r) {
    Tobogganing__V1__ReplayResponse *page = replay(r, records_view, (tob_position){0, 0}, 0);
    tob_position end = tob_position_of(page->end);
    assert_int_equal(tob_position_compare(end, tob_position_of(page->next)), 0);
    done(page);
    return end;
}

static void who_waits_at_the_end_gets_what_comes_next(void **state) {
    rig *r = *state;
    rig_submit(r, "c-1", 1, 1);
    waiting w = {.rig = r, .from = end_of(r), .wait_ms = RIG_TIMEOUT_MS / 2};
    assert_int_equal(pthread_create(&w.thread, NULL, wait_for_records, &w), 0);
    tob_position at = rig_submit(r, "c-1", 2, 2);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.error, TOB_OK);
    assert_true(w.response->n_records >= 1);
    assert_int_equal(w.response->records[0]->position->offset, at.offset);
    done(w.response);
}

static void who_waits_in_vain_is_answered_when_the_time_is_over(void **state) {
    rig *r = *state;
    waiting w = {.rig = r, .from = end_of(r), .wait_ms = 150};
    uint64_t before = tob_clock_monotonic_ms();
    wait_for_records(&w);
    assert_int_equal(w.error, TOB_OK);
    assert_true(tob_clock_monotonic_ms() - before >= 150);
    assert_int_equal(w.response->n_records, 0);
    assert_int_equal(tob_position_compare(tob_position_of(w.response->next), w.from), 0);
    done(w.response);
}

static void one_too_many_that_wait_is_refused(void **state) {
    rig *r = *state;
    enum { WAITING = 4 }; // max_waiting of the rig
    waiting w[WAITING + 1];
    size_t refused = 0, empty = 0;
    tob_position end = end_of(r);
    for (size_t i = 0; i <= WAITING; i++) {
        w[i] = (waiting){.rig = r, .from = end, .wait_ms = 500};
        assert_int_equal(pthread_create(&w[i].thread, NULL, wait_for_records, &w[i]), 0);
    }
    for (size_t i = 0; i <= WAITING; i++) {
        pthread_join(w[i].thread, NULL);
        refused += w[i].error == TOB_BUSY && w[i].failure.retry_after_ms > 0;
        empty += w[i].error == TOB_OK;
        if (w[i].error == TOB_OK) {
            done(w[i].response);
        }
    }
    assert_int_equal(refused, 1);
    assert_int_equal(empty, WAITING);
}

static void stopping_answers_those_who_wait_at_once(void **state) {
    rig *r = *state;
    waiting w = {.rig = r, .from = end_of(r), .wait_ms = TOB_REPLAY_MAX_WAIT_MS};
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(pthread_create(&w.thread, NULL, wait_for_records, &w), 0);
    tob_replayer_hurry(r->replayer);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.error, TOB_OK);
    assert_true(tob_clock_monotonic_ms() - before < RIG_TIMEOUT_MS / 2);
    assert_int_equal(w.response->n_records, 0);
    done(w.response);
}

// ---- rows

static void rows_of_a_stretch_come_once_as_they_are_now(void **state) {
    rig *r = *state;
    rig_register(r, "c-2", "phone");
    rig_register(r, "c-3", "tablet");
    rig_submit(r, "c-3", 1, 1); // before the stretch
    tob_position from = rig_submit(r, "c-1", 1, 10);
    rig_submit(r, "c-2", 1, 20);
    rig_submit(r, "c-1", 2, 11);
    Tobogganing__V1__ReplayResponse *page = replay(r, rows_view, from, 0);
    assert_int_equal(page->n_clients, 2);
    assert_string_equal(page->clients[0]->client_id, "c-1");
    assert_int_equal(page->clients[0]->bytes_sent, 11);
    assert_string_equal(page->clients[1]->client_id, "c-2");
    assert_string_equal(page->clients[1]->name, "phone");
    assert_int_equal(page->n_removed_clients, 0);
    assert_int_equal(page->n_last_sequences, TOB_BUS_BUCKETS);
    assert_true(page->version >= page->clients[0]->version);
    assert_true(tob_position_compare(tob_position_of(page->next), tob_position_of(page->end)) >= 0);
    done(page);
}

static void rows_that_are_gone_come_as_removed(void **state) {
    rig *r = *state;
    Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT;
    ProtobufCMessage *response = NULL;
    tob_position from = rig_submit(r, "c-1", 1, 10);
    request.client_id = (char *)"c-1";
    assert_int_equal(rig_call(r, "/tobogganing.v1.Registry/DeleteClient", &request.base,
                              &tobogganing__v1__delete_response__descriptor, &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(response, NULL);
    Tobogganing__V1__ReplayResponse *page = replay(r, rows_view, from, 0);
    assert_int_equal(page->n_clients, 0);
    assert_int_equal(page->n_removed_clients, 1);
    assert_string_equal(page->removed_clients[0], "c-1");
    done(page);
}

static void rows_of_other_buckets_are_left_out(void **state) {
    rig *r = *state;
    uint64_t bucket = tob_id_hash("c-1", 3) % TOB_BUS_BUCKETS;
    tob_position from = rig_submit(r, "c-1", 1, 10);
    Tobogganing__V1__Position place = tob_position_message(from);
    Tobogganing__V1__ReplayRequest request = request_for(rows_view, &place);
    Tobogganing__V1__ReplayResponse *page = NULL;
    request.buckets = ~(1ull << bucket);
    assert_int_equal(try_replay(r, &request, &page, NULL), TOB_OK);
    assert_int_equal(page->n_clients, 0);
    done(page);
    request.buckets = 1ull << bucket;
    assert_int_equal(try_replay(r, &request, &page, NULL), TOB_OK);
    assert_int_equal(page->n_clients, 1);
    done(page);
}

static void many_rows_come_over_several_pages_each_in_one_of_them(void **state) {
    rig *r = *state;
    enum { CLIENTS = 9000, PER_BATCH = 1500 };
    tob_batch_builder *builder = NULL;
    char id[16];
    size_t rows = 0, pages = 0;
    tob_position at = end_of(r);
    assert_int_equal(tob_batch_builder_new("many", 1, 4 << 20, &builder), TOB_OK);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        rig_register(r, id, id);
        assert_int_equal(tob_batch_add_client(builder, id, "k", false,
                                              &(tob_client_sample){.time_unix_ms = 1}, 1),
                         TOB_OK);
        if (i % PER_BATCH == PER_BATCH - 1) {
            tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, (uint64_t)i), NULL);
            tob_batch_clear(builder);
        }
    }
    for (bool more = true; more; pages++) {
        Tobogganing__V1__ReplayResponse *page = replay(r, rows_view, at, TOB_REPLAY_MAX_BYTES);
        assert_true(page->n_clients < TOB_REPLAY_PAGE_SOURCES + PER_BATCH);
        rows += page->n_clients;
        at = tob_position_of(page->next);
        more = tob_position_compare(at, tob_position_of(page->end)) < 0;
        done(page);
    }
    assert_int_equal(rows, CLIENTS);
    assert_in_range(pages, 2, 3);
    tob_batch_builder_free(builder);
}

// ---- refused

static void requests_over_a_limit_are_invalid(void **state) {
    rig *r = *state;
    Tobogganing__V1__Position place = tob_position_message(end_of(r));
    Tobogganing__V1__ReplayRequest request = request_for(records_view, &place);
    request.max_bytes = TOB_REPLAY_MAX_BYTES + 1;
    expect(r, &request, TOB_INVALID, "max_bytes");
    request = request_for(records_view, &place);
    request.wait_ms = TOB_REPLAY_MAX_WAIT_MS + 1;
    expect(r, &request, TOB_INVALID, "wait_ms");
    request = request_for(rows_view, NULL);
    expect(r, &request, TOB_INVALID, "from");
    request = request_for(records_view, &place);
    request.view = (Tobogganing__V1__ReplayView)7;
    expect(r, &request, TOB_INVALID, "view");
}

static void another_instances_journal_is_a_failed_precondition(void **state) {
    rig *r = *state;
    Tobogganing__V1__Position place = tob_position_message(end_of(r));
    Tobogganing__V1__ReplayRequest request = request_for(rows_view, &place);
    request.instance = RIG_INSTANCE + 1;
    expect(r, &request, TOB_PRECONDITION, "instance");
}

static void places_that_the_journal_has_not_are_out_of_range_and_the_oldest_is_named(void **state) {
    rig *r = *state;
    tob_position at = rig_submit(r, "c-1", 1, 1);
    const tob_position wrong[] = {{at.segment, at.offset + 8}, {at.segment + 1, 40}, {at.segment, 1u << 30}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        Tobogganing__V1__Position place = tob_position_message(wrong[i]);
        Tobogganing__V1__ReplayRequest request = request_for(records_view, &place);
        expect(r, &request, TOB_OUT_OF_RANGE, "oldest 1:");
        request = request_for(rows_view, &place);
        expect(r, &request, TOB_OUT_OF_RANGE, "oldest 1:");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(every_record_comes_once_and_in_order_over_small_pages),
        RIG_TEST(a_page_of_records_stays_well_under_the_message_limit),
        RIG_TEST(who_waits_at_the_end_gets_what_comes_next),
        RIG_TEST(who_waits_in_vain_is_answered_when_the_time_is_over),
        RIG_TEST(one_too_many_that_wait_is_refused),
        RIG_TEST(stopping_answers_those_who_wait_at_once),
        RIG_TEST(rows_of_a_stretch_come_once_as_they_are_now),
        RIG_TEST(rows_that_are_gone_come_as_removed),
        RIG_TEST(rows_of_other_buckets_are_left_out),
        RIG_TEST(many_rows_come_over_several_pages_each_in_one_of_them),
        RIG_TEST(requests_over_a_limit_are_invalid),
        RIG_TEST(another_instances_journal_is_a_failed_precondition),
        RIG_TEST(places_that_the_journal_has_not_are_out_of_range_and_the_oldest_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
