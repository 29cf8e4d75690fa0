#include "agent/headend_sampler.h"
#include "tree.h"

#define SECOND_NS UINT64_C(1000000000)

static const char tcp_header[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

static void write_tcp(const char *root, const char *path, const char *lines) {
    char text[2048];
    snprintf(text, sizeof(text), "%s%s", tcp_header, lines);
    tree_write(root, path, text);
}

static void write_dev(const char *root, const char *lines) {
    char text[2048];
    snprintf(text, sizeof(text),
             "Inter-|   Receive                                                |  Transmit\n"
             " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
             "    lo: 999999 1 0 0 0 0 0 0 999999 1 0 0 0 0 0 0\n%s",
             lines);
    tree_write(root, "/proc/net/dev", text);
}

static void write_machine(const char *root) {
    write_tcp(root, "/proc/net/tcp",
              "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n"
              "   1: 0100007F:01BB 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0\n"
              "   2: 0100007F:0016 0100007F:C351 01 00000000:00000000 00:00000000 00000000 0\n"
              "   3: 0100007F:01BB 0100007F:C352 06 00000000:00000000 00:00000000 00000000 0\n");
    write_tcp(
        root, "/proc/net/tcp6",
        "   0: 00000000000000000000000001000000:01BB 00000000000000000000000001000000:C353 01 0:0 0:0 0 0\n");
    write_dev(root,
              "  eth0:    1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n  eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n");
    tree_write(root, "/proc/stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n");
    tree_write(root, "/proc/meminfo", "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  400 kB\n");
}

static tob_headend_sampler *new_sampler(const char *root, const char *interface, const char *ports) {
    tob_headend_sampler *sampler = NULL;
    tob_problem problem = {""};
    const tob_headend_sampler_options options = {.root = root, .interface = interface, .ports = ports};
    if (tob_headend_sampler_new(&options, &sampler, &problem)) {
        fail_msg("%s", problem.text);
    }
    return sampler;
}

static tob_headend_sample read_at(tob_headend_sampler *sampler, uint64_t now_ns) {
    tob_headend_sample sample = {0};
    tob_problem problem = {""};
    if (tob_headend_sampler_read_at(sampler, now_ns, &sample, &problem)) {
        fail_msg("%s", problem.text);
    }
    return sample;
}

static void the_first_reading_has_no_rates(void **state) {
    write_machine(*state);
    tob_headend_sampler *sampler = new_sampler(*state, NULL, NULL);
    tob_headend_sample s = read_at(sampler, SECOND_NS);
    assert_int_equal(s.present, 1u << TOB_HEADEND_ACTIVE_CONNECTIONS | 1u << TOB_HEADEND_MEMORY_USAGE);
    assert_true(s.values[TOB_HEADEND_ACTIVE_CONNECTIONS] == 3);
    assert_true(s.values[TOB_HEADEND_MEMORY_USAGE] == 600.0 * 1024);
    tob_headend_sampler_free(sampler);
}

static void rates_are_growth_by_time_without_lo(void **state) {
    write_machine(*state);
    tob_headend_sampler *sampler = new_sampler(*state, "", "");
    read_at(sampler, 1 * SECOND_NS);
    write_dev(*state,
              "  eth0: 6000 1 0 0 0 0 0 0 4000 1 0 0 0 0 0 0\n  eth1: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n");
    tree_write(*state, "/proc/stat", "cpu  140 5 115 720 120 5 5 10 90 0\n"); // busy +80 of +120
    tob_headend_sample s = read_at(sampler, 3 * SECOND_NS);
    assert_int_equal(s.present, 31);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_IN] == 2500);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_OUT] == 1000);
    assert_true(s.values[TOB_HEADEND_CPU_USAGE] > 66.6 && s.values[TOB_HEADEND_CPU_USAGE] < 66.7);
    tob_headend_sampler_free(sampler);
}

static void interfaces_that_come_go_or_start_again_make_no_jump(void **state) {
    write_machine(*state);
    tob_headend_sampler *sampler = new_sampler(*state, NULL, NULL);
    read_at(sampler, 1 * SECOND_NS);
    // eth0 started again, eth1 is gone, wg0 came with bytes from before.
    write_dev(*state,
              "  eth0: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  wg0: 1000000 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n");
    tob_headend_sample s = read_at(sampler, 2 * SECOND_NS);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_IN] == 0);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_OUT] == 0);
    write_dev(*state, "  wg0: 1000100 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n");
    assert_true(read_at(sampler, 3 * SECOND_NS).values[TOB_HEADEND_BANDWIDTH_IN] == 100);
    tob_headend_sampler_free(sampler);
}

