// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/queue.h"

static tob_queue *new_queue(size_t max_samples) {
    tob_queue *queue = NULL;
    assert_int_equal(tob_queue_new(max_samples, &queue), TOB_OK);
    return queue;
}

static tob_batch_builder *new_builder(size_t max_bytes) {
    tob_batch_builder *builder = NULL;
    assert_int_equal(tob_batch_builder_new("agent-test", 42, max_bytes, &builder), TOB_OK);
    return builder;
}

static tob_agent_report client_report(const char *id, int64_t value, uint64_t line) {
    return (tob_agent_report){.kind = TOB_SOURCE_CLIENT,
                              .id = id,
                              .credential = "key",
                              .line = line,
                              .sample.client = {.time_unix_ms = value, .present = 1, .values = {value}}};
}

static tob_agent_report headend_report(const char *id, double value) {
    return (tob_agent_report){.kind = TOB_SOURCE_HEADEND,
                              .id = id,
                              .credential = "jwt",
                              .name = "name",
                              .sample.headend = {.time_unix_ms = 1, .present = 1, .values = {value}}};
}

static void push(tob_queue *queue, tob_agent_report report) {
    assert_int_equal(tob_queue_push(queue, &report), TOB_OK);
}

// Packs the builder and unpacks the Batch; free with tobogganing__v1__submit_request__free_unpacked / __batch__….
static Tobogganing__V1__Batch *pack(tob_batch_builder *builder, size_t *ret_credentials) {
    tob_buffer out;
    tob_buffer_init(&out, 1u << 20);
    assert_int_equal(tob_batch_pack(builder, 1, &out), TOB_OK);
    Tobogganing__V1__SubmitRequest *request =
        tobogganing__v1__submit_request__unpack(NULL, out.len, out.data);
    assert_non_null(request);
    Tobogganing__V1__Batch *batch =
        tobogganing__v1__batch__unpack(NULL, request->batch.len, request->batch.data);
    assert_non_null(batch);
    *ret_credentials = request->n_credentials;
    tobogganing__v1__submit_request__free_unpacked(request, NULL);
    tob_buffer_fini(&out);
    return batch;
}

static void samples_of_one_source_become_one_series_in_order(void **state) {
    (void)state;
    tob_queue *queue = new_queue(10);
    tob_batch_builder *builder = new_builder(1u << 20);
    push(queue, client_report("b", 10, 1));
    push(queue, client_report("a", 20, 2));
    push(queue, client_report("b", 13, 3));
    push(queue, headend_report("h", 1.5));
    push(queue, client_report("b", 11, 5));
    tob_batch_part *parts = NULL;
    size_t count = 0, samples = 0, credentials = 0;
    assert_int_equal(tob_queue_build(queue, 100, builder, &parts, &count, &samples), TOB_OK);
    assert_int_equal(samples, 5);
    assert_int_equal(count, 3);
    Tobogganing__V1__Batch *batch = pack(builder, &credentials);
    assert_int_equal(batch->n_clients, 2);
    assert_int_equal(batch->n_headends, 1);
    assert_int_equal(credentials, 3);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(parts[i].id, batch->clients[i]->client_id);
    }
    size_t b = strcmp(parts[0].id, "b") == 0 ? 0 : 1;
    assert_int_equal(parts[b].samples, 3);
    assert_int_equal(parts[b].first_line, 1);
    assert_int_equal(parts[b].last_line, 5);
    const Tobogganing__V1__ClientSeries *series = batch->clients[b];
    assert_int_equal(series->n_bytes_sent, 3);
    assert_int_equal(series->bytes_sent[0], 10); // deltas
    assert_int_equal(series->bytes_sent[1], 3);
    assert_int_equal(series->bytes_sent[2], -2);
    assert_string_equal(parts[2].id, "h");
    assert_int_equal(parts[2].kind, TOB_SOURCE_HEADEND);
    assert_string_equal(batch->headends[0]->name, "name");
    assert_int_equal(tob_queue_count(queue), 5); // until they are dropped
    free(parts);
    tobogganing__v1__batch__free_unpacked(batch, NULL);
    tob_batch_builder_free(builder);
    tob_queue_free(queue);
}

static void each_part_is_one_series_even_where_present_changes(void **state) {
    (void)state;
    tob_queue *queue = new_queue(10);
    tob_batch_builder *builder = new_builder(1u << 20);
    tob_agent_report report = client_report("a", 1, 1);
    push(queue, report);
    report.sample.client.present = 0; // a check-in
    push(queue, report);
    report.sample.client.present = 1;
    push(queue, report);
    report.headless = true; // of another kind of the same client
    push(queue, report);
    tob_batch_part *parts = NULL;
    size_t count = 0, samples = 0, credentials = 0;
    assert_int_equal(tob_queue_build(queue, 100, builder, &parts, &count, &samples), TOB_OK);
    assert_int_equal(count, 4);
    assert_int_equal(tob_batch_client_series(builder), 4);
    Tobogganing__V1__Batch *batch = pack(builder, &credentials);
    assert_int_equal(credentials, 1); // the same for all
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(batch->clients[i]->n_time_unix_ms, 1);
    }
    free(parts);
    tobogganing__v1__batch__free_unpacked(batch, NULL);
    tob_batch_builder_free(builder);
    tob_queue_free(queue);
}

