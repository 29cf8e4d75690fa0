#include "ingestd/fleet_table.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 4096 };

void *tob_fleet_table_slot(const tob_fleet_table *t, uint32_t slot) {
    return t->chunks[slot / CHUNK_ROWS] + (size_t)(slot % CHUNK_ROWS) * t->row_size;
}

void *tob_fleet_table_row(const tob_fleet_table *t, uint32_t slot) {
    if (slot >= t->slots) {
        return NULL;
    }
    tob_source *source = tob_fleet_table_slot(t, slot);
    return source->id && !source->removed ? source : NULL;
}

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_source *source = tob_fleet_table_slot(owner, row);
    *ret_len = source->id_len;
    return source->id;
}

void tob_fleet_table_init(tob_fleet_table *t, size_t row_size) {
    *t = (tob_fleet_table){.row_size = row_size, .free = TOB_FLEET_NONE};
    tob_index_init(&t->index, id_of, t);
}

void tob_fleet_table_fini(tob_fleet_table *t) {
    for (uint32_t i = 0; i < t->slots; i++) {
        free(((tob_source *)tob_fleet_table_slot(t, i))->id);
    }
    tob_index_fini(&t->index);
    for (size_t i = 0; i < t->chunk_count; i++) {
        free(t->chunks[i]);
    }
    for (size_t i = 0; i < TOB_BUS_BUCKETS; i++) {
        free(t->buckets[i].changed.rows);
        free(t->buckets[i].removed.rows);
    }
    free(t->chunks);
}

static tob_error reserve_slot(tob_fleet_table *t) {
    if (t->free != TOB_FLEET_NONE || t->slots < t->chunk_count * CHUNK_ROWS) {
        return TOB_OK;
    }
    if (t->slots >= TOB_FLEET_MAX_ROWS) {
        return TOB_TOO_LARGE;
    }
    uint8_t **chunks = realloc(t->chunks, (t->chunk_count + 1) * sizeof(*chunks));
    if (!chunks) {
        return TOB_NO_MEMORY;
    }
    t->chunks = chunks;
    chunks[t->chunk_count] = calloc(CHUNK_ROWS, t->row_size);
    if (!chunks[t->chunk_count]) {
        return TOB_NO_MEMORY;
    }
    t->chunk_count++;
    return TOB_OK;
}

static tob_error grow_list(tob_fleet_list *list, size_t capacity) {
    uint32_t *rows = realloc(list->rows, capacity * sizeof(*rows));
    if (!rows) {
        return TOB_NO_MEMORY;
    }
    list->rows = rows;
    return TOB_OK;
}

static tob_error reserve_lists(tob_fleet_bucket *bucket) {
    if (bucket->members < bucket->capacity) {
        return TOB_OK;
    }
    size_t capacity = bucket->capacity ? bucket->capacity * 2 : 64;
    tob_error err = grow_list(&bucket->changed, capacity);
    if (!err) {
        err = grow_list(&bucket->removed, capacity);
    }
    bucket->capacity = err ? bucket->capacity : capacity;
    return err;
}

static void list_add(tob_fleet_table *t, tob_fleet_list *list, uint32_t row) {
    tob_source *source = tob_fleet_table_slot(t, row);
    source->listed_at = (uint32_t)list->count;
    list->rows[list->count++] = row;
}

// The last of the list takes its place.
static void list_drop(tob_fleet_table *t, tob_fleet_list *list, tob_source *source) {
    uint32_t last = list->rows[--list->count];
    list->rows[source->listed_at] = last;
    ((tob_source *)tob_fleet_table_slot(t, last))->listed_at = source->listed_at;
    source->listed_at = TOB_FLEET_NONE;
}

static uint32_t take_slot(tob_fleet_table *t) {
    if (t->free == TOB_FLEET_NONE) {
        return t->slots++;
    }
    uint32_t slot = t->free;
    t->free = ((tob_source *)tob_fleet_table_slot(t, slot))->listed_at;
    return slot;
}

// Makes a slot an empty row; what a row of that id had is kept: id, bucket.
static void clear_row(tob_fleet_table *t, uint32_t slot, tob_source identity) {
    void *row = tob_fleet_table_slot(t, slot);
    memset(row, 0, t->row_size);
    *(tob_source *)row = (tob_source){.id = identity.id,
                                      .id_len = identity.id_len,
                                      .bucket = identity.bucket,
                                      .sample_time_unix_ms = -1,
                                      .listed_at = TOB_FLEET_NONE};
    t->count++;
}

