#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "wire/batch.h"
#include "wire/record.h"

#define NOW_MS 1700000000000u

typedef struct fixture {
    tob_batch_builder *builder;
    tob_arena *arena;
    tob_buffer packed;
    Tobogganing__V1__SubmitRequest *request;
    Tobogganing__V1__Batch *batch;
} fixture;

static int setup(void **state) {
    static fixture f;
    f = (fixture){.builder = NULL};
    assert_int_equal(tob_batch_builder_new("agent-1", 77, 64 << 20, &f.builder), TOB_OK);
    assert_int_equal(tob_arena_new(64 << 20, &f.arena), TOB_OK);
    tob_buffer_init(&f.packed, 32 << 20);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    tob_batch_builder_free(f->builder);
    tob_arena_free(f->arena);
    tob_buffer_fini(&f->packed);
    return 0;
}

// Packs what was added and unpacks it as a server would.
static void round_trip(fixture *f) {
    ProtobufCMessage *message = NULL;
    tob_buffer_clear(&f->packed);
    assert_int_equal(tob_batch_pack(f->builder, 5, &f->packed), TOB_OK);
    assert_int_equal(tob_arena_unpack(f->arena, &tobogganing__v1__submit_request__descriptor, f->packed.data,
                                      f->packed.len, &message),
                     TOB_OK);
    f->request = (Tobogganing__V1__SubmitRequest *)message;
    assert_int_equal(tob_arena_unpack(f->arena, &tobogganing__v1__batch__descriptor, f->request->batch.data,
                                      f->request->batch.len, &message),
                     TOB_OK);
    f->batch = (Tobogganing__V1__Batch *)message;
}

static void client_samples_come_back_as_they_were(void **state) {
    fixture *f = *state;
    tob_client_sample samples[60];
    for (int i = 0; i < 60; i++) {
        samples[i] = (tob_client_sample){.time_unix_ms = (int64_t)NOW_MS + i * 10000,
                                         .present = 31,
                                         .values = {i * 1000, INT64_MAX - i, 0, i % 2 ? INT64_MAX : 0, i}};
    }
    const char *reason = NULL;
    assert_int_equal(tob_batch_add_client(f->builder, "c-1", "tobk_x", true, samples, 60), TOB_OK);
    round_trip(f);
    assert_string_equal(f->batch->agent_id, "agent-1");
    assert_int_equal(f->batch->boot_id, 77);
    assert_int_equal(f->batch->number, 5);
    assert_int_equal(f->request->n_credentials, 1);
    assert_string_equal(f->request->credentials[0], "tobk_x");
    assert_int_equal(f->batch->n_clients, 1);
    assert_true(f->batch->clients[0]->headless);
    assert_int_equal(tob_batch_check_client(f->batch->clients[0], NOW_MS + 600000, &reason), TOB_OK);
    for (size_t i = 0; i < 60; i++) {
        tob_client_sample got = tob_batch_client_sample(f->batch->clients[0], i);
        assert_int_equal(got.time_unix_ms, samples[i].time_unix_ms);
        assert_int_equal(got.present, 31);
        assert_memory_equal(got.values, samples[i].values, sizeof(got.values));
    }
}

static void headend_samples_come_back_as_they_were(void **state) {
    fixture *f = *state;
    tob_headend_sample samples[] = {
        {.time_unix_ms = NOW_MS, .present = 31, .values = {150, 1.5, 0, 45.2, 2147483648.0}},
        {.time_unix_ms = NOW_MS + 1, .present = 31, .values = {DBL_MIN, 9.2e18, 3, 100, 0.1}}};
    const char *reason = NULL;
    assert_int_equal(tob_batch_add_headend(f->builder, "h-1", "näme", "a.b.c", samples, 2), TOB_OK);
    round_trip(f);
    assert_string_equal(f->batch->headends[0]->name, "näme");
    assert_int_equal(tob_batch_check_headend(f->batch->headends[0], NOW_MS, &reason), TOB_OK);
    for (size_t i = 0; i < 2; i++) {
        tob_headend_sample got = tob_batch_headend_sample(f->batch->headends[0], i);
        assert_memory_equal(got.values, samples[i].values, sizeof(got.values));
    }
}

