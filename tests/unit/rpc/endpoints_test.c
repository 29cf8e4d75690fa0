// URLs, and names whose addresses a resolver of the test invents.
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/endpoints.h"
#include "rpc/resolver.h"
#include "util/clock.h"
#include "util/cond.h"

#define PATIENCE_MS 10000
#define MAX_TEXT    16384

// What the callback was told last: all addresses with a space behind each; and what the resolver answers.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char told[MAX_TEXT];
    unsigned tellings;
    const char *answer; // hosts with a space behind each; NULL: no answer
    unsigned many;      // that many invented ones instead
    bool hang;
    unsigned lookups;
    unsigned hanging;
} world;

static int begin(void **state) {
    (void)state;
    memset(&world, 0, sizeof(world));
    pthread_mutex_init(&world.lock, NULL);
    tob_cond_init(&world.changed);
    return 0;
}

static void on_addresses(void *user, const char *const *addresses, size_t count) {
    (void)user;
    pthread_mutex_lock(&world.lock);
    world.told[0] = 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(world.told + n, sizeof(world.told) - n, "%s ", addresses[i]);
    }
    world.tellings++;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
}

static tob_error lookup(void *user, const char *host, tob_resolver_address *ret, size_t *ret_count) {
    (void)user;
    (void)host;
    pthread_mutex_lock(&world.lock);
    world.lookups++;
    world.hanging += world.hang;
    pthread_cond_broadcast(&world.changed);
    while (world.hang) {
        pthread_cond_wait(&world.changed, &world.lock);
    }
    size_t count = 0;
    for (; count < world.many && count < TOB_RESOLVER_MAX_ADDRESSES; count++) {
        snprintf(ret[count], sizeof(ret[count]), "10.0.%u.%u", (unsigned)count / 200, (unsigned)count % 200);
    }
    const char *at = world.many || !world.answer ? "" : world.answer;
    while (*at) {
        size_t n = strcspn(at, " ");
        snprintf(ret[count++], sizeof(ret[0]), "%.*s", (int)n, at);
        at += n + 1;
    }
    pthread_mutex_unlock(&world.lock);
    *ret_count = count;
    return count ? TOB_OK : TOB_UNAVAILABLE;
}

static const tob_resolver quick = {.lookup = lookup, .resolve_ms = 20, .retry_ms = 5};

static void set_answer(const char *answer) {
    pthread_mutex_lock(&world.lock);
    world.answer = answer;
    pthread_mutex_unlock(&world.lock);
}

static void expect_told(const char *text) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    pthread_mutex_lock(&world.lock);
    while (strcmp(world.told, text) != 0 && tob_cond_wait_until(&world.changed, &world.lock, until)) {
    }
    assert_string_equal(world.told, text);
    pthread_mutex_unlock(&world.lock);
}

static void wait_lookups(unsigned more) {
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    pthread_mutex_lock(&world.lock);
    unsigned enough = world.lookups + more;
    while (world.lookups < enough && tob_cond_wait_until(&world.changed, &world.lock, until)) {
    }
    assert_true(world.lookups >= enough);
    pthread_mutex_unlock(&world.lock);
}

static tob_endpoints *start(const tob_resolver *resolver, const char *urls) {
    tob_endpoints *endpoints = NULL;
    assert_int_equal(tob_endpoints_new_with(resolver, urls, on_addresses, NULL, &endpoints), TOB_OK);
    assert_int_equal(tob_endpoints_start(endpoints), TOB_OK);
    return endpoints;
}

static void numbers_are_told_at_once_and_once_each(void **state) {
    (void)state;
    tob_endpoints *endpoints =
        start(&quick,
              "tcp://192.0.2.7:8010,tcp://[2001:db8::1]:8010,tcp://192.0.2.7:8010,tcp://192.0.2.7:8011");
    assert_string_equal(world.told, "tcp://192.0.2.7:8010 tcp://[2001:db8::1]:8010 tcp://192.0.2.7:8011 ");
    assert_int_equal(world.tellings, 1);
    tob_endpoints_free(endpoints);
    assert_int_equal(world.lookups, 0);
}

