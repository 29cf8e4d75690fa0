#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"
#include "sql/sql.h"
#include "util/clock.h"

static char url[320];
static tob_sql *sql;
static tob_sql_problem_text problem;

static int setup(void **state) {
    (void)state;
    const char *at = tob_test_postgresql();
    sql = NULL;
    if (at) {
        snprintf(url, sizeof(url), "%s", at);
        assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tob_sql_close(sql);
    return 0;
}

static void need_server(void) {
    if (!sql) {
        skip(); // PostgreSQL is not installed
    }
}

static tob_error run(const char *statement) {
    return tob_sql_run(sql, statement, NULL, 0, NULL, NULL, NULL);
}

static tob_error open_url(const char *at, const char *password_file) {
    tob_sql *unwanted = NULL;
    memset(&problem, 0, sizeof(problem));
    tob_error err = tob_sql_open(at, password_file, &unwanted, &problem);
    tob_sql_close(unwanted);
    return err;
}

// The URL with another password ("" for none), host and rest.
static void with_password(const char *password, char to[1400]) {
    const char *host = strchr(url, '@');
    snprintf(to, 1400, "postgresql://tobogganing%s%s%s", *password ? ":" : "", password, host);
}

static void true_password(char to[64]) {
    const char *from = strchr(strstr(url, "://") + 3, ':') + 1;
    snprintf(to, 64, "%.*s", (int)(strchr(from, '@') - from), from);
}

// --- credentials ---

static void a_wrong_password_is_refused_and_not_repeated(void **state) {
    (void)state;
    need_server();
    char other[1400];
    with_password("Sup3rSecret", other);
    assert_int_equal(open_url(other, NULL), TOB_PERMISSION_DENIED);
    assert_non_null(strstr(problem.text, "password authentication failed"));
    assert_non_null(strstr(problem.text, "postgresql://127.0.0.1:"));
    assert_null(strstr(problem.text, "Sup3rSecret"));
    assert_null(strstr(problem.text, "auth.c"));
    with_password("", other);
    assert_int_equal(open_url(other, NULL), TOB_PERMISSION_DENIED);
}

static void a_database_that_is_not_there_is_a_precondition(void **state) {
    (void)state;
    need_server();
    char other[400];
    snprintf(other, sizeof(other), "%s_missing", url);
    assert_int_equal(open_url(other, NULL), TOB_PRECONDITION);
    assert_non_null(strstr(problem.text, "does not exist"));
}

static void write_file(char path[64], const char *text) {
    snprintf(path, 64, "/tmp/tob-password-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static tob_error open_with_file(const char *text) {
    char path[64], other[1400];
    with_password("", other);
    write_file(path, text);
    tob_error err = open_url(other, path);
    unlink(path);
    return err;
}

static void the_password_is_the_first_line_of_the_file(void **state) {
    (void)state;
    need_server();
    char password[64], text[100], other[1400];
    true_password(password);
    snprintf(text, sizeof(text), "%s\nanother line\n", password);
    assert_int_equal(open_with_file(text), TOB_OK);
    assert_int_equal(open_with_file(password), TOB_OK); // without a line's end
    assert_int_equal(open_with_file("Sup3rSecret\n"), TOB_PERMISSION_DENIED);
    assert_null(strstr(problem.text, "Sup3rSecret"));
    assert_int_equal(open_with_file("\n"), TOB_INVALID);
    assert_int_equal(open_with_file(""), TOB_INVALID);
    with_password("", other);
    assert_int_equal(open_url(other, "/nonexistent/password"), TOB_NOT_FOUND);
    assert_non_null(strstr(problem.text, "/nonexistent/password"));
}

static void a_password_of_1025_bytes_is_too_long(void **state) {
    (void)state;
    need_server();
    char text[1030];
    memset(text, 'x', sizeof(text));
    text[1025] = 0;
    assert_int_equal(open_with_file(text), TOB_TOO_LARGE);
    assert_null(strstr(problem.text, "xxx"));
    text[1024] = 0;
    assert_int_equal(open_with_file(text), TOB_PERMISSION_DENIED);
}

static void a_password_that_changes_is_read_for_the_next_connection(void **state) {
    (void)state;
    need_server();
    char password[64], path[64], other[1400], text[64];
    true_password(password);
    with_password("", other);
    write_file(path, password);
    tob_sql_close(sql);
    assert_int_equal(tob_sql_open(other, path, &sql, &problem), TOB_OK);
    tob_test_postgresql_execute(
        url, "CREATE ROLE rotated LOGIN PASSWORD 'one'; GRANT ALL ON SCHEMA public TO rotated");
    snprintf(other, sizeof(other), "postgresql://rotated%s", strchr(url, '@'));
    FILE *file = fopen(path, "w");
    fputs("one\n", file);
    fclose(file);
    tob_sql_close(sql);
    assert_int_equal(tob_sql_open(other, path, &sql, &problem), TOB_OK);
    tob_test_postgresql_execute(url,
                                "ALTER ROLE rotated PASSWORD 'two-words'; SELECT pg_terminate_backend(pid)"
                                " FROM pg_stat_activity WHERE usename = 'rotated'");
    tob_error err = run("SELECT 1");
    assert_int_equal(err, TOB_UNAVAILABLE); // not PERMISSION_DENIED: it may be right again
    snprintf(text, sizeof(text), "%s", "two-words");
    file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    uint64_t end_ms = tob_clock_monotonic_ms() + 20000;
    while ((err = run("SELECT 1")) && tob_clock_monotonic_ms() < end_ms) {
        usleep(10000);
    }
    assert_int_equal(err, TOB_OK);
    unlink(path);
    tob_sql_close(sql);
    sql = NULL;
    tob_test_postgresql_execute(url, "DROP OWNED BY rotated; DROP ROLE rotated");
}

static void urls_that_could_leak_a_password_are_refused_without_it(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "postgresql://u:Sup3r@Secret@127.0.0.1:1/db",
        "postgresql://u:Sup3r/Secret@127.0.0.1:1/db",
        "postgresql://u:Sup3r?Secret@127.0.0.1:1/db",
        "postgresql://u:Sup3r#Secret@127.0.0.1:1/db",
        "postgresql://u:Sup3r%Secret@127.0.0.1:1/db",
        "postgresql://u:Sup3r\"%Secret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?pasword=Sup3r",
        "postgresql://127.0.0.1:Sup3r/db",
        "postgresql://127.0.0.1:1/db?password=Sup3r&",
        "postgresql://u:Sup3r%00@127.0.0.1:1/db",
        "mysql://u:Sup3r@127.0.0.1/db",
        "Sup3r",
        "postgresql:Sup3r",
        "sqlite:",
        "",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        tob_error err = open_url(wrong[i], NULL);
        if (err != TOB_INVALID && err != TOB_UNAVAILABLE) {
            fail_msg("%s: %s", wrong[i], tob_error_string(err));
        }
        if (!problem.text[0] || strstr(problem.text, "Sup3r") || strstr(problem.text, "Secret")) {
            fail_msg("%s: %s", wrong[i], problem.text);
        }
    }
}

static void a_url_tells_whether_it_has_a_password(void **state) {
    (void)state;
    assert_true(tob_sql_url_has_password("postgresql://u:p@h/db"));
    assert_true(tob_sql_url_has_password("postgres://u:p@h/db"));
    assert_true(tob_sql_url_has_password("postgresql://u@h/db?password=p"));
    assert_true(tob_sql_url_has_password("postgresql://u@h/db?sslpassword=p"));
    assert_true(tob_sql_url_has_password("postgresql://u:p/q@h/db"));
    assert_true(tob_sql_url_has_password("mysql://u:p@h/db"));
    assert_false(tob_sql_url_has_password("postgresql://u@h/db"));
    assert_false(tob_sql_url_has_password("postgresql://h/db?sslmode=require"));
    assert_false(tob_sql_url_has_password("sqlite:/a/b@c.db"));
    assert_false(tob_sql_url_has_password("nonsense"));
}

// --- a server that is away ---

static void nobody_there_is_unavailable(void **state) {
    (void)state;
    assert_int_equal(open_url("postgresql://u:Sup3rSecret@127.0.0.1:1/db", NULL), TOB_UNAVAILABLE);
    assert_non_null(strstr(problem.text, "refused"));
    assert_null(strstr(problem.text, "Sup3rSecret"));
}

// A listener that takes connections and never says a word.
static int silent_server(char to[128]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&address, n) == 0 && listen(fd, 8) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    snprintf(to, 128, "postgresql://u:p@127.0.0.1:%d/db?sslmode=disable&gssencmode=disable",
             ntohs(address.sin_port));
    return fd;
}

