#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/fleet.h"
#include "wire/batch.h"

static tob_fleet *fleet;

static int setup(void **state) {
    (void)state;
    return tob_fleet_new(&fleet);
}

static int teardown(void **state) {
    (void)state;
    tob_fleet_free(fleet);
    return 0;
}

// One sample; a value below 0 is not reported.
static void report(const char *id, int64_t time, int64_t sent, int64_t received, bool headless,
                   uint64_t now) {
    Tobogganing__V1__ClientSeries s = TOBOGGANING__V1__CLIENT_SERIES__INIT;
    s.client_id = (char *)id;
    s.headless = headless;
    s.time_unix_ms = &time;
    s.n_time_unix_ms = 1;
    s.bytes_sent = &sent;
    s.n_bytes_sent = sent >= 0;
    s.bytes_received = &received;
    s.n_bytes_received = received >= 0;
    assert_int_equal(tob_fleet_apply_client(fleet, &s, now), TOB_OK);
}

static const tob_client_row *row_of(const char *id) {
    uint32_t row = tob_fleet_find_client(fleet, id, strlen(id));
    return row == TOB_FLEET_NONE ? NULL : tob_fleet_client(fleet, row);
}

// What the bus would say of the removed clients of all buckets, and of the changed ones.
static size_t take_removed(char ids[][32], size_t max) {
    size_t total = 0;
    for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
        char *taken[4];
        size_t n = 4;
        while (n > 0) {
            tob_fleet_take_removed(fleet, TOB_SOURCE_CLIENT, bucket, 4, taken, &n);
            for (size_t i = 0; i < n; i++) {
                assert_true(total < max);
                snprintf(ids[total++], 32, "%s", taken[i]);
                free(taken[i]);
            }
        }
    }
    return total;
}

static size_t take_changed(void) {
    size_t total = 0;
    for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
        uint32_t clients[16], headends[16];
        size_t c = 1, h = 1;
        while (c + h > 0) {
            tob_fleet_take_dirty(fleet, bucket, 16, clients, &c, headends, &h);
            for (size_t i = 0; i < c; i++) {
                assert_non_null(tob_fleet_client(fleet, clients[i]));
            }
            total += c + h;
        }
    }
    return total;
}

static void the_newest_sample_wins_and_missing_metrics_stay(void **state) {
    (void)state;
    report("c", 100, 5, 6, false, 1000);
    report("c", 200, 7, -1, true, 2000);
    const tob_client_row *row = tob_fleet_client(fleet, 0);
    assert_int_equal(row->values[TOB_CLIENT_BYTES_SENT], 7);
    assert_int_equal(row->values[TOB_CLIENT_BYTES_RECEIVED], 6);
    assert_int_equal(row->source.present, 3);
    assert_true(row->headless);
    assert_int_equal(row->source.last_check_in_unix_ms, 2000);
}

static void a_late_sample_moves_the_check_in_but_no_value(void **state) {
    (void)state;
    report("c", 200, 7, 8, false, 1000);
    report("c", 100, 1, 2, true, 3000);
    const tob_client_row *row = tob_fleet_client(fleet, 0);
    assert_int_equal(row->values[TOB_CLIENT_BYTES_SENT], 7);
    assert_false(row->headless);
    assert_int_equal(row->source.last_check_in_unix_ms, 3000);
}

static void what_lies_in_the_future_gives_way_once_the_clock_is_stepped_back(void **state) {
    (void)state;
    const uint64_t day = 86400000;
    report("c", (int64_t)(2 * day + TOB_MAX_FUTURE_MS), 7, 8, false, 2 * day);
    report("c", (int64_t)(2 * day), 1, 2, true, 2 * day); // five minutes are no step
    assert_int_equal(row_of("c")->values[TOB_CLIENT_BYTES_SENT], 7);
    assert_int_equal(row_of("c")->source.last_check_in_unix_ms, 2 * day);
    report("c", (int64_t)day, 3, -1, true, 2 * day - 1);
    assert_int_equal(row_of("c")->values[TOB_CLIENT_BYTES_SENT], 3);
    assert_int_equal(row_of("c")->values[TOB_CLIENT_BYTES_RECEIVED], 8);
    assert_int_equal(row_of("c")->source.sample_time_unix_ms, day);
    assert_int_equal(row_of("c")->source.last_check_in_unix_ms, 2 * day - 1);
    assert_true(row_of("c")->headless);
}

