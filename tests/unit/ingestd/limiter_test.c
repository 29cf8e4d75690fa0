#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingestd/limiter.h"
#include "util/log.h"

enum { START_MS = 1000000 };

static int set_up(void **state) {
    tob_limiter *limiter = NULL;
    assert_int_equal(tob_limiter_new(TOB_LIMITER_BURST, &limiter), TOB_OK);
    *state = limiter;
    return 0;
}

static int tear_down(void **state) {
    tob_limiter_free(*state);
    return 0;
}

// Wrong attempts until one is over; at most `max`.
static unsigned fail_until_over(tob_limiter *limiter, const char *address, uint64_t now_ms, unsigned max,
                                uint64_t *ret_retry_ms) {
    unsigned n = 0;
    while (n < max && !tob_limiter_failed(limiter, address, now_ms, ret_retry_ms)) {
        n++;
    }
    return n;
}

static void an_address_has_a_burst_and_is_then_told_when_to_come_back(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    assert_int_equal(fail_until_over(limiter, "192.0.2.1", START_MS, 1000, &retry_ms), TOB_LIMITER_BURST);
    assert_int_equal(retry_ms, TOB_LIMITER_REFILL_MS);
    assert_true(tob_limiter_full(limiter, "192.0.2.1", START_MS + 400, &retry_ms));
    assert_int_equal(retry_ms, TOB_LIMITER_REFILL_MS - 400);
    assert_true(tob_limiter_failed(limiter, "192.0.2.1", START_MS + TOB_LIMITER_REFILL_MS - 1, &retry_ms));
    assert_int_equal(retry_ms, 1);
    assert_false(tob_limiter_full(limiter, "192.0.2.2", START_MS, &retry_ms)); // others are others
}

static void asking_counts_nothing(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    for (unsigned i = 0; i < 10 * TOB_LIMITER_BURST; i++) {
        assert_false(tob_limiter_full(limiter, "192.0.2.1", START_MS, &retry_ms));
    }
    assert_int_equal(fail_until_over(limiter, "192.0.2.1", START_MS, 1000, &retry_ms), TOB_LIMITER_BURST);
}

static void the_bucket_fills_again_as_time_goes_on(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0, now_ms = START_MS;
    fail_until_over(limiter, "192.0.2.1", now_ms, 1000, &retry_ms);
    for (unsigned i = 0; i < 10; i++) { // one each time, however often it is tried between
        now_ms += TOB_LIMITER_REFILL_MS;
        assert_int_equal(fail_until_over(limiter, "192.0.2.1", now_ms, 1000, &retry_ms), 1);
    }
    now_ms += 7 * TOB_LIMITER_REFILL_MS;
    assert_int_equal(fail_until_over(limiter, "192.0.2.1", now_ms, 1000, &retry_ms), 7);
    now_ms += UINT64_C(365) * 24 * 3600 * 1000;
    assert_int_equal(fail_until_over(limiter, "192.0.2.1", now_ms, 1000, &retry_ms), TOB_LIMITER_BURST);
}

static void a_clock_that_has_just_begun_is_fine(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    assert_int_equal(fail_until_over(limiter, "192.0.2.1", 0, 1000, &retry_ms), TOB_LIMITER_BURST);
    assert_true(tob_limiter_full(limiter, "192.0.2.1", 0, &retry_ms));
}

static void ipv6_addresses_count_by_their_64(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    char address[64];
    unsigned allowed = 0;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(address, sizeof(address), "2001:db8:1:2:%x::%x", i, i);
        allowed += !tob_limiter_failed(limiter, address, START_MS, &retry_ms);
    }
    assert_int_equal(allowed, TOB_LIMITER_BURST);
    assert_true(tob_limiter_full(limiter, "2001:db8:1:2::", START_MS, &retry_ms));
    assert_false(tob_limiter_full(limiter, "2001:db8:1:3::", START_MS, &retry_ms));
}

static void an_ipv4_address_is_the_same_in_either_form(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    fail_until_over(limiter, "::ffff:192.0.2.1", START_MS, 1000, &retry_ms);
    assert_true(tob_limiter_full(limiter, "192.0.2.1", START_MS, &retry_ms));
    assert_false(tob_limiter_full(limiter, "192.0.2.2", START_MS, &retry_ms)); // no /64 of those
}

static void what_is_no_address_counts_together(void **state) {
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0;
    char *long_one = malloc(100001);
    assert_non_null(long_one);
    memset(long_one, '1', 100000);
    long_one[100000] = 0;
    fail_until_over(limiter, "", START_MS, 1000, &retry_ms);
    assert_true(tob_limiter_full(limiter, "not an address", START_MS, &retry_ms));
    assert_true(tob_limiter_full(limiter, long_one, START_MS, &retry_ms));
    assert_false(tob_limiter_full(limiter, "::", START_MS, &retry_ms));
    assert_false(tob_limiter_full(limiter, "0.0.0.0", START_MS, &retry_ms));
    free(long_one);
}

