#include "exporter/mirror.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "exporter/label_block.h"
#include "util/index.h"

#define NO_ROW UINT32_MAX

typedef struct table {
    tob_source_kind kind;
    size_t id_at;              // where a block holds the id: after client_id="
    tob_mirror_chunk **chunks; // as many pointers as there can ever be, so that readers need no lock for them
    _Atomic uint32_t chunk_count;
    _Atomic uint64_t count;
    uint32_t used;  // rows that were ever in use
    uint32_t freed; // head of the list of free ones
    uint32_t max_rows;
    tob_index index;
} table;

typedef struct mirror_owner {
    uint64_t instance;
    uint64_t rows;
    uint32_t epoch; // counts on when the slot is given to another
    uint32_t round; // likewise
} mirror_owner;

struct tob_mirror {
    table tables[TOB_SOURCE_KINDS];
    mirror_owner owners[TOB_MIRROR_MAX_OWNERS];
    uint64_t expire_after_ms;
    _Atomic uint64_t births;
};

static tob_mirror_chunk *chunk_of(const table *t, uint32_t row) {
    return t->chunks[row / TOB_MIRROR_CHUNK_ROWS];
}

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const table *t = owner;
    const tob_mirror_chunk *c = chunk_of(t, row);
    *ret_len = c->id_len[row % TOB_MIRROR_CHUNK_ROWS];
    return c->block[row % TOB_MIRROR_CHUNK_ROWS] + t->id_at;
}

static tob_error table_init(table *t, tob_source_kind kind, uint64_t max_sources) {
    size_t pointers = (size_t)(max_sources / TOB_MIRROR_CHUNK_ROWS + 1);
    t->kind = kind;
    t->id_at = tob_label_block_id_at(kind);
    t->max_rows = (uint32_t)max_sources;
    t->freed = NO_ROW;
    tob_index_init(&t->index, id_of, t);
    t->chunks = calloc(pointers, sizeof(*t->chunks));
    return t->chunks ? TOB_OK : TOB_NO_MEMORY;
}

static void table_fini(table *t) {
    for (uint32_t i = 0; i < t->used; i++) {
        free(chunk_of(t, i)->block[i % TOB_MIRROR_CHUNK_ROWS]);
    }
    for (uint32_t i = 0; i < atomic_load(&t->chunk_count); i++) {
        pthread_rwlock_destroy(&t->chunks[i]->lock);
        free(t->chunks[i]);
    }
    free(t->chunks);
    tob_index_fini(&t->index);
}

tob_error tob_mirror_new(const tob_mirror_options *options, tob_mirror **ret) {
    if (options->max_sources > TOB_MIRROR_MAX_SOURCES) {
        return TOB_INVALID;
    }
    tob_mirror *mirror = calloc(1, sizeof(*mirror));
    if (!mirror) {
        return TOB_NO_MEMORY;
    }
    mirror->expire_after_ms = options->expire_after_ms;
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        tob_error err = table_init(&mirror->tables[kind], (tob_source_kind)kind, options->max_sources);
        if (err) {
            tob_mirror_free(mirror);
            return err;
        }
    }
    *ret = mirror;
    return TOB_OK;
}

void tob_mirror_free(tob_mirror *mirror) {
    if (!mirror) {
        return;
    }
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        table_fini(&mirror->tables[kind]);
    }
    free(mirror);
}

static tob_error add_chunk(table *t) {
    tob_mirror_chunk *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    // The writer goes first: scrapes in a row must not keep the bus waiting.
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    uint32_t count = atomic_load_explicit(&t->chunk_count, memory_order_relaxed);
    t->chunks[count] = c;
    atomic_store_explicit(&t->chunk_count, count + 1, memory_order_release);
    return TOB_OK;
}

// Finds a free row; it is taken once the caller fills it.
static tob_error find_free(table *t, uint32_t *ret) {
    if (t->freed != NO_ROW) {
        *ret = t->freed;
        return TOB_OK;
    }
    if (t->used == t->max_rows) {
        return TOB_TOO_LARGE;
    }
    if (t->used == atomic_load_explicit(&t->chunk_count, memory_order_relaxed) * TOB_MIRROR_CHUNK_ROWS) {
        tob_error err = add_chunk(t);
        if (err) {
            return err;
        }
    }
    *ret = t->used;
    return TOB_OK;
}

