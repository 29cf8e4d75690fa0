#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server.h"
#include "sql/sql.h"
#include "util/clock.h"

// Every test runs on both engines.
static const char *const engines[] = {"sqlite", "postgresql"};

static const tob_sql_migration steps[] = {
    {.sqlite = "CREATE TABLE parents (id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;"
               "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, parent TEXT REFERENCES parents (id),"
               "  number INTEGER CHECK (number <> 13), bytes BLOB) STRICT, WITHOUT ROWID;",
     .postgresql = "CREATE TABLE parents (id TEXT COLLATE \"C\" NOT NULL PRIMARY KEY);"
                   "CREATE TABLE things (id TEXT COLLATE \"C\" NOT NULL PRIMARY KEY,"
                   "  parent TEXT COLLATE \"C\" REFERENCES parents (id),"
                   "  number BIGINT CHECK (number <> 13), bytes BYTEA);"},
    {.sqlite = "ALTER TABLE things ADD COLUMN flag INTEGER NOT NULL DEFAULT 7",
     .postgresql = "ALTER TABLE things ADD COLUMN flag BIGINT NOT NULL DEFAULT 7"},
};

#define INSERT "INSERT INTO things (id, parent, number, bytes) VALUES ($1, $2, $3, $4)"
#define SELECT "SELECT id, parent, number, bytes, flag FROM things WHERE id >= $1 ORDER BY id LIMIT $2"

static char url[320];
static tob_sql *sql;
static tob_sql_problem_text problem;

static tob_sql *open_again(void) {
    tob_sql *more = NULL;
    assert_int_equal(tob_sql_open(url, NULL, &more, &problem), TOB_OK);
    return more;
}

