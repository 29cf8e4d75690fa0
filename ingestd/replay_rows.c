#include "ingestd/replay_rows.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/rows.h"
#include "util/index.h"
#include "util/text.h"
#include "wire/fields.h"

// Numbers of fields, as ingest.proto and journal.proto have them.
enum {
    RECORD_BATCH = 2,
    RECORD_REMOVED_CLIENTS = 4,
    RECORD_REMOVED_HEADENDS = 5,
    BATCH_CLIENTS = 4,
    BATCH_HEADENDS = 5,
    SERIES_ID = 1,
};

enum { ARENA_BYTES = 64 << 20, FIRST_SOURCES = 1024 };

typedef struct source {
    const char *id;
    size_t len;
    tob_source_kind kind;
} source;

struct tob_replay_rows {
    source *sources;
    size_t count;
    size_t capacity;
    uint64_t buckets;
    tob_index known[TOB_SOURCE_KINDS];
    tob_arena *ids;
};

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_replay_rows *rows = owner;
    *ret_len = rows->sources[row].len;
    return rows->sources[row].id;
}

tob_error tob_replay_rows_new(tob_replay_rows **ret) {
    tob_replay_rows *rows = calloc(1, sizeof(*rows));
    if (!rows) {
        return TOB_NO_MEMORY;
    }
    for (size_t kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        tob_index_init(&rows->known[kind], id_of, rows);
    }
    tob_error err = tob_arena_new(ARENA_BYTES, &rows->ids);
    if (err) {
        tob_replay_rows_free(rows);
        return err;
    }
    *ret = rows;
    return TOB_OK;
}

void tob_replay_rows_free(tob_replay_rows *rows) {
    if (rows) {
        tob_index_fini(&rows->known[TOB_SOURCE_CLIENT]);
        tob_index_fini(&rows->known[TOB_SOURCE_HEADEND]);
        tob_arena_free(rows->ids);
        free(rows->sources);
        free(rows);
    }
}

void tob_replay_rows_clear(tob_replay_rows *rows, uint64_t buckets) {
    for (size_t kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        tob_index_fini(&rows->known[kind]);
        tob_index_init(&rows->known[kind], id_of, rows);
    }
    tob_arena_clear(rows->ids);
    rows->count = 0;
    rows->buckets = buckets;
}

size_t tob_replay_rows_count(const tob_replay_rows *rows) {
    return rows->count;
}

static tob_error make_room(tob_replay_rows *rows) {
    if (rows->count < rows->capacity) {
        return TOB_OK;
    }
    size_t capacity = rows->capacity ? rows->capacity * 2 : FIRST_SOURCES;
    source *sources = realloc(rows->sources, capacity * sizeof(*sources));
    if (!sources) {
        return TOB_NO_MEMORY;
    }
    rows->sources = sources;
    rows->capacity = capacity;
    return TOB_OK;
}

static tob_error add_source(tob_replay_rows *rows, tob_source_kind kind, const uint8_t *bytes, size_t len) {
    const char *id = (const char *)bytes;
    if (!tob_id_valid(id, len)) {
        return TOB_DAMAGED;
    }
    bool selected = !rows->buckets || (rows->buckets >> (tob_id_hash(id, len) % TOB_BUS_BUCKETS) & 1);
    if (!selected || tob_index_find(&rows->known[kind], id, len) != TOB_INDEX_NONE) {
        return TOB_OK;
    }
    char *copy = tob_arena_alloc(rows->ids, len + 1);
    tob_error err = copy ? make_room(rows) : tob_arena_error(rows->ids);
    if (err) {
        return err;
    }
    memcpy(copy, id, len);
    copy[len] = 0;
    rows->sources[rows->count] = (source){.id = copy, .len = len, .kind = kind};
    return tob_index_add(&rows->known[kind], (uint32_t)rows->count++);
}

// The id of one serialized ClientSeries or HeadendSeries.
static tob_error add_series(tob_replay_rows *rows, tob_source_kind kind, const tob_field *series) {
    tob_fields fields = tob_fields_of(series->bytes, series->len);
    tob_field field = {0};
    const uint8_t *id = NULL;
    size_t len = 0;
    do {
        if (tob_fields_next(&fields, &field)) {
            return TOB_DAMAGED;
        }
        if (field.number == SERIES_ID && field.bytes) { // of several the last counts, as for protobuf
            id = field.bytes;
            len = field.len;
        }
    } while (field.number);
    return id ? add_source(rows, kind, id, len) : TOB_DAMAGED;
}

static tob_error add_batch(tob_replay_rows *rows, const tob_field *batch) {
    tob_fields fields = tob_fields_of(batch->bytes, batch->len);
    tob_field field = {0};
    tob_error err = TOB_OK;
    do {
        if (tob_fields_next(&fields, &field)) {
            return TOB_DAMAGED;
        }
        if (field.bytes && (field.number == BATCH_CLIENTS || field.number == BATCH_HEADENDS)) {
            err = add_series(rows, field.number == BATCH_CLIENTS ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND,
                             &field);
        }
    } while (field.number && !err);
    return err;
}