static void take_free(table *t, uint32_t row) {
    if (row == t->freed) {
        t->freed = (uint32_t)chunk_of(t, row)->version[row % TOB_MIRROR_CHUNK_ROWS];
    } else {
        t->used++;
    }
    atomic_fetch_add(&t->count, 1);
}

static uint8_t state_at(const tob_mirror *mirror, uint64_t last_check_in_unix_ms, uint64_t now_unix_ms) {
    bool silent =
        now_unix_ms > last_check_in_unix_ms && now_unix_ms - last_check_in_unix_ms > mirror->expire_after_ms;
    return silent ? TOB_ROW_HIDDEN : TOB_ROW_SHOWN;
}

// Writes one row, under the chunk's lock. block: NULL when the labels stay.
static void fill(tob_mirror *mirror, tob_mirror_chunk *c, uint32_t i, const tob_mirror_row *row, char *block,
                 size_t block_len, uint64_t now_unix_ms) {
    pthread_rwlock_wrlock(&c->lock);
    if (c->state[i] == TOB_ROW_FREE) {
        c->born[i] = atomic_fetch_add(&mirror->births, 1) + 1;
    } else {
        mirror->owners[c->owner[i]].rows--;
    }
    mirror->owners[row->owner].rows++;
    if (block) {
        c->block[i] = block;
        c->block_len[i] = (uint16_t)block_len;
        c->id_len[i] = (uint8_t)strlen(row->id);
    }
    for (size_t v = 0; v < TOB_MIRROR_VALUES; v++) {
        c->values[v][i] = row->values[v];
    }
    c->last_check_in_unix_ms[i] = row->last_check_in_unix_ms;
    c->version[i] = row->version;
    c->owner[i] = row->owner;
    c->epoch[i] = mirror->owners[row->owner].epoch;
    c->present[i] = (uint8_t)row->present;
    c->state[i] = state_at(mirror, row->last_check_in_unix_ms, now_unix_ms);
    pthread_rwlock_unlock(&c->lock);
}

static tob_error add(tob_mirror *mirror, table *t, const tob_mirror_row *row, bool in_snapshot,
                     uint64_t now_unix_ms) {
    char text[TOB_MIRROR_MAX_BLOCK_BYTES];
    uint32_t at = 0;
    tob_error err = tob_index_reserve(&t->index, 1);
    if (!err) {
        err = find_free(t, &at);
    }
    if (err) {
        return err;
    }
    size_t len = tob_label_block_render(t->kind, row, text);
    char *block = malloc(len);
    if (!block) {
        return TOB_NO_MEMORY;
    }
    memcpy(block, text, len);
    tob_mirror_chunk *c = chunk_of(t, at);
    take_free(t, at);
    fill(mirror, c, at % TOB_MIRROR_CHUNK_ROWS, row, block, len, now_unix_ms);
    c->round[at % TOB_MIRROR_CHUNK_ROWS] = in_snapshot ? mirror->owners[row->owner].round : 0;
    return tob_index_add(&t->index, at);
}

// A new block when the labels changed, else NULL.
static tob_error changed_block(const table *t, const tob_mirror_chunk *c, uint32_t i,
                               const tob_mirror_row *row, char **ret, size_t *ret_len) {
    char text[TOB_MIRROR_MAX_BLOCK_BYTES];
    size_t len = tob_label_block_render(t->kind, row, text);
    if (len == c->block_len[i] && memcmp(c->block[i], text, len) == 0) {
        *ret = NULL;
        return TOB_OK;
    }
    char *block = malloc(len);
    if (!block) {
        return TOB_NO_MEMORY;
    }
    *ret = memcpy(block, text, len);
    *ret_len = len;
    return TOB_OK;
}

