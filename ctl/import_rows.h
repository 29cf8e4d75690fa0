// The rows of a CSV file of clients: read and checked as a whole before anything is sent.
//
// Threads: main thread. Errors: each on a line of its own on stderr, "FILE:LINE:COLUMN: what is wrong".
#ifndef TOB_CTL_IMPORT_ROWS_H
#define TOB_CTL_IMPORT_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "util/error.h"
#include "util/secret.h"

#define TOB_IMPORT_MAX_ROWS       250000
#define TOB_IMPORT_MAX_FILE_BYTES (256u << 20)
#define TOB_IMPORT_MAX_PROBLEMS   20 // that are printed; the others are counted
#define TOB_IMPORT_MIN_KEY_BYTES  16
#define TOB_IMPORT_MAX_KEY_BYTES  256
#define TOB_IMPORT_MAX_PUBLIC_KEY 1024

// One client. Texts are never NULL; borrowed from the file's text.
typedef struct tob_import_row {
    const char *client_id;
    const char *name;
    const char *type;
    const char *cluster_id;
    const char *public_key;
    const char *location;
    const char *api_key; // "" when only its hash is given, or it is to be made
    uint8_t key_sha256[TOB_SHA256_BYTES];
    bool has_hash;
    uint32_t line;
} tob_import_row;

typedef struct tob_import_rows {
    tob_import_row *rows; // in the order of their ids
    size_t count;
    size_t capacity;
    char (*keys)[TOB_API_KEY_BYTES]; // those that were made
    size_t key_count;
} tob_import_rows;

// tob_import_rows_read reads and checks the rows.
//   name   of the file, for messages
//   text   borrowed as long as the rows are used; it is written to, and text[len] too
//   ret    zeroed; free with tob_import_rows_fini, also after an error
// Errors: TOB_MALFORMED, TOB_INVALID, TOB_TOO_LARGE, TOB_ALREADY_EXISTS (an id is there twice): all of the file are
//         printed. TOB_NO_MEMORY is not.
TOB_MUST_USE tob_error tob_import_rows_read(const char *name, char *text, size_t len, tob_import_rows *ret);

// How many rows have neither a key nor a hash.
size_t tob_import_rows_without_key(const tob_import_rows *rows);

// tob_import_rows_make_keys makes a key for each of those. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_import_rows_make_keys(tob_import_rows *rows);

// Does the row have one that was made here?
bool tob_import_row_is_made(const tob_import_rows *rows, const tob_import_row *row);

// tob_import_rows_find: the row of that id, or NULL.
tob_import_row *tob_import_rows_find(const tob_import_rows *rows, const char *client_id);

// tob_import_rows_drop takes rows out: those for which `mark` is set, one for each row.
void tob_import_rows_drop(tob_import_rows *rows, const bool *mark);

// tob_import_rows_fini wipes the keys that were made. The file's text is the caller's to wipe.
void tob_import_rows_fini(tob_import_rows *rows);

#endif
