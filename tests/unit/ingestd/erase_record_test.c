#include "ingestd/erase_record.h"

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

#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/journal.pb-c.h"

#include "wire/record.h"

#define MAX_RECORD  65536
#define ARENA_BYTES (4u << 20)

typedef struct record {
    uint8_t bytes[MAX_RECORD];
    size_t n;
} record;

// A batch of clients "c-0", "c-1", … with `samples` samples each, and a headend.
static void make(record *r, size_t clients, size_t samples, bool headend, const char *extra_id) {
    static int64_t times[2000], sent[2000];
    Tobogganing__V1__ClientSeries series[8];
    Tobogganing__V1__ClientSeries *pointers[8];
    Tobogganing__V1__HeadendSeries gateway = TOBOGGANING__V1__HEADEND_SERIES__INIT, *gateways = &gateway;
    Tobogganing__V1__Batch batch = TOBOGGANING__V1__BATCH__INIT;
    static char ids[8][24];
    for (size_t i = 0; i < samples; i++) {
        times[i] = i ? 1000 : 1700000000000;
        sent[i] = (int64_t)(i * 1000000);
    }
    for (size_t i = 0; i < clients; i++) {
        tobogganing__v1__client_series__init(&series[i]);
        snprintf(ids[i], sizeof(ids[i]), "c-%zu", i);
        series[i].client_id = i == 0 && extra_id ? (char *)extra_id : ids[i];
        series[i].time_unix_ms = times;
        series[i].n_time_unix_ms = samples;
        series[i].bytes_sent = sent;
        series[i].n_bytes_sent = samples;
        pointers[i] = &series[i];
    }
    gateway.headend_id = "h-1";
    gateway.time_unix_ms = times;
    gateway.n_time_unix_ms = 1;
    batch.agent_id = "agent";
    batch.boot_id = 7;
    batch.number = 3;
    batch.clients = pointers;
    batch.n_clients = clients;
    batch.headends = &gateways;
    batch.n_headends = headend ? 1 : 0;
    size_t len = tobogganing__v1__batch__get_packed_size(&batch);
    r->n = tob_record_prefix(1700000000123, len, r->bytes);
    assert_true(r->n + len <= sizeof(r->bytes));
    r->n += tobogganing__v1__batch__pack(&batch, r->bytes + r->n);
}

static tob_error erase(const record *r, const char *id, uint8_t *to, bool *erased, uint64_t *samples) {
    tob_arena *arena = NULL;
    assert_int_equal(tob_arena_new(ARENA_BYTES, &arena), TOB_OK);
    tob_error err = tob_erase_record(arena, id, r->bytes, r->n, to, erased, samples);
    tob_arena_free(arena);
    return err;
}

static Tobogganing__V1__Batch *batch_of(const uint8_t *bytes, size_t n, uint64_t *ret_time) {
    Tobogganing__V1__Record *message = tobogganing__v1__record__unpack(NULL, n, bytes);
    assert_non_null(message);
    *ret_time = message->received_unix_ms;
    Tobogganing__V1__Batch *batch =
        message->batch.len ? tobogganing__v1__batch__unpack(NULL, message->batch.len, message->batch.data)
                           : NULL;
    tobogganing__v1__record__free_unpacked(message, NULL);
    return batch;
}

static void only_the_clients_series_goes(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    bool erased = false;
    uint64_t samples = 0, time = 0;
    make(r, 5, 60, true, NULL);
    assert_int_equal(erase(r, "c-3", to, &erased, &samples), TOB_OK);
    assert_true(erased);
    assert_int_equal(samples, 60);
    Tobogganing__V1__Batch *batch = batch_of(to, r->n, &time);
    assert_int_equal(time, 1700000000123);
    assert_int_equal(batch->n_clients, 4);
    assert_int_equal(batch->n_headends, 1);
    assert_int_equal(batch->number, 3);
    assert_int_equal(batch->boot_id, 7);
    static const char *const left[] = {"c-0", "c-1", "c-2", "c-4"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(batch->clients[i]->client_id, left[i]);
        assert_int_equal(batch->clients[i]->n_bytes_sent, 60);
        assert_int_equal(batch->clients[i]->bytes_sent[59], 59000000);
    }
    assert_null(memmem(to, r->n, "c-3", 3));
    tobogganing__v1__batch__free_unpacked(batch, NULL);
}