static void the_newest_of_a_series_in_any_order_is_taken(void **state) {
    (void)state;
    Tobogganing__V1__ClientSeries s = TOBOGGANING__V1__CLIENT_SERIES__INIT;
    int64_t times[] = {5, 9, 9, 2}, values[] = {50, 90, 91, 20};
    s.client_id = (char *)"c";
    s.time_unix_ms = times;
    s.n_time_unix_ms = 4;
    s.packets_sent = values;
    s.n_packets_sent = 4;
    assert_int_equal(tob_fleet_apply_client(fleet, &s, 1), TOB_OK);
    assert_int_equal(tob_fleet_client(fleet, 0)->values[TOB_CLIENT_PACKETS_SENT], 91);
}

static void a_headend_keeps_its_reported_name(void **state) {
    (void)state;
    Tobogganing__V1__HeadendSeries s = TOBOGGANING__V1__HEADEND_SERIES__INIT;
    int64_t time = 1;
    double cpu = 45.2;
    s.headend_id = (char *)"h";
    s.time_unix_ms = &time;
    s.n_time_unix_ms = 1;
    s.cpu_usage = &cpu;
    s.n_cpu_usage = 1;
    assert_int_equal(tob_fleet_apply_headend(fleet, &s, 1), TOB_OK);
    assert_null(tob_fleet_headend(fleet, 0)->name);
    s.name = (char *)"edge";
    assert_int_equal(tob_fleet_apply_headend(fleet, &s, 2), TOB_OK);
    s.name = (char *)"";
    assert_int_equal(tob_fleet_apply_headend(fleet, &s, 3), TOB_OK);
    assert_string_equal(tob_fleet_headend(fleet, 0)->name, "edge");
    assert_int_equal(tob_fleet_headends(fleet), 1);
}

static void changed_rows_are_handed_out_once(void **state) {
    (void)state;
    enum { SOURCES = 20000, SOME = 100 };
    char id[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SOURCES; i++) {
            snprintf(id, sizeof(id), "client-%d", i);
            report(id, round, i, i, false, 1);
            report(id, round, i, i, false, 1); // still one row to send
        }
        static uint8_t seen[SOURCES];
        memset(seen, 0, sizeof(seen));
        size_t total = 0;
        for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
            uint32_t clients[SOME], headends[SOME];
            size_t c = 1, h = 0;
            while (c > 0) {
                tob_fleet_take_dirty(fleet, bucket, SOME, clients, &c, headends, &h);
                for (size_t i = 0; i < c; i++) {
                    assert_int_equal(tob_fleet_client(fleet, clients[i])->source.bucket, bucket);
                    assert_int_equal(seen[clients[i]]++, 0);
                }
                total += c;
            }
        }
        assert_int_equal(total, SOURCES);
    }
    assert_int_equal(tob_fleet_clients(fleet), SOURCES);
    assert_int_equal(tob_fleet_version(fleet), 4 * SOURCES);
}

static void a_removed_row_is_told_of_once_and_its_slot_is_used_again(void **state) {
    (void)state;
    char ids[8][32];
    report("a", 1, 1, 1, false, 1);
    report("b", 1, 1, 1, false, 1);
    uint32_t slot = tob_fleet_find_client(fleet, "a", 1);
    assert_true(tob_fleet_remove(fleet, TOB_SOURCE_CLIENT, "a"));
    assert_false(tob_fleet_remove(fleet, TOB_SOURCE_CLIENT, "a"));
    assert_false(tob_fleet_remove(fleet, TOB_SOURCE_HEADEND, "b"));
    assert_null(row_of("a"));
    assert_null(tob_fleet_client(fleet, slot));
    assert_int_equal(tob_fleet_clients(fleet), 1);
    assert_int_equal(take_changed(), 1); // "b"; what is gone has not changed
    assert_int_equal(take_removed(ids, 8), 1);
    assert_string_equal(ids[0], "a");
    assert_int_equal(take_removed(ids, 8), 0);
    report("c", 5, 9, -1, false, 5);
    assert_int_equal(tob_fleet_find_client(fleet, "c", 1), slot);
    assert_int_equal(tob_fleet_client_slots(fleet), 2);
    assert_int_equal(row_of("c")->source.present, 1);
    assert_int_equal(row_of("c")->values[TOB_CLIENT_BYTES_RECEIVED], 0);
    report("a", 1, 2, 2, false, 6);
    assert_int_equal(tob_fleet_client_slots(fleet), 3);
    assert_int_equal(tob_fleet_clients(fleet), 3);
    assert_int_equal(take_removed(ids, 8), 0);
}

