#include "tobogganing/v1/reports.pb-c.h"

#include "tests/unit/gateway/fixture.h"
#include "util/secret.h"

#define SERVERS 3

// One ingestd of several.
typedef struct server {
    tob_rpc_server *rpc;
    tob_error fails;
    uint32_t retry_ms;
    const char *text;
    const Tobogganing__V1__LastReport *report;
    atomic_uint calls;
    char saw[256]; // id, credential and the caller's address
} server;

typedef struct fleet {
    server servers[SERVERS];
    tob_secrets *cluster_secrets;
    tob_gateway *gateway;
} fleet;

static void on_last(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    server *s = user;
    const Tobogganing__V1__LastRequest *request = (const Tobogganing__V1__LastRequest *)message;
    snprintf(s->saw, sizeof(s->saw), "[%s] [%s] [%s] [%s]", request->client_id, request->headend_id,
             request->credential, tob_rpc_call_peer(call));
    atomic_fetch_add(&s->calls, 1);
    if (s->fails) {
        tob_rpc_fail(call, s->fails, s->retry_ms, "%s", s->text);
    } else {
        tob_rpc_reply(call, &s->report->base);
    }
}

static void start_server(server *s, tob_secrets *secrets) {
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 8,
                                      .max_connections = 16,
                                      .max_message_bytes = 1u << 20,
                                      .max_inflated_bytes = 1u << 20,
                                      .max_arena_bytes = 1u << 20,
                                      .forwarder_secrets = secrets};
    s->fails = TOB_NOT_FOUND;
    s->text = "client_id: has not reported";
    assert_int_equal(tob_rpc_server_new(&options, &s->rpc), TOB_OK);
    assert_int_equal(tob_rpc_server_add(s->rpc, &tobogganing__v1__reports__descriptor, "Last", on_last, s),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(s->rpc), TOB_OK);
}

static const char *get(const fleet *f, const char *path) {
    char request[256];
    int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n" TOKEN "\r\n", path);
    return peer_ask(tob_gateway_port(f->gateway), request, (size_t)n);
}

static unsigned asked(fleet *f) {
    unsigned count = 0;
    for (size_t i = 0; i < SERVERS; i++) {
        count += atomic_load(&f->servers[i].calls);
    }
    return count;
}

// All are asked once the gateway is connected to all.
static void wait_connected(fleet *f) {
    uint64_t deadline_ms = tob_clock_monotonic_ms() + PEER_DEADLINE_MS;
    unsigned before = 0;
    do {
        before = asked(f);
        get(f, CLIENT);
    } while (asked(f) - before < SERVERS && tob_clock_monotonic_ms() < deadline_ms);
    assert_int_equal(asked(f) - before, SERVERS);
}

static fleet *start_fleet(void) {
    fleet *f = calloc(1, sizeof(*f));
    char urls[256] = "";
    const char *option = NULL;
    assert_int_equal(tob_secrets_new("cluster-secret", NULL, &f->cluster_secrets), TOB_OK);
    for (size_t i = 0; i < SERVERS; i++) {
        start_server(&f->servers[i], f->cluster_secrets);
        snprintf(urls + strlen(urls), sizeof(urls) - strlen(urls), "%stcp://127.0.0.1:%u", i ? "," : "",
                 tob_rpc_server_port(f->servers[i].rpc));
    }
    tob_gateway_options options = {.listen = "127.0.0.1:0",
                                   .ingest = urls,
                                   .exporter = "http://127.0.0.1:1",
                                   .cluster_token = "cluster-secret",
                                   .workers = 1,
                                   .max_connections = 100,
                                   .max_body_bytes = 2000,
                                   .request_timeout_ms = 2000};
    assert_int_equal(tob_gateway_new(&options, &option, &f->gateway), TOB_OK);
    assert_int_equal(tob_gateway_start(f->gateway), TOB_OK);
    wait_connected(f);
    return f;
}

static void stop_fleet(fleet *f) {
    tob_gateway_stop(f->gateway, PEER_DEADLINE_MS);
    tob_gateway_free(f->gateway);
    for (size_t i = 0; i < SERVERS; i++) {
        tob_rpc_server_stop(f->servers[i].rpc);
        tob_rpc_server_free(f->servers[i].rpc);
    }
    tob_secrets_free(f->cluster_secrets);
    free(f);
}

static char name[] = "Laptop \"1\"";
static char id[] = "c1";
static char type[] = "native";
static char h1[] = "h1";
static char eu[] = "eu";
static char fra[] = "fra";

static Tobogganing__V1__ClientRow client_row(uint64_t check_in_ms) {
    Tobogganing__V1__ClientRow row = TOBOGGANING__V1__CLIENT_ROW__INIT;
    row.client_id = id;
    row.name = name;
    row.type = type;
    row.last_check_in_unix_ms = check_in_ms;
    return row;
}

static void nobody_knows_it_is_404(void **state) {
    fleet *f = start_fleet();
    (void)state;
    const char *text = get(f, CLIENT);
    assert_has(text, "HTTP/1.1 404");
    assert_has(text, "has not reported");
    assert_string_equal(f->servers[0].saw, "[c1] [] [tobk_x] [127.0.0.1]");
    get(f, HEADEND);
    assert_string_equal(f->servers[2].saw, "[] [h1] [tobk_x] [127.0.0.1]");
    stop_fleet(f);
}

