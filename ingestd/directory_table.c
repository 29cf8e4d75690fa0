#include "ingestd/directory_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

char *tob_directory_row(const tob_directory_table *t, size_t row) {
    return t->rows + row * t->row_bytes;
}

const char *tob_directory_row_id(const tob_directory_table *t, size_t row) {
    const char *id = NULL;
    memcpy(&id, tob_directory_row(t, row), sizeof(id));
    return id;
}

static const char *id_of(const void *owner, uint32_t row, size_t *ret_len) {
    const char *id = tob_directory_row_id(owner, row);
    *ret_len = strlen(id);
    return id;
}

void tob_directory_table_init(tob_directory_table *t, size_t row_bytes) {
    t->row_bytes = row_bytes;
    tob_index_init(&t->by_id, id_of, t);
}

void tob_directory_table_fini(tob_directory_table *t) {
    free(t->rows);
    free(t->notes);
    tob_index_fini(&t->by_id);
}

static tob_error table_grow(tob_directory_table *t) {
    if (t->count < t->capacity) {
        return TOB_OK;
    }
    size_t more = t->capacity ? t->capacity + t->capacity / 2 : 64;
    if (more >= TOB_INDEX_NONE) {
        return TOB_NO_MEMORY;
    }
    char *rows = realloc(t->rows, more * t->row_bytes);
    if (!rows) {
        return TOB_NO_MEMORY;
    }
    t->rows = rows;
    _Atomic uint8_t *notes = realloc(t->notes, more * sizeof(*notes));
    if (!notes) {
        return TOB_NO_MEMORY;
    }
    t->notes = notes;
    t->capacity = more;
    return TOB_OK;
}

tob_error tob_directory_table_add(tob_directory_table *t, const void *row) {
    tob_error err = table_grow(t);
    if (!err) {
        err = tob_index_reserve(&t->by_id, 1);
    }
    if (err) {
        return err;
    }
    memcpy(tob_directory_row(t, t->count), row, t->row_bytes);
    atomic_store_explicit(&t->notes[t->count], TOB_NOTE_FRESH, memory_order_relaxed);
    err = tob_index_add(&t->by_id, (uint32_t)t->count); // has room
    t->count += err ? 0 : 1;
    return err;
}

void tob_directory_table_take(tob_directory_table *t, uint32_t row) {
    uint32_t last = (uint32_t)t->count - 1;
    const char *id = tob_directory_row_id(t, row), *last_id = tob_directory_row_id(t, last);
    bool removed = tob_index_remove(&t->by_id, id, strlen(id));
    if (last != row) {
        removed = removed && tob_index_remove(&t->by_id, last_id, strlen(last_id));
        memcpy(tob_directory_row(t, row), tob_directory_row(t, last), t->row_bytes);
        uint8_t note = atomic_load_explicit(&t->notes[last], memory_order_relaxed);
        atomic_store_explicit(&t->notes[row], note, memory_order_relaxed);
        tob_error err = tob_index_add(&t->by_id, row); // has room: two went, one comes
        assert(!err);
        (void)err;
    }
    assert(removed);
    (void)removed;
    t->count = last;
}
