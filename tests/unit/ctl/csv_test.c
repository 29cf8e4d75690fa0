// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "ctl/csv.h"

typedef struct text {
    char *bytes; // exactly as long as it may be: a sanitizer tells a step beyond
    tob_csv csv;
    tob_csv_record record;
    tob_csv_problem problem;
} text;

static void begin(text *t, const char *bytes, size_t len) {
    t->bytes = malloc(len + 1);
    memcpy(t->bytes, bytes, len);
    t->bytes[len] = 'x'; // the reader's to overwrite
    tob_csv_init(&t->csv, t->bytes, len);
}

static tob_error next(text *t) {
    return tob_csv_next(&t->csv, &t->record, &t->problem);
}

#define BEGIN(t, literal) begin(t, literal, sizeof(literal) - 1)

static void assert_record(text *t, size_t count, const char *const fields[]) {
    assert_int_equal(next(t), TOB_OK);
    assert_int_equal(t->record.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(t->record.fields[i].text, fields[i]);
        assert_int_equal(t->record.fields[i].len, strlen(fields[i]));
    }
}

#define RECORD(t, ...)                                                                                       \
    assert_record(t, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static void end(text *t) {
    assert_int_equal(next(t), TOB_NOT_FOUND);
    free(t->bytes);
}

static void fields_are_cut_at_commas_and_records_at_line_ends_of_both_kinds(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "a,b,c\r\nd,,f\n,\nlast,one");
    RECORD(&t, "a", "b", "c");
    RECORD(&t, "d", "", "f");
    assert_int_equal(t.record.line, 2);
    RECORD(&t, "", "");
    RECORD(&t, "last", "one");
    end(&t);
}

static void quotes_hold_commas_quotes_and_line_breaks(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "\"a,b\",\"say \"\"hi\"\"\",\"two\r\nlines\",\"\"\r\nnext,\"x\"\n\"\"\"\"");
    RECORD(&t, "a,b", "say \"hi\"", "two\r\nlines", "");
    RECORD(&t, "next", "x");
    assert_int_equal(t.record.line, 3);
    assert_int_equal(t.record.fields[1].line, 3);
    assert_int_equal(t.record.fields[1].column, 6);
    RECORD(&t, "\"");
    end(&t);
}

static void a_byte_order_mark_empty_lines_and_a_last_carriage_return_are_skipped(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "\xef\xbb\xbf"
              "a,b\n\n\r\n\nc,d\r");
    RECORD(&t, "a", "b");
    assert_int_equal(t.record.fields[0].column, 1);
    RECORD(&t, "c", "d");
    assert_int_equal(t.record.line, 5);
    end(&t);
    BEGIN(&t, "");
    end(&t);
    BEGIN(&t, "\xef\xbb\xbf");
    end(&t);
    BEGIN(&t, "\n\r\n\r");
    end(&t);
}

static void columns_count_characters_not_bytes(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "\xc3\xa9t\xc3\xa9,b\n");
    RECORD(&t, "\xc3\xa9t\xc3\xa9", "b");
    assert_int_equal(t.record.fields[1].column, 5);
    end(&t);
}

static void a_mistake_is_told_with_its_place_and_the_next_line_is_read(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *text;
        uint32_t column;
    } cases[] = {
        {"ab,c\"d", "a quote inside a field that does not begin with one", 5},
        {"ab,\"cd\"e", "a field goes on after its closing quote", 8},
        {"\"a\" ,b", "a field goes on after its closing quote", 4},
        {"a,b\rc", NULL, 0}, // a carriage return inside is the field's own
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char bytes[128];
        text t;
        snprintf(bytes, sizeof(bytes), "h,i\n%s\nj,k\n", cases[i].line);
        begin(&t, bytes, strlen(bytes));
        RECORD(&t, "h", "i");
        if (cases[i].text) {
            assert_int_equal(next(&t), TOB_MALFORMED);
            assert_string_equal(t.problem.text, cases[i].text);
            assert_int_equal(t.problem.line, 2);
            assert_int_equal(t.problem.column, cases[i].column);
        } else {
            RECORD(&t, "a", "b\rc");
        }
        RECORD(&t, "j", "k");
        end(&t);
    }
}

static void a_nul_byte_is_a_mistake_inside_quotes_and_outside(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "a,b\0c\n\"d\0e\"\nf\n");
    assert_int_equal(next(&t), TOB_MALFORMED);
    assert_string_equal(t.problem.text, "a NUL byte");
    assert_int_equal(next(&t), TOB_MALFORMED);
    RECORD(&t, "f");
    end(&t);
}

static void a_quote_that_is_not_closed_ends_the_text_at_its_place(void **state) {
    (void)state;
    text t;
    BEGIN(&t, "a,b\nc,\"d\ne,f\n");
    RECORD(&t, "a", "b");
    assert_int_equal(next(&t), TOB_MALFORMED);
    assert_string_equal(t.problem.text, "the quote is not closed");
    assert_int_equal(t.problem.line, 2);
    assert_int_equal(t.problem.column, 3);
    end(&t);
    BEGIN(&t, "\"");
    assert_int_equal(next(&t), TOB_MALFORMED);
    end(&t);
}

