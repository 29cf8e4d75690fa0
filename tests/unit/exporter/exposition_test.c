#include "support.h"
#include "util/clock.h"

static tob_manager *manager_with_requests(void) {
    tob_manager *manager = new_manager();
    Tobogganing__V1__Counter request = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    char *labels[] = {(char *)"POST", (char *)"/api/v1/clients/{client_id}/metrics", (char *)"200"};
    Tobogganing__V1__Counter *counters[] = {&request};
    Tobogganing__V1__Process *processes[] = {&process};
    request.family = TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_HTTP_REQUESTS;
    request.n_labels = 3;
    request.labels = labels;
    request.value = 42;
    process.id = 7;
    process.n_counters = 1;
    process.counters = counters;
    message.clusters = 2;
    message.clients = 3;
    message.clients_on_previous_key = 5;
    message.n_processes = 1;
    message.processes = processes;
    uint64_t ignored = 0;
    assert_int_equal(tob_manager_apply(manager, 0, &message, 1000, &ignored), TOB_OK);
    assert_int_equal(ignored, 0);
    return manager;
}

static void put_fleet(tob_mirror *mirror) {
    tob_mirror_row client = {.id = "client-1",
                             .labels = {"Ada's \"box\" \\ 1", "docker", "true"},
                             .version = 1,
                             .last_check_in_unix_ms = 1700000000500,
                             .present = 31,
                             .values = {{.integer = 1048576},
                                        {.integer = 9223372036854775807},
                                        {.integer = 0},
                                        {.integer = 1500},
                                        {.integer = 12345670}}};
    tob_mirror_row check_in = {.id = "client-2",
                               .labels = {"client-2", "mobile", "false"},
                               .version = 2,
                               .last_check_in_unix_ms = 1700000001000};
    tob_mirror_row headend = {
        .id = "headend-1",
        .labels = {"headend-us-east-1", "us-east", "dc1"},
        .version = 3,
        .last_check_in_unix_ms = 1700000002001,
        .present = 0x1b, // all but bandwidth_out
        .values = {{.real = 150}, {.real = 10485760}, {.real = 0}, {.real = 45.2}, {.real = 0x1p31}}};
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &client, false, 1700000002001), TOB_OK);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &check_in, false, 1700000002001), TOB_OK);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_HEADEND, &headend, false, 1700000002001), TOB_OK);
}

#define C1                  "{client_id=\"client-1\",name=\"Ada's \\\"box\\\" \\\\ 1\",type=\"docker\",headless=\"true\"} "
#define C2                  "{client_id=\"client-2\",name=\"client-2\",type=\"mobile\",headless=\"false\"} "
#define H1                  "{headend_id=\"headend-1\",name=\"headend-us-east-1\",region=\"us-east\",datacenter=\"dc1\"} "
#define GAUGE(name, help)   "# HELP tobogganing_" name " " help "\n# TYPE tobogganing_" name " gauge\n"
#define COUNTER(name, help) "# HELP tobogganing_" name " " help "\n# TYPE tobogganing_" name " counter\n"

// clang-format off
static const char golden_manager[] =
    GAUGE("manager_clusters_total", "Total registered clusters")
    "tobogganing_manager_clusters_total 2\n"
    GAUGE("manager_clients_total", "Total registered clients")
    "tobogganing_manager_clients_total 3\n"
    COUNTER("manager_http_requests_total", "HTTP requests processed")
    "tobogganing_manager_http_requests_total{method=\"POST\","
    "endpoint=\"/api/v1/clients/{client_id}/metrics\",status=\"200\"} 42\n"
    COUNTER("manager_auth_attempts_total", "Authentication attempts")
    "tobogganing_manager_auth_attempts_total{type=\"api_key\",result=\"success\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"api_key\",result=\"failure\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"jwt\",result=\"success\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"jwt\",result=\"failure\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"metrics\",result=\"success\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"metrics\",result=\"failure\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"admin\",result=\"success\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"admin\",result=\"failure\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"cluster\",result=\"success\"} 0\n"
    "tobogganing_manager_auth_attempts_total{type=\"cluster\",result=\"failure\"} 0\n"
    COUNTER("manager_certificates_issued_total", "Certificates issued")
    "tobogganing_manager_certificates_issued_total{type=\"client\"} 0\n"
    "tobogganing_manager_certificates_issued_total{type=\"headend\"} 0\n"
    "tobogganing_manager_certificates_issued_total{type=\"server\"} 0\n"
    COUNTER("manager_unknown_metrics_total", "Metric names in JSON reports that nobody knows")
    "tobogganing_manager_unknown_metrics_total 0\n"
    GAUGE("manager_clients_on_previous_key",
          "Clients that were last heard from with the key before their newest")
    "tobogganing_manager_clients_on_previous_key 5\n"
    GAUGE("manager_certificate_expiry_days", "Days until the first certificate of a type expires");

