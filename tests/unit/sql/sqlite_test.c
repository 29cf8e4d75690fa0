#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"
#include "sql/sql.h"

static char url[320];
static const char *path;
static tob_sql *sql;
static tob_sql_problem_text problem;

static int setup(void **state) {
    (void)state;
    snprintf(url, sizeof(url), "%s", tob_test_database("sqlite"));
    path = url + strlen("sqlite:");
    sql = NULL;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tob_sql_close(sql);
    return 0;
}

static void the_file_and_its_log_are_private(void **state) {
    (void)state;
    struct stat info;
    char log[400];
    mode_t before = umask(0);
    assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
    assert_int_equal(tob_sql_run(sql, "CREATE TABLE t (id INTEGER)", NULL, 0, NULL, NULL, NULL), TOB_OK);
    umask(before);
    snprintf(log, sizeof(log), "%s-wal", path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(stat(log, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
}

static void a_second_process_is_refused_and_told_what_to_do(void **state) {
    (void)state;
    int out[2];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
    pid_t child = fork();
    if (child == 0) {
        tob_sql *second = NULL;
        tob_error err = tob_sql_open(url, NULL, &second, &problem);
        bool written = write(out[1], problem.text, sizeof(problem.text)) == (ssize_t)sizeof(problem.text);
        _exit(err == TOB_BUSY && written ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(out[0], problem.text, sizeof(problem.text)), sizeof(problem.text));
    assert_non_null(strstr(problem.text, path));
    assert_non_null(strstr(problem.text, "another process has it open"));
    assert_non_null(strstr(problem.text, "postgresql://"));
    close(out[0]);
    close(out[1]);
}

static void a_file_that_is_no_database_is_damaged(void **state) {
    (void)state;
    char text[4096];
    memset(text, 'x', sizeof(text));
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    close(fd);
    assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_DAMAGED);
    assert_non_null(strstr(problem.text, "not a database"));
}

static void a_folder_that_is_not_there_is_an_io_error(void **state) {
    (void)state;
    assert_int_equal(tob_sql_open("sqlite:/nonexistent/registry.db", NULL, &sql, &problem), TOB_IO);
    assert_non_null(strstr(problem.text, "/nonexistent/registry.db"));
    assert_non_null(strstr(problem.text, "No such file"));
}

static void names_that_mean_something_to_sqlite_are_files(void **state) {
    (void)state;
    char folder[320];
    struct stat info;
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(tob_sql_open("sqlite::memory:", NULL, &sql, &problem), TOB_OK);
    assert_int_equal(stat(":memory:", &info), 0);
    assert_int_equal(chdir("/"), 0);
}

static void foreign_keys_hold(void **state) {
    (void)state;
    assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
    assert_int_equal(tob_sql_run(sql, "CREATE TABLE a (id INTEGER PRIMARY KEY)", NULL, 0, NULL, NULL, NULL),
                     TOB_OK);
    assert_int_equal(tob_sql_run(sql, "CREATE TABLE b (id INTEGER REFERENCES a (id))", NULL, 0, NULL, NULL,
                                 NULL),
                     TOB_OK);
    assert_int_equal(tob_sql_run(sql, "INSERT INTO b VALUES (1)", NULL, 0, NULL, NULL, NULL), TOB_NOT_FOUND);
}

static void a_wrong_number_of_parameters_is_told(void **state) {
    (void)state;
    assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
    tob_sql_value param = tob_sql_text("x");
    assert_int_equal(tob_sql_run(sql, "SELECT $1, $2", &param, 1, NULL, NULL, NULL), TOB_INTERNAL);
    assert_non_null(strstr(tob_sql_problem(sql), "2 parameters"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_file_and_its_log_are_private),
        TEST(a_second_process_is_refused_and_told_what_to_do),
        TEST(a_file_that_is_no_database_is_damaged),
        TEST(a_folder_that_is_not_there_is_an_io_error),
        TEST(names_that_mean_something_to_sqlite_are_files),
        TEST(foreign_keys_hold),
        TEST(a_wrong_number_of_parameters_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