static void what_is_no_url_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://:8010",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://host:80x",
        "udp://host:80",
        "ipc:///tmp/x",
        "host:80",
        "tcp://a:1,",
        ",tcp://a:1",
        "tcp://a:1,,tcp://b:1",
        "tcp://[::1:80",
        "tcp://[host]:80",
        "tcp://::1:80",
        "tcp://a b:80",
        "tcp://a/b:80",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        tob_endpoints *endpoints = NULL;
        if (tob_endpoints_new(bad[i], on_addresses, NULL, &endpoints) != TOB_INVALID) {
            fail_msg("'%s' was taken for a list of URLs", bad[i]);
        }
    }
    char longest[400];
    tob_endpoints *endpoints = NULL;
    snprintf(longest, sizeof(longest), "tcp://%0255d:1", 0);
    assert_int_equal(tob_endpoints_new(longest, on_addresses, NULL, &endpoints), TOB_OK);
    tob_endpoints_free(endpoints);
    snprintf(longest, sizeof(longest), "tcp://%0256d:1", 0);
    assert_int_equal(tob_endpoints_new(longest, on_addresses, NULL, &endpoints), TOB_INVALID);
}

static void one_url_too_many_is_refused(void **state) {
    (void)state;
    char urls[(TOB_ENDPOINTS_MAX_URLS + 1) * 24] = "";
    tob_endpoints *endpoints = NULL;
    size_t n = 0;
    for (unsigned i = 0; i < TOB_ENDPOINTS_MAX_URLS; i++) {
        n += (size_t)snprintf(urls + n, sizeof(urls) - n, "%stcp://10.0.0.1:%u", i ? "," : "", i + 1);
    }
    assert_int_equal(tob_endpoints_new(urls, on_addresses, NULL, &endpoints), TOB_OK);
    tob_endpoints_free(endpoints);
    snprintf(urls + n, sizeof(urls) - n, ",tcp://10.0.0.1:999");
    assert_int_equal(tob_endpoints_new(urls, on_addresses, NULL, &endpoints), TOB_TOO_LARGE);
}

static void a_name_is_all_of_its_addresses_in_a_stable_order(void **state) {
    (void)state;
    set_answer("10.0.0.2 10.0.0.1 [2001:db8::5] ");
    tob_endpoints *endpoints = start(&quick, "tcp://ingestd:8010,tcp://192.0.2.1:9");
    expect_told("tcp://10.0.0.1:8010 tcp://10.0.0.2:8010 tcp://[2001:db8::5]:8010 tcp://192.0.2.1:9 ");
    pthread_mutex_lock(&world.lock);
    unsigned tellings = world.tellings;
    pthread_mutex_unlock(&world.lock);
    set_answer("[2001:db8::5] 10.0.0.1 10.0.0.2 ");
    wait_lookups(3);
    pthread_mutex_lock(&world.lock);
    assert_int_equal(world.tellings, tellings); // another order is no change
    pthread_mutex_unlock(&world.lock);
    tob_endpoints_free(endpoints);
}

static void addresses_come_and_go(void **state) {
    (void)state;
    set_answer("10.0.0.1 ");
    tob_endpoints *endpoints = start(&quick, "tcp://ingestd:1");
    expect_told("tcp://10.0.0.1:1 ");
    set_answer("10.0.0.1 10.0.0.2 ");
    expect_told("tcp://10.0.0.1:1 tcp://10.0.0.2:1 ");
    set_answer("10.0.0.2 ");
    expect_told("tcp://10.0.0.2:1 ");
    tob_endpoints_free(endpoints);
}

static void a_name_without_an_answer_keeps_its_addresses(void **state) {
    (void)state;
    set_answer("10.0.0.1 ");
    tob_endpoints *endpoints = start(&quick, "tcp://ingestd:1");
    expect_told("tcp://10.0.0.1:1 ");
    set_answer(NULL);
    wait_lookups(4);
    expect_told("tcp://10.0.0.1:1 ");
    set_answer("10.0.0.3 ");
    expect_told("tcp://10.0.0.3:1 ");
    tob_endpoints_free(endpoints);
}

