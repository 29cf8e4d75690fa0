// tob_directory_table is a table of the directory: rows that are found by their ids, and a byte of notes for each. Inside the
// directory only, which guards it.
#ifndef TOB_INGESTD_DIRECTORY_TABLE_H
#define TOB_INGESTD_DIRECTORY_TABLE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/index.h"

// Notes are apart from the rows, so that the count of those that use their previous key looks through one byte a client.
// Readers of the directory set TOB_NOTE_HEARD_PREVIOUS, all else is a writer's.
#define TOB_NOTE_HEARD_PREVIOUS 1u
#define TOB_NOTE_FRESH          2u // put since the last mark

// A row begins with a pointer to its id.
typedef struct tob_directory_table {
    char *rows;
    _Atomic uint8_t *notes;
    size_t row_bytes;
    size_t count;
    size_t capacity;
    tob_index by_id;
} tob_directory_table;

void tob_directory_table_init(tob_directory_table *table, size_t row_bytes);
void tob_directory_table_fini(tob_directory_table *table);

char *tob_directory_row(const tob_directory_table *table, size_t row);
const char *tob_directory_row_id(const tob_directory_table *table, size_t row);

// tob_directory_table_add copies a row, which is fresh; its id must not be there. TOB_NO_MEMORY: nothing is changed.
TOB_MUST_USE tob_error tob_directory_table_add(tob_directory_table *table, const void *row);

// tob_directory_table_take takes a row out; the last one moves to its place.
void tob_directory_table_take(tob_directory_table *table, uint32_t row);

#endif
