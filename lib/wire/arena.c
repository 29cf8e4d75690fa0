#include "wire/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/check.h"

enum {
    ALIGNMENT = 16,
    FIRST_CHUNK_BYTES = TOB_ARENA_KEPT_BYTES - 64, // with its header and malloc's
    MAX_CHUNK_BYTES = 1024 * 1024,
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
    tob_arena_budget *budget; // or NULL
    tob_error error;
};

void tob_arena_budget_init(tob_arena_budget *budget, size_t max_bytes) {
    budget->max_bytes = max_bytes;
    atomic_init(&budget->used, 0);
}

size_t tob_arena_budget_used(const tob_arena_budget *budget) {
    return atomic_load_explicit(&budget->used, memory_order_relaxed);
}

// small: an arena's first chunk, for which a part of the budget is set aside.
static bool budget_take(tob_arena_budget *budget, size_t n, bool small) {
    if (!budget) {
        return true;
    }
    size_t max = budget->max_bytes - (small ? 0 : budget->max_bytes / TOB_ARENA_SET_ASIDE);
    size_t used = atomic_fetch_add_explicit(&budget->used, n, memory_order_relaxed);
    if (used <= max && n <= max - used) {
        return true;
    }
    atomic_fetch_sub_explicit(&budget->used, n, memory_order_relaxed);
    return false;
}

static void budget_give(tob_arena_budget *budget, size_t n) {
    if (budget) {
        atomic_fetch_sub_explicit(&budget->used, n, memory_order_relaxed);
    }
}

static void *allocate(void *arena, size_t n) {
    return tob_arena_alloc(arena, n);
}

static void keep(void *arena, void *memory) {
    (void)arena;
    (void)memory; // given back by clear
}

tob_error tob_arena_new(size_t max_bytes, tob_arena **ret) {
    return tob_arena_new_within(max_bytes, NULL, ret);
}

tob_error tob_arena_new_within(size_t max_bytes, tob_arena_budget *budget, tob_arena **ret) {
    tob_arena *arena = calloc(1, sizeof(*arena));
    if (!arena) {
        return TOB_NO_MEMORY;
    }
    arena->max_bytes = max_bytes;
    arena->budget = budget;
    arena->allocator = (ProtobufCAllocator){.alloc = allocate, .free = keep, .allocator_data = arena};
    *ret = arena;
    return TOB_OK;
}

static size_t chunk_bytes(size_t size) {
    return sizeof(chunk) + size;
}

static void free_chunks(tob_arena *arena) {
    chunk *c = arena->chunks;
    while (c) {
        chunk *next = c->next;
        budget_give(arena->budget, chunk_bytes(c->size));
        free(c);
        c = next;
    }
    arena->chunks = NULL;
    arena->allocated = 0;
}

void tob_arena_free(tob_arena *arena) {
    if (arena) {
        free_chunks(arena);
        free(arena);
    }
}

// Takes the first chunk that was made, the smallest, out of the arena, if it may be kept.
static chunk *take_kept(tob_arena *arena) {
    const tob_arena_budget *budget = arena->budget;
    chunk **last = &arena->chunks;
    if (!*last || (budget && tob_arena_budget_used(budget) > budget->max_bytes / 2)) {
        return NULL;
    }
    while ((*last)->next) {
        last = &(*last)->next;
    }
    chunk *kept = *last;
    if (chunk_bytes(kept->size) > TOB_ARENA_KEPT_BYTES) {
        return NULL;
    }
    *last = NULL;
    return kept;
}

void tob_arena_clear(tob_arena *arena) {
    chunk *kept = take_kept(arena);
    free_chunks(arena);
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
    bool small = !arena->chunks && chunk_bytes(size) <= TOB_ARENA_KEPT_BYTES;
    if (!budget_take(arena->budget, chunk_bytes(size), small)) {
        return TOB_BUSY;
    }
    chunk *c = malloc(chunk_bytes(size));
    if (!c) {
        budget_give(arena->budget, chunk_bytes(size));
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