static const char golden_headends[] =
    GAUGE("headend_active_connections", "Active connections")
    "tobogganing_headend_active_connections" H1 "150\n"
    GAUGE("headend_bandwidth_in_bytes", "Incoming bandwidth")
    "tobogganing_headend_bandwidth_in_bytes" H1 "10485760\n"
    GAUGE("headend_bandwidth_out_bytes", "Outgoing bandwidth")
    GAUGE("headend_cpu_usage_percent", "CPU usage percentage")
    "tobogganing_headend_cpu_usage_percent" H1 "45.2\n"
    GAUGE("headend_memory_usage_bytes", "Memory usage")
    "tobogganing_headend_memory_usage_bytes" H1 "2147483648\n"
    GAUGE("headend_last_check_in_timestamp", "Last check-in time")
    "tobogganing_headend_last_check_in_timestamp" H1 "1700000002.001\n";

static const char golden_clients[] =
    GAUGE("client_bytes_sent", "Bytes sent by client")
    "tobogganing_client_bytes_sent" C1 "1048576\n"
    GAUGE("client_bytes_received", "Bytes received by client")
    "tobogganing_client_bytes_received" C1 "9223372036854775807\n"
    GAUGE("client_packets_sent", "Packets sent by client")
    "tobogganing_client_packets_sent" C1 "0\n"
    GAUGE("client_packets_received", "Packets received by client")
    "tobogganing_client_packets_received" C1 "1500\n"
    GAUGE("client_connection_uptime_seconds", "Connection uptime")
    "tobogganing_client_connection_uptime_seconds" C1 "12345.67\n"
    GAUGE("client_last_check_in_timestamp", "Last check-in time")
    "tobogganing_client_last_check_in_timestamp" C1 "1700000000.5\n"
    "tobogganing_client_last_check_in_timestamp" C2 "1700000001\n";
// clang-format on