static void a_source_that_comes_back_before_its_removal_was_told_of_was_never_gone(void **state) {
    (void)state;
    char ids[8][32];
    report("a", 100, 5, 6, true, 1);
    report("b", 100, 5, 6, true, 1);
    assert_true(tob_fleet_remove(fleet, TOB_SOURCE_CLIENT, "a"));
    assert_true(tob_fleet_remove(fleet, TOB_SOURCE_CLIENT, "b"));
    report("a", 50, 7, -1, false, 2); // older than what is gone
    assert_int_equal(row_of("a")->values[TOB_CLIENT_BYTES_SENT], 7);
    assert_int_equal(row_of("a")->values[TOB_CLIENT_BYTES_RECEIVED], 0);
    assert_int_equal(row_of("a")->source.present, 1);
    assert_int_equal(take_changed(), 1);
    assert_int_equal(take_removed(ids, 8), 1);
    assert_string_equal(ids[0], "b");
    assert_int_equal(tob_fleet_clients(fleet), 1);
}

static void removals_and_reports_in_any_order_agree_with_a_plain_list(void **state) {
    (void)state;
    enum { SOURCES = 300, STEPS = 60000 };
    static bool here[SOURCES], told[SOURCES]; // is there a row; does the other side have it
    static char ids[SOURCES][32];
    uint64_t seed = 5;
    memset(here, 0, sizeof(here));
    memset(told, 0, sizeof(told));
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned i = (unsigned)(seed >> 33) % SOURCES;
        char id[32];
        snprintf(id, sizeof(id), "client-%u", i);
        switch ((seed >> 60) % 4) {
        case 0:
            assert_int_equal(tob_fleet_remove(fleet, TOB_SOURCE_CLIENT, id), here[i]);
            here[i] = false;
            break;
        case 1:
            if ((seed >> 50) % 16 == 0) {
                size_t n = take_removed(ids, SOURCES);
                for (size_t k = 0; k < n; k++) {
                    unsigned gone = (unsigned)atoi(ids[k] + strlen("client-"));
                    assert_true(told[gone] && !here[gone]);
                    told[gone] = false;
                }
                for (unsigned k = 0; k < SOURCES; k++) {
                    assert_int_equal(told[k], here[k]);
                }
            }
            break;
        default:
            report(id, step, step, step, false, 1);
            here[i] = told[i] = true;
            break;
        }
    }
    size_t count = 0;
    for (unsigned i = 0; i < SOURCES; i++) {
        char id[32];
        snprintf(id, sizeof(id), "client-%u", i);
        assert_int_equal(row_of(id) != NULL, here[i]);
        count += here[i];
    }
    assert_int_equal(tob_fleet_clients(fleet), count);
    assert_true(tob_fleet_client_slots(fleet) <= SOURCES);
}

static void a_restored_row_is_what_it_was(void **state) {
    (void)state;
    uint32_t row = 0;
    const tob_client_row client = {
        .source = {.id = (char *)"c", .last_check_in_unix_ms = 5, .sample_time_unix_ms = 4, .present = 9},
        .headless = true,
        .values = {1, 0, 0, 8, 0}};
    report("c", 100, 5, 6, false, 100);
    assert_int_equal(tob_fleet_restore_client(fleet, &client, &row), TOB_OK);
    assert_ptr_equal(tob_fleet_client(fleet, row), row_of("c"));
    assert_int_equal(row_of("c")->values[3], 8);
    assert_int_equal(row_of("c")->values[1], 0);
    assert_int_equal(row_of("c")->source.present, 9);
    assert_int_equal(row_of("c")->source.last_check_in_unix_ms, 5);
    tob_headend_row headend = {.source = {.id = (char *)"h", .sample_time_unix_ms = -1},
                               .name = (char *)"edge"};
    assert_int_equal(tob_fleet_restore_headend(fleet, &headend, &row), TOB_OK);
    assert_string_equal(tob_fleet_headend(fleet, row)->name, "edge");
    headend.name = NULL;
    assert_int_equal(tob_fleet_restore_headend(fleet, &headend, &row), TOB_OK);
    assert_null(tob_fleet_headend(fleet, row)->name);
    assert_int_equal(tob_fleet_headends(fleet), 1);
    tob_fleet_forget_changes(fleet);
    assert_int_equal(take_changed(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_sample_wins_and_missing_metrics_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_sample_moves_the_check_in_but_no_value, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_of_a_series_in_any_order_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_headend_keeps_its_reported_name, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_rows_are_handed_out_once, setup, teardown),
        cmocka_unit_test_setup_teardown(what_lies_in_the_future_gives_way_once_the_clock_is_stepped_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_row_is_told_of_once_and_its_slot_is_used_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_source_that_comes_back_before_its_removal_was_told_of_was_never_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(removals_and_reports_in_any_order_agree_with_a_plain_list, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_restored_row_is_what_it_was, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