// Of two owners the one that heard of the source last has it. A check-in that lies in the future is no argument
// against one that does not: a clock was wrong.
static bool wins(const tob_mirror *mirror, const tob_mirror_chunk *c, uint32_t i, const tob_mirror_row *row,
                 uint64_t now_unix_ms) {
    const mirror_owner *theirs = &mirror->owners[c->owner[i]];
    if (c->owner[i] == row->owner) {
        return c->epoch[i] != theirs->epoch || row->version > c->version[i];
    }
    uint64_t latest = now_unix_ms + TOB_MIRROR_MAX_AHEAD_MS;
    bool credible = row->last_check_in_unix_ms <= latest;
    if (credible != (c->last_check_in_unix_ms[i] <= latest)) {
        return credible;
    }
    if (row->last_check_in_unix_ms != c->last_check_in_unix_ms[i]) {
        return row->last_check_in_unix_ms > c->last_check_in_unix_ms[i];
    }
    return mirror->owners[row->owner].instance > theirs->instance;
}

static tob_error replace(tob_mirror *mirror, table *t, uint32_t at, const tob_mirror_row *row,
                         uint64_t now_unix_ms) {
    tob_mirror_chunk *c = chunk_of(t, at);
    uint32_t i = at % TOB_MIRROR_CHUNK_ROWS;
    char *block = NULL;
    size_t block_len = 0;
    tob_error err = changed_block(t, c, i, row, &block, &block_len);
    if (err) {
        return err;
    }
    char *old = block ? c->block[i] : NULL;
    fill(mirror, c, i, row, block, block_len, now_unix_ms);
    free(old);
    return TOB_OK;
}

tob_error tob_mirror_put(tob_mirror *mirror, tob_source_kind kind, const tob_mirror_row *row,
                         bool in_snapshot, uint64_t now_unix_ms) {
    table *t = &mirror->tables[kind];
    if (!tob_mirror_row_valid(kind, row)) {
        return TOB_INVALID;
    }
    uint32_t at = tob_index_find(&t->index, row->id, strlen(row->id));
    if (at == TOB_INDEX_NONE) {
        return add(mirror, t, row, in_snapshot, now_unix_ms);
    }
    tob_mirror_chunk *c = chunk_of(t, at);
    uint32_t i = at % TOB_MIRROR_CHUNK_ROWS;
    bool taken_over = c->owner[i] != row->owner;
    bool newer = wins(mirror, c, i, row, now_unix_ms);
    tob_error err = newer ? replace(mirror, t, at, row, now_unix_ms) : TOB_OK;
    if (err || c->owner[i] != row->owner) {
        return err;
    }
    if (in_snapshot) {
        c->round[i] = mirror->owners[row->owner].round; // readers don't look at it
    } else if (taken_over) {
        c->round[i] = 0;
    }
    return TOB_OK;
}

static void remove_row(tob_mirror *mirror, table *t, uint32_t at) {
    tob_mirror_chunk *c = chunk_of(t, at);
    uint32_t i = at % TOB_MIRROR_CHUNK_ROWS;
    char *block = c->block[i];
    tob_index_remove(&t->index, block + t->id_at, c->id_len[i]);
    pthread_rwlock_wrlock(&c->lock);
    c->state[i] = TOB_ROW_FREE;
    c->block[i] = NULL;
    c->version[i] = t->freed;
    pthread_rwlock_unlock(&c->lock);
    free(block);
    t->freed = at;
    mirror->owners[c->owner[i]].rows--;
    atomic_fetch_sub(&t->count, 1);
}

void tob_mirror_remove(tob_mirror *mirror, unsigned owner, tob_source_kind kind, const char *id,
                       uint64_t max_version) {
    table *t = &mirror->tables[kind];
    uint32_t at = tob_index_find(&t->index, id, strlen(id));
    if (at == TOB_INDEX_NONE) {
        return;
    }
    const tob_mirror_chunk *c = chunk_of(t, at);
    uint32_t i = at % TOB_MIRROR_CHUNK_ROWS;
    bool newer = c->epoch[i] == mirror->owners[owner].epoch && c->version[i] > max_version;
    if (c->owner[i] == owner && !newer) {
        remove_row(mirror, t, at);
    }
}