static void samples_with_other_metrics_become_another_series(void **state) {
    fixture *f = *state;
    tob_client_sample samples[] = {{.time_unix_ms = 1, .present = 31},
                                   {.time_unix_ms = 2, .present = 31},
                                   {.time_unix_ms = 3, .present = 0},
                                   {.time_unix_ms = 4, .present = 31}};
    assert_int_equal(tob_batch_add_client(f->builder, "c-1", "k", false, samples, 4), TOB_OK);
    assert_int_equal(tob_batch_client_series(f->builder), 3);
    round_trip(f);
    assert_int_equal(f->batch->clients[1]->n_time_unix_ms, 1);
    assert_int_equal(f->batch->clients[1]->n_bytes_sent, 0);
}

static void one_credential_is_sent_once_and_several_one_for_each(void **state) {
    fixture *f = *state;
    tob_client_sample sample = {.time_unix_ms = 1, .present = 1};
    tob_headend_sample gauge = {.time_unix_ms = 1, .present = 1};
    assert_int_equal(tob_batch_add_client(f->builder, "c-1", "k1", false, &sample, 1), TOB_OK);
    assert_int_equal(tob_batch_add_client(f->builder, "c-2", "k1", false, &sample, 1), TOB_OK);
    round_trip(f);
    assert_int_equal(f->request->n_credentials, 1);
    assert_int_equal(tob_batch_add_headend(f->builder, "h-1", NULL, "t1", &gauge, 1), TOB_OK);
    round_trip(f);
    assert_int_equal(f->request->n_credentials, 3);
    assert_string_equal(f->request->credentials[2], "t1");
    tob_batch_clear(f->builder);
    assert_int_equal(tob_batch_client_series(f->builder) + tob_batch_headend_series(f->builder), 0);
}

static void peers_are_one_for_each_series_and_so_are_credentials_then(void **state) {
    fixture *f = *state;
    tob_client_sample samples[2] = {{.time_unix_ms = 1, .present = 1}, {.time_unix_ms = 2, .present = 3}};
    tob_headend_sample gauge = {.time_unix_ms = 1, .present = 1};
    char peer[32] = "192.0.2.1";
    assert_int_equal(tob_batch_add_client(f->builder, "c-0", "k1", false, samples, 1), TOB_OK); // our own
    tob_batch_set_peer(f->builder, peer);
    assert_int_equal(tob_batch_add_client(f->builder, "c-1", "k1", false, samples, 2), TOB_OK); // two series
    strcpy(peer, "2001:db8::1"); // it was copied
    assert_int_equal(tob_batch_add_headend(f->builder, "h-1", NULL, "k1", &gauge, 1), TOB_OK);
    round_trip(f);
    assert_int_equal(f->request->n_peers, 4);
    assert_int_equal(f->request->n_credentials, 4);
    assert_string_equal(f->request->peers[0], "");
    assert_string_equal(f->request->peers[1], "192.0.2.1");
    assert_string_equal(f->request->peers[2], "192.0.2.1");
    assert_string_equal(f->request->peers[3], "2001:db8::1");
    assert_string_equal(f->request->credentials[3], "k1");
    tob_batch_clear(f->builder);
    tob_batch_set_peer(f->builder, NULL);
    assert_int_equal(tob_batch_add_client(f->builder, "c-0", "k1", false, samples, 1), TOB_OK);
    round_trip(f);
    assert_int_equal(f->request->n_peers, 0);
    assert_int_equal(f->request->n_credentials, 1);
}

static void the_series_over_the_limit_is_refused_and_the_batch_stays(void **state) {
    fixture *f = *state;
    tob_client_sample sample = {.time_unix_ms = 1};
    for (int i = 0; i < TOB_MAX_SERIES_PER_BATCH; i++) {
        assert_int_equal(tob_batch_add_client(f->builder, "c", "k", false, &sample, 1), TOB_OK);
    }
    assert_int_equal(tob_batch_add_client(f->builder, "c", "k", false, &sample, 1), TOB_TOO_LARGE);
    round_trip(f);
    assert_int_equal(f->batch->n_clients, TOB_MAX_SERIES_PER_BATCH);
}

