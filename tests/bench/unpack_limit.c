#include "unpack_limit.h"

#include <stdlib.h>
#include <time.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "wire/arena.h"
#include "wire/batch.h"
#include "wire/compress.h"

enum {
    BATCHES = 500,
    COMPRESS_LEVEL = 6, // lib/rpc's
};

typedef struct wire_batch {
    uint8_t *bytes;
    size_t n;
    size_t size; // inflated
} wire_batch;

typedef struct bench {
    bool compressed;
    tob_deflater *deflater;
    tob_inflater *inflater;
    tob_arena *arena;
    uint8_t *inflated;
    wire_batch batches[BATCHES];
} bench;

static double thread_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static tob_error take_batch(bench *b, unpack_limit_next next, void *user, wire_batch *ret) {
    tob_buffer body, out;
    tob_buffer_init(&body, TOB_MAX_INFLATED_BYTES);
    tob_buffer_init(&out, TOB_MAX_INFLATED_BYTES);
    tob_error err = next(user, &body);
    if (!err) {
        err = b->compressed ? tob_deflate(b->deflater, body.data, body.len, &out)
                            : tob_buffer_append(&out, body.data, body.len);
    }
    *ret = (wire_batch){.bytes = out.data, .n = out.len, .size = body.len};
    tob_buffer_fini(&body);
    return err;
}

// protobuf-c's own unpack, from an allocator that costs next to nothing.
static tob_error unpack(bench *b, const wire_batch *batch) {
    const uint8_t *body = batch->bytes;
    tob_arena_clear(b->arena);
    if (b->compressed) {
        tob_error err = tob_inflate(b->inflater, batch->bytes, batch->n, b->inflated, batch->size);
        if (err) {
            return err;
        }
        body = b->inflated;
    }
    ProtobufCAllocator *allocator = tob_arena_allocator(b->arena);
    Tobogganing__V1__SubmitRequest *request =
        tobogganing__v1__submit_request__unpack(allocator, batch->size, body);
    if (!request || !tobogganing__v1__batch__unpack(allocator, request->batch.len, request->batch.data)) {
        return TOB_MALFORMED;
    }
    return TOB_OK;
}

static tob_error start(bench *b, unpack_limit_next next, void *user) {
    b->inflated = malloc(TOB_MAX_INFLATED_BYTES);
    tob_error err = b->inflated ? tob_deflater_new(COMPRESS_LEVEL, &b->deflater) : TOB_NO_MEMORY;
    err = err ? err : tob_inflater_new(&b->inflater);
    err = err ? err : tob_arena_new(TOB_MAX_INFLATED_BYTES * 8, &b->arena);
    for (size_t i = 0; i < BATCHES && !err; i++) {
        err = take_batch(b, next, user, &b->batches[i]);
    }
    return err;
}

static void stop(bench *b) {
    for (size_t i = 0; i < BATCHES; i++) {
        free(b->batches[i].bytes);
    }
    tob_arena_free(b->arena);
    tob_inflater_free(b->inflater);
    tob_deflater_free(b->deflater);
    free(b->inflated);
    free(b);
}

tob_error unpack_limit(unpack_limit_next next, void *user, bool compressed, uint64_t duration_ms,
                       double *ret_batches_per_s) {
    uint64_t unpacked = 0;
    double elapsed_s = 0;
    bench *b = calloc(1, sizeof(*b));
    if (!b) {
        return TOB_NO_MEMORY;
    }
    b->compressed = compressed;
    tob_error err = start(b, next, user);
    double start_s = thread_cpu_s();
    while (!err && elapsed_s * 1000 < (double)duration_ms) {
        for (size_t i = 0; i < BATCHES && !err; i++) {
            err = unpack(b, &b->batches[i]);
        }
        unpacked += BATCHES;
        elapsed_s = thread_cpu_s() - start_s;
    }
    if (!err) {
        *ret_batches_per_s = (double)unpacked / elapsed_s;
    }
    stop(b);
    return err;
}
