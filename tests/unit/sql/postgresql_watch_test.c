#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"
#include "sql/sql.h"
#include "util/clock.h"
#include "util/cond.h"

#define DEADLINE_MS 30000

static char url[320];
static tob_sql *sql, *other;
static tob_sql_problem_text problem;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static unsigned here_calls, away_calls;
static unsigned away; // 1: the last call said so

static void on_news(void *user, bool is_away) {
    assert_ptr_equal(user, &changed);
    pthread_mutex_lock(&lock);
    away = is_away ? 1 : 0;
    if (is_away) {
        away_calls++;
    } else {
        here_calls++;
    }
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static int setup(void **state) {
    (void)state;
    const char *at = tob_test_postgresql();
    sql = other = NULL;
    here_calls = away_calls = 0;
    away = 0;
    tob_cond_init(&changed);
    if (at) {
        snprintf(url, sizeof(url), "%s", at);
        assert_int_equal(tob_sql_open(url, NULL, &sql, &problem), TOB_OK);
        assert_int_equal(tob_sql_open(url, NULL, &other, &problem), TOB_OK);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tob_sql_close(other);
    tob_sql_close(sql);
    return 0;
}

static void start_watch(void) {
    if (!sql) {
        skip(); // PostgreSQL is not installed
    }
    assert_int_equal(tob_sql_watch(sql, "tob_test", on_news, &changed), TOB_OK);
}

// Waits until a counter has reached `count`; returns how long that took.
static uint64_t wait_for(const unsigned *counter, unsigned count) {
    uint64_t from_ms = tob_clock_monotonic_ms();
    bool in_time = true;
    pthread_mutex_lock(&lock);
    while (*counter < count && in_time) {
        in_time = tob_cond_wait_until(&changed, &lock, from_ms + DEADLINE_MS);
    }
    bool reached = *counter >= count;
    pthread_mutex_unlock(&lock);
    assert_true(reached);
    return tob_clock_monotonic_ms() - from_ms;
}

static unsigned seen(const unsigned *counter) {
    pthread_mutex_lock(&lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&lock);
    return n;
}

static void notify(void) {
    assert_int_equal(tob_sql_begin(other), TOB_OK);
    assert_int_equal(tob_sql_notify(other, "tob_test"), TOB_OK);
    assert_int_equal(tob_sql_commit(other), TOB_OK);
}

static void a_watch_begins_with_a_call_since_something_may_have_changed(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 1);
    assert_int_equal(seen(&away), 0);
}

static void a_notification_is_heard_long_before_the_next_poll(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 1);
    uint64_t quickest_ms = UINT64_MAX;
    for (int i = 0; i < 5; i++) { // one may come just before a poll
        unsigned before = seen(&here_calls);
        notify();
        uint64_t took_ms = wait_for(&here_calls, before + 1);
        quickest_ms = took_ms < quickest_ms ? took_ms : quickest_ms;
    }
    assert_true(quickest_ms < TOB_SQL_POLL_MS / 2);
}

static void a_transaction_that_is_rolled_back_notifies_nobody(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 2); // just after a poll
    unsigned before = seen(&here_calls);
    uint64_t from_ms = tob_clock_monotonic_ms();
    assert_int_equal(tob_sql_begin(other), TOB_OK);
    assert_int_equal(tob_sql_notify(other, "tob_test"), TOB_OK);
    tob_sql_rollback(other);
    (void)wait_for(&here_calls, before + 1); // the next poll
    assert_true(tob_clock_monotonic_ms() - from_ms > TOB_SQL_POLL_MS / 2);
}

static void polls_come_without_notifications(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 1);
    assert_true(wait_for(&here_calls, 3) >= TOB_SQL_POLL_MS);
}

static void a_server_that_goes_away_and_comes_back_is_told(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 1);
    for (unsigned round = 1; round <= 2; round++) {
        unsigned so_far = seen(&away_calls);
        tob_test_postgresql_control(round == 1 ? "stop fast" : "stop immediate");
        (void)wait_for(&away_calls, so_far + 1);
        unsigned before = seen(&here_calls);
        tob_test_postgresql_control("restart");
        (void)wait_for(&here_calls, before + 1);
        assert_int_equal(seen(&away), 0);
    }
    unsigned before = seen(&here_calls);
    notify();
    (void)wait_for(&here_calls, before + 1);
}

static void a_watch_that_starts_without_a_server_says_so_until_it_comes(void **state) {
    (void)state;
    if (!sql) {
        skip();
    }
    tob_test_postgresql_control("stop");
    start_watch();
    (void)wait_for(&away_calls, 3);
    assert_int_equal(seen(&here_calls), 0);
    tob_test_postgresql_control("restart");
    (void)wait_for(&here_calls, 1);
    unsigned before = seen(&away_calls);
    (void)wait_for(&here_calls, 3);
    assert_int_equal(seen(&away_calls), before);
}

static void no_call_follows_the_end_of_a_watch(void **state) {
    (void)state;
    start_watch();
    (void)wait_for(&here_calls, 1);
    uint64_t from_ms = tob_clock_monotonic_ms();
    tob_sql_unwatch(sql);
    assert_true(tob_clock_monotonic_ms() - from_ms < TOB_SQL_POLL_MS / 2);
    unsigned before = seen(&here_calls);
    notify();
    tob_sql_unwatch(sql);
    assert_int_equal(tob_sql_watch(sql, "tob_test", on_news, &changed), TOB_OK); // and again
    (void)wait_for(&here_calls, before + 1);
}

static void a_watch_ends_at_once_while_the_server_is_away(void **state) {
    (void)state;
    if (!sql) {
        skip();
    }
    tob_test_postgresql_control("stop");
    start_watch();
    (void)wait_for(&away_calls, 1);
    uint64_t from_ms = tob_clock_monotonic_ms();
    tob_sql_unwatch(sql);
    assert_true(tob_clock_monotonic_ms() - from_ms < TOB_SQL_RECONNECT_MS / 2);
    tob_test_postgresql_control("restart");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_watch_begins_with_a_call_since_something_may_have_changed),
        TEST(a_notification_is_heard_long_before_the_next_poll),
        TEST(a_transaction_that_is_rolled_back_notifies_nobody),
        TEST(polls_come_without_notifications),
        TEST(a_server_that_goes_away_and_comes_back_is_told),
        TEST(a_watch_that_starts_without_a_server_says_so_until_it_comes),
        TEST(no_call_follows_the_end_of_a_watch),
        TEST(a_watch_ends_at_once_while_the_server_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