static void a_builder_keeps_to_its_memory(void **state) {
    (void)state;
    tob_batch_builder *builder = NULL;
    tob_client_sample sample = {.time_unix_ms = 1, .present = 31};
    assert_int_equal(tob_batch_builder_new("a", 1, 32 * 1024, &builder), TOB_OK);
    tob_error err = TOB_OK;
    size_t n = 0;
    while (!err && n < 10000) {
        err = tob_batch_add_client(builder, "client", "key", false, &sample, 1);
        n++;
    }
    assert_int_equal(err, TOB_TOO_LARGE);
    assert_int_equal(tob_batch_client_series(builder), n - 1);
    tob_batch_clear(builder);
    assert_int_equal(tob_batch_add_client(builder, "client", "key", false, &sample, 1), TOB_OK);
    tob_batch_builder_free(builder);
}

static void a_bad_agent_id_is_invalid(void **state) {
    (void)state;
    tob_batch_builder *builder = NULL;
    assert_int_equal(tob_batch_builder_new("a b", 1, 1000, &builder), TOB_INVALID);
    assert_int_equal(tob_batch_builder_new("", 1, 1000, &builder), TOB_INVALID);
}

#define CHECK_CLIENT(expected_reason, ...)                                                                   \
    do {                                                                                                     \
        Tobogganing__V1__ClientSeries s = TOBOGGANING__V1__CLIENT_SERIES__INIT;                              \
        const char *reason = NULL;                                                                           \
        s.client_id = (char *)"c-1";                                                                         \
        int64_t times[] = {(int64_t)NOW_MS, 1};                                                              \
        s.time_unix_ms = times;                                                                              \
        s.n_time_unix_ms = 2;                                                                                \
        __VA_ARGS__;                                                                                         \
        assert_int_equal(tob_batch_check_client(&s, NOW_MS, &reason), TOB_INVALID);                          \
        assert_string_equal(reason, expected_reason);                                                        \
    } while (0)

static void a_bad_series_is_refused_with_its_field(void **state) {
    (void)state;
    int64_t negative[] = {5, -6};
    int64_t overflow[] = {INT64_MAX, 1};
    int64_t wraps[] = {INT64_MIN, INT64_MIN};
    char long_id[130];
    memset(long_id, 'x', 129);
    long_id[129] = 0;
    CHECK_CLIENT("client_id: must be 1-128 bytes of [A-Za-z0-9._:-]", s.client_id = (char *)"");
    CHECK_CLIENT("client_id: must be 1-128 bytes of [A-Za-z0-9._:-]", s.client_id = (char *)"a/b");
    CHECK_CLIENT("client_id: must be 1-128 bytes of [A-Za-z0-9._:-]", s.client_id = long_id);
    CHECK_CLIENT("time_unix_ms: has no samples", s.n_time_unix_ms = 0);
    CHECK_CLIENT("time_unix_ms: outside 0…2^63-1", times[0] = -1);
    CHECK_CLIENT("time_unix_ms: more than 5 minutes in the future", times[1] = TOB_MAX_FUTURE_MS + 1);
    CHECK_CLIENT("bytes_sent: outside 0…2^63-1", s.bytes_sent = negative; s.n_bytes_sent = 2);
    CHECK_CLIENT("bytes_received: outside 0…2^63-1", s.bytes_received = overflow; s.n_bytes_received = 2);
    CHECK_CLIENT("packets_sent: outside 0…2^63-1", s.packets_sent = wraps; s.n_packets_sent = 2);
    CHECK_CLIENT("packets_received: not as long as time_unix_ms", s.packets_received = negative;
                 s.n_packets_received = 1);
}

