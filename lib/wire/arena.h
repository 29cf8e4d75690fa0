// tob_arena is memory that is only ever given back as a whole: what one message unpacks into.
//
// Threads: one at a time.
// Errors:  allocation returns NULL over the cap or without memory; tob_arena_error says which.
#ifndef TOB_WIRE_ARENA_H
#define TOB_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "util/error.h"

typedef struct tob_arena tob_arena;

// tob_arena_new: nothing is allocated beyond `max_bytes` in total. Keeps its first chunk when cleared.
TOB_MUST_USE tob_error tob_arena_new(size_t max_bytes, tob_arena **ret);
void tob_arena_free(tob_arena *arena);

// tob_arena_clear forgets everything allocated.
void tob_arena_clear(tob_arena *arena);

// tob_arena_alloc: aligned for any type, not zeroed; valid until clear or free.
void *tob_arena_alloc(tob_arena *arena, size_t n);
char *tob_arena_strdup(tob_arena *arena, const char *text);

// For protobuf-c: its free does nothing. Lives as long as the arena.
ProtobufCAllocator *tob_arena_allocator(tob_arena *arena);

// TOB_OK, or why an allocation since the last clear failed: TOB_TOO_LARGE or TOB_NO_MEMORY.
tob_error tob_arena_error(const tob_arena *arena);

// tob_arena_unpack unpacks one protobuf message into the arena.
// Errors: TOB_MALFORMED, TOB_TOO_LARGE over the arena's cap, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_arena_unpack(tob_arena *arena, const ProtobufCMessageDescriptor *type,
                                        const void *bytes, size_t n, ProtobufCMessage **ret);

#endif
