#include "ctl/csv.h"

#include <string.h>

#define TEXT_OF(macro)  TEXT_OF_(macro)
#define TEXT_OF_(value) #value

// Where a record began, for its limit.
typedef struct reader {
    tob_csv *csv;
    const char *start;
    tob_csv_problem *problem;
} reader;

void tob_csv_init(tob_csv *csv, char *text, size_t len) {
    static const char bom[] = "\xef\xbb\xbf";
    *csv = (tob_csv){.at = text, .end = text + len, .line = 1, .column = 1};
    text[len] = 0;
    if (len >= 3 && memcmp(text, bom, 3) == 0) {
        csv->at += 3;
    }
}

// Steps over one byte, which is not a line's end.
static void step(tob_csv *csv) {
    csv->column += ((unsigned char)*csv->at & 0xc0) != 0x80;
    csv->at++;
}

static void step_line(tob_csv *csv) {
    csv->at++;
    csv->line++;
    csv->column = 1;
}

static tob_error stop_at(const reader *r, tob_error err, const char *text) {
    *r->problem = (tob_csv_problem){.line = r->csv->line, .column = r->csv->column, .text = text};
    return err;
}

static bool is_line_end(const tob_csv *csv) {
    const char *at = csv->at;
    if (at < csv->end && *at == '\r') {
        at++;
    }
    return at == csv->end || *at == '\n';
}

static tob_error check_byte(const reader *r) {
    if (r->csv->at - r->start >= TOB_CSV_MAX_RECORD_BYTES) {
        return stop_at(r, TOB_TOO_LARGE,
                       "the line has more than " TEXT_OF(TOB_CSV_MAX_RECORD_BYTES) " bytes");
    }
    return *r->csv->at ? TOB_OK : stop_at(r, TOB_MALFORMED, "a NUL byte");
}

// `at` is at what ends the field: a comma, a line's end or the text's.
static tob_error plain_field(const reader *r, tob_csv_field *field) {
    tob_csv *csv = r->csv;
    field->text = csv->at;
    while (*csv->at != ',' && !is_line_end(csv)) {
        tob_error err = check_byte(r);
        if (!err && *csv->at == '"') {
            err = stop_at(r, TOB_MALFORMED, "a quote inside a field that does not begin with one");
        }
        if (err) {
            return err;
        }
        step(csv);
    }
    field->len = (size_t)(csv->at - field->text);
    return TOB_OK;
}

// Everything from here on may be inside the quotes or not: the text is at its end.
static tob_error unclosed(const reader *r, const tob_csv_field *field, tob_error err) {
    *r->problem = (tob_csv_problem){.line = field->line,
                                    .column = field->column,
                                    .text = err == TOB_TOO_LARGE ? "the quote is not closed within " TEXT_OF(
                                                                       TOB_CSV_MAX_RECORD_BYTES) " bytes"
                                                                 : "the quote is not closed"};
    r->csv->at = r->csv->end;
    return err;
}

static tob_error quoted_field(const reader *r, tob_csv_field *field) {
    tob_csv *csv = r->csv;
    step(csv);
    char *to = csv->at;
    field->text = to;
    while (csv->at < csv->end) {
        tob_error err = check_byte(r);
        if (err) {
            return err == TOB_TOO_LARGE ? unclosed(r, field, err) : err;
        }
        if (*csv->at == '"') {
            step(csv);
            if (csv->at == csv->end || *csv->at != '"') {
                field->len = (size_t)(to - field->text);
                return csv->at < csv->end && *csv->at != ',' && !is_line_end(csv)
                           ? stop_at(r, TOB_MALFORMED, "a field goes on after its closing quote")
                           : TOB_OK;
            }
        }
        *to++ = *csv->at;
        if (*csv->at == '\n') {
            step_line(csv);
        } else {
            step(csv);
        }
    }
    return unclosed(r, field, TOB_MALFORMED);
}

static void skip_line(tob_csv *csv) {
    char *newline = memchr(csv->at, '\n', (size_t)(csv->end - csv->at));
    csv->at = newline ? newline : csv->end;
    if (newline) {
        step_line(csv);
    }
}

static void end_line(tob_csv *csv) {
    if (csv->at < csv->end && *csv->at == '\r') {
        csv->at++;
    }
    if (csv->at < csv->end) {
        step_line(csv);
    }
}

// One field and what ends it; *ret_last says whether that ended the record too.
static tob_error next_field(const reader *r, tob_csv_field *field, bool *ret_last) {
    tob_csv *csv = r->csv;
    *field = (tob_csv_field){.line = csv->line, .column = csv->column};
    tob_error err = csv->at < csv->end && *csv->at == '"' ? quoted_field(r, field) : plain_field(r, field);
    if (err) {
        return err;
    }
    char *after = csv->at;
    *ret_last = is_line_end(csv);
    if (*ret_last) {
        end_line(csv);
    } else {
        step(csv); // the comma
    }
    *after = 0;                            // all that is here was read
    ((char *)field->text)[field->len] = 0; // of a quoted field it is before that
    return TOB_OK;
}

tob_error tob_csv_next(tob_csv *csv, tob_csv_record *ret, tob_csv_problem *problem) {
    while (csv->at < csv->end && is_line_end(csv)) {
        end_line(csv);
    }
    if (csv->at == csv->end) {
        return TOB_NOT_FOUND;
    }
    const reader r = {.csv = csv, .start = csv->at, .problem = problem};
    bool last = false;
    tob_error err = TOB_OK;
    ret->line = csv->line;
    ret->count = 0;
    while (!err && !last) {
        err =
            ret->count == TOB_CSV_MAX_FIELDS
                ? stop_at(&r, TOB_TOO_LARGE, "the line has more than " TEXT_OF(TOB_CSV_MAX_FIELDS) " fields")
                : next_field(&r, &ret->fields[ret->count], &last);
        ret->count += !err;
    }
    if (err) {
        skip_line(csv);
    }
    return err;
}

void tob_csv_write_field(FILE *to, const char *text) {
    size_t len = strlen(text);
    if (!text[strcspn(text, ",\"\r\n")] && (len == 0 || (text[0] != ' ' && text[len - 1] != ' '))) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"') {
            fputc('"', to);
        }
        fputc(*text, to);
    }
    fputc('"', to);
}