static void ten_thousand_samples_fit_and_one_more_does_not(void **state) {
    (void)state;
    static int64_t times[TOB_MAX_SAMPLES_PER_SERIES + 1];
    const char *reason = NULL;
    Tobogganing__V1__ClientSeries s = TOBOGGANING__V1__CLIENT_SERIES__INIT;
    s.client_id = (char *)"c";
    s.time_unix_ms = times;
    s.n_time_unix_ms = TOB_MAX_SAMPLES_PER_SERIES;
    assert_int_equal(tob_batch_check_client(&s, NOW_MS, &reason), TOB_OK);
    s.n_time_unix_ms++;
    assert_int_equal(tob_batch_check_client(&s, NOW_MS, &reason), TOB_INVALID);
    assert_string_equal(reason, "time_unix_ms: more than 10000 samples");
}

static void a_bad_gauge_is_refused_with_its_field(void **state) {
    (void)state;
    const double bad[] = {NAN, INFINITY, -0.5, -INFINITY, 1e19};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Tobogganing__V1__HeadendSeries s = TOBOGGANING__V1__HEADEND_SERIES__INIT;
        int64_t time = NOW_MS;
        double value = bad[i];
        const char *reason = NULL;
        s.headend_id = (char *)"h";
        s.time_unix_ms = &time;
        s.n_time_unix_ms = 1;
        s.cpu_usage = &value;
        s.n_cpu_usage = 1;
        assert_int_equal(tob_batch_check_headend(&s, NOW_MS, &reason), TOB_INVALID);
        assert_string_equal(reason, "cpu_usage: not a number in 0…2^63-1");
    }
    Tobogganing__V1__HeadendSeries s = TOBOGGANING__V1__HEADEND_SERIES__INIT;
    const char *reason = NULL;
    s.headend_id = (char *)"h";
    s.name = (char *)"line\nbreak";
    assert_int_equal(tob_batch_check_headend(&s, NOW_MS, &reason), TOB_INVALID);
    assert_string_equal(reason, "name: must be at most 256 bytes of UTF-8 without control characters");
}

static void a_record_is_its_prefix_and_the_batch(void **state) {
    fixture *f = *state;
    tob_client_sample sample = {.time_unix_ms = 1, .present = 31};
    assert_int_equal(tob_batch_add_client(f->builder, "c", "k", false, &sample, 1), TOB_OK);
    round_trip(f);
    uint8_t prefix[TOB_RECORD_PREFIX_BYTES];
    tob_buffer record;
    tob_buffer_init(&record, 1 << 20);
    size_t n = tob_record_prefix(NOW_MS, f->request->batch.len, prefix);
    assert_int_equal(tob_buffer_append(&record, prefix, n), TOB_OK);
    assert_int_equal(tob_buffer_append(&record, f->request->batch.data, f->request->batch.len), TOB_OK);
    ProtobufCMessage *message = NULL;
    assert_int_equal(tob_arena_unpack(f->arena, &tobogganing__v1__record__descriptor, record.data, record.len,
                                      &message),
                     TOB_OK);
    const Tobogganing__V1__Record *unpacked = (const Tobogganing__V1__Record *)message;
    assert_int_equal(unpacked->received_unix_ms, NOW_MS);
    assert_int_equal(unpacked->batch.len, f->request->batch.len);
    assert_memory_equal(unpacked->batch.data, f->request->batch.data, unpacked->batch.len);
    assert_true(tob_record_prefix(UINT64_MAX, SIZE_MAX, prefix) <= sizeof(prefix)); // the longest there is
    tob_buffer_fini(&record);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(client_samples_come_back_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(headend_samples_come_back_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(samples_with_other_metrics_become_another_series, setup, teardown),
        cmocka_unit_test_setup_teardown(one_credential_is_sent_once_and_several_one_for_each, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(peers_are_one_for_each_series_and_so_are_credentials_then, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_series_over_the_limit_is_refused_and_the_batch_stays, setup,
                                        teardown),
        cmocka_unit_test(a_builder_keeps_to_its_memory),
        cmocka_unit_test(a_bad_agent_id_is_invalid),
        cmocka_unit_test(a_bad_series_is_refused_with_its_field),
        cmocka_unit_test(ten_thousand_samples_fit_and_one_more_does_not),
        cmocka_unit_test(a_bad_gauge_is_refused_with_its_field),
        cmocka_unit_test_setup_teardown(a_record_is_its_prefix_and_the_batch, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