tob_error tob_replay_rows_add(tob_replay_rows *rows, const void *record, size_t n) {
    tob_fields fields = tob_fields_of(record, n);
    tob_field field = {0};
    tob_error err = TOB_OK;
    do {
        if (tob_fields_next(&fields, &field)) {
            return TOB_DAMAGED;
        }
        if (!field.bytes) {
            continue;
        }
        if (field.number == RECORD_BATCH) {
            err = add_batch(rows, &field);
        } else if (field.number == RECORD_REMOVED_CLIENTS) {
            err = add_source(rows, TOB_SOURCE_CLIENT, field.bytes, field.len);
        } else if (field.number == RECORD_REMOVED_HEADENDS) {
            err = add_source(rows, TOB_SOURCE_HEADEND, field.bytes, field.len);
        }
    } while (field.number && !err);
    return err;
}

// ---- rendering

// The sources of one kind in a slice: those that have rows, and the others.
typedef struct slice {
    uint32_t *numbers;
    char **ids; // of the rows by `numbers`
    size_t rows;
    char **gone;
    size_t gone_count;
} slice;

static tob_error look_up(const tob_replay_rows *rows, size_t from, size_t to, tob_source_kind kind,
                         const tob_fleet *fleet, tob_arena *arena, slice *ret) {
    size_t max = to - from + 1;
    *ret = (slice){.numbers = tob_arena_alloc(arena, max * sizeof(*ret->numbers)),
                   .ids = tob_arena_alloc(arena, max * sizeof(*ret->ids)),
                   .gone = tob_arena_alloc(arena, max * sizeof(*ret->gone))};
    if (!ret->numbers || !ret->ids || !ret->gone) {
        return tob_arena_error(arena);
    }
    for (size_t i = from; i < to; i++) {
        const source *s = &rows->sources[i];
        if (s->kind != kind) {
            continue;
        }
        uint32_t number = kind == TOB_SOURCE_CLIENT ? tob_fleet_find_client(fleet, s->id, s->len)
                                                    : tob_fleet_find_headend(fleet, s->id, s->len);
        if (number == TOB_FLEET_NONE) {
            ret->gone[ret->gone_count++] = (char *)s->id;
        } else {
            ret->ids[ret->rows] = (char *)s->id;
            ret->numbers[ret->rows++] = number;
        }
    }
    return TOB_OK;
}

// Makes the page's arrays, with room for all sources.
static tob_error prepare(const tob_replay_rows *rows, tob_arena *arena,
                         Tobogganing__V1__ReplayResponse *page) {
    size_t n = (rows->count + 1) * sizeof(void *);
    page->clients = tob_arena_alloc(arena, n);
    page->headends = tob_arena_alloc(arena, n);
    page->removed_clients = tob_arena_alloc(arena, n);
    page->removed_headends = tob_arena_alloc(arena, n);
    return page->clients && page->headends && page->removed_clients && page->removed_headends
               ? TOB_OK
               : tob_arena_error(arena);
}

static tob_error render_clients(const slice *s, const tob_fleet *fleet, tob_directory *directory,
                                tob_arena *arena, Tobogganing__V1__ReplayResponse *page) {
    Tobogganing__V1__ClientRow **clients = NULL;
    tob_error err = tob_rows_clients(fleet, directory, arena, s->numbers, s->rows, &clients);
    for (size_t i = 0; i < s->rows && !err; i++) {
        clients[i]->client_id = s->ids[i]; // the row's own goes with the row
        page->clients[page->n_clients++] = clients[i];
    }
    for (size_t i = 0; i < s->gone_count && !err; i++) {
        page->removed_clients[page->n_removed_clients++] = s->gone[i];
    }
    return err;
}

static tob_error render_headends(const slice *s, const tob_fleet *fleet, tob_directory *directory,
                                 tob_arena *arena, Tobogganing__V1__ReplayResponse *page) {
    Tobogganing__V1__HeadendRow **headends = NULL;
    tob_error err = tob_rows_headends(fleet, directory, arena, s->numbers, s->rows, &headends);
    for (size_t i = 0; i < s->rows && !err; i++) {
        headends[i]->headend_id = s->ids[i];
        page->headends[page->n_headends++] = headends[i];
    }
    for (size_t i = 0; i < s->gone_count && !err; i++) {
        page->removed_headends[page->n_removed_headends++] = s->gone[i];
    }
    return err;
}

tob_error tob_replay_rows_render(const tob_replay_rows *rows, size_t from, size_t max, const tob_fleet *fleet,
                                 tob_directory *directory, tob_arena *arena,
                                 Tobogganing__V1__ReplayResponse *page) {
    size_t to = rows->count - from < max ? rows->count : from + max;
    slice clients, headends;
    tob_error err = page->clients ? TOB_OK : prepare(rows, arena, page);
    if (!err) {
        err = look_up(rows, from, to, TOB_SOURCE_CLIENT, fleet, arena, &clients);
    }
    if (!err) {
        err = look_up(rows, from, to, TOB_SOURCE_HEADEND, fleet, arena, &headends);
    }
    if (!err) {
        err = render_clients(&clients, fleet, directory, arena, page);
    }
    return err ? err : render_headends(&headends, fleet, directory, arena, page);
}