static void a_silent_server_is_given_up_in_time(void **state) {
    (void)state;
    char silent[128];
    int fd = silent_server(silent);
    uint64_t from_ms = tob_clock_monotonic_ms();
    assert_int_equal(open_url(silent, NULL), TOB_UNAVAILABLE);
    uint64_t took_ms = tob_clock_monotonic_ms() - from_ms;
    assert_true(took_ms >= TOB_SQL_TIMEOUT_MS && took_ms < TOB_SQL_TIMEOUT_MS + 5000);
    assert_non_null(strstr(problem.text, "no answer"));
    close(fd);
}

static void a_server_that_was_restarted_is_not_noticed(void **state) {
    (void)state;
    need_server();
    assert_int_equal(run("SELECT 1"), TOB_OK);
    tob_test_postgresql_control("stop");
    tob_test_postgresql_control("restart");
    assert_int_equal(run("SELECT 1"), TOB_OK);
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(run("CREATE TABLE t (id BIGINT)"), TOB_OK);
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
    tob_test_postgresql_control("stop immediate");
    tob_test_postgresql_control("restart");
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(run("INSERT INTO t VALUES (1)"), TOB_OK);
    assert_int_equal(tob_sql_commit(sql), TOB_OK);
}

static void while_the_server_is_away_calls_fail_quickly_and_work_again_after(void **state) {
    (void)state;
    need_server();
    tob_test_postgresql_control("stop");
    uint64_t from_ms = tob_clock_monotonic_ms();
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(run("SELECT 1"), TOB_UNAVAILABLE);
        assert_int_equal(tob_sql_begin(sql), TOB_UNAVAILABLE);
    }
    assert_true(tob_clock_monotonic_ms() - from_ms < 5000);
    assert_non_null(strstr(tob_sql_problem(sql), "refused"));
    tob_test_postgresql_control("restart");
    uint64_t end_ms = tob_clock_monotonic_ms() + 20000;
    tob_error err;
    while ((err = run("SELECT 1")) && tob_clock_monotonic_ms() < end_ms) {
        usleep(10000);
    }
    assert_int_equal(err, TOB_OK);
}

