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
#include <unistd.h>

#include "ctl/csv.h"
#include "ctl/import_rows.h"
#include "util/text.h"

static char *text;
static tob_import_rows rows;
static char said[1 << 16];

static int set_up(void **state) {
    (void)state;
    text = NULL;
    rows = (tob_import_rows){.rows = NULL};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    tob_import_rows_fini(&rows);
    free(text);
    return 0;
}

// Reads a file and keeps what was said on stderr.
static tob_error read_rows(const char *content) {
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    tob_import_rows_fini(&rows);
    free(text);
    text = malloc(strlen(content) + 1);
    strcpy(text, content);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    tob_error err = tob_import_rows_read("f.csv", text, strlen(content), &rows);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    said[fread(said, 1, sizeof(said) - 1, file)] = 0;
    fclose(file);
    return err;
}

static void columns_may_come_in_any_order_and_all_but_the_id_may_be_missing(void **state) {
    (void)state;
    static const char content[] = "location,type,client_id,public_key,name,cluster_id\n"
                                  "\"Oslo, NO\",mobile,b,wg:AAAA=,B \xc3\xa9,c1\n"
                                  ",,a,,,\n";
    assert_int_equal(read_rows(content), TOB_OK);
    assert_int_equal(rows.count, 2);
    assert_string_equal(rows.rows[0].client_id, "a"); // in order
    assert_string_equal(rows.rows[0].type, "");
    assert_string_equal(rows.rows[1].location, "Oslo, NO");
    assert_string_equal(rows.rows[1].type, "mobile");
    assert_string_equal(rows.rows[1].public_key, "wg:AAAA=");
    assert_string_equal(rows.rows[1].name, "B \xc3\xa9");
    assert_string_equal(rows.rows[1].cluster_id, "c1");
    assert_int_equal(rows.rows[1].line, 2);
    assert_int_equal(read_rows("client_id\nx\n"), TOB_OK);
    assert_int_equal(rows.count, 1);
    assert_int_equal(read_rows("client_id\n"), TOB_OK);
    assert_int_equal(rows.count, 0);
}

static void keys_come_as_they_are_as_hashes_or_are_made(void **state) {
    (void)state;
    static const char content[] = "client_id,api_key,api_key_sha256\n"
                                  "a,tobk_0123456789abcdef,\n"
                                  "b,,E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
                                  "c,,\n";
    uint8_t hash[TOB_SHA256_BYTES];
    assert_int_equal(read_rows(content), TOB_OK);
    tob_sha256("tobk_0123456789abcdef", 21, hash);
    assert_memory_equal(rows.rows[0].key_sha256, hash, sizeof(hash));
    tob_sha256("", 0, hash);
    assert_memory_equal(rows.rows[1].key_sha256, hash, sizeof(hash));
    assert_int_equal(tob_import_rows_without_key(&rows), 1);
    assert_int_equal(tob_import_rows_make_keys(&rows), TOB_OK);
    assert_int_equal(tob_import_rows_without_key(&rows), 0);
    assert_int_equal(rows.key_count, 1);
    assert_int_equal(strlen(rows.keys[0]), TOB_API_KEY_BYTES - 1);
    assert_int_equal(strncmp(rows.keys[0], "tobk_", 5), 0);
    tob_sha256(rows.keys[0], strlen(rows.keys[0]), hash);
    assert_memory_equal(rows.rows[2].key_sha256, hash, sizeof(hash));
    assert_false(tob_import_row_is_made(&rows, &rows.rows[0]));
    assert_false(tob_import_row_is_made(&rows, &rows.rows[1]));
    assert_true(tob_import_row_is_made(&rows, &rows.rows[2]));
}

static void rows_are_found_by_id_and_dropped_by_mark(void **state) {
    (void)state;
    const bool mark[] = {true, false, true};
    assert_int_equal(read_rows("client_id\nb\na\nc\n"), TOB_OK);
    assert_string_equal(tob_import_rows_find(&rows, "b")->client_id, "b");
    assert_null(tob_import_rows_find(&rows, "bb"));
    tob_import_rows_drop(&rows, mark);
    assert_int_equal(rows.count, 1);
    assert_null(tob_import_rows_find(&rows, "a"));
    assert_int_equal(tob_import_rows_find(&rows, "b")->line, 2);
}

static void the_first_line_must_name_known_columns_once_with_client_id(void **state) {
    (void)state;
    assert_int_equal(read_rows(""), TOB_MALFORMED);
    assert_string_equal(said, "f.csv:1:1: the file is empty: the first line must name the columns\n");
    assert_int_equal(read_rows("name,type\nx,y\n"), TOB_INVALID);
    assert_non_null(strstr(said, "f.csv:1:1: the first line must name the columns, client_id among them\n"));
    assert_int_equal(read_rows("client_id,nmae\n"), TOB_INVALID);
    assert_non_null(strstr(said, "f.csv:1:11: no column of a client is called 'nmae'"));
    assert_int_equal(read_rows("client_id,name,client_id\n"), TOB_INVALID);
    assert_string_equal(said, "f.csv:1:16: the column client_id is there twice\n");
    assert_int_equal(read_rows("client_id,\x1b[31m\n"), TOB_INVALID);
    assert_null(strchr(said, '\x1b')); // a file does not speak to the terminal
    assert_int_equal(read_rows("client_id,\"x\n"), TOB_MALFORMED);
    assert_string_equal(said, "f.csv:1:11: the quote is not closed\n");
}

