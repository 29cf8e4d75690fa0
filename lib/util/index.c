#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "util/index.h"

uint64_t tob_id_hash(const char *id, size_t len) {
    return XXH64(id, len, 0);
}

static uint32_t slot_hash(const char *id, size_t len) {
    uint64_t h = tob_id_hash(id, len);
    return (uint32_t)(h >> 32);
}

void tob_index_init(tob_index *index, tob_index_id_fn id_of, const void *owner) {
    *index = (tob_index){.id_of = id_of, .owner = owner};
}

void tob_index_fini(tob_index *index) {
    free(index->slots);
    *index = (tob_index){.id_of = index->id_of, .owner = index->owner};
}

// The slot that holds the id, or the empty one where it would go. The table is never full.
static size_t probe(const tob_index *index, uint32_t hash, const char *id, size_t len) {
    size_t mask = index->capacity - 1;
    size_t at = hash & mask;
    for (;; at = (at + 1) & mask) {
        const struct tob_index_slot *slot = &index->slots[at];
        if (slot->row == TOB_INDEX_NONE) {
            return at;
        }
        if (slot->hash == hash) {
            size_t other_len = 0;
            const char *other = index->id_of(index->owner, slot->row, &other_len);
            if (other_len == len && memcmp(other, id, len) == 0) {
                return at;
            }
        }
    }
}

uint32_t tob_index_find(const tob_index *index, const char *id, size_t len) {
    if (index->count == 0) {
        return TOB_INDEX_NONE;
    }
    return index->slots[probe(index, slot_hash(id, len), id, len)].row;
}

void tob_index_prefetch(const tob_index *index, const char *id, size_t len) {
    if (index->count > 0) {
        __builtin_prefetch(&index->slots[slot_hash(id, len) & (index->capacity - 1)]);
    }
}

uint32_t tob_index_guess(const tob_index *index, const char *id, size_t len) {
    if (index->count == 0) {
        return TOB_INDEX_NONE;
    }
    uint32_t hash = slot_hash(id, len);
    size_t mask = index->capacity - 1;
    size_t at = hash & mask;
    while (index->slots[at].row != TOB_INDEX_NONE && index->slots[at].hash != hash) {
        at = (at + 1) & mask;
    }
    return index->slots[at].row;
}

static void place(struct tob_index_slot *slots, size_t mask, struct tob_index_slot slot) {
    size_t at = slot.hash & mask;
    while (slots[at].row != TOB_INDEX_NONE) {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

tob_error tob_index_reserve(tob_index *index, size_t n) {
    size_t need = index->count + n;
    size_t capacity = index->capacity ? index->capacity : 16;
    while (need > capacity - capacity / 4) { // at most three quarters full
        capacity *= 2;
    }
    if (capacity == index->capacity) {
        return TOB_OK;
    }
    struct tob_index_slot *slots = malloc(capacity * sizeof(*slots));
    if (!slots) {
        return TOB_NO_MEMORY;
    }
    memset(slots, 0xff, capacity * sizeof(*slots));
    for (size_t i = 0; i < index->capacity; i++) {
        if (index->slots[i].row != TOB_INDEX_NONE) {
            place(slots, capacity - 1, index->slots[i]);
        }
    }
    free(index->slots);
    index->slots = slots;
    index->capacity = capacity;
    return TOB_OK;
}

tob_error tob_index_add(tob_index *index, uint32_t row) {
    tob_error err = tob_index_reserve(index, 1);
    if (err) {
        return err;
    }
    size_t len = 0;
    const char *id = index->id_of(index->owner, row, &len);
    place(index->slots, index->capacity - 1, (struct tob_index_slot){.hash = slot_hash(id, len), .row = row});
    index->count++;
    return TOB_OK;
}

bool tob_index_remove(tob_index *index, const char *id, size_t len) {
    if (index->count == 0) {
        return false;
    }
    size_t mask = index->capacity - 1;
    size_t hole = probe(index, slot_hash(id, len), id, len);
    if (index->slots[hole].row == TOB_INDEX_NONE) {
        return false;
    }
    // Backward shift (Knuth, TAOCP vol. 3, §6.4, algorithm R): no tombstones.
    for (size_t at = (hole + 1) & mask; index->slots[at].row != TOB_INDEX_NONE; at = (at + 1) & mask) {
        size_t home = index->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->slots[hole] = index->slots[at];
            hole = at;
        }
    }
    index->slots[hole].row = TOB_INDEX_NONE;
    index->count--;
    return true;
}