static void a_connection_lost_in_a_transaction_fails_all_of_it(void **state) {
    (void)state;
    need_server();
    assert_int_equal(run("CREATE TABLE t (id BIGINT)"), TOB_OK);
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(run("INSERT INTO t VALUES (1)"), TOB_OK);
    tob_test_postgresql_control("stop immediate");
    tob_test_postgresql_control("restart");
    assert_int_equal(run("INSERT INTO t VALUES (2)"), TOB_UNAVAILABLE);
    assert_int_equal(run("INSERT INTO t VALUES (3)"), TOB_UNAVAILABLE); // not in a new connection
    assert_int_equal(tob_sql_commit(sql), TOB_UNAVAILABLE);
    uint64_t deleted = 9;
    assert_int_equal(tob_sql_run(sql, "DELETE FROM t", NULL, 0, NULL, NULL, &deleted), TOB_OK);
    assert_int_equal(deleted, 0);
}

static void a_commit_without_a_server_is_unavailable(void **state) {
    (void)state;
    need_server();
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    tob_test_postgresql_control("stop immediate");
    assert_int_equal(tob_sql_commit(sql), TOB_UNAVAILABLE);
    assert_int_equal(tob_sql_begin(sql), TOB_UNAVAILABLE);
    tob_test_postgresql_control("restart");
}

