#include "ingestd/fleet.h"

#include <stdlib.h>
#include <string.h>

#include "util/index.h"
#include "wire/batch.h"

enum { CHUNK_ROWS = 4096 };

// Row numbers of one bucket's changed rows. Room for all of a bucket's rows is made when they are added, so
// that marking one never fails.
typedef struct dirty_list {
    uint32_t *rows;
    size_t count;
    size_t members; // rows of this bucket
    size_t capacity;
} dirty_list;

// Rows of one kind in chunks that never move.
typedef struct table {
    uint8_t **chunks;
    size_t chunk_count;
    size_t row_size; // of a struct that begins with tob_source
    uint32_t count;
    tob_index index;
    dirty_list dirty[TOB_BUS_BUCKETS];
} table;

struct tob_fleet {
    table clients;
    table headends;
    uint64_t version;
};

static void *row_at(const table *t, uint32_t row) {
    return t->chunks[row / CHUNK_ROWS] + (size_t)(row % CHUNK_ROWS) * t->row_size;
}

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_source *source = row_at(owner, row);
    *ret_len = source->id_len;
    return source->id;
}

static void table_init(table *t, size_t row_size) {
    *t = (table){.row_size = row_size};
    tob_index_init(&t->index, id_of, t);
}

static void table_fini(table *t) {
    tob_index_fini(&t->index);
    for (size_t i = 0; i < t->chunk_count; i++) {
        free(t->chunks[i]);
    }
    for (size_t i = 0; i < TOB_BUS_BUCKETS; i++) {
        free(t->dirty[i].rows);
    }
    free(t->chunks);
}

tob_error tob_fleet_new(tob_fleet **ret) {
    tob_fleet *fleet = calloc(1, sizeof(*fleet));
    if (!fleet) {
        return TOB_NO_MEMORY;
    }
    table_init(&fleet->clients, sizeof(tob_client_row));
    table_init(&fleet->headends, sizeof(tob_headend_row));
    *ret = fleet;
    return TOB_OK;
}

void tob_fleet_free(tob_fleet *fleet) {
    if (!fleet) {
        return;
    }
    for (uint32_t i = 0; i < fleet->clients.count; i++) {
        free(((tob_client_row *)row_at(&fleet->clients, i))->source.id);
    }
    for (uint32_t i = 0; i < fleet->headends.count; i++) {
        tob_headend_row *row = row_at(&fleet->headends, i);
        free(row->source.id);
        free(row->name);
    }
    table_fini(&fleet->clients);
    table_fini(&fleet->headends);
    free(fleet);
}

static tob_error reserve_chunk(table *t) {
    if (t->count == TOB_FLEET_MAX_ROWS) {
        return TOB_TOO_LARGE;
    }
    if (t->count < t->chunk_count * CHUNK_ROWS) {
        return TOB_OK;
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

static tob_error reserve_dirty(dirty_list *list) {
    if (list->members < list->capacity) {
        return TOB_OK;
    }
    size_t capacity = list->capacity ? list->capacity * 2 : 64;
    uint32_t *rows = realloc(list->rows, capacity * sizeof(*rows));
    if (!rows) {
        return TOB_NO_MEMORY;
    }
    list->rows = rows;
    list->capacity = capacity;
    return TOB_OK;
}

// Makes room for one more row of the bucket everywhere, so that adding it can't fail half-way.
static tob_error reserve_row(table *t, unsigned bucket) {
    tob_error err = reserve_chunk(t);
    if (!err) {
        err = reserve_dirty(&t->dirty[bucket]);
    }
    return err ? err : tob_index_reserve(&t->index, 1);
}

// Finds the row of an id or adds an empty one.
static tob_error find_or_add(table *t, const char *id, uint32_t *ret_row) {
    size_t len = strlen(id);
    uint32_t row = tob_index_find(&t->index, id, len);
    if (row != TOB_INDEX_NONE) {
        *ret_row = row;
        return TOB_OK;
    }
    unsigned bucket = (unsigned)(tob_id_hash(id, len) % TOB_BUS_BUCKETS);
    tob_error err = reserve_row(t, bucket);
    if (err) {
        return err;
    }
    char *copy = strdup(id);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    row = t->count++;
    *(tob_source *)row_at(t, row) = (tob_source){.id = copy,
                                                 .id_len = (uint8_t)len,
                                                 .bucket = (uint8_t)bucket,
                                                 .sample_time_unix_ms = -1};
    t->dirty[bucket].members++;
    *ret_row = row;
    return tob_index_add(&t->index, row);
}

// Notes that we heard from a source: its row is a new version.
static void touch(tob_fleet *fleet, table *t, uint32_t row, uint64_t received_unix_ms) {
    tob_source *source = row_at(t, row);
    if (received_unix_ms > source->last_check_in_unix_ms) {
        source->last_check_in_unix_ms = received_unix_ms;
    }
    source->version = ++fleet->version;
    if (!source->dirty) {
        source->dirty = true;
        dirty_list *list = &t->dirty[source->bucket];
        list->rows[list->count++] = row;
    }
}

// The newest sample of a series, the later of equals. All samples of a series have the same metrics.
static size_t newest(const int64_t *times, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++) {
        if (times[i] >= times[at]) {
            at = i;
        }
    }
    return at;
}

tob_error tob_fleet_apply_client(tob_fleet *fleet, const Tobogganing__V1__ClientSeries *series,
                                 uint64_t received_unix_ms) {
    uint32_t number = 0;
    tob_error err = find_or_add(&fleet->clients, series->client_id, &number);
    if (err) {
        return err;
    }
    tob_client_row *row = row_at(&fleet->clients, number);
    tob_client_sample sample =
        tob_batch_client_sample(series, newest(series->time_unix_ms, series->n_time_unix_ms));
    if (sample.time_unix_ms >= row->source.sample_time_unix_ms) {
        for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
            row->values[m] = sample.present & (1u << m) ? sample.values[m] : row->values[m];
        }
        row->source.present |= sample.present;
        row->source.sample_time_unix_ms = sample.time_unix_ms;
        row->headless = series->headless;
    }
    touch(fleet, &fleet->clients, number, received_unix_ms);
    return TOB_OK;
}