void tob_mirror_begin_owner(tob_mirror *mirror, unsigned owner, uint64_t instance) {
    mirror->owners[owner].instance = instance;
    mirror->owners[owner].epoch++;
}

void tob_mirror_begin_epoch(tob_mirror *mirror, unsigned owner) {
    mirror->owners[owner].epoch++;
}

void tob_mirror_begin_snapshot(tob_mirror *mirror, unsigned owner) {
    mirror->owners[owner].round++;
}

uint64_t tob_mirror_owned(const tob_mirror *mirror, unsigned owner) {
    return mirror->owners[owner].rows;
}

// Removes the owner's rows: all, or those that its last snapshot did not have and that are not newer.
static uint64_t remove_rows(tob_mirror *mirror, table *t, unsigned owner, bool all, uint64_t start_version) {
    const mirror_owner *o = &mirror->owners[owner];
    uint64_t removed = 0;
    for (uint32_t at = 0; at < t->used; at++) {
        const tob_mirror_chunk *c = chunk_of(t, at);
        uint32_t i = at % TOB_MIRROR_CHUNK_ROWS;
        bool newer = c->epoch[i] == o->epoch && c->version[i] > start_version;
        if (c->state[i] != TOB_ROW_FREE && c->owner[i] == owner &&
            (all || (c->round[i] != o->round && !newer))) {
            remove_row(mirror, t, at);
            removed++;
        }
    }
    return removed;
}

uint64_t tob_mirror_end_snapshot(tob_mirror *mirror, unsigned owner, uint64_t start_version) {
    uint64_t removed = 0;
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        removed += remove_rows(mirror, &mirror->tables[kind], owner, false, start_version);
    }
    return removed;
}

uint64_t tob_mirror_drop_owner(tob_mirror *mirror, unsigned owner) {
    uint64_t removed = 0;
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS && mirror->owners[owner].rows; kind++) {
        removed += remove_rows(mirror, &mirror->tables[kind], owner, true, 0);
    }
    return removed;
}

static uint64_t expire_chunk(const tob_mirror *mirror, tob_mirror_chunk *c, uint64_t now_unix_ms) {
    uint64_t hidden = 0;
    pthread_rwlock_wrlock(&c->lock);
    for (uint32_t i = 0; i < TOB_MIRROR_CHUNK_ROWS; i++) {
        if (c->state[i] != TOB_ROW_FREE) {
            c->state[i] = state_at(mirror, c->last_check_in_unix_ms[i], now_unix_ms);
            hidden += c->state[i] == TOB_ROW_HIDDEN;
        }
    }
    pthread_rwlock_unlock(&c->lock);
    return hidden;
}

uint64_t tob_mirror_expire(tob_mirror *mirror, uint64_t now_unix_ms) {
    uint64_t hidden = 0;
    for (unsigned kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        table *t = &mirror->tables[kind];
        for (uint32_t i = 0; i < atomic_load(&t->chunk_count); i++) {
            hidden += expire_chunk(mirror, t->chunks[i], now_unix_ms);
        }
    }
    return hidden;
}

uint64_t tob_mirror_expire_after_ms(const tob_mirror *mirror) {
    return mirror->expire_after_ms;
}

uint64_t tob_mirror_count(const tob_mirror *mirror, tob_source_kind kind) {
    return atomic_load(&mirror->tables[kind].count);
}

uint64_t tob_mirror_births(const tob_mirror *mirror) {
    return atomic_load(&mirror->births);
}

uint32_t tob_mirror_chunks(const tob_mirror *mirror, tob_source_kind kind) {
    return atomic_load_explicit(&mirror->tables[kind].chunk_count, memory_order_acquire);
}

const tob_mirror_chunk *tob_mirror_read_lock(tob_mirror *mirror, tob_source_kind kind, uint32_t chunk) {
    tob_mirror_chunk *c = mirror->tables[kind].chunks[chunk];
    pthread_rwlock_rdlock(&c->lock);
    return c;
}

void tob_mirror_read_unlock(tob_mirror *mirror, tob_source_kind kind, uint32_t chunk) {
    pthread_rwlock_unlock(&mirror->tables[kind].chunks[chunk]->lock);
}
