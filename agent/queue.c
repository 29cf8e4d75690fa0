#include "agent/queue.h"

#include <stdlib.h>
#include <string.h>

#include "util/index.h"
#include "util/text.h"

// `key` is everything that makes a source: kind, headless, id, name and credential, each with its NUL; the
// strings are read out of it.
typedef struct source {
    char *key;
    size_t key_len;
    tob_source_kind kind;
    bool headless;
    const char *id;
    const char *name;
    const char *credential;
    size_t waiting; // samples in the queue; 0: the slot is free
    uint32_t next_free;
} source;

typedef struct entry {
    uint32_t source;
    uint64_t line;
    union {
        tob_client_sample client;
        tob_headend_sample headend;
    } sample;
} entry;

struct tob_queue {
    entry *entries; // ring
    size_t max_samples;
    size_t first;
    size_t count;
    source *sources;
    size_t source_count; // slots in use or free
    size_t source_capacity;
    uint32_t free_source;
    tob_index by_key;
};

static const char *key_of(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_queue *queue = owner;
    *ret_len = queue->sources[row].key_len;
    return queue->sources[row].key;
}

tob_error tob_queue_new(size_t max_samples, tob_queue **ret) {
    if (max_samples == 0 || max_samples > 1u << 31) {
        return TOB_INVALID;
    }
    tob_queue *queue = calloc(1, sizeof(*queue));
    entry *entries = calloc(max_samples, sizeof(*entries));
    if (!queue || !entries) {
        free(queue);
        free(entries);
        return TOB_NO_MEMORY;
    }
    queue->entries = entries;
    queue->max_samples = max_samples;
    queue->free_source = TOB_INDEX_NONE;
    tob_index_init(&queue->by_key, key_of, queue);
    *ret = queue;
    return TOB_OK;
}

void tob_queue_free(tob_queue *queue) {
    if (!queue) {
        return;
    }
    for (size_t i = 0; i < queue->source_count; i++) {
        free(queue->sources[i].key);
    }
    tob_index_fini(&queue->by_key);
    free(queue->sources);
    free(queue->entries);
    free(queue);
}

size_t tob_queue_count(const tob_queue *queue) {
    return queue->count;
}

bool tob_queue_full(const tob_queue *queue) {
    return queue->count == queue->max_samples;
}

static entry *entry_at(const tob_queue *queue, size_t i) {
    return &queue->entries[(queue->first + i) % queue->max_samples];
}

enum {
    KEY_PREFIX = 2,
    MAX_KEY_BYTES = KEY_PREFIX + TOB_MAX_ID_BYTES + TOB_MAX_NAME_BYTES + TOB_MAX_CREDENTIAL_BYTES + 3
};

static tob_error make_key(const tob_agent_report *report, char to[MAX_KEY_BYTES], size_t *ret_len) {
    const char *parts[] = {report->id, report->name ? report->name : "", report->credential};
    const size_t most[] = {TOB_MAX_ID_BYTES, TOB_MAX_NAME_BYTES, TOB_MAX_CREDENTIAL_BYTES};
    size_t len = KEY_PREFIX;
    if (!tob_id_valid(report->id, strlen(report->id))) {
        return TOB_INVALID;
    }
    to[0] = (char)report->kind;
    to[1] = (char)report->headless;
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(parts[i]);
        if (n > most[i]) {
            return TOB_TOO_LARGE;
        }
        memcpy(to + len, parts[i], n + 1);
        len += n + 1;
    }
    *ret_len = len;
    return TOB_OK;
}

// Finds a slot without taking it.
static tob_error free_slot(tob_queue *queue, uint32_t *ret) {
    if (queue->free_source != TOB_INDEX_NONE) {
        *ret = queue->free_source;
        return TOB_OK;
    }
    if (queue->source_count == queue->source_capacity) {
        size_t capacity = queue->source_capacity ? queue->source_capacity * 2 : 8;
        source *sources = realloc(queue->sources, capacity * sizeof(*sources));
        if (!sources) {
            return TOB_NO_MEMORY;
        }
        queue->sources = sources;
        queue->source_capacity = capacity;
    }
    *ret = (uint32_t)queue->source_count;
    return TOB_OK;
}

static tob_error add_source(tob_queue *queue, const tob_agent_report *report, const char *key, size_t key_len,
                            uint32_t *ret) {
    uint32_t row = 0;
    tob_error err = free_slot(queue, &row);
    if (!err) {
        err = tob_index_reserve(&queue->by_key, 1);
    }
    char *copy = err ? NULL : malloc(key_len);
    if (!copy) {
        return err ? err : TOB_NO_MEMORY;
    }
    memcpy(copy, key, key_len);
    if (row == queue->source_count) {
        queue->source_count++;
    } else {
        queue->free_source = queue->sources[row].next_free;
    }
    source *s = &queue->sources[row];
    *s = (source){.key = copy, .key_len = key_len, .kind = report->kind, .headless = report->headless};
    s->id = copy + KEY_PREFIX;
    s->name = s->id + strlen(s->id) + 1;
    s->credential = s->name + strlen(s->name) + 1;
    *ret = row;
    return tob_index_add(&queue->by_key, row); // reserved: cannot fail
}

static void release_source(tob_queue *queue, uint32_t row) {
    source *s = &queue->sources[row];
    if (--s->waiting == 0) {
        tob_index_remove(&queue->by_key, s->key, s->key_len);
        free(s->key);
        *s = (source){.next_free = queue->free_source};
        queue->free_source = row;
    }
}

