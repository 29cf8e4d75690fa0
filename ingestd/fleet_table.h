// A table of the fleet's rows of one kind: slots in chunks that never move, an index by id, and for each bucket of the bus the
// rows that changed and those that were removed since they were last handed out. Inside fleet.c only.
//
// A removed row keeps its slot and its id until it is handed out: a source that comes back before is the same row again. Then
// the slot is free.
//
// Threads: one at a time. Errors: TOB_NO_MEMORY; TOB_TOO_LARGE over TOB_FLEET_MAX_ROWS. Only adding a row can fail: it makes
// room in all lists that the row may ever be in.
#ifndef TOB_INGESTD_FLEET_TABLE_H
#define TOB_INGESTD_FLEET_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingestd/fleet.h"
#include "util/index.h"
#include "wire/bus_topics.h"

typedef struct tob_fleet_list {
    uint32_t *rows;
    size_t count;
} tob_fleet_list;

typedef struct tob_fleet_bucket {
    tob_fleet_list changed;
    tob_fleet_list removed;
    size_t members;  // rows of this bucket, removed ones included
    size_t capacity; // of both lists, at least `members`
} tob_fleet_bucket;

typedef struct tob_fleet_table {
    uint8_t **chunks;
    size_t chunk_count;
    size_t row_size; // of a struct that begins with tob_source
    uint32_t slots;  // ever used
    uint32_t count;  // rows
    uint32_t free;   // first free slot, a list by tob_source.listed_at; TOB_FLEET_NONE: none
    tob_index index; // of rows and of removed ones that still have their slot
    tob_fleet_bucket buckets[TOB_BUS_BUCKETS];
} tob_fleet_table;

// The table must not move afterwards.
void tob_fleet_table_init(tob_fleet_table *table, size_t row_size);

// tob_fleet_table_fini frees ids too; what else a row owns must be gone.
void tob_fleet_table_fini(tob_fleet_table *table);

// The row in a slot, free or not.
void *tob_fleet_table_slot(const tob_fleet_table *table, uint32_t slot);

// NULL unless a row that is not removed has the slot.
void *tob_fleet_table_row(const tob_fleet_table *table, uint32_t slot);

// Rows only, TOB_FLEET_NONE for removed ones.
uint32_t tob_fleet_table_find(const tob_fleet_table *table, const char *id, size_t len);

// tob_fleet_table_prefetch fetches what looking up these ids will need: for a lookup, waiting for memory is most of the time.
// At most TOB_FLEET_PREFETCH of them.
void tob_fleet_table_prefetch(const tob_fleet_table *table, const char *const *ids, size_t n);

// tob_fleet_table_find_or_add: a row that is new or was removed is empty but for what the table keeps.
TOB_MUST_USE tob_error tob_fleet_table_find_or_add(tob_fleet_table *table, const char *id, uint32_t *ret_row);

// tob_fleet_table_changed notes that a row changed.
void tob_fleet_table_changed(tob_fleet_table *table, uint32_t row);

void tob_fleet_table_remove(tob_fleet_table *table, uint32_t row);

size_t tob_fleet_table_take_changed(tob_fleet_table *table, unsigned bucket, size_t max, uint32_t *rows);
size_t tob_fleet_table_take_removed(tob_fleet_table *table, unsigned bucket, size_t max, char **ids);

#endif
