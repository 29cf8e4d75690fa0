#include "ingestd/erase_record.h"

#include <string.h>

#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/journal.pb-c.h"

#include "wire/record.h"
#include "wire/varint.h"

// A length is one byte or, so that every size can be made, five.
enum { ERASED_TAG = 14 << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, SHORT = 2 + 127, LENGTH_BYTES = 5 };

// Field `erased` over n bytes, 0 or at least 2.
static void put_erased(uint8_t *to, size_t n) {
    if (n == 0) {
        return;
    }
    memset(to, 0, n);
    to[0] = ERASED_TAG;
    if (n <= SHORT) {
        to[1] = (uint8_t)(n - 2);
        return;
    }
    size_t rest = n - 1 - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++) {
        to[1 + i] = (uint8_t)((rest >> (7 * i) & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0));
    }
}

// Drops the client's series; how many samples they had.
static uint64_t drop_series(Tobogganing__V1__Batch *batch, const char *client_id, bool *ret_found) {
    uint64_t samples = 0;
    size_t kept = 0;
    for (size_t i = 0; i < batch->n_clients; i++) {
        if (strcmp(batch->clients[i]->client_id, client_id) == 0) {
            samples += batch->clients[i]->n_time_unix_ms;
            *ret_found = true;
        } else {
            batch->clients[kept++] = batch->clients[i];
        }
    }
    batch->n_clients = kept;
    return samples;
}

// What is left of the record, and then nothing.
static tob_error put_rest(const Tobogganing__V1__Record *record, Tobogganing__V1__Batch *batch, size_t n,
                          uint8_t *to) {
    size_t at = 0;
    if (batch->n_clients + batch->n_headends > 0) {
        size_t len = tobogganing__v1__batch__get_packed_size(batch);
        at = tob_record_prefix(record->received_unix_ms, len, to);
        if (at + len > n) {
            return TOB_MALFORMED; // it was packed by somebody who packs better than we do
        }
        at += tobogganing__v1__batch__pack(batch, to + at);
    } else {
        Tobogganing__V1__Record time = TOBOGGANING__V1__RECORD__INIT;
        time.received_unix_ms = record->received_unix_ms;
        at = tobogganing__v1__record__pack(&time, to);
    }
    if (n - at == 1) {
        return TOB_MALFORMED; // no field is that short, and no series either
    }
    put_erased(to + at, n - at);
    return TOB_OK;
}

tob_error tob_erase_record(tob_arena *arena, const char *client_id, const void *payload, size_t n,
                           uint8_t *replacement, bool *ret_erased, uint64_t *ret_samples) {
    ProtobufCMessage *message = NULL;
    bool found = false;
    *ret_erased = false;
    *ret_samples = 0;
    // Strings stand in a record as they are: nearly all records are done with here.
    if (!memmem(payload, n, client_id, strlen(client_id))) {
        return TOB_OK;
    }
    tob_arena_clear(arena);
    tob_error err = tob_arena_unpack(arena, &tobogganing__v1__record__descriptor, payload, n, &message);
    if (err) {
        return err;
    }
    const Tobogganing__V1__Record *record = (const Tobogganing__V1__Record *)message;
    if (record->batch.len == 0) {
        return TOB_OK; // a removal
    }
    err = tob_arena_unpack(arena, &tobogganing__v1__batch__descriptor, record->batch.data, record->batch.len,
                           &message);
    if (err) {
        return err;
    }
    Tobogganing__V1__Batch *batch = (Tobogganing__V1__Batch *)message;
    uint64_t samples = drop_series(batch, client_id, &found);
    if (found) {
        err = put_rest(record, batch, n, replacement);
        *ret_erased = !err;
        *ret_samples = samples;
    }
    return err;
}
