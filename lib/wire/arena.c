#include "wire/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/check.h"

enum {
    ALIGNMENT = 16,
    FIRST_CHUNK_BYTES = 16 * 1024,
    MAX_CHUNK_BYTES = 1024 * 1024,
    KEPT_CHUNK_BYTES = 64 * 1024, // a chunk up to this size survives a clear
};

typedef struct chunk {
    struct chunk *next;
    size_t size; // of data
    _Alignas(ALIGNMENT) uint8_t data[];
} chunk;

struct tob_arena {
    ProtobufCAllocator allocator;
    chunk *chunks; // the one in use first
    size_t used;   // of the first chunk
    size_t allocated;
    size_t max_bytes;
    tob_error error;
};

static void *allocate(void *arena, size_t n) {
    return tob_arena_alloc(arena, n);
}

static void keep(void *arena, void *memory) {
    (void)arena;
    (void)memory; // given back by clear
}

tob_error tob_arena_new(size_t max_bytes, tob_arena **ret) {
    tob_arena *arena = calloc(1, sizeof(*arena));
    if (!arena) {
        return TOB_NO_MEMORY;
    }
    arena->max_bytes = max_bytes;
    arena->allocator = (ProtobufCAllocator){.alloc = allocate, .free = keep, .allocator_data = arena};
    *ret = arena;
    return TOB_OK;
}

static void free_chunks(chunk *c) {
    while (c) {
        chunk *next = c->next;
        free(c);
        c = next;
    }
}

void tob_arena_free(tob_arena *arena) {
    if (arena) {
        free_chunks(arena->chunks);
        free(arena);
    }
}

void tob_arena_clear(tob_arena *arena) {
    chunk *kept = NULL;
    chunk *c = arena->chunks;
    while (c) {
        chunk *next = c->next;
        if (!kept && c->size <= KEPT_CHUNK_BYTES) {
            kept = c;
            kept->next = NULL;
        } else {
            free(c);
        }
        c = next;
    }
    arena->chunks = kept;
    arena->allocated = kept ? kept->size : 0;
    arena->used = 0;
    arena->error = TOB_OK;
}

static tob_error add_chunk(tob_arena *arena, size_t need) {
    size_t size = arena->chunks ? arena->chunks->size * 2 : FIRST_CHUNK_BYTES;
    if (size > MAX_CHUNK_BYTES) {
        size = MAX_CHUNK_BYTES;
    }
    size_t left = arena->max_bytes - arena->allocated;
    if (size > left) {
        size = left;
    }
    if (size < need) {
        size = need;
    }
    if (size > left) {
        return TOB_TOO_LARGE;
    }
    chunk *c = malloc(sizeof(*c) + size);
    if (!c) {
        return TOB_NO_MEMORY;
    }
    *c = (chunk){.next = arena->chunks, .size = size};
    arena->chunks = c;
    arena->used = 0;
    arena->allocated += size;
    return TOB_OK;
}

void *tob_arena_alloc(tob_arena *arena, size_t n) {
    if (n > arena->max_bytes) {
        arena->error = TOB_TOO_LARGE;
        return NULL;
    }
    size_t rounded = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (!arena->chunks || rounded > arena->chunks->size - arena->used) {
        tob_error err = add_chunk(arena, rounded);
        if (err) {
            arena->error = err;
            return NULL;
        }
    }
    void *memory = arena->chunks->data + arena->used;
    arena->used += rounded;
    return memory;
}

char *tob_arena_strdup(tob_arena *arena, const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = tob_arena_alloc(arena, n);
    return copy ? memcpy(copy, text, n) : NULL;
}

ProtobufCAllocator *tob_arena_allocator(tob_arena *arena) {
    return &arena->allocator;
}

tob_error tob_arena_error(const tob_arena *arena) {
    return arena->error;
}

tob_error tob_arena_unpack(tob_arena *arena, const ProtobufCMessageDescriptor *type, const void *bytes,
                           size_t n, ProtobufCMessage **ret) {
    tob_error err = tob_message_check(type, bytes, n);
    if (err) {
        return err;
    }
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &arena->allocator, n, bytes);
    if (!message) {
        return arena->error ? arena->error : TOB_MALFORMED;
    }
    *ret = message;
    return TOB_OK;
}