// Sizes of what is left of one that had nothing else: all lengths of the field that takes its place.
static void a_record_of_nothing_else_becomes_one_of_its_time(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    char id[129];
    for (size_t n = 1; n <= 128; n++) {
        bool erased = false;
        uint64_t samples = 0, time = 0;
        memset(id, 'x', n);
        id[n] = 0;
        make(r, 1, n == 128 ? 1000 : 1, false, id);
        assert_int_equal(erase(r, id, to, &erased, &samples), TOB_OK);
        assert_true(erased);
        assert_null(batch_of(to, r->n, &time));
        assert_int_equal(time, 1700000000123);
        assert_null(memmem(to, r->n, "agent", 5));
    }
}

static void others_ids_that_contain_it_are_left_alone(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    bool erased = true;
    uint64_t samples = 1;
    make(r, 3, 2, true, "c-11");
    assert_int_equal(erase(r, "c-111", to, &erased, &samples), TOB_OK);
    assert_false(erased);
    assert_int_equal(samples, 0);
    make(r, 1, 2, false, "c-11");
    assert_int_equal(erase(r, "c-1", to, &erased, &samples), TOB_OK);
    assert_false(erased);
    assert_int_equal(erase(r, "agent", to, &erased, &samples), TOB_OK);
    assert_false(erased);
}

static void removals_stay(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    char *ids[] = {"c-1"};
    bool erased = true;
    uint64_t samples = 1;
    Tobogganing__V1__Record removal = TOBOGGANING__V1__RECORD__INIT;
    removal.removed_clients = ids;
    removal.n_removed_clients = 1;
    r->n = tobogganing__v1__record__pack(&removal, r->bytes);
    assert_int_equal(erase(r, "c-1", to, &erased, &samples), TOB_OK);
    assert_false(erased);
}

static void two_clients_are_erased_one_after_the_other_in_place(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    bool erased = false;
    uint64_t samples = 0, time = 0;
    tob_arena *arena = NULL;
    assert_int_equal(tob_arena_new(ARENA_BYTES, &arena), TOB_OK);
    make(r, 3, 10, false, NULL);
    assert_int_equal(tob_erase_record(arena, "c-0", r->bytes, r->n, to, &erased, &samples), TOB_OK);
    assert_int_equal(tob_erase_record(arena, "c-2", to, r->n, to, &erased, &samples), TOB_OK);
    assert_true(erased);
    Tobogganing__V1__Batch *batch = batch_of(to, r->n, &time);
    assert_int_equal(batch->n_clients, 1);
    assert_string_equal(batch->clients[0]->client_id, "c-1");
    tobogganing__v1__batch__free_unpacked(batch, NULL);
    tob_arena_free(arena);
}

static void what_is_no_record_is_malformed(void **state) {
    record *r = *state;
    static uint8_t to[MAX_RECORD];
    bool erased = true;
    uint64_t samples = 0;
    make(r, 2, 2, false, NULL);
    r->n -= 1; // the batch ends too soon
    assert_int_equal(erase(r, "c-0", to, &erased, &samples), TOB_MALFORMED);
    assert_false(erased);
}

static int set_up(void **state) {
    *state = calloc(1, sizeof(record));
    return *state ? 0 : -1;
}

static int tear_down(void **state) {
    free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_clients_series_goes),
        cmocka_unit_test(a_record_of_nothing_else_becomes_one_of_its_time),
        cmocka_unit_test(others_ids_that_contain_it_are_left_alone),
        cmocka_unit_test(removals_stay),
        cmocka_unit_test(two_clients_are_erased_one_after_the_other_in_place),
        cmocka_unit_test(what_is_no_record_is_malformed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
