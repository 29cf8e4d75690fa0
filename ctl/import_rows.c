#include "ctl/import_rows.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/csv.h"
#include "util/text.h"

typedef enum column {
    CLIENT_ID,
    NAME,
    TYPE,
    CLUSTER_ID,
    PUBLIC_KEY,
    LOCATION,
    API_KEY,
    API_KEY_SHA256,
    COLUMNS,
} column;

static const char *const column_names[COLUMNS] = {"client_id",  "name",     "type",    "cluster_id",
                                                  "public_key", "location", "api_key", "api_key_sha256"};

typedef struct reading {
    const char *name;
    tob_import_rows *rows;
    column columns[TOB_CSV_MAX_FIELDS]; // by place
    size_t column_count;
    size_t problems;
    tob_error first; // kind of the first problem
} reading;

static void problem(reading *r, tob_error err, uint32_t line, uint32_t at, const char *format, ...)
    TOB_PRINTF(5, 6);
static void problem(reading *r, tob_error err, uint32_t line, uint32_t at, const char *format, ...) {
    r->first = r->problems++ ? r->first : err;
    if (r->problems > TOB_IMPORT_MAX_PROBLEMS) {
        return;
    }
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%" PRIu32 ":%" PRIu32 ": ", r->name, line, at);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

// --- the header -------------------------------------------------------------------------------------------

static column column_of(const char *name) {
    size_t i = 0;
    while (i < COLUMNS && strcmp(name, column_names[i]) != 0) {
        i++;
    }
    return (column)i;
}

static void read_header(reading *r, const tob_csv_record *header) {
    bool seen[COLUMNS] = {false};
    for (size_t i = 0; i < header->count; i++) {
        const tob_csv_field *field = &header->fields[i];
        column found = column_of(field->text);
        if (found == COLUMNS) {
            problem(r, TOB_INVALID, field->line, field->column,
                    "no column of a client is called '%.64s'; there are client_id, name, type, cluster_id, "
                    "public_key, location, api_key and api_key_sha256",
                    tob_name_valid(field->text, field->len) ? field->text : "?");
        } else if (seen[found]) {
            problem(r, TOB_INVALID, field->line, field->column, "the column %s is there twice", field->text);
        } else {
            seen[found] = true;
        }
        r->columns[i] = found;
    }
    r->column_count = header->count;
    if (!seen[CLIENT_ID]) {
        problem(r, TOB_INVALID, header->line, 1,
                "the first line must name the columns, client_id among them");
    }
}

// --- a row ------------------------------------------------------------------------------------------------

// ASCII that can be seen, in min to max bytes.
static bool is_visible(const tob_csv_field *field, size_t min, size_t max) {
    for (size_t i = 0; i < field->len; i++) {
        if (field->text[i] < '!' || field->text[i] > '~') {
            return false;
        }
    }
    return field->len >= min && field->len <= max;
}

static bool is_type(const tob_csv_field *field) {
    return field->len == 0 || strcmp(field->text, "docker") == 0 || strcmp(field->text, "native") == 0 ||
           strcmp(field->text, "mobile") == 0;
}

static int digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_hash(const tob_csv_field *field, tob_import_row *row) {
    bool good = field->len == 2 * sizeof(row->key_sha256);
    for (size_t i = 0; good && i < sizeof(row->key_sha256); i++) {
        int high = digit(field->text[2 * i]), low = digit(field->text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        row->key_sha256[i] = (uint8_t)(good ? high * 16 + low : 0);
    }
    row->has_hash = good;
    return good;
}

// Puts a field into the row. Returns what is wrong with it, or NULL.
static const char *set_field(tob_import_row *row, column which, const tob_csv_field *field) {
    switch (which) {
    case CLIENT_ID:
        row->client_id = field->text;
        return tob_id_valid(field->text, field->len) ? NULL
                                                     : "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -";
    case NAME:
    case LOCATION:
        *(which == NAME ? &row->name : &row->location) = field->text;
        return tob_name_valid(field->text, field->len)
                   ? NULL
                   : "must be at most 256 bytes of UTF-8 without control characters";
    case TYPE: row->type = field->text; return is_type(field) ? NULL : "must be docker, native or mobile";
    case CLUSTER_ID:
        row->cluster_id = field->text;
        return field->len == 0 || tob_id_valid(field->text, field->len)
                   ? NULL
                   : "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, or empty";
    case PUBLIC_KEY:
        row->public_key = field->text;
        return is_visible(field, 0, TOB_IMPORT_MAX_PUBLIC_KEY)
                   ? NULL
                   : "must be at most 1024 ASCII characters without spaces";
    case API_KEY:
        row->api_key = field->text;
        return field->len == 0 || is_visible(field, TOB_IMPORT_MIN_KEY_BYTES, TOB_IMPORT_MAX_KEY_BYTES)
                   ? NULL
                   : "must be 16 to 256 printable ASCII characters without spaces, or empty";
    case API_KEY_SHA256:
        return field->len == 0 || read_hash(field, row) ? NULL : "must be 64 hexadecimal digits, or empty";
    case COLUMNS: break; // said of the header
    }
    return NULL;
}

static tob_error add_row(tob_import_rows *rows, const tob_import_row *row) {
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity ? rows->capacity * 2 : 1024;
        tob_import_row *grown = realloc(rows->rows, capacity * sizeof(*grown));
        if (!grown) {
            return TOB_NO_MEMORY;
        }
        rows->rows = grown;
        rows->capacity = capacity;
    }
    rows->rows[rows->count++] = *row;
    return TOB_OK;
}

static tob_error read_row(reading *r, const tob_csv_record *record) {
    tob_import_row row = {.client_id = "",
                          .name = "",
                          .type = "",
                          .cluster_id = "",
                          .public_key = "",
                          .location = "",
                          .api_key = "",
                          .line = record->line};
    if (record->count != r->column_count) {
        problem(r, TOB_MALFORMED, record->line, 1, "there are %zu fields, and %zu columns in the first line",
                record->count, r->column_count);
        return TOB_OK;
    }
    for (size_t i = 0; i < record->count; i++) {
        const tob_csv_field *field = &record->fields[i];
        const char *wrong = set_field(&row, r->columns[i], field);
        if (wrong) {
            problem(r, TOB_INVALID, field->line, field->column, "%s: %s", column_names[r->columns[i]], wrong);
        }
    }
    if (*row.api_key && row.has_hash) {
        problem(r, TOB_INVALID, record->line, 1, "api_key and api_key_sha256 are both given: one is enough");
    }
    if (*row.api_key) {
        tob_sha256(row.api_key, strlen(row.api_key), row.key_sha256);
        row.has_hash = true;
    }
    return add_row(r->rows, &row);
}

// --- all of them ------------------------------------------------------------------------------------------

static int by_id(const void *a, const void *b) {
    const tob_import_row *x = a, *y = b;
    int order = strcmp(x->client_id, y->client_id);
    return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

static void find_twins(reading *r) {
    const tob_import_row *rows = r->rows->rows;
    if (r->rows->count == 0) {
        return;
    }
    qsort(r->rows->rows, r->rows->count, sizeof(rows[0]), by_id);
    for (size_t i = 1; i < r->rows->count; i++) {
        if (strcmp(rows[i - 1].client_id, rows[i].client_id) == 0 &&
            tob_id_valid(rows[i].client_id, strlen(rows[i].client_id))) {
            problem(r, TOB_ALREADY_EXISTS, rows[i].line, 1, "client_id: '%.128s' is in line %" PRIu32 " too",
                    rows[i].client_id, rows[i - 1].line);
        }
    }
}

static tob_error read_records(reading *r, tob_csv *csv) {
    tob_csv_record record;
    tob_csv_problem wrong;
    tob_error err = TOB_OK;
    bool header = true;
    while (!err) {
        tob_error got = tob_csv_next(csv, &record, &wrong);
        if (got == TOB_NOT_FOUND) {
            break;
        }
        if (!got && !header && r->rows->count == TOB_IMPORT_MAX_ROWS) {
            problem(r, TOB_TOO_LARGE, record.line, 1, "more than %d clients; cut the file in pieces",
                    TOB_IMPORT_MAX_ROWS);
            break;
        }
        if (got) {
            problem(r, got, wrong.line, wrong.column, "%s", wrong.text);
        } else if (header) {
            read_header(r, &record);
        } else {
            err = read_row(r, &record);
        }
        if (header && r->problems) {
            break; // nothing after it would make sense
        }
        header = false;
    }
    if (!err && header && !r->problems) {
        problem(r, TOB_MALFORMED, 1, 1, "the file is empty: the first line must name the columns");
    }
    return err;
}

tob_error tob_import_rows_read(const char *name, char *text, size_t len, tob_import_rows *ret) {
    reading r = {.name = name, .rows = ret};
    tob_csv csv;
    tob_csv_init(&csv, text, len);
    tob_error err = read_records(&r, &csv);
    if (err) {
        return err;
    }
    find_twins(&r);
    if (r.problems > TOB_IMPORT_MAX_PROBLEMS) {
        fprintf(stderr, "%s: and %zu more\n", name, r.problems - TOB_IMPORT_MAX_PROBLEMS);
    }
    return r.problems ? r.first : TOB_OK;
}

size_t tob_import_rows_without_key(const tob_import_rows *rows) {
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++) {
        count += !rows->rows[i].has_hash;
    }
    return count;
}

tob_error tob_import_rows_make_keys(tob_import_rows *rows) {
    size_t count = tob_import_rows_without_key(rows);
    rows->keys = calloc(count ? count : 1, sizeof(rows->keys[0]));
    if (!rows->keys) {
        return TOB_NO_MEMORY;
    }
    tob_sha256_context *context = tob_sha256_context_new();
    for (size_t i = 0; i < rows->count; i++) {
        tob_import_row *row = &rows->rows[i];
        if (!row->has_hash) {
            char *key = rows->keys[rows->key_count++];
            tob_api_key_make(key);
            tob_sha256_with(context, key, strlen(key), row->key_sha256);
            row->has_hash = true;
            row->api_key = key;
        }
    }
    tob_sha256_context_free(context);
    return TOB_OK;
}

bool tob_import_row_is_made(const tob_import_rows *rows, const tob_import_row *row) {
    return rows->keys && row->api_key >= rows->keys[0] && row->api_key < rows->keys[rows->key_count];
}

static int compare_id(const void *id, const void *row) {
    return strcmp(id, ((const tob_import_row *)row)->client_id);
}

tob_import_row *tob_import_rows_find(const tob_import_rows *rows, const char *client_id) {
    return rows->count ? bsearch(client_id, rows->rows, rows->count, sizeof(rows->rows[0]), compare_id)
                       : NULL;
}

void tob_import_rows_drop(tob_import_rows *rows, const bool *mark) {
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (!mark[i]) {
            rows->rows[kept++] = rows->rows[i];
        }
    }
    rows->count = kept;
}

void tob_import_rows_fini(tob_import_rows *rows) {
    if (rows->keys) {
        explicit_bzero(rows->keys, rows->key_count * sizeof(rows->keys[0]));
    }
    free(rows->keys);
    free(rows->rows);
    *rows = (tob_import_rows){.rows = NULL};
}