static void one_interface_can_be_chosen_and_must_exist(void **state) {
    write_machine(*state);
    tob_headend_sampler *sampler = new_sampler(*state, "eth1", NULL);
    read_at(sampler, 1 * SECOND_NS);
    write_dev(*state,
              "  eth0: 9000 1 0 0 0 0 0 0 9000 1 0 0 0 0 0 0\n  eth1: 60 1 0 0 0 0 0 0 21 1 0 0 0 0 0 0\n");
    tob_headend_sample s = read_at(sampler, 2 * SECOND_NS);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_IN] == 50);
    assert_true(s.values[TOB_HEADEND_BANDWIDTH_OUT] == 1);
    tob_headend_sampler_free(sampler);

    tob_problem problem = {""};
    sampler = new_sampler(*state, "eth9", NULL);
    assert_int_equal(tob_headend_sampler_read_at(sampler, SECOND_NS, &s, &problem), TOB_NOT_FOUND);
    assert_string_equal(problem.text, "/proc/net/dev: no interface eth9");
    tob_headend_sampler_free(sampler);
}

static void connections_can_be_limited_to_ports(void **state) {
    write_machine(*state);
    tob_headend_sampler *sampler = new_sampler(*state, NULL, "443,51820");
    assert_true(read_at(sampler, SECOND_NS).values[TOB_HEADEND_ACTIVE_CONNECTIONS] == 2);
    tob_headend_sampler_free(sampler);
    sampler = new_sampler(*state, NULL, "51820");
    assert_true(read_at(sampler, SECOND_NS).values[TOB_HEADEND_ACTIVE_CONNECTIONS] == 0);
    tob_headend_sampler_free(sampler);
}

static void a_kernel_without_ipv6_is_fine(void **state) {
    write_machine(*state);
    tree_remove(*state, "/proc/net/tcp6");
    tob_headend_sampler *sampler = new_sampler(*state, NULL, NULL);
    assert_true(read_at(sampler, SECOND_NS).values[TOB_HEADEND_ACTIVE_CONNECTIONS] == 2);
    tob_headend_sampler_free(sampler);
}

static void a_file_that_is_missing_or_odd_is_named(void **state) {
    static const char *const paths[] = {"/proc/net/tcp", "/proc/net/dev", "/proc/stat", "/proc/meminfo"};
    tob_headend_sample s;
    for (size_t i = 0; i < 4; i++) {
        tob_problem problem = {""};
        write_machine(*state);
        tree_remove(*state, paths[i]);
        tob_headend_sampler *sampler = new_sampler(*state, NULL, NULL);
        assert_int_equal(tob_headend_sampler_read_at(sampler, SECOND_NS, &s, &problem), TOB_NOT_FOUND);
        assert_non_null(strstr(problem.text, paths[i]));
        if (i >= 2) {
            tree_write(*state, paths[i], "nothing of use\n");
            assert_int_equal(tob_headend_sampler_read_at(sampler, SECOND_NS, &s, &problem), TOB_MALFORMED);
            assert_non_null(strstr(problem.text, paths[i]));
        }
        tob_headend_sampler_free(sampler);
    }
}

static void options_that_are_wrong_are_refused(void **state) {
    char many[TOB_MAX_PORTS * 3 + 8] = "";
    for (size_t i = 0; i < TOB_MAX_PORTS; i++) {
        strcat(many, i ? ",80" : "80");
    }
    tob_headend_sampler *sampler = new_sampler(*state, NULL, many);
    tob_headend_sampler_free(sampler);
    strcat(many, ",80");
    static const char *const ports[] = {"x", "0", "65536", "80,,81", "-1"};
    tob_problem problem = {""};
    for (size_t i = 0; i < 5; i++) {
        const tob_headend_sampler_options options = {.root = *state, .ports = ports[i]};
        assert_int_equal(tob_headend_sampler_new(&options, &sampler, &problem), TOB_INVALID);
    }
    const tob_headend_sampler_options over = {.root = *state, .ports = many};
    assert_int_equal(tob_headend_sampler_new(&over, &sampler, &problem), TOB_TOO_LARGE);
    const tob_headend_sampler_options name = {.root = *state, .interface = "sixteen-bytes-xx"};
    assert_int_equal(tob_headend_sampler_new(&name, &sampler, &problem), TOB_INVALID);
}

static void the_real_machine_can_be_read_twice(void **state) {
    (void)state;
    tob_headend_sampler *sampler = new_sampler("/", NULL, NULL);
    tob_headend_sample s;
    tob_problem problem = {""};
    assert_int_equal(tob_headend_sampler_read(sampler, &s, &problem), TOB_OK);
    assert_int_equal(tob_headend_sampler_read(sampler, &s, &problem), TOB_OK);
    assert_true(s.present & 1u << TOB_HEADEND_BANDWIDTH_IN);
    assert_true(s.values[TOB_HEADEND_MEMORY_USAGE] > 0);
    tob_headend_sampler_free(sampler);
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TREE_TEST(the_first_reading_has_no_rates),
        TREE_TEST(rates_are_growth_by_time_without_lo),
        TREE_TEST(interfaces_that_come_go_or_start_again_make_no_jump),
        TREE_TEST(one_interface_can_be_chosen_and_must_exist),
        TREE_TEST(connections_can_be_limited_to_ports),
        TREE_TEST(a_kernel_without_ipv6_is_fine),
        TREE_TEST(a_file_that_is_missing_or_odd_is_named),
        TREE_TEST(options_that_are_wrong_are_refused),
        cmocka_unit_test(the_real_machine_can_be_read_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
