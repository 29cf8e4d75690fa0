// What comes from the network as protobuf: tob_arena_unpack of every message type, and the checks of a batch's
// series. The first byte of the input chooses the type.
//
// Promises: nothing is read outside the input; what was accepted can be packed, is accepted again and packs to
// the same bytes; strings are UTF-8; samples of accepted series are in range.
#include <math.h>
#include <string.h>

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/certificates.pb-c.h"
#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/journal.pb-c.h"
#include "tobogganing/v1/process.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/reports.pb-c.h"
#include "tobogganing/v1/rpc.pb-c.h"

#include "fuzz.h"
#include "util/text.h"
#include "wire/arena.h"
#include "wire/batch.h"
#include "wire/check.h"

#define NOW_UNIX_MS UINT64_C(1800000000000)

enum { ARENA_BYTES = 4 << 20, MAX_INPUT_BYTES = 64 << 10 };

static const ProtobufCMessageDescriptor *const types[] = {
    &tobogganing__v1__submit_request__descriptor, // the corpus counts on this order: add at the end
    &tobogganing__v1__batch__descriptor,
    &tobogganing__v1__request__descriptor,
    &tobogganing__v1__response__descriptor,
    &tobogganing__v1__submit_response__descriptor,
    &tobogganing__v1__bus_message__descriptor,
    &tobogganing__v1__snapshot_request__descriptor,
    &tobogganing__v1__snapshot_response__descriptor,
    &tobogganing__v1__process__descriptor,
    &tobogganing__v1__record__descriptor,
    &tobogganing__v1__health_check_request__descriptor,
    &tobogganing__v1__health_check_response__descriptor,
    &tobogganing__v1__add_cluster_request__descriptor,
    &tobogganing__v1__add_client_request__descriptor,
    &tobogganing__v1__add_client_response__descriptor,
    &tobogganing__v1__add_headend_request__descriptor,
    &tobogganing__v1__client_id__descriptor,
    &tobogganing__v1__issue_headend_token_request__descriptor,
    &tobogganing__v1__list_request__descriptor,
    &tobogganing__v1__list_clients_response__descriptor,
    &tobogganing__v1__import_clients_request__descriptor,
    &tobogganing__v1__update_client_request__descriptor,
    &tobogganing__v1__issue_certificate_request__descriptor,
    &tobogganing__v1__list_audit_response__descriptor,
    &tobogganing__v1__last_report__descriptor,
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

static ProtobufCMessage *unpack(tob_arena *arena, const ProtobufCMessageDescriptor *type, const void *bytes,
                                size_t n) {
    ProtobufCMessage *message = NULL;
    return tob_arena_unpack(arena, type, bytes, n, &message) == TOB_OK ? message : NULL;
}

static uint8_t *pack(tob_arena *arena, const ProtobufCMessage *message, size_t *ret_n) {
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = tob_arena_alloc(arena, size ? size : 1);
    FUZZ_CHECK(packed);
    *ret_n = protobuf_c_message_pack(message, packed);
    FUZZ_CHECK(*ret_n == size);
    return packed;
}

// Its own arena has room enough: what was accepted once does not fail for memory here.
static void check_repacks(const ProtobufCMessage *message) {
    tob_arena *arena = NULL;
    FUZZ_CHECK(tob_arena_new(ARENA_BYTES * 8, &arena) == TOB_OK);
    size_t first_len = 0, second_len = 0;
    uint8_t *first = pack(arena, message, &first_len);
    ProtobufCMessage *again = unpack(arena, message->descriptor, first, first_len);
    FUZZ_CHECK(again);
    uint8_t *second = pack(arena, again, &second_len);
    FUZZ_CHECK(first_len == second_len && memcmp(first, second, first_len) == 0);
    tob_arena_free(arena);
}

static void check_client(Tobogganing__V1__ClientSeries *series) {
    const char *reason = NULL;
    FUZZ_CHECK(tob_utf8_valid(series->client_id, strlen(series->client_id)));
    if (tob_batch_check_client(series, NOW_UNIX_MS, &reason) != TOB_OK) {
        FUZZ_CHECK(reason && *reason);
        return;
    }
    FUZZ_CHECK(tob_id_valid(series->client_id, strlen(series->client_id)));
    FUZZ_CHECK(series->n_time_unix_ms >= 1 && series->n_time_unix_ms <= TOB_MAX_SAMPLES_PER_SERIES);
    for (size_t i = 0; i < series->n_time_unix_ms; i++) {
        tob_client_sample sample = tob_batch_client_sample(series, i);
        FUZZ_CHECK(sample.present >> TOB_CLIENT_METRICS == 0);
        FUZZ_CHECK(sample.time_unix_ms >= 0);
        FUZZ_CHECK((uint64_t)sample.time_unix_ms <= NOW_UNIX_MS + TOB_MAX_FUTURE_MS);
        for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
            FUZZ_CHECK(sample.values[m] >= 0);
        }
    }
}

static void check_headend(Tobogganing__V1__HeadendSeries *series) {
    const char *reason = NULL;
    if (tob_batch_check_headend(series, NOW_UNIX_MS, &reason) != TOB_OK) {
        FUZZ_CHECK(reason && *reason);
        return;
    }
    FUZZ_CHECK(tob_id_valid(series->headend_id, strlen(series->headend_id)));
    FUZZ_CHECK(tob_name_valid(series->name, strlen(series->name)));
    for (size_t i = 0; i < series->n_time_unix_ms; i++) {
        tob_headend_sample sample = tob_batch_headend_sample(series, i);
        FUZZ_CHECK(sample.present >> TOB_HEADEND_METRICS == 0);
        for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
            FUZZ_CHECK(isfinite(sample.values[m]) && sample.values[m] >= 0);
        }
    }
}

static void check_batch(Tobogganing__V1__Batch *batch) {
    for (size_t i = 0; i < batch->n_clients; i++) {
        check_client(batch->clients[i]);
    }
    for (size_t i = 0; i < batch->n_headends; i++) {
        check_headend(batch->headends[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    const ProtobufCMessageDescriptor *type = types[fuzz_take_byte(&data, &n) % TYPES];
    tob_arena *arena = NULL;
    FUZZ_CHECK(tob_arena_new(ARENA_BYTES, &arena) == TOB_OK);
    ProtobufCMessage *message = unpack(arena, type, data, n);
    if (message) {
        FUZZ_CHECK(tob_message_check(type, data, n) == TOB_OK);
        check_repacks(message);
    }
    if (message && type == &tobogganing__v1__submit_request__descriptor) {
        const ProtobufCBinaryData *batch = &((Tobogganing__V1__SubmitRequest *)message)->batch;
        message = unpack(arena, &tobogganing__v1__batch__descriptor, batch->data, batch->len);
    }
    if (message && message->descriptor == &tobogganing__v1__batch__descriptor) {
        check_batch((Tobogganing__V1__Batch *)message);
    }
    tob_arena_free(arena);
    return 0;
}
