#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/digests.h"

#define HOUR  ((uint64_t)3600 * 1000)
#define START ((uint64_t)1700000000000)

static tob_digests *digests;

static int setup(void **state) {
    (void)state;
    return tob_digests_new(1000, &digests);
}

static int teardown(void **state) {
    (void)state;
    tob_digests_free(digests);
    return 0;
}

static tob_batch_key key_of(const char *agent, uint64_t boot, uint64_t number) {
    return tob_batch_key_of(agent, boot, &number, sizeof(number));
}

static bool has(const char *agent, uint64_t number) {
    tob_batch_key key = key_of(agent, 1, number);
    return tob_digests_has(digests, &key);
}

static void add(const char *agent, uint64_t number, uint64_t received) {
    tob_batch_key key = key_of(agent, 1, number);
    assert_int_equal(tob_digests_add(digests, &key, received), TOB_OK);
}

static void queue(const char *agent, uint64_t number) {
    tob_batch_key key = key_of(agent, 1, number);
    assert_int_equal(tob_digests_reserve(digests), TOB_OK);
    tob_digests_queue(digests, &key);
}

static void the_last_four_of_a_sender_are_known(void **state) {
    (void)state;
    for (uint64_t number = 1; number <= 6; number++) {
        add("a", number, START);
    }
    assert_false(has("a", 1));
    assert_false(has("a", 2));
    for (uint64_t number = 3; number <= 6; number++) {
        assert_true(has("a", number));
    }
    assert_false(has("b", 6));
}

static void agent_boot_and_content_make_the_key(void **state) {
    (void)state;
    tob_batch_key key = key_of("a", 1, 1);
    assert_int_equal(tob_digests_add(digests, &key, START), TOB_OK);
    tob_batch_key boot = key_of("a", 2, 1), agent = key_of("b", 1, 1), content = key_of("a", 1, 2);
    assert_false(tob_digests_has(digests, &boot));
    assert_false(tob_digests_has(digests, &agent));
    assert_false(tob_digests_has(digests, &content));
    assert_int_equal(tob_batch_key_of("a", 1, "", 0).digest != 0, 1);
}

static void what_is_queued_is_known_until_it_is_forgotten(void **state) {
    (void)state;
    for (uint64_t number = 1; number <= 3; number++) {
        add("a", number, START);
    }
    queue("a", 4);
    queue("a", 5);
    queue("b", 1);
    assert_false(has("a", 1)); // the fifth last now
    assert_true(has("a", 2));
    assert_true(has("a", 5));
    assert_true(has("b", 1));
    tob_digests_forget_queued(digests);
    assert_true(has("a", 1));
    assert_false(has("a", 4));
    assert_false(has("b", 1));
    queue("b", 2);
    assert_true(has("b", 2));
    assert_false(has("b", 1));
}

static void a_sender_is_remembered_for_half_a_day_after_its_last_batch(void **state) {
    (void)state;
    uint64_t now = START;
    add("other", 1, now);
    for (int i = 0; i < 23; i++) { // up to just before the rotation
        now += HOUR / 2;
        add("other", 1, now);
    }
    add("a", 1, now);
    for (int i = 0; i < 24; i++) {
        assert_true(has("a", 1));
        now += HOUR / 2;
        add("other", 1, now);
    }
    for (int i = 0; i < 24; i++) {
        now += HOUR / 2;
        add("other", 1, now);
    }
    assert_false(has("a", 1));
    assert_true(has("other", 1));
}

static void a_sender_that_goes_on_is_never_forgotten(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        add("a", i, START + i * HOUR);
        assert_true(has("a", i));
        assert_true(i < 3 || has("a", i - 3));
    }
}

static void steps_of_the_clock_forget_nobody(void **state) {
    (void)state;
    uint64_t now = START;
    add("a", 1, now);
    for (int i = 0; i < 20; i++) {
        now = i % 2 ? now - 24 * HOUR : now + 24 * HOUR;
        add("other", 1, now);
        assert_true(has("a", 1));
    }
    now -= 10 * 365 * 24 * HOUR; // it had been years wrong
    add("other", 1, now);
    assert_true(has("a", 1));
    for (int i = 0; i < 60; i++) {
        now += HOUR / 2;
        add("other", 1, now);
    }
    assert_false(has("a", 1)); // and time goes on from there
}

static void memory_is_bounded_by_the_newest_senders(void **state) {
    (void)state;
    char agent[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(agent, sizeof(agent), "agent-%d", i);
        add(agent, 1, START);
    }
    tob_digests_range range = tob_digests_numbers(digests);
    assert_int_equal(range.end, 5000);
    assert_int_equal(range.newer - range.older, 1000);
    assert_true(range.end - range.newer <= 1000);
    assert_true(has("agent-4999", 1));
    assert_true(has("agent-4001", 1));
    assert_false(has("agent-100", 1));
}

static void copy_into(tob_digests *to) {
    tob_digests_range range = tob_digests_numbers(digests);
    for (uint64_t number = range.older; number < range.end; number++) {
        if (number == range.newer) {
            tob_digests_restore_newer(to);
        }
        assert_int_equal(tob_digests_restore(to, tob_digests_at(digests, number)), TOB_OK);
    }
}

static void restored_senders_are_forgotten_as_if_nothing_had_been(void **state) {
    (void)state;
    tob_digests *copy = NULL;
    uint64_t now = START;
    for (int i = 0; i <= 26; i++, now += HOUR / 2) {
        add("other", 1, now);
        if (i == 0) {
            add("old", 1, now);
        }
    }
    add("new", 1, now);
    assert_int_equal(tob_digests_new(1000, &copy), TOB_OK);
    copy_into(copy);
    tob_digests_free(digests);
    digests = copy;
    assert_true(has("old", 1));
    assert_true(has("new", 1));
    for (int i = 0; i < 23; i++) {
        now += HOUR / 2;
        add("other", 1, now);
        assert_true(has("new", 1));
    }
    assert_false(has("old", 1)); // half a day after the first rotation
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_four_of_a_sender_are_known, setup, teardown),
        cmocka_unit_test_setup_teardown(agent_boot_and_content_make_the_key, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_queued_is_known_until_it_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sender_is_remembered_for_half_a_day_after_its_last_batch, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_sender_that_goes_on_is_never_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(steps_of_the_clock_forget_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_bounded_by_the_newest_senders, setup, teardown),
        cmocka_unit_test_setup_teardown(restored_senders_are_forgotten_as_if_nothing_had_been, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