static int setup(void **state) {
    const char *at = tob_test_database(*state);
    sql = NULL;
    if (!at) {
        return 0;
    }
    snprintf(url, sizeof(url), "%s", at);
    sql = open_again();
    assert_int_equal(tob_sql_migrate(sql, steps, 2, 1), TOB_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tob_sql_close(sql);
    return 0;
}

static void need_database(void) {
    if (!sql) {
        skip(); // PostgreSQL is not installed
    }
}

static tob_error insert(const char *id, const char *parent, uint64_t number, const void *bytes, size_t size) {
    tob_sql_value params[] = {tob_sql_text(id), tob_sql_text_or_null(parent), tob_sql_integer_or_null(number),
                              tob_sql_blob(bytes, size)};
    uint64_t changed = 0;
    tob_error err = tob_sql_run(sql, INSERT, params, 4, NULL, NULL, &changed);
    assert_true(err || changed == 1);
    return err;
}

static void insert_ok(const char *id) {
    assert_int_equal(insert(id, "", 1, NULL, 0), TOB_OK);
}

static tob_error take_number(void *user, const tob_sql_row *row) {
    *(uint64_t *)user = tob_sql_row_integer(row, 0);
    return TOB_OK;
}

static uint64_t number_of(tob_sql *of, const char *statement) {
    uint64_t number = 0, count = 0;
    assert_int_equal(tob_sql_run(of, statement, NULL, 0, take_number, &number, &count), TOB_OK);
    assert_int_equal(count, 1);
    return number;
}

static uint64_t things(void) {
    return number_of(sql, "SELECT count(*) FROM things");
}

// --- values ---

typedef struct expected {
    const char *id;
    const char *parent;
    uint64_t number;
    const void *bytes;
    size_t size;
    unsigned rows;
} expected;

static tob_error check_row(void *user, const tob_sql_row *row) {
    expected *e = user;
    size_t size = 99;
    const void *bytes = tob_sql_row_blob(row, 3, &size);
    assert_string_equal(tob_sql_row_text(row, 0), e->id);
    assert_string_equal(tob_sql_row_text(row, 1), e->parent);
    assert_int_equal(tob_sql_row_integer(row, 2), e->number);
    assert_int_equal(size, e->size);
    assert_true(!bytes == !e->bytes);
    if (size) {
        assert_memory_equal(bytes, e->bytes, size);
    }
    assert_int_equal(tob_sql_row_integer(row, 4), 7);
    e->rows++;
    return TOB_OK;
}

static void read_back(expected e) {
    tob_sql_value params[] = {tob_sql_text(e.id), tob_sql_integer(1)};
    uint64_t count = 0;
    assert_int_equal(tob_sql_run(sql, SELECT, params, 2, check_row, &e, &count), TOB_OK);
    assert_int_equal(e.rows, 1);
    assert_int_equal(count, 1);
}

static void values_come_back_as_they_were_given(void **state) {
    (void)state;
    need_database();
    static const uint8_t bytes[] = {0, 1, '\\', '\'', 0xff, 0, 0x80};
    assert_int_equal(insert("a", "", INT64_MAX, bytes, sizeof(bytes)), TOB_OK);
    read_back((expected){"a", "", INT64_MAX, bytes, sizeof(bytes), 0});
}

static void nulls_are_empty_texts_zeros_and_no_bytes(void **state) {
    (void)state;
    need_database();
    assert_int_equal(insert("a", "", 0, NULL, 0), TOB_OK);
    read_back((expected){"a", "", 0, NULL, 0, 0});
    assert_int_equal(number_of(sql, "SELECT count(*) FROM things WHERE parent IS NULL AND number IS NULL "
                                    "AND bytes IS NULL"),
                     1);
}

static void bytes_of_no_length_are_not_null(void **state) {
    (void)state;
    need_database();
    assert_int_equal(insert("a", "", 1, "", 0), TOB_OK);
    read_back((expected){"a", "", 1, "", 0, 0});
}

static void a_number_over_the_largest_is_the_largest(void **state) {
    (void)state;
    need_database();
    assert_int_equal(insert("a", "", UINT64_MAX, NULL, 0), TOB_OK);
    read_back((expected){"a", "", INT64_MAX, NULL, 0, 0});
}

static void text_that_looks_like_sql_is_text(void **state) {
    (void)state;
    need_database();
    static const char text[] = "'); DROP TABLE things; -- \" $1 %s \\ \xc3\xa4";
    insert_ok(text);
    read_back((expected){text, "", 1, NULL, 0, 0});
}

static void the_first_values_may_be_null_and_the_next_not(void **state) {
    (void)state;
    need_database();
    assert_int_equal(insert("a", NULL, 0, NULL, 0), TOB_OK);
    tob_sql_value parent = tob_sql_text("p");
    assert_int_equal(tob_sql_run(sql, "INSERT INTO parents (id) VALUES ($1)", &parent, 1, NULL, NULL, NULL),
                     TOB_OK);
    assert_int_equal(insert("b", "p", UINT64_C(1) << 40, "x", 1), TOB_OK);
    read_back((expected){"b", "p", UINT64_C(1) << 40, "x", 1, 0});
}

static void a_parameter_may_be_used_twice(void **state) {
    (void)state;
    need_database();
    insert_ok("a");
    tob_sql_value params[] = {tob_sql_text("b"), tob_sql_text("")};
    uint64_t changed = 0;
    assert_int_equal(tob_sql_run(sql,
                                 "UPDATE things SET number = 5 WHERE id < $1 AND ($2 = '' OR id = $2) "
                                 "AND id < $1",
                                 params, 2, NULL, NULL, &changed),
                     TOB_OK);
    assert_int_equal(changed, 1);
}

static void a_statement_that_returns_what_it_changed_counts_it(void **state) {
    (void)state;
    need_database();
    insert_ok("a");
    insert_ok("b");
    uint64_t sum = 0, count = 0;
    assert_int_equal(tob_sql_run(sql, "UPDATE things SET number = number + 40 RETURNING number", NULL, 0,
                                 take_number, &sum, &count),
                     TOB_OK);
    assert_int_equal(sum, 41);
    assert_int_equal(count, 2);
}

// --- rows ---

static tob_error stop_at_second(void *user, const tob_sql_row *row) {
    (void)row;
    unsigned *seen = user;
    return ++*seen == 2 ? TOB_CANCELLED : TOB_OK;
}

static void an_error_of_the_callers_ends_the_reading_and_nothing_else(void **state) {
    (void)state;
    need_database();
    tob_sql_value params[] = {tob_sql_text(""), tob_sql_integer(100)};
    unsigned seen = 0;
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    insert_ok("a");
    insert_ok("b");
    insert_ok("c");
    assert_int_equal(tob_sql_run(sql, SELECT, params, 2, stop_at_second, &seen, NULL), TOB_CANCELLED);
    assert_int_equal(seen, 2);
    insert_ok("d");
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
    assert_int_equal(things(), 4);
}

static tob_error count_row(void *user, const tob_sql_row *row) {
    size_t size = 0;
    (void)row;
    (void)tob_sql_row_blob(row, 3, &size);
    ++*(unsigned *)user;
    return TOB_OK;
}

typedef struct feed {
    char id[32];
    uint8_t hash[32];
    size_t fail_at;
    size_t twice_at;
} feed;

static tob_error next_thing(void *user, size_t row, tob_sql_value *params) {
    feed *f = user;
    if (row == f->fail_at) {
        return TOB_CANCELLED;
    }
    snprintf(f->id, sizeof(f->id), "t%08zu", row == f->twice_at ? row - 1 : row);
    memset(f->hash, (int)(row & 0xff), sizeof(f->hash));
    params[0] = tob_sql_text(f->id);
    params[1] = tob_sql_text_or_null("");
    params[2] = tob_sql_integer(row + 100);
    params[3] = tob_sql_blob(f->hash, sizeof(f->hash));
    return TOB_OK;
}

static void a_hundred_thousand_rows_go_in_and_out_quickly(void **state) {
    (void)state;
    need_database();
    feed f = {.fail_at = SIZE_MAX, .twice_at = SIZE_MAX};
    tob_sql_value params[] = {tob_sql_text(""), tob_sql_integer(1000000)};
    uint64_t changed = 0, count = 0, from_ms = tob_clock_monotonic_ms();
    unsigned seen = 0;
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(tob_sql_run_many(sql, INSERT, 4, 100000, next_thing, &f, &changed), TOB_OK);
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
    uint64_t written_ms = tob_clock_monotonic_ms();
    assert_int_equal(changed, 100000);
    assert_int_equal(tob_sql_run(sql, SELECT, params, 2, count_row, &seen, &count), TOB_OK);
    assert_int_equal(seen, 100000);
    assert_int_equal(count, 100000);
    print_message("%s: %llu ms to write, %llu ms to read\n", tob_sql_engine(sql),
                  (unsigned long long)(written_ms - from_ms),
                  (unsigned long long)(tob_clock_monotonic_ms() - written_ms));
}

static void no_rows_at_all_are_fine(void **state) {
    (void)state;
    need_database();
    feed f = {.fail_at = SIZE_MAX, .twice_at = SIZE_MAX};
    uint64_t changed = 9;
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(tob_sql_run_many(sql, INSERT, 4, 0, next_thing, &f, &changed), TOB_OK);
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
    assert_int_equal(changed, 0);
}

static void one_wrong_row_of_many_keeps_all_out(void **state) {
    (void)state;
    need_database();
    feed f = {.fail_at = SIZE_MAX, .twice_at = 1700};
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(tob_sql_run_many(sql, INSERT, 4, 4000, next_thing, &f, NULL), TOB_ALREADY_EXISTS);
    assert_int_equal(tob_sql_commit(sql), TOB_ALREADY_EXISTS);
    assert_int_equal(things(), 0);
}

static void a_caller_that_stops_in_the_middle_of_many_keeps_all_out(void **state) {
    (void)state;
    need_database();
    feed f = {.fail_at = 1700, .twice_at = SIZE_MAX};
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(tob_sql_run_many(sql, INSERT, 4, 4000, next_thing, &f, NULL), TOB_CANCELLED);
    assert_int_equal(tob_sql_commit(sql), TOB_CANCELLED);
    assert_int_equal(things(), 0);
    insert_ok("a"); // the connection is of use
}

// --- errors and transactions ---

static void errors_are_told_apart(void **state) {
    (void)state;
    need_database();
    insert_ok("a");
    assert_int_equal(insert("a", "", 1, NULL, 0), TOB_ALREADY_EXISTS);
    assert_int_equal(insert("b", "nobody", 1, NULL, 0), TOB_NOT_FOUND);
    assert_int_equal(insert("b", "", 13, NULL, 0), TOB_PRECONDITION);
    assert_non_null(strstr(tob_sql_problem(sql), "CHECK") ? tob_sql_problem(sql)
                                                          : strstr(tob_sql_problem(sql), "check"));
    assert_int_equal(insert(NULL, "", 1, NULL, 0), TOB_PRECONDITION);
    assert_int_equal(tob_sql_run(sql, "SELECT nonsense FROM nowhere", NULL, 0, NULL, NULL, NULL),
                     TOB_INTERNAL);
    assert_non_null(strstr(tob_sql_problem(sql), "nowhere"));
    assert_int_equal(things(), 1);
}

static void an_error_ends_the_whole_transaction(void **state) {
    (void)state;
    need_database();
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    insert_ok("a");
    assert_int_equal(insert("a", "", 1, NULL, 0), TOB_ALREADY_EXISTS);
    assert_int_equal(insert("b", "", 1, NULL, 0), TOB_ALREADY_EXISTS);
    assert_int_equal(tob_sql_notify(sql, "tob_test"), TOB_ALREADY_EXISTS);
    assert_int_equal(tob_sql_commit(sql), TOB_ALREADY_EXISTS);
    assert_int_equal(things(), 0);
    insert_ok("b");
}

static void what_is_rolled_back_was_never_there(void **state) {
    (void)state;
    need_database();
    tob_sql_rollback(sql); // none is open
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    insert_ok("a");
    assert_int_equal(things(), 1);
    tob_sql_rollback(sql);
    tob_sql_rollback(sql);
    assert_int_equal(things(), 0);
}

static void what_is_committed_is_there_after_a_restart(void **state) {
    (void)state;
    need_database();
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    insert_ok("a");
    assert_int_equal(tob_sql_notify(sql, "tob_test"), TOB_OK);
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    insert_ok("b"); // and is closed with the transaction open
    tob_sql_close(sql);
    sql = open_again();
    assert_int_equal(things(), 1);
}

// --- the schema ---

static void a_migration_is_taken_once(void **state) {
    (void)state;
    need_database();
    assert_int_equal(tob_sql_migrate(sql, steps, 2, 2), TOB_OK);
    assert_int_equal(number_of(sql, "SELECT max(version) FROM schema_version"), 2);
    assert_int_equal(number_of(sql, "SELECT max(applied_unix_ms) FROM schema_version"), 1);
}

static void a_newer_schema_is_refused_and_left_alone(void **state) {
    (void)state;
    need_database();
    assert_int_equal(tob_sql_migrate(sql, steps, 1, 2), TOB_PRECONDITION);
    assert_non_null(strstr(tob_sql_problem(sql), "version 2"));
    assert_non_null(strstr(tob_sql_problem(sql), "newer version of this program"));
    insert_ok("a");
}

static void a_step_that_fails_leaves_the_version_before_it(void **state) {
    (void)state;
    need_database();
    static const tob_sql_migration broken[] = {
        {0}, {0}, {"CREATE TABLE more (id INTEGER); nonsense", "CREATE TABLE more (id BIGINT); nonsense"}};
    assert_int_equal(tob_sql_migrate(sql, broken, 3, 2), TOB_INTERNAL);
    assert_non_null(strstr(tob_sql_problem(sql), "nonsense"));
    assert_int_equal(number_of(sql, "SELECT max(version) FROM schema_version"), 2);
    assert_int_equal(tob_sql_run(sql, "SELECT id FROM more", NULL, 0, NULL, NULL, NULL), TOB_INTERNAL);
}

static void the_engine_has_a_name_and_nothing_to_watch_is_no_error(void **state) {
    need_database();
    assert_string_equal(tob_sql_engine(sql), *state);
    tob_sql_unwatch(sql);
}

typedef struct named_test {
    const char *name;
    CMUnitTestFunction fn;
} named_test;

#define TEST(fn)                                                                                             \
    { #fn, fn }

static const named_test table[] = {
    TEST(values_come_back_as_they_were_given),
    TEST(nulls_are_empty_texts_zeros_and_no_bytes),
    TEST(bytes_of_no_length_are_not_null),
    TEST(a_number_over_the_largest_is_the_largest),
    TEST(text_that_looks_like_sql_is_text),
    TEST(the_first_values_may_be_null_and_the_next_not),
    TEST(a_parameter_may_be_used_twice),
    TEST(a_statement_that_returns_what_it_changed_counts_it),
    TEST(an_error_of_the_callers_ends_the_reading_and_nothing_else),
    TEST(a_hundred_thousand_rows_go_in_and_out_quickly),
    TEST(no_rows_at_all_are_fine),
    TEST(one_wrong_row_of_many_keeps_all_out),
    TEST(a_caller_that_stops_in_the_middle_of_many_keeps_all_out),
    TEST(errors_are_told_apart),
    TEST(an_error_ends_the_whole_transaction),
    TEST(what_is_rolled_back_was_never_there),
    TEST(what_is_committed_is_there_after_a_restart),
    TEST(a_migration_is_taken_once),
    TEST(a_newer_schema_is_refused_and_left_alone),
    TEST(a_step_that_fails_leaves_the_version_before_it),
    TEST(the_engine_has_a_name_and_nothing_to_watch_is_no_error),
};

#define TESTS (sizeof(table) / sizeof(table[0]))

int main(void) {
    struct CMUnitTest tests[2 * TESTS];
    char names[2 * TESTS][128];
    for (size_t i = 0; i < 2 * TESTS; i++) {
        const named_test *t = &table[i % TESTS];
        snprintf(names[i], sizeof(names[i]), "%s: %s", engines[i / TESTS], t->name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = t->fn,
                                       .setup_func = setup,
                                       .teardown_func = teardown,
                                       .initial_state = (void *)(uintptr_t)engines[i / TESTS]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
