#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/clock.h"
#include "util/cond.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;
static bool happened;

static int setup(void **state) {
    (void)state;
    happened = false;
    tob_cond_init(&cond);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return pthread_cond_destroy(&cond);
}

static void a_wait_without_a_signal_ends_at_its_time(void **state) {
    (void)state;
    uint64_t at_ms = tob_clock_monotonic_ms() + 30;
    pthread_mutex_lock(&lock);
    while (tob_cond_wait_until(&cond, &lock, at_ms)) {
    }
    pthread_mutex_unlock(&lock);
    assert_true(tob_clock_monotonic_ms() >= at_ms);
}

static void a_time_that_is_over_ends_at_once(void **state) {
    (void)state;
    pthread_mutex_lock(&lock);
    assert_false(tob_cond_wait_until(&cond, &lock, 0));
    pthread_mutex_unlock(&lock);
}

static void *happen(void *arg) {
    (void)arg;
    pthread_mutex_lock(&lock);
    happened = true;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void a_signal_ends_the_wait_before_its_time(void **state) {
    (void)state;
    pthread_t thread;
    bool in_time = true;
    pthread_mutex_lock(&lock);
    assert_int_equal(pthread_create(&thread, NULL, happen, NULL), 0);
    uint64_t at_ms = tob_clock_monotonic_ms() + 60000;
    while (!happened && in_time) {
        in_time = tob_cond_wait_until(&cond, &lock, at_ms);
    }
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    assert_true(happened && in_time);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_wait_without_a_signal_ends_at_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_time_that_is_over_ends_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_ends_the_wait_before_its_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
