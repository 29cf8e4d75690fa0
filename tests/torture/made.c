#include "made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/arena.h"
#include "wire/batch.h"

enum { ARENA_BYTES = 64 << 20, BUILDER_BYTES = 16 << 20, FILL_MAX = 9990 };

struct made {
    tob_arena *arena;
    tob_batch_builder *builders[PLAIN_SENDERS];
};

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        tob_error must_err = (call);                                                                         \
        if (must_err) {                                                                                      \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, tob_error_string(must_err));       \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

uint64_t made_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint64_t made_below(uint64_t *seed, uint64_t below) {
    return made_random(seed) % below;
}

made *made_new(void) {
    made *m = calloc(1, sizeof(*m));
    if (!m) {
        abort();
    }
    MUST(tob_arena_new(ARENA_BYTES, &m->arena));
    for (unsigned s = 0; s < PLAIN_SENDERS; s++) {
        MUST(tob_batch_builder_new(plain_sender_id(s), plain_sender_boot(s), BUILDER_BYTES, &m->builders[s]));
    }
    return m;
}

void made_free(made *m) {
    if (m) {
        tob_arena_free(m->arena);
        for (unsigned s = 0; s < PLAIN_SENDERS; s++) {
            tob_batch_builder_free(m->builders[s]);
        }
        free(m);
    }
}

void made_clear(made *m) {
    tob_arena_clear(m->arena);
}

// Samples that take as much room as possible, before the first.
static plain_sample filler(const plain_series *series, unsigned i) {
    plain_sample sample = series->samples[0];
    uint64_t seed = i;
    sample.time -= (int64_t)(i + 1);
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        sample.values[v] = (int64_t)(made_random(&seed) >> 1);
    }
    return sample;
}

static void add_client(tob_batch_builder *builder, const plain_series *series) {
    static tob_client_sample samples[FILL_MAX + PLAIN_MAX_SAMPLES];
    unsigned n = 0;
    for (unsigned i = 0; i < series->fill + series->n; i++) {
        plain_sample from = i < series->fill ? filler(series, i) : series->samples[i - series->fill];
        samples[n] = (tob_client_sample){.time_unix_ms = from.time, .present = from.present};
        memcpy(samples[n++].values, from.values, sizeof(from.values));
    }
    MUST(tob_batch_add_client(builder, plain_source_id(series->source), "key", series->headless, samples, n));
}

static void add_headend(tob_batch_builder *builder, const plain_series *series) {
    static tob_headend_sample samples[FILL_MAX + PLAIN_MAX_SAMPLES];
    unsigned n = 0;
    for (unsigned i = 0; i < series->fill + series->n; i++) {
        plain_sample from = i < series->fill ? filler(series, i) : series->samples[i - series->fill];
        samples[n] = (tob_headend_sample){.time_unix_ms = from.time, .present = from.present};
        for (unsigned v = 0; v < PLAIN_VALUES; v++) {
            samples[n].values[v] = (double)from.values[v] / 2;
        }
        n++;
    }
    MUST(tob_batch_add_headend(builder, plain_source_id(series->source), plain_name(series->name), "key",
                               samples, n));
}

tob_submission made_submission(made *m, const plain_batch *batch, int64_t received) {
    tob_batch_builder *builder = m->builders[batch->sender];
    tob_buffer bytes;
    tob_buffer_init(&bytes, BUILDER_BYTES);
    for (unsigned i = 0; i < batch->n; i++) {
        const plain_series *series = &batch->series[i];
        if (series->fill > FILL_MAX) {
            abort();
        }
        (plain_is_client(series->source) ? add_client : add_headend)(builder, series);
    }
    MUST(tob_batch_pack(builder, batch->number, &bytes));
    tob_batch_clear(builder);
    ProtobufCMessage *request = NULL, *message = NULL;
    MUST(tob_arena_unpack(m->arena, &tobogganing__v1__submit_request__descriptor, bytes.data, bytes.len,
                          &request));
    tob_buffer_fini(&bytes);
    ProtobufCBinaryData packed = ((Tobogganing__V1__SubmitRequest *)request)->batch;
    MUST(tob_arena_unpack(m->arena, &tobogganing__v1__batch__descriptor, packed.data, packed.len, &message));
    Tobogganing__V1__Batch *unpacked = (Tobogganing__V1__Batch *)message;
    const char *reason = "";
    tob_error err = TOB_OK;
    for (size_t i = 0; i < unpacked->n_clients && !err; i++) {
        err = tob_batch_check_client(unpacked->clients[i], (uint64_t)received, &reason);
    }
    for (size_t i = 0; i < unpacked->n_headends && !err; i++) {
        err = tob_batch_check_headend(unpacked->headends[i], (uint64_t)received, &reason);
    }
    if (err) {
        fprintf(stderr, "the test made a series that is refused: %s\n", reason);
        abort();
    }
    return (tob_submission){.batch = packed.data,
                            .batch_len = packed.len,
                            .agent_id = unpacked->agent_id,
                            .boot_id = unpacked->boot_id,
                            .received_unix_ms = (uint64_t)received,
                            .clients = unpacked->clients,
                            .client_count = unpacked->n_clients,
                            .headends = unpacked->headends,
                            .headend_count = unpacked->n_headends};
}