static void addresses_over_the_cap_are_left_out(void **state) {
    (void)state;
    world.many = TOB_RESOLVER_MAX_ADDRESSES;
    tob_endpoints *endpoints = start(&quick, "tcp://192.0.2.1:9,tcp://ingestd:1");
    wait_lookups(2);
    pthread_mutex_lock(&world.lock);
    size_t count = 0;
    for (const char *at = world.told; *at; at++) {
        count += *at == ' ';
    }
    assert_int_equal(count, TOB_ENDPOINTS_MAX_ADDRESSES);
    assert_int_equal(strncmp(world.told, "tcp://192.0.2.1:9 ", 18), 0);
    pthread_mutex_unlock(&world.lock);
    tob_endpoints_free(endpoints);
}

static void a_resolver_that_hangs_does_not_hold_up_the_stop(void **state) {
    (void)state;
    world.hang = true;
    tob_endpoints *endpoints = start(&quick, "tcp://ingestd:1");
    uint64_t until = tob_clock_monotonic_ms() + PATIENCE_MS;
    pthread_mutex_lock(&world.lock);
    while (!world.hanging && tob_cond_wait_until(&world.changed, &world.lock, until)) {
    }
    assert_int_equal(world.hanging, 1);
    pthread_mutex_unlock(&world.lock);
    uint64_t before = tob_clock_monotonic_ms();
    tob_endpoints_stop(endpoints);
    tob_endpoints_free(endpoints);
    assert_true(tob_clock_monotonic_ms() - before < 1000);
    pthread_mutex_lock(&world.lock);
    unsigned tellings = world.tellings;
    world.answer = "10.0.0.9 ";
    world.hang = false;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
    // Its thread has gone on, or will: nobody is told.
    assert_int_equal(world.tellings, tellings);
}

static void hurrying_asks_again_before_it_is_time(void **state) {
    (void)state;
    const tob_resolver slow = {.lookup = lookup, .resolve_ms = 3600000, .retry_ms = 5};
    set_answer("10.0.0.1 ");
    tob_endpoints *endpoints = start(&slow, "tcp://ingestd:1");
    expect_told("tcp://10.0.0.1:1 ");
    set_answer("10.0.0.2 ");
    tob_endpoints_hurry(endpoints);
    expect_told("tcp://10.0.0.2:1 ");
    tob_endpoints_free(endpoints);
}

static void the_system_knows_localhost(void **state) {
    (void)state;
    tob_resolver_address found[TOB_RESOLVER_MAX_ADDRESSES];
    size_t count = 0;
    struct addrinfo *known = NULL;
    if (getaddrinfo("localhost", NULL, &(struct addrinfo){.ai_family = AF_INET}, &known) != 0) {
        skip(); // a system without /etc/hosts
    }
    freeaddrinfo(known);
    assert_int_equal(tob_resolver_system.lookup(NULL, "localhost", found, &count), TOB_OK);
    bool v4 = false;
    for (size_t i = 0; i < count; i++) {
        v4 = v4 || strcmp(found[i], "127.0.0.1") == 0;
    }
    assert_true(v4);
    assert_int_equal(tob_resolver_system.lookup(NULL, "no-such-host.invalid", found, &count),
                     TOB_UNAVAILABLE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(numbers_are_told_at_once_and_once_each, begin),
        cmocka_unit_test_setup(what_is_no_url_is_refused, begin),
        cmocka_unit_test_setup(one_url_too_many_is_refused, begin),
        cmocka_unit_test_setup(a_name_is_all_of_its_addresses_in_a_stable_order, begin),
        cmocka_unit_test_setup(addresses_come_and_go, begin),
        cmocka_unit_test_setup(a_name_without_an_answer_keeps_its_addresses, begin),
        cmocka_unit_test_setup(addresses_over_the_cap_are_left_out, begin),
        cmocka_unit_test_setup(hurrying_asks_again_before_it_is_time, begin),
        cmocka_unit_test_setup(the_system_knows_localhost, begin),
        cmocka_unit_test_setup(a_resolver_that_hangs_does_not_hold_up_the_stop, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