static tob_error set_name(tob_headend_row *row, const char *name) {
    if (!*name || (row->name && strcmp(row->name, name) == 0)) {
        return TOB_OK;
    }
    char *copy = strdup(name);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    free(row->name);
    row->name = copy;
    return TOB_OK;
}

tob_error tob_fleet_apply_headend(tob_fleet *fleet, const Tobogganing__V1__HeadendSeries *series,
                                  uint64_t received_unix_ms) {
    uint32_t number = 0;
    tob_error err = find_or_add(&fleet->headends, series->headend_id, &number);
    if (err) {
        return err;
    }
    tob_headend_row *row = row_at(&fleet->headends, number);
    tob_headend_sample sample =
        tob_batch_headend_sample(series, newest(series->time_unix_ms, series->n_time_unix_ms));
    if (sample.time_unix_ms >= row->source.sample_time_unix_ms) {
        err = set_name(row, series->name);
        if (err) {
            return err;
        }
        for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
            row->values[m] = sample.present & (1u << m) ? sample.values[m] : row->values[m];
        }
        row->source.present |= sample.present;
        row->source.sample_time_unix_ms = sample.time_unix_ms;
    }
    touch(fleet, &fleet->headends, number, received_unix_ms);
    return TOB_OK;
}

uint32_t tob_fleet_clients(const tob_fleet *fleet) {
    return fleet->clients.count;
}

uint32_t tob_fleet_headends(const tob_fleet *fleet) {
    return fleet->headends.count;
}

const tob_client_row *tob_fleet_client(const tob_fleet *fleet, uint32_t row) {
    return row_at(&fleet->clients, row);
}

const tob_headend_row *tob_fleet_headend(const tob_fleet *fleet, uint32_t row) {
    return row_at(&fleet->headends, row);
}

uint64_t tob_fleet_version(const tob_fleet *fleet) {
    return fleet->version;
}

static size_t take(table *t, unsigned bucket, size_t max, uint32_t *rows) {
    dirty_list *list = &t->dirty[bucket];
    size_t n = 0;
    while (list->count > 0 && n < max) {
        rows[n] = list->rows[--list->count];
        ((tob_source *)row_at(t, rows[n++]))->dirty = false;
    }
    return n;
}

void tob_fleet_take_dirty(tob_fleet *fleet, unsigned bucket, size_t max, uint32_t *clients,
                          size_t *ret_clients, uint32_t *headends, size_t *ret_headends) {
    *ret_clients = take(&fleet->clients, bucket, max, clients);
    *ret_headends = take(&fleet->headends, bucket, max, headends);
}