// Whoever goes on stays known while a million others come by, fewer at a time than the table has places for.
static void a_million_addresses_find_room_and_the_quietest_makes_it(void **state) {
    enum { OTHERS = 1000000, EVERY = 1000 };
    tob_limiter *limiter = *state;
    uint64_t retry_ms = 0, now_ms = START_MS;
    char address[64];
    fail_until_over(limiter, "192.0.2.1", now_ms, 1000, &retry_ms);
    for (unsigned i = 0; i < OTHERS; i++) {
        snprintf(address, sizeof(address), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        assert_false(tob_limiter_failed(limiter, address, now_ms, &retry_ms));
        if (i % EVERY == 0) { // a second for each thousand
            now_ms += TOB_LIMITER_REFILL_MS;
            assert_false(
                tob_limiter_failed(limiter, "192.0.2.1", now_ms, &retry_ms)); // what has filled again
            assert_true(tob_limiter_failed(limiter, "192.0.2.1", now_ms, &retry_ms));
        }
    }
    fail_until_over(limiter, "192.0.2.2", now_ms, 1000, &retry_ms);
    for (unsigned i = 0; i < OTHERS; i++) { // and who is quiet is forgotten
        snprintf(address, sizeof(address), "11.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        assert_false(tob_limiter_failed(limiter, address, now_ms + 1, &retry_ms));
    }
    assert_false(tob_limiter_full(limiter, "192.0.2.2", now_ms + 1, &retry_ms));
}

// ---- threads

typedef struct hammer {
    tob_limiter *limiter;
    pthread_t thread;
    unsigned own; // attempts from an address of its own that were not over
    unsigned shared;
    unsigned number;
} hammer;

static void *pound(void *user) {
    hammer *h = user;
    uint64_t retry_ms = 0;
    char own[64];
    snprintf(own, sizeof(own), "198.51.100.%u", h->number);
    for (unsigned i = 0; i < 10000; i++) {
        h->own += !tob_limiter_failed(h->limiter, own, START_MS, &retry_ms);
        h->shared += !tob_limiter_failed(h->limiter, "203.0.113.1", START_MS, &retry_ms);
        (void)tob_limiter_full(h->limiter, "203.0.113.1", START_MS, &retry_ms);
    }
    return NULL;
}

static void threads_together_get_one_burst(void **state) {
    enum { THREADS = 8 };
    hammer hammers[THREADS];
    unsigned shared = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        hammers[i] = (hammer){.limiter = *state, .number = i};
        assert_int_equal(pthread_create(&hammers[i].thread, NULL, pound, &hammers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(hammers[i].thread, NULL);
        assert_int_equal(hammers[i].own, TOB_LIMITER_BURST);
        shared += hammers[i].shared;
    }
    assert_int_equal(shared, TOB_LIMITER_BURST);
}

// ---- the log

// What stderr has in a file while `fn` runs.
static void logged(void (*fn)(tob_limiter *limiter), tob_limiter *limiter, char *ret, size_t n) {
    FILE *file = tmpfile();
    assert_non_null(file);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    fn(limiter);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    ret[fread(ret, 1, n - 1, file)] = 0;
    fclose(file);
}

static unsigned lines(const char *text) {
    unsigned n = 0;
    for (; *text; text++) {
        n += *text == '\n';
    }
    return n;
}

static void log_two_addresses(tob_limiter *limiter) {
    uint64_t retry_ms = 0;
    const char *addresses[] = {"192.0.2.1", "2001:db8:1:2:3:4:5:6"};
    for (size_t a = 0; a < 2; a++) {
        fail_until_over(limiter, addresses[a], START_MS, 1000, &retry_ms);
        for (uint64_t at = 0; at < 2 * TOB_LIMITER_LOG_MS; at += 100) {
            tob_limiter_log(limiter, addresses[a], "api_key", START_MS + at);
        }
    }
}

static void an_address_is_logged_once_a_minute(void **state) {
    char text[8192];
    logged(log_two_addresses, *state, text, sizeof(text));
    assert_int_equal(lines(text), 4);
    assert_non_null(strstr(text, "event=credentials_limited"));
    assert_non_null(strstr(text, "address=192.0.2.1 "));
    assert_non_null(strstr(text, "2001:db8:1:2::/64"));
    assert_non_null(strstr(text, "type=api_key"));
}

static void log_nobody(tob_limiter *limiter) {
    tob_limiter_log(limiter, "192.0.2.1", "jwt", START_MS);
}

static void an_address_that_is_not_in_the_table_is_not_logged(void **state) {
    char text[8192];
    logged(log_nobody, *state, text, sizeof(text));
    assert_string_equal(text, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_address_has_a_burst_and_is_then_told_when_to_come_back),
        TEST(asking_counts_nothing),
        TEST(the_bucket_fills_again_as_time_goes_on),
        TEST(a_clock_that_has_just_begun_is_fine),
        TEST(ipv6_addresses_count_by_their_64),
        TEST(an_ipv4_address_is_the_same_in_either_form),
        TEST(what_is_no_address_counts_together),
        TEST(a_million_addresses_find_room_and_the_quietest_makes_it),
        TEST(threads_together_get_one_burst),
        TEST(an_address_is_logged_once_a_minute),
        TEST(an_address_that_is_not_in_the_table_is_not_logged),
    };
    if (tob_log_configure("test", "info", "logfmt")) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
