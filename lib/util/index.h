// tob_index maps ids (byte strings) to row numbers of a table that the owner keeps: open addressing with
// linear probing over {hash, row} pairs; the ids themselves stay in the owner's rows.
//
// Threads: one at a time. Errors: TOB_NO_MEMORY.
#ifndef TOB_UTIL_INDEX_H
#define TOB_UTIL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_INDEX_NONE UINT32_MAX

// tob_index_id_fn returns the id of a row, borrowed, and its length.
typedef const char *(*tob_index_id_fn)(const void *owner, uint32_t row, size_t *ret_len);

typedef struct tob_index {
    struct tob_index_slot {
        uint32_t hash;
        uint32_t row; // TOB_INDEX_NONE: empty
    } * slots;
    size_t capacity; // power of two, or 0
    size_t count;
    tob_index_id_fn id_of;
    const void *owner;
} tob_index;

void tob_index_init(tob_index *index, tob_index_id_fn id_of, const void *owner);
void tob_index_fini(tob_index *index);

// tob_index_find returns the row, or TOB_INDEX_NONE.
uint32_t tob_index_find(const tob_index *index, const char *id, size_t len);

// For those who look up many ids at once: waiting for memory is most of a lookup, and can be done for several together.
// tob_index_prefetch fetches the place where the id's entry should be; tob_index_guess, called when that is there, tells the
// row that the id has if it has one, or TOB_INDEX_NONE: no id is compared.
void tob_index_prefetch(const tob_index *index, const char *id, size_t len);
uint32_t tob_index_guess(const tob_index *index, const char *id, size_t len);

// tob_index_reserve makes the next `n` calls of tob_index_add succeed.
TOB_MUST_USE tob_error tob_index_reserve(tob_index *index, size_t n);

// tob_index_add: `row` must already hold the id, which must not be in the index yet.
TOB_MUST_USE tob_error tob_index_add(tob_index *index, uint32_t row);

// tob_index_remove: call while the row still holds its id. False when it was not there.
bool tob_index_remove(tob_index *index, const char *id, size_t len);

// tob_id_hash is XXH64 with seed 0 (the xxHash specification): the hash of the bus's buckets.
uint64_t tob_id_hash(const char *id, size_t len);

#endif