static void the_latest_check_in_wins(void **state) {
    fleet *f = start_fleet();
    Tobogganing__V1__LastReport reports[2] = {TOBOGGANING__V1__LAST_REPORT__INIT,
                                              TOBOGGANING__V1__LAST_REPORT__INIT};
    Tobogganing__V1__ClientRow rows[2] = {client_row(1700000000123), client_row(1700000000122)};
    (void)state;
    rows[0].present = 1 << TOB_CLIENT_BYTES_SENT | 1 << TOB_CLIENT_CONNECTION_UPTIME;
    rows[0].bytes_sent = INT64_MAX;
    rows[0].bytes_received = 7; // was never reported
    rows[0].connection_uptime_ms = 12345670;
    rows[0].headless = true;
    for (size_t turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < 2; i++) {
            reports[i].client = &rows[(i + turn) % 2];
            f->servers[i + 1].report = &reports[i];
            f->servers[i + 1].fails = TOB_OK;
        }
        const char *text = get(f, CLIENT);
        assert_has(text, "HTTP/1.1 200");
        assert_has(text, "cache-control: no-store");
        assert_has(text, "\r\n\r\n{\"client_id\":\"c1\",\"name\":\"Laptop "
                         "\\\"1\\\"\",\"type\":\"native\",\"headless\":true,"
                         "\"last_check_in\":1700000000.123,\"metrics\":{\"bytes_sent\":9223372036854775807,"
                         "\"connection_uptime\":12345.67}}");
    }
    stop_fleet(f);
}

static void a_headends_gauges_are_read_back_as_they_are(void **state) {
    fleet *f = start_fleet();
    Tobogganing__V1__LastReport report = TOBOGGANING__V1__LAST_REPORT__INIT;
    Tobogganing__V1__HeadendRow row = TOBOGGANING__V1__HEADEND_ROW__INIT;
    (void)state;
    row.headend_id = h1;
    row.name = h1;
    row.region = eu;
    row.datacenter = fra;
    row.last_check_in_unix_ms = 1700000000000;
    row.present = 0x1f;
    row.active_connections = 150;
    row.bandwidth_in = 9223372036854775808.0;
    row.bandwidth_out = 0.1 + 0.2;
    row.cpu_usage = 45.2;
    row.memory_usage = 2147483648;
    report.headend = &row;
    f->servers[1].report = &report;
    f->servers[1].fails = TOB_OK;
    const char *text = get(f, HEADEND);
    assert_has(
        text,
        "\r\n\r\n{\"headend_id\":\"h1\",\"headend_name\":\"h1\",\"region\":\"eu\",\"datacenter\":\"fra\","
        "\"last_check_in\":1700000000,\"metrics\":{\"active_connections\":150,");
    assert_has(text, "\"bandwidth_out\":0.30000000000000004");
    assert_has(text, "\"memory_usage\":2147483648}}");
    row.bandwidth_out = 0.3;
    row.present = 1 << TOB_HEADEND_BANDWIDTH_OUT | 1 << TOB_HEADEND_CPU_USAGE;
    assert_has(get(f, HEADEND), "\"metrics\":{\"bandwidth_out\":0.3,\"cpu_usage\":45.2}}");
    stop_fleet(f);
}

static void a_wrong_credential_is_tried_at_one_only(void **state) {
    fleet *f = start_fleet();
    (void)state;
    for (size_t i = 0; i < SERVERS; i++) {
        f->servers[i].fails = TOB_UNAUTHENTICATED;
        f->servers[i].text = "credential: wrong";
    }
    unsigned before = asked(f);
    assert_has(get(f, CLIENT), "HTTP/1.1 401");
    assert_int_equal(asked(f), before + 1);
    f->servers[0].retry_ms = 1001;
    const char *text = get(f, CLIENT);
    assert_has(text, "HTTP/1.1 429");
    assert_has(text, "retry-after: 2\r\n");
    f->servers[0].fails = TOB_PERMISSION_DENIED;
    assert_has(get(f, HEADEND), "HTTP/1.1 403");
    stop_fleet(f);
}

static void while_one_can_not_say_it_is_503_unless_another_knows(void **state) {
    fleet *f = start_fleet();
    Tobogganing__V1__LastReport report = TOBOGGANING__V1__LAST_REPORT__INIT;
    Tobogganing__V1__ClientRow row = client_row(1700000000000);
    (void)state;
    f->servers[0].fails = TOB_UNAVAILABLE;
    assert_has(get(f, CLIENT), "HTTP/1.1 503");
    report.client = &row;
    f->servers[2].report = &report;
    f->servers[2].fails = TOB_OK;
    assert_has(get(f, CLIENT), "HTTP/1.1 200");
    f->servers[2].fails = TOB_NOT_FOUND;
    f->servers[0].fails = TOB_NOT_FOUND;
    assert_has(get(f, CLIENT), "HTTP/1.1 404");
    tob_rpc_server_stop(f->servers[1].rpc);
    assert_has(get(f, CLIENT), "HTTP/1.1 503");
    stop_fleet(f);
}

static void an_answer_that_is_none_is_not_shown(void **state) {
    fleet *f = start_fleet();
    Tobogganing__V1__LastReport report = TOBOGGANING__V1__LAST_REPORT__INIT;
    (void)state;
    f->servers[0].report = &report; // neither client nor headend
    f->servers[0].fails = TOB_OK;
    assert_has(get(f, CLIENT), "HTTP/1.1 502");
    stop_fleet(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_knows_it_is_404),
        cmocka_unit_test(the_latest_check_in_wins),
        cmocka_unit_test(a_headends_gauges_are_read_back_as_they_are),
        cmocka_unit_test(a_wrong_credential_is_tried_at_one_only),
        cmocka_unit_test(while_one_can_not_say_it_is_503_unless_another_knows),
        cmocka_unit_test(an_answer_that_is_none_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