tob_error tob_queue_push(tob_queue *queue, const tob_agent_report *report) {
    char key[MAX_KEY_BYTES];
    size_t key_len = 0;
    if (tob_queue_full(queue)) {
        return TOB_BUSY;
    }
    tob_error err = make_key(report, key, &key_len);
    if (err) {
        return err;
    }
    uint32_t row = tob_index_find(&queue->by_key, key, key_len);
    if (row == TOB_INDEX_NONE) {
        err = add_source(queue, report, key, key_len, &row);
        if (err) {
            return err;
        }
    }
    queue->sources[row].waiting++;
    entry *e = entry_at(queue, queue->count++);
    *e = (entry){.source = row, .line = report->line};
    if (report->kind == TOB_SOURCE_CLIENT) {
        e->sample.client = report->sample.client;
    } else {
        e->sample.headend = report->sample.headend;
    }
    return TOB_OK;
}

size_t tob_queue_drop_oldest(tob_queue *queue, size_t n) {
    n = n < queue->count ? n : queue->count;
    for (size_t i = 0; i < n; i++) {
        release_source(queue, entry_at(queue, i)->source);
    }
    queue->first = (queue->first + n) % queue->max_samples;
    queue->count -= n;
    return n;
}

static uint32_t present_of(const tob_queue *queue, const entry *e) {
    return queue->sources[e->source].kind == TOB_SOURCE_CLIENT ? e->sample.client.present
                                                               : e->sample.headend.present;
}

// What is sorted: one waiting sample and its place in the batch.
typedef struct place {
    uint32_t kind;
    uint32_t source;
    size_t at; // in the queue
} place;

static int compare_places(const void *a, const void *b) {
    const place *x = a;
    const place *y = b;
    if (x->kind != y->kind) {
        return x->kind < y->kind ? -1 : 1; // clients first, as in the batch
    }
    if (x->source != y->source) {
        return x->source < y->source ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

// How many places from the first on make one series.
static size_t series_length(const tob_queue *queue, const place *places, size_t n) {
    uint32_t present = present_of(queue, entry_at(queue, places[0].at));
    size_t length = 1;
    while (length < n && length < TOB_MAX_SAMPLES_PER_SERIES && places[length].source == places[0].source &&
           present_of(queue, entry_at(queue, places[length].at)) == present) {
        length++;
    }
    return length;
}

// Room for the samples of one series, side by side.
typedef union scratch {
    tob_client_sample client;
    tob_headend_sample headend;
} scratch;

static tob_error add_series(const tob_queue *queue, const place *places, size_t n, scratch *room,
                            tob_batch_builder *builder, tob_batch_part *part) {
    const source *s = &queue->sources[places[0].source];
    tob_client_sample *clients = &room->client;
    tob_headend_sample *headends = &room->headend;
    for (size_t i = 0; i < n; i++) {
        const entry *e = entry_at(queue, places[i].at);
        if (s->kind == TOB_SOURCE_CLIENT) {
            clients[i] = e->sample.client;
        } else {
            headends[i] = e->sample.headend;
        }
    }
    *part = (tob_batch_part){.kind = s->kind,
                             .samples = n,
                             .first_line = entry_at(queue, places[0].at)->line,
                             .last_line = entry_at(queue, places[n - 1].at)->line};
    memcpy(part->id, s->id, strlen(s->id) + 1);
    return s->kind == TOB_SOURCE_CLIENT
               ? tob_batch_add_client(builder, s->id, s->credential, s->headless, clients, n)
               : tob_batch_add_headend(builder, s->id, s->name, s->credential, headends, n);
}

// Fills the builder with exactly the n oldest.
static tob_error build_exactly(const tob_queue *queue, size_t n, place *places, scratch *room,
                               tob_batch_builder *builder, tob_batch_part *parts, size_t *ret_parts) {
    size_t count = 0;
    tob_error err = TOB_OK;
    for (size_t i = 0; i < n; i++) {
        uint32_t row = entry_at(queue, i)->source;
        places[i] = (place){.kind = (uint32_t)queue->sources[row].kind, .source = row, .at = i};
    }
    qsort(places, n, sizeof(*places), compare_places);
    for (size_t i = 0; i < n && !err;) {
        size_t length = series_length(queue, places + i, n - i);
        err = add_series(queue, places + i, length, room, builder, &parts[count++]);
        i += length;
    }
    if (err) {
        tob_batch_clear(builder);
    }
    *ret_parts = count;
    return err;
}

tob_error tob_queue_build(tob_queue *queue, size_t max_samples, tob_batch_builder *builder,
                          tob_batch_part **ret_parts, size_t *ret_part_count, size_t *ret_samples) {
    size_t n = queue->count < max_samples ? queue->count : max_samples;
    place *places = calloc(n + 1, sizeof(*places));
    scratch *room = calloc(n + 1, sizeof(*room));
    tob_batch_part *parts = calloc(n + 1, sizeof(*parts));
    tob_error err = places && room && parts ? TOB_OK : TOB_NO_MEMORY;
    if (!err) {
        err = build_exactly(queue, n, places, room, builder, parts, ret_part_count);
    }
    while (err == TOB_TOO_LARGE && n > 1) {
        n /= 2;
        err = build_exactly(queue, n, places, room, builder, parts, ret_part_count);
    }
    if (!err) {
        *ret_parts = parts;
        *ret_samples = n;
        parts = NULL;
    }
    free(places);
    free(room);
    free(parts);
    return err;
}
