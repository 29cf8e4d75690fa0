// The CSV that tobogganctl imports.
//
// Promises: reading ends; a problem has a text and a place; fields are strings of the length they say, within the limits;
// and a record that is written is read back as it was.
#include <string.h>

#include "ctl/csv.h"
#include "fuzz.h"

enum { MAX_INPUT_BYTES = 64 << 10 };

// A text of its own size, with the byte after it that the reader may write to: a sanitizer tells any step beyond.
static char *copy(const void *bytes, size_t n) {
    char *text = malloc(n + 1);
    FUZZ_CHECK(text);
    memcpy(text, bytes, n);
    text[n] = 'x';
    return text;
}

static void check_fields(const tob_csv_record *record) {
    FUZZ_CHECK(record->count >= 1 && record->count <= TOB_CSV_MAX_FIELDS);
    for (size_t i = 0; i < record->count; i++) {
        FUZZ_CHECK(record->fields[i].len <= TOB_CSV_MAX_RECORD_BYTES);
        FUZZ_CHECK(strlen(record->fields[i].text) == record->fields[i].len);
        FUZZ_CHECK(record->fields[i].line >= record->line && record->fields[i].column >= 1);
    }
}

static char *write_record(const tob_csv_record *record, size_t *ret_len) {
    char *bytes = NULL;
    FILE *file = open_memstream(&bytes, ret_len);
    FUZZ_CHECK(file);
    for (size_t i = 0; i < record->count; i++) {
        if (i) {
            fputc(',', file);
        }
        tob_csv_write_field(file, record->fields[i].text);
    }
    fputc('\n', file);
    FUZZ_CHECK(fclose(file) == 0);
    return bytes;
}

static void check_roundtrip(const tob_csv_record *record) {
    tob_csv csv;
    tob_csv_record again;
    tob_csv_problem problem;
    size_t len = 0;
    char *bytes = write_record(record, &len), *text = copy(bytes, len);
    tob_csv_init(&csv, text, len);
    tob_error err = tob_csv_next(&csv, &again, &problem);
    // Quotes may make it longer than a record may be, an empty field alone is an empty line, and a mark in front of the
    // first field is taken for the text's.
    bool is_other = err == TOB_TOO_LARGE || (record->count == 1 && record->fields[0].len == 0) ||
                    strncmp(record->fields[0].text, "\xef\xbb\xbf", 3) == 0;
    FUZZ_CHECK(is_other || (err == TOB_OK && again.count == record->count));
    for (size_t i = 0; !is_other && i < record->count; i++) {
        FUZZ_CHECK(strcmp(again.fields[i].text, record->fields[i].text) == 0);
    }
    free(text);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    tob_csv csv;
    tob_csv_record record;
    tob_csv_problem problem;
    tob_error err = TOB_OK;
    if (n > MAX_INPUT_BYTES) {
        return 0;
    }
    char *text = copy(data, n);
    tob_csv_init(&csv, text, n);
    for (uint32_t line = 0; (err = tob_csv_next(&csv, &record, &problem)) != TOB_NOT_FOUND;
         line = record.line) {
        FUZZ_CHECK(record.line > line);
        if (err) {
            FUZZ_CHECK(err == TOB_MALFORMED || err == TOB_TOO_LARGE);
            FUZZ_CHECK(problem.text && problem.line >= record.line && problem.column >= 1);
        } else {
            check_fields(&record);
            check_roundtrip(&record);
        }
    }
    free(text);
    return 0;
}
