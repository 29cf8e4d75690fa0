// tob_arena is memory that is only ever given back as a whole: what one message unpacks into.
//
// Threads: one at a time; a budget, any.
// Errors:  allocation returns NULL over the cap, over the budget or without memory; tob_arena_error says which.
#ifndef TOB_WIRE_ARENA_H
#define TOB_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stddef.h>

#include "util/error.h"

#define TOB_ARENA_KEPT_BYTES (16u << 10) // at most, by a cleared arena

#define TOB_ARENA_SET_ASIDE  16 // this part of a budget

// What several arenas may have together, counted by the chunks that they hold. A sixteenth is set aside for arenas that have
// one chunk of TOB_ARENA_KEPT_BYTES at most, so that small requests are still served when large ones have taken the rest.
typedef struct tob_arena_budget {
    size_t max_bytes;
    atomic_size_t used;
} tob_arena_budget;

void tob_arena_budget_init(tob_arena_budget *budget, size_t max_bytes);
size_t tob_arena_budget_used(const tob_arena_budget *budget);

typedef struct tob_arena tob_arena;

// tob_arena_new: nothing is allocated beyond `max_bytes` in total.
TOB_MUST_USE tob_error tob_arena_new(size_t max_bytes, tob_arena **ret);

// tob_arena_new_within: likewise, and beyond what the budget, which must outlive the arena, has left.
TOB_MUST_USE tob_error tob_arena_new_within(size_t max_bytes, tob_arena_budget *budget, tob_arena **ret);
void tob_arena_free(tob_arena *arena);

// tob_arena_clear forgets everything allocated, and gives its memory back but for one chunk of TOB_ARENA_KEPT_BYTES, which
// goes too when half of the budget is used.
void tob_arena_clear(tob_arena *arena);

// tob_arena_alloc: aligned for any type, not zeroed; valid until clear or free.
void *tob_arena_alloc(tob_arena *arena, size_t n);
char *tob_arena_strdup(tob_arena *arena, const char *text);

// For protobuf-c: its free does nothing. Lives as long as the arena.
ProtobufCAllocator *tob_arena_allocator(tob_arena *arena);

// TOB_OK, or why an allocation since the last clear failed: TOB_TOO_LARGE over the arena's cap, TOB_BUSY over the budget,
// TOB_NO_MEMORY.
tob_error tob_arena_error(const tob_arena *arena);

// tob_arena_unpack unpacks one protobuf message into the arena.
// Errors: TOB_MALFORMED, TOB_TOO_LARGE over the arena's cap, TOB_BUSY over its budget, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_arena_unpack(tob_arena *arena, const ProtobufCMessageDescriptor *type,
                                        const void *bytes, size_t n, ProtobufCMessage **ret);

#endif
