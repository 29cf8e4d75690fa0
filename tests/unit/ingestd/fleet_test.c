#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/fleet.h"

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
    report("c", 300, 9, 9, false, 2000); // our own clock stepped back
    assert_int_equal(row->source.last_check_in_unix_ms, 3000);
    assert_int_equal(row->values[TOB_CLIENT_BYTES_SENT], 9);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_sample_wins_and_missing_metrics_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_sample_moves_the_check_in_but_no_value, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_of_a_series_in_any_order_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_headend_keeps_its_reported_name, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_rows_are_handed_out_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
