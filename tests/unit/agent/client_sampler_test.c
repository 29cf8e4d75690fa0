#include "agent/client_sampler.h"
#include "tree.h"
#include "util/clock.h"

static void write_interface(const char *root, const char *index) {
    tree_write(root, "/sys/class/net/wg0/statistics/tx_bytes", "1048576\n");
    tree_write(root, "/sys/class/net/wg0/statistics/rx_bytes", "2097152\n");
    tree_write(root, "/sys/class/net/wg0/statistics/tx_packets", "1000\n");
    tree_write(root, "/sys/class/net/wg0/statistics/rx_packets", "9223372036854775807\n");
    tree_write(root, "/sys/class/net/wg0/ifindex", index);
    tree_write(root, "/proc/uptime", "1000000.50 1999.00\n");
}

static tob_client_sample read_sample(tob_client_sampler *sampler) {
    tob_client_sample sample = {0};
    tob_problem problem = {""};
    if (tob_client_sampler_read(sampler, &sample, &problem)) {
        fail_msg("%s", problem.text);
    }
    return sample;
}

static tob_client_sampler *new_sampler(const char *root) {
    tob_client_sampler *sampler = NULL;
    assert_int_equal(tob_client_sampler_new(root, "wg0", &sampler), TOB_OK);
    return sampler;
}

static void counters_come_from_the_interface_and_tx_is_sent(void **state) {
    write_interface(*state, "7\n");
    tob_client_sampler *sampler = new_sampler(*state);
    tob_client_sample s = read_sample(sampler);
    assert_int_equal(s.present, 31);
    assert_int_equal(s.values[TOB_CLIENT_BYTES_SENT], 1048576);
    assert_int_equal(s.values[TOB_CLIENT_BYTES_RECEIVED], 2097152);
    assert_int_equal(s.values[TOB_CLIENT_PACKETS_SENT], 1000);
    assert_int_equal(s.values[TOB_CLIENT_PACKETS_RECEIVED], INT64_MAX);
    assert_in_range(s.time_unix_ms, (int64_t)tob_clock_unix_ms() - 60000, (int64_t)tob_clock_unix_ms());
    tob_client_sampler_free(sampler);
}

static void uptime_is_what_udev_noted(void **state) {
    char note[128];
    uint64_t ago_ms = 500;
    snprintf(note, sizeof(note), "E:ID_NET_NAME=wg0\nI:%llu\nE:X=1\n",
             (unsigned long long)((tob_clock_monotonic_ms() - ago_ms) * 1000));
    write_interface(*state, "7\n");
    tree_write(*state, "/run/udev/data/n7", note);
    tob_client_sampler *sampler = new_sampler(*state);
    int64_t uptime = read_sample(sampler).values[TOB_CLIENT_CONNECTION_UPTIME];
    assert_in_range(uptime, ago_ms, ago_ms + 60000);
    tob_client_sampler_free(sampler);
}

static void uptime_without_udev_is_the_folders_age_and_starts_near_0(void **state) {
    write_interface(*state, "7\n");
    tob_client_sampler *sampler = new_sampler(*state);
    assert_in_range(read_sample(sampler).values[TOB_CLIENT_CONNECTION_UPTIME], 0, 60000);
    tob_client_sampler_free(sampler);
}

static void uptime_is_never_more_than_the_machines(void **state) {
    write_interface(*state, "7\n");
    tree_write(*state, "/run/udev/data/n7", "I:0\n");
    tree_write(*state, "/proc/uptime", "0.25 0.00\n");
    tob_client_sampler *sampler = new_sampler(*state);
    assert_int_equal(read_sample(sampler).values[TOB_CLIENT_CONNECTION_UPTIME], 250);
    tob_client_sampler_free(sampler);
}

static void assert_read_fails(tob_client_sampler *sampler, tob_error error, const char *part_of_reason) {
    tob_client_sample sample = {.present = 77};
    tob_problem problem = {""};
    assert_int_equal(tob_client_sampler_read(sampler, &sample, &problem), error);
    assert_non_null(strstr(problem.text, part_of_reason));
    assert_int_equal(sample.present, 77);
}

static void a_missing_interface_is_an_error_that_names_the_file_and_ends_when_it_comes(void **state) {
    tob_client_sampler *sampler = new_sampler(*state);
    assert_read_fails(sampler, TOB_NOT_FOUND, "/sys/class/net/wg0/statistics/tx_bytes");
    write_interface(*state, "7\n");
    read_sample(sampler);
    tob_client_sampler_free(sampler);
}

static void numbers_that_are_none_are_refused(void **state) {
    static const char *const texts[] = {"", "x\n", "-1\n", "9223372036854775808\n", "1 2\n"};
    tob_client_sampler *sampler = new_sampler(*state);
    for (size_t i = 0; i < 5; i++) {
        write_interface(*state, "7\n");
        tree_write(*state, "/sys/class/net/wg0/statistics/rx_bytes", texts[i]);
        assert_read_fails(sampler, TOB_MALFORMED, "rx_bytes");
    }
    tob_client_sampler_free(sampler);
}

static void names_that_are_no_interface_are_refused(void **state) {
    static const char *const names[] = {"", ".", "..", "a/b", "sixteen-bytes-xx", "a b", "a:b"};
    for (size_t i = 0; i < 7; i++) {
        tob_client_sampler *sampler = NULL;
        assert_int_equal(tob_client_sampler_new(*state, names[i], &sampler), TOB_INVALID);
    }
    tob_client_sampler *sampler = NULL;
    assert_int_equal(tob_client_sampler_new(*state, "fifteen-bytes-x", &sampler), TOB_OK);
    tob_client_sampler_free(sampler);
}

static void the_real_loopback_interface_can_be_read(void **state) {
    (void)state;
    tob_client_sampler *sampler = NULL;
    assert_int_equal(tob_client_sampler_new("/", "lo", &sampler), TOB_OK);
    assert_int_equal(read_sample(sampler).present, 31);
    tob_client_sampler_free(sampler);
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TREE_TEST(counters_come_from_the_interface_and_tx_is_sent),
        TREE_TEST(uptime_is_what_udev_noted),
        TREE_TEST(uptime_without_udev_is_the_folders_age_and_starts_near_0),
        TREE_TEST(uptime_is_never_more_than_the_machines),
        TREE_TEST(a_missing_interface_is_an_error_that_names_the_file_and_ends_when_it_comes),
        TREE_TEST(numbers_that_are_none_are_refused),
        TREE_TEST(names_that_are_no_interface_are_refused),
        cmocka_unit_test(the_real_loopback_interface_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