// A record of n bytes and another one after it.
static char *long_line(size_t n, bool quoted) {
    char *bytes = malloc(n + 8);
    memset(bytes, 'a', n);
    if (quoted) {
        bytes[0] = bytes[n - 1] = '"';
    }
    memcpy(bytes + n, "\nb\n", 4);
    return bytes;
}

static void a_record_may_have_as_many_bytes_as_the_limit_and_none_more(void **state) {
    (void)state;
    for (int quoted = 0; quoted <= 1; quoted++) {
        text t;
        char *bytes = long_line(TOB_CSV_MAX_RECORD_BYTES, quoted);
        begin(&t, bytes, strlen(bytes));
        assert_int_equal(next(&t), TOB_OK);
        RECORD(&t, "b");
        end(&t);
        free(bytes);
        bytes = long_line(TOB_CSV_MAX_RECORD_BYTES + 1, quoted);
        begin(&t, bytes, strlen(bytes));
        assert_int_equal(next(&t), TOB_TOO_LARGE);
        if (!quoted) { // it is clear where the next one begins
            RECORD(&t, "b");
        }
        end(&t);
        free(bytes);
    }
}

static void a_record_may_have_as_many_fields_as_the_limit_and_none_more(void **state) {
    (void)state;
    char bytes[TOB_CSV_MAX_FIELDS + 8];
    text t;
    memset(bytes, ',', sizeof(bytes));
    memcpy(bytes + TOB_CSV_MAX_FIELDS - 1, "\nb\n", 4);
    begin(&t, bytes, strlen(bytes));
    assert_int_equal(next(&t), TOB_OK);
    assert_int_equal(t.record.count, TOB_CSV_MAX_FIELDS);
    RECORD(&t, "b");
    end(&t);
    bytes[TOB_CSV_MAX_FIELDS - 1] = ',';
    memcpy(bytes + TOB_CSV_MAX_FIELDS, "\nb\n", 4);
    begin(&t, bytes, strlen(bytes));
    assert_int_equal(next(&t), TOB_TOO_LARGE);
    assert_string_equal(t.problem.text, "the line has more than 32 fields");
    RECORD(&t, "b");
    end(&t);
}

static void what_is_written_is_read_back(void **state) {
    (void)state;
    static const char *const texts[] = {"plain",        "a,b", "say \"hi\"", " blanks ",
                                        "two\r\nlines", "",    "\xc3\xa9",   "\""};
    enum { N = sizeof(texts) / sizeof(texts[0]) };
    char *bytes = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&bytes, &len);
    for (size_t i = 0; i < N; i++) {
        fputs(i ? "," : "", file);
        tob_csv_write_field(file, texts[i]);
    }
    fputc('\n', file);
    fclose(file);
    text t;
    begin(&t, bytes, len);
    assert_record(&t, N, texts);
    end(&t);
    free(bytes);
}

// Every byte of a text changed, left out and doubled: it ends, and every field is a string of the length it says.
static void mutations_end_and_give_whole_fields(void **state) {
    (void)state;
    static const char base[] = "\xef\xbb\xbf"
                               "id,\"na,me\"\r\n\"a\"\"b\",c\n\n,\"d\ne\"\r\nf,g";
    static const char bytes[] = {',', '"', '\n', '\r', 0, 'x', (char)0xff};
    for (size_t at = 0; at < sizeof(base) - 1; at++) {
        for (size_t kind = 0; kind < sizeof(bytes) + 2; kind++) {
            char changed[sizeof(base) + 1];
            size_t len = sizeof(base) - 1;
            memcpy(changed, base, sizeof(base));
            if (kind < sizeof(bytes)) {
                changed[at] = bytes[kind];
            } else if (kind == sizeof(bytes)) {
                memmove(changed + at, changed + at + 1, --len - at);
            } else {
                memmove(changed + at + 1, changed + at, len++ - at);
            }
            text t;
            tob_error found = TOB_OK;
            size_t steps = 0;
            begin(&t, changed, len);
            while ((found = next(&t)) != TOB_NOT_FOUND) {
                assert_true(++steps < 64);
                for (size_t i = 0; found == TOB_OK && i < t.record.count; i++) {
                    assert_int_equal(strlen(t.record.fields[i].text), t.record.fields[i].len);
                }
            }
            free(t.bytes);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_cut_at_commas_and_records_at_line_ends_of_both_kinds),
        cmocka_unit_test(quotes_hold_commas_quotes_and_line_breaks),
        cmocka_unit_test(a_byte_order_mark_empty_lines_and_a_last_carriage_return_are_skipped),
        cmocka_unit_test(columns_count_characters_not_bytes),
        cmocka_unit_test(a_mistake_is_told_with_its_place_and_the_next_line_is_read),
        cmocka_unit_test(a_nul_byte_is_a_mistake_inside_quotes_and_outside),
        cmocka_unit_test(a_quote_that_is_not_closed_ends_the_text_at_its_place),
        cmocka_unit_test(a_record_may_have_as_many_bytes_as_the_limit_and_none_more),
        cmocka_unit_test(a_record_may_have_as_many_fields_as_the_limit_and_none_more),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(mutations_end_and_give_whole_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
