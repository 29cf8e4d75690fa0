#include "exporter/tombstones.h"

#include <stdlib.h>
#include <string.h>

#include "util/text.h"

static const char *key_of(const void *owner, uint32_t row, size_t *ret_len) {
    const struct tob_tombstone *stone = &((const tob_tombstones *)owner)->stones[row];
    *ret_len = stone->key_len;
    return stone->key;
}

void tob_tombstones_init(tob_tombstones *tombstones) {
    *tombstones = (tob_tombstones){.stones = NULL};
    tob_index_init(&tombstones->index, key_of, tombstones);
}

void tob_tombstones_clear(tob_tombstones *tombstones) {
    for (size_t i = 0; i < tombstones->count; i++) {
        free(tombstones->stones[i].key);
    }
    free(tombstones->stones);
    tombstones->stones = NULL;
    tombstones->count = 0;
    tombstones->capacity = 0;
    tob_index_fini(&tombstones->index);
}

void tob_tombstones_fini(tob_tombstones *tombstones) {
    tob_tombstones_clear(tombstones);
}

static size_t make_key(tob_source_kind kind, const char *id, char to[1 + TOB_MAX_ID_BYTES]) {
    size_t len = strlen(id);
    if (!tob_id_valid(id, len)) {
        return 0;
    }
    to[0] = (char)kind;
    memcpy(to + 1, id, len);
    return 1 + len;
}

static tob_error grow(tob_tombstones *tombstones) {
    if (tombstones->count < tombstones->capacity) {
        return TOB_OK;
    }
    size_t capacity = tombstones->capacity ? 2 * tombstones->capacity : 64;
    struct tob_tombstone *stones = realloc(tombstones->stones, capacity * sizeof(*stones));
    if (!stones) {
        return TOB_NO_MEMORY;
    }
    tombstones->stones = stones;
    tombstones->capacity = capacity;
    return TOB_OK;
}

tob_error tob_tombstones_add(tob_tombstones *tombstones, tob_source_kind kind, const char *id,
                             uint64_t sequence) {
    char key[1 + TOB_MAX_ID_BYTES];
    size_t len = make_key(kind, id, key);
    if (len == 0) {
        return TOB_INVALID;
    }
    uint32_t at = tob_index_find(&tombstones->index, key, len);
    if (at != TOB_INDEX_NONE) {
        tombstones->stones[at].sequence = sequence;
        return TOB_OK;
    }
    if (tombstones->count == TOB_TOMBSTONES_MAX) {
        return TOB_TOO_LARGE;
    }
    tob_error err = grow(tombstones);
    if (!err) {
        err = tob_index_reserve(&tombstones->index, 1);
    }
    char *copy = err ? NULL : malloc(len);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    memcpy(copy, key, len);
    tombstones->stones[tombstones->count] =
        (struct tob_tombstone){.key = copy, .key_len = len, .sequence = sequence};
    return tob_index_add(&tombstones->index, (uint32_t)tombstones->count++);
}

bool tob_tombstones_newer(const tob_tombstones *tombstones, tob_source_kind kind, const char *id,
                          uint64_t sequence) {
    char key[1 + TOB_MAX_ID_BYTES];
    size_t len = tombstones->count ? make_key(kind, id, key) : 0;
    uint32_t at = len ? tob_index_find(&tombstones->index, key, len) : TOB_INDEX_NONE;
    return at != TOB_INDEX_NONE && tombstones->stones[at].sequence > sequence;
}