static void a_row_that_another_process_holds_is_waited_for_only_so_long(void **state) {
    (void)state;
    need_server();
    tob_sql *other = NULL;
    assert_int_equal(run("CREATE TABLE t (id BIGINT)"), TOB_OK);
    assert_int_equal(run("INSERT INTO t VALUES (1)"), TOB_OK);
    assert_int_equal(tob_sql_open(url, NULL, &other, &problem), TOB_OK);
    assert_int_equal(tob_sql_begin(other), TOB_OK);
    assert_int_equal(tob_sql_run(other, "UPDATE t SET id = 2", NULL, 0, NULL, NULL, NULL), TOB_OK);
    assert_int_equal(tob_sql_begin(sql), TOB_OK);
    assert_int_equal(run("UPDATE t SET id = 3"), TOB_UNAVAILABLE);
    assert_non_null(strstr(tob_sql_problem(sql), "55P03"));
    assert_int_equal(tob_sql_commit(sql), TOB_UNAVAILABLE);
    assert_int_equal(tob_sql_commit(other), TOB_OK);
    assert_int_equal(run("UPDATE t SET id = 3"), TOB_OK);
    tob_sql_close(other);
}

static void types_that_have_to_be_cast_are_told(void **state) {
    (void)state;
    need_server();
    extern tob_error unused_row(void *user, const tob_sql_row *row);
    assert_int_equal(tob_sql_run(sql, "SELECT 1.5", NULL, 0, unused_row, NULL, NULL), TOB_INTERNAL);
    assert_non_null(strstr(tob_sql_problem(sql), "cast it"));
}

tob_error unused_row(void *user, const tob_sql_row *row);
tob_error unused_row(void *user, const tob_sql_row *row) {
    (void)user, (void)row;
    return TOB_OK;
}

// --- migrations ---

static const tob_sql_migration slow_steps[] = {
    {NULL, "CREATE TABLE one (id BIGINT); SELECT pg_sleep(0.2)"},
    {NULL, "CREATE TABLE two (id BIGINT); SELECT pg_sleep(0.2)"},
};

static void *migrate(void *user) {
    tob_sql *own = NULL;
    tob_sql_problem_text why;
    tob_error *ret = user;
    *ret = tob_sql_open(url, NULL, &own, &why);
    if (!*ret) {
        *ret = tob_sql_migrate(own, slow_steps, 2, 1);
    }
    tob_sql_close(own);
    return NULL;
}

static void of_several_that_start_together_one_migrates(void **state) {
    (void)state;
    need_server();
    pthread_t threads[6];
    tob_error errors[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, migrate, &errors[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(errors[i], TOB_OK);
    }
    uint64_t versions = 0;
    assert_int_equal(tob_sql_run(sql, "SELECT version FROM schema_version", NULL, 0, unused_row, NULL,
                                 &versions),
                     TOB_OK);
    assert_int_equal(versions, 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_wrong_password_is_refused_and_not_repeated),
        TEST(a_database_that_is_not_there_is_a_precondition),
        TEST(the_password_is_the_first_line_of_the_file),
        TEST(a_password_of_1025_bytes_is_too_long),
        TEST(a_password_that_changes_is_read_for_the_next_connection),
        cmocka_unit_test(urls_that_could_leak_a_password_are_refused_without_it),
        cmocka_unit_test(a_url_tells_whether_it_has_a_password),
        cmocka_unit_test(nobody_there_is_unavailable),
        cmocka_unit_test(a_silent_server_is_given_up_in_time),
        TEST(a_server_that_was_restarted_is_not_noticed),
        TEST(while_the_server_is_away_calls_fail_quickly_and_work_again_after),
        TEST(a_connection_lost_in_a_transaction_fails_all_of_it),
        TEST(a_commit_without_a_server_is_unavailable),
        TEST(a_row_that_another_process_holds_is_waited_for_only_so_long),
        TEST(types_that_have_to_be_cast_are_told),
        TEST(of_several_that_start_together_one_migrates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