static void every_mistake_is_told_with_line_column_and_name(void **state) {
    (void)state;
    static const char content[] = "client_id,type,name\n"
                                  "good,native,n\n"
                                  "a b,toaster,n\n"
                                  "x,native\n"
                                  "y,native,\xff\n"
                                  "y,nat\"ive,n\n"
                                  "good,docker,n\n";
    assert_int_equal(read_rows(content), TOB_INVALID);
    assert_string_equal(said,
                        "f.csv:3:1: client_id: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -\n"
                        "f.csv:3:5: type: must be docker, native or mobile\n"
                        "f.csv:4:1: there are 2 fields, and 3 columns in the first line\n"
                        "f.csv:5:10: name: must be at most 256 bytes of UTF-8 without control characters\n"
                        "f.csv:6:6: a quote inside a field that does not begin with one\n"
                        "f.csv:7:1: client_id: 'good' is in line 2 too\n");
}

static void the_first_20_mistakes_are_told_and_the_others_counted(void **state) {
    (void)state;
    char content[1024] = "client_id\n";
    for (int i = 0; i < TOB_IMPORT_MAX_PROBLEMS + 3; i++) {
        strcat(content, "a b\n");
    }
    assert_int_equal(read_rows(content), TOB_INVALID);
    assert_non_null(strstr(said, "f.csv:21:1: "));
    assert_null(strstr(said, "f.csv:22:1: "));
    assert_non_null(strstr(said, "f.csv: and 3 more\n"));
}

// A field of n bytes of 'k' in a column.
static tob_error read_field(const char *column, size_t n) {
    char *content = malloc(n + 128);
    int at = sprintf(content, "client_id,%s\na,", column);
    memset(content + at, 'k', n);
    strcpy(content + at + n, "\n");
    tob_error err = read_rows(content);
    free(content);
    return err;
}

static void each_field_has_its_limit_and_no_byte_more(void **state) {
    (void)state;
    static const struct {
        const char *column;
        size_t max;
    } limits[] = {{"name", TOB_MAX_NAME_BYTES},
                  {"location", TOB_MAX_NAME_BYTES},
                  {"cluster_id", TOB_MAX_ID_BYTES},
                  {"public_key", TOB_IMPORT_MAX_PUBLIC_KEY},
                  {"api_key", TOB_IMPORT_MAX_KEY_BYTES}};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        assert_int_equal(read_field(limits[i].column, limits[i].max), TOB_OK);
        assert_int_equal(read_field(limits[i].column, limits[i].max + 1), TOB_INVALID);
        assert_non_null(strstr(said, limits[i].column));
    }
    assert_int_equal(read_field("api_key", TOB_IMPORT_MIN_KEY_BYTES), TOB_OK);
    assert_int_equal(read_field("api_key", TOB_IMPORT_MIN_KEY_BYTES - 1), TOB_INVALID);
    assert_int_equal(read_field("name", TOB_CSV_MAX_RECORD_BYTES + 1), TOB_TOO_LARGE);
    assert_non_null(strstr(said, "f.csv:2:"));
}

static void a_key_in_a_message_would_be_told_to_the_terminal_so_it_is_not(void **state) {
    (void)state;
    assert_int_equal(read_rows("client_id,api_key,api_key_sha256\na,tobk_secret_secret_secret,zz\n"),
                     TOB_INVALID);
    assert_string_equal(said, "f.csv:2:29: api_key_sha256: must be 64 hexadecimal digits, or empty\n");
    assert_int_equal(read_rows("client_id,api_key\na,secret key with blanks\n"), TOB_INVALID);
    assert_null(strstr(said, "secret"));
    static const char both[] = "client_id,api_key,api_key_sha256\na,tobk_0123456789abcdef,"
                               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
    assert_int_equal(read_rows(both), TOB_INVALID);
    assert_string_equal(said, "f.csv:2:1: api_key and api_key_sha256 are both given: one is enough\n");
}

// A file of n clients.
static char *file_of(size_t n) {
    char *content = malloc(16 + n * 9);
    size_t at = (size_t)sprintf(content, "client_id\n");
    for (size_t i = 0; i < n; i++) {
        at += (size_t)sprintf(content + at, "c%06zu\n", i);
    }
    return content;
}

static void a_file_may_have_as_many_clients_as_the_limit_and_none_more(void **state) {
    (void)state;
    char *content = file_of(TOB_IMPORT_MAX_ROWS);
    assert_int_equal(read_rows(content), TOB_OK);
    assert_int_equal(rows.count, TOB_IMPORT_MAX_ROWS);
    free(content);
    content = file_of(TOB_IMPORT_MAX_ROWS + 1);
    assert_int_equal(read_rows(content), TOB_TOO_LARGE);
    assert_string_equal(said, "f.csv:250002:1: more than 250000 clients; cut the file in pieces\n");
    free(content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(columns_may_come_in_any_order_and_all_but_the_id_may_be_missing),
        TEST(keys_come_as_they_are_as_hashes_or_are_made),
        TEST(rows_are_found_by_id_and_dropped_by_mark),
        TEST(the_first_line_must_name_known_columns_once_with_client_id),
        TEST(every_mistake_is_told_with_line_column_and_name),
        TEST(the_first_20_mistakes_are_told_and_the_others_counted),
        TEST(each_field_has_its_limit_and_no_byte_more),
        TEST(a_key_in_a_message_would_be_told_to_the_terminal_so_it_is_not),
        TEST(a_file_may_have_as_many_clients_as_the_limit_and_none_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