// Makes room everywhere first, so that adding a row can't fail half-way.
static tob_error add_row(tob_fleet_table *t, const char *id, size_t len, uint32_t *ret_row) {
    unsigned number = (unsigned)(tob_id_hash(id, len) % TOB_BUS_BUCKETS);
    tob_fleet_bucket *bucket = &t->buckets[number];
    tob_error err = reserve_slot(t);
    if (!err) {
        err = reserve_lists(bucket);
    }
    if (!err) {
        err = tob_index_reserve(&t->index, 1);
    }
    char *copy = err ? NULL : strdup(id);
    if (!copy) {
        return err ? err : TOB_NO_MEMORY;
    }
    uint32_t slot = take_slot(t);
    clear_row(t, slot, (tob_source){.id = copy, .id_len = (uint8_t)len, .bucket = (uint8_t)number});
    bucket->members++;
    *ret_row = slot;
    return tob_index_add(&t->index, slot);
}

uint32_t tob_fleet_table_find(const tob_fleet_table *t, const char *id, size_t len) {
    uint32_t row = tob_index_find(&t->index, id, len);
    return row != TOB_INDEX_NONE && tob_fleet_table_row(t, row) ? row : TOB_FLEET_NONE;
}

void tob_fleet_table_prefetch(const tob_fleet_table *t, const char *const *ids, size_t n) {
    size_t lengths[TOB_FLEET_PREFETCH];
    uint32_t rows[TOB_FLEET_PREFETCH];
    for (size_t i = 0; i < n; i++) {
        lengths[i] = strlen(ids[i]);
        tob_index_prefetch(&t->index, ids[i], lengths[i]);
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = tob_index_guess(&t->index, ids[i], lengths[i]);
        if (rows[i] != TOB_INDEX_NONE) {
            const uint8_t *row = tob_fleet_table_slot(t, rows[i]);
            __builtin_prefetch(row);
            __builtin_prefetch(row + t->row_size - 1); // rows begin anywhere
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (rows[i] != TOB_INDEX_NONE) {
            __builtin_prefetch(((const tob_source *)tob_fleet_table_slot(t, rows[i]))->id);
        }
    }
}

tob_error tob_fleet_table_find_or_add(tob_fleet_table *t, const char *id, uint32_t *ret_row) {
    size_t len = strlen(id);
    uint32_t row = tob_index_find(&t->index, id, len);
    if (row == TOB_INDEX_NONE) {
        return add_row(t, id, len, ret_row);
    }
    tob_source *source = tob_fleet_table_slot(t, row);
    if (source->removed) { // it comes back before anybody was told that it had gone
        list_drop(t, &t->buckets[source->bucket].removed, source);
        clear_row(t, row, *source);
    }
    *ret_row = row;
    return TOB_OK;
}

void tob_fleet_table_changed(tob_fleet_table *t, uint32_t row) {
    tob_source *source = tob_fleet_table_slot(t, row);
    if (source->listed_at == TOB_FLEET_NONE) {
        list_add(t, &t->buckets[source->bucket].changed, row);
    }
}

void tob_fleet_table_remove(tob_fleet_table *t, uint32_t row) {
    tob_source *source = tob_fleet_table_slot(t, row);
    tob_fleet_bucket *bucket = &t->buckets[source->bucket];
    if (source->listed_at != TOB_FLEET_NONE) {
        list_drop(t, &bucket->changed, source);
    }
    source->removed = true;
    list_add(t, &bucket->removed, row);
    t->count--;
}

size_t tob_fleet_table_take_changed(tob_fleet_table *t, unsigned bucket, size_t max, uint32_t *rows) {
    tob_fleet_list *list = &t->buckets[bucket].changed;
    size_t n = 0;
    while (list->count > 0 && n < max) {
        rows[n] = list->rows[--list->count];
        ((tob_source *)tob_fleet_table_slot(t, rows[n++]))->listed_at = TOB_FLEET_NONE;
    }
    return n;
}

size_t tob_fleet_table_take_removed(tob_fleet_table *t, unsigned bucket, size_t max, char **ids) {
    tob_fleet_list *list = &t->buckets[bucket].removed;
    size_t n = 0;
    while (list->count > 0 && n < max) {
        uint32_t slot = list->rows[--list->count];
        tob_source *source = tob_fleet_table_slot(t, slot);
        tob_index_remove(&t->index, source->id, source->id_len);
        t->buckets[bucket].members--;
        ids[n++] = source->id;
        memset(source, 0, t->row_size);
        source->listed_at = t->free;
        t->free = slot;
    }
    return n;
}