static void a_full_queue_is_busy_until_the_oldest_are_dropped(void **state) {
    (void)state;
    tob_queue *queue = new_queue(3);
    tob_batch_builder *builder = new_builder(1u << 20);
    for (int64_t i = 0; i < 3; i++) {
        push(queue, client_report("a", i, 0));
    }
    tob_agent_report fourth = client_report("a", 3, 0);
    assert_true(tob_queue_full(queue));
    assert_int_equal(tob_queue_push(queue, &fourth), TOB_BUSY);
    assert_int_equal(tob_queue_drop_oldest(queue, 1), 1);
    push(queue, fourth); // the ring goes round
    tob_batch_part *parts = NULL;
    size_t count = 0, samples = 0, credentials = 0;
    assert_int_equal(tob_queue_build(queue, 100, builder, &parts, &count, &samples), TOB_OK);
    Tobogganing__V1__Batch *batch = pack(builder, &credentials);
    assert_int_equal(batch->clients[0]->bytes_sent[0], 1);
    assert_int_equal(batch->clients[0]->n_bytes_sent, 3);
    assert_int_equal(tob_queue_drop_oldest(queue, 100), 3);
    assert_int_equal(tob_queue_count(queue), 0);
    free(parts);
    tobogganing__v1__batch__free_unpacked(batch, NULL);
    tob_batch_builder_free(builder);
    tob_queue_free(queue);
}

static void sources_come_and_go_with_their_samples(void **state) {
    (void)state;
    tob_queue *queue = new_queue(7);
    char id[32];
    for (int64_t i = 0; i < 5000; i++) { // more sources than the queue ever holds
        snprintf(id, sizeof(id), "client-%d", (int)(i % 1000));
        push(queue, client_report(id, i, 0));
        if (tob_queue_full(queue)) {
            tob_queue_drop_oldest(queue, 1 + (size_t)i % 7);
        }
    }
    size_t left = tob_queue_count(queue);
    assert_in_range(left, 0, 6);
    assert_int_equal(tob_queue_drop_oldest(queue, 7), left);
    push(queue, client_report("last", 1, 0));
    assert_int_equal(tob_queue_count(queue), 1);
    tob_queue_free(queue);
}

static void a_batch_takes_what_fits_and_no_more_than_asked(void **state) {
    (void)state;
    tob_queue *queue = new_queue(1000);
    tob_batch_builder *builder = new_builder(64u << 10);
    char id[32];
    for (int64_t i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "client-%d", (int)i);
        push(queue, client_report(id, i, 0));
    }
    tob_batch_part *parts = NULL;
    size_t count = 0, samples = 0;
    assert_int_equal(tob_queue_build(queue, 10, builder, &parts, &count, &samples), TOB_OK);
    assert_int_equal(samples, 10);
    free(parts);
    tob_batch_clear(builder);
    assert_int_equal(tob_queue_build(queue, 1000, builder, &parts, &count, &samples), TOB_OK);
    assert_true(samples > 10 && samples < 1000);
    assert_int_equal(count, samples);
    free(parts);
    tob_batch_builder_free(builder);
    tob_queue_free(queue);
}

static void reports_that_no_server_takes_are_refused(void **state) {
    (void)state;
    tob_queue *queue = new_queue(10);
    char text[TOB_MAX_CREDENTIAL_BYTES + 2];
    memset(text, 'x', sizeof(text));
    text[TOB_MAX_CREDENTIAL_BYTES + 1] = 0;
    tob_agent_report report = client_report("a", 1, 0);
    report.credential = text;
    assert_int_equal(tob_queue_push(queue, &report), TOB_TOO_LARGE);
    text[TOB_MAX_CREDENTIAL_BYTES] = 0;
    assert_int_equal(tob_queue_push(queue, &report), TOB_OK);
    report = client_report("", 1, 0);
    assert_int_equal(tob_queue_push(queue, &report), TOB_INVALID);
    report = client_report("a b", 1, 0);
    assert_int_equal(tob_queue_push(queue, &report), TOB_INVALID);
    report = headend_report("h", 1);
    text[TOB_MAX_NAME_BYTES + 1] = 0;
    report.name = text;
    assert_int_equal(tob_queue_push(queue, &report), TOB_TOO_LARGE);
    tob_queue_free(queue);
    tob_queue *none = NULL;
    assert_int_equal(tob_queue_new(0, &none), TOB_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_of_one_source_become_one_series_in_order),
        cmocka_unit_test(each_part_is_one_series_even_where_present_changes),
        cmocka_unit_test(a_full_queue_is_busy_until_the_oldest_are_dropped),
        cmocka_unit_test(sources_come_and_go_with_their_samples),
        cmocka_unit_test(a_batch_takes_what_fits_and_no_more_than_asked),
        cmocka_unit_test(reports_that_no_server_takes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