static void the_exposition_is_the_contract_to_the_letter(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = manager_with_requests();
    put_fleet(mirror);
    char golden[sizeof(golden_manager) + sizeof(golden_headends) + sizeof(golden_clients)];
    snprintf(golden, sizeof(golden), "%s%s%s", golden_manager, golden_headends, golden_clients);
    char *text = exposition_of(mirror, manager, TOB_PART_ALL);
    assert_string_equal(text, golden);
    free(text);
    text = exposition_in(mirror, manager, TOB_PART_ALL, TOB_EXPOSITION_MIN_ROOM);
    assert_string_equal(text, golden);
    free(text);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void apply_expiry(tob_manager *manager, const char *type, uint64_t unix_s) {
    Tobogganing__V1__CertificateExpiry expiry = TOBOGGANING__V1__CERTIFICATE_EXPIRY__INIT;
    Tobogganing__V1__CertificateExpiry *expiries[] = {&expiry};
    Tobogganing__V1__Manager message = TOBOGGANING__V1__MANAGER__INIT;
    uint64_t ignored = 0;
    expiry.type = (char *)type;
    expiry.not_after_unix_s = unix_s;
    message.n_certificate_expiries = 1;
    message.certificate_expiries = expiries;
    assert_int_equal(tob_manager_apply(manager, 0, &message, 1000, &ignored), TOB_OK);
}

// The one line of the days until certificates end.
static double days_shown(tob_manager *manager, const char *type) {
    tob_mirror *mirror = new_mirror(1, DAY_MS);
    char *text = exposition_of(mirror, manager, TOB_PART_MANAGER), line[128];
    assert_int_equal(count_of(text, "tobogganing_manager_certificate_expiry_days{"), 1);
    snprintf(line, sizeof(line), "\ntobogganing_manager_certificate_expiry_days{type=\"%s\"} ", type);
    const char *at = strstr(text, line);
    assert_non_null(at);
    double days = strtod(at + strlen(line), NULL);
    free(text);
    tob_mirror_free(mirror);
    return days;
}

static void days_until_certificates_end_are_those_of_the_moment_and_may_be_over(void **state) {
    (void)state;
    tob_manager *manager = new_manager();
    uint64_t now = tob_clock_unix_ms() / 1000;
    apply_expiry(manager, "ca", now + 3650 * UINT64_C(86400));
    double days = days_shown(manager, "ca");
    assert_true(days > 3649.99 && days <= 3650);
    apply_expiry(manager, "client", now - 86400 * 3 / 2);
    days = days_shown(manager, "client");
    assert_true(days > -1.51 && days <= -1.5);
    tob_manager_free(manager);
}

static void parts_can_be_taken_alone(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = manager_with_requests();
    put_fleet(mirror);
    char *text = exposition_of(mirror, manager, TOB_PART_HEADEND);
    assert_string_equal(text, golden_headends);
    free(text);
    text = exposition_of(mirror, manager, TOB_PART_CLIENT | TOB_PART_MANAGER);
    assert_int_equal(count_of(text, "# TYPE "), 14);
    assert_int_equal(count_of(text, "tobogganing_headend_"), 0);
    free(text);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void a_fleet_of_several_chunks_is_whole_however_it_is_cut(void **state) {
    (void)state;
    enum { CLIENTS = 2 * TOB_MIRROR_CHUNK_ROWS + 100 };
    tob_mirror *mirror = new_mirror(CLIENTS, DAY_MS);
    tob_manager *manager = new_manager();
    for (unsigned i = 0; i < CLIENTS; i++) {
        char id[24];
        snprintf(id, sizeof(id), "c%u", i);
        tob_mirror_row row = client_row(id, i + 1, i);
        assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, 0), TOB_OK);
    }
    char *whole = exposition_of(mirror, manager, TOB_PART_ALL);
    char *cut = exposition_in(mirror, manager, TOB_PART_ALL, TOB_EXPOSITION_MIN_ROOM + 37);
    assert_string_equal(whole, cut);
    assert_int_equal(count_of(whole, "\ntobogganing_client_bytes_sent{"), CLIENTS);
    assert_int_equal(count_of(whole, "\ntobogganing_client_last_check_in_timestamp{"), CLIENTS);
    assert_int_equal(count_of(whole, "\ntobogganing_client_packets_sent{"), 0);
    free(whole);
    free(cut);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

static void a_source_that_comes_during_a_scrape_waits_for_the_next(void **state) {
    (void)state;
    tob_mirror *mirror = new_mirror(10, DAY_MS);
    tob_manager *manager = new_manager();
    tob_mirror_row row = client_row("before", 1, 1);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, 0), TOB_OK);
    tob_exposition e;
    char piece[65536];
    tob_exposition_init(&e, mirror, manager, TOB_PART_CLIENT);
    row = client_row("during", 2, 2);
    assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, false, 0), TOB_OK);
    size_t n = tob_exposition_read(&e, piece, sizeof(piece) - 1);
    piece[n] = 0;
    assert_int_equal(count_of(piece, "before"), 2);
    assert_int_equal(count_of(piece, "during"), 0);
    assert_int_equal(tob_exposition_read(&e, piece, sizeof(piece)), 0);
    assert_int_equal(bytes_sent_of(mirror, "during"), 2);
    tob_manager_free(manager);
    tob_mirror_free(mirror);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exposition_is_the_contract_to_the_letter),
        cmocka_unit_test(days_until_certificates_end_are_those_of_the_moment_and_may_be_over),
        cmocka_unit_test(parts_can_be_taken_alone),
        cmocka_unit_test(a_fleet_of_several_chunks_is_whole_however_it_is_cut),
        cmocka_unit_test(a_source_that_comes_during_a_scrape_waits_for_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
