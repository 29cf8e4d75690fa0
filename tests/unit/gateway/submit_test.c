#include "tests/unit/gateway/fixture.h"

static void the_documented_client_report_is_stored(void **state) {
    fixture *f = start();
    (void)state;
    const char *text =
        post(f, CLIENT,
             "{\"headless\": true, \"metrics\": {\"bytes_sent\": 1048576, \"bytes_received\": 2097152, "
             "\"packets_sent\": 1000, \"packets_received\": 1e3, \"connection_uptime\": 12345.67}}");
    assert_has(text, "HTTP/1.1 200 OK");
    assert_has(text, "\r\n\r\n{\"status\":\"metrics_received\"}");
    assert_has(text, "content-type: application/json");
    const Tobogganing__V1__ClientSeries *c = last_client(f);
    assert_string_equal(c->client_id, "c1");
    assert_true(c->headless);
    assert_int_equal(c->n_time_unix_ms, 1);
    assert_in_range(c->time_unix_ms[0], tob_clock_unix_ms() - PEER_DEADLINE_MS, tob_clock_unix_ms());
    assert_int_equal(c->bytes_sent[0], 1048576);
    assert_int_equal(c->packets_received[0], 1000);
    assert_int_equal(c->connection_uptime_ms[0], 12345670);
    assert_string_equal(f->last_credential, "tobk_x");
    assert_memory_equal(f->last->agent_id, "gateway-", 8);
    stop(f);
}

static void the_documented_headend_report_is_stored(void **state) {
    fixture *f = start();
    (void)state;
    assert_has(post(f, HEADEND,
                    "{\"headend_name\": \"east-1\", \"metrics\": {\"active_connections\": 150, "
                    "\"cpu_usage\": 45.2}}"),
               "HTTP/1.1 200 OK");
    assert_int_equal(f->last->n_headends, 1);
    const Tobogganing__V1__HeadendSeries *h = f->last->headends[0];
    assert_string_equal(h->headend_id, "h1");
    assert_string_equal(h->name, "east-1");
    assert_true(h->cpu_usage[0] == 45.2);
    assert_int_equal(h->n_memory_usage, 0);
    assert_has(post(f, HEADEND, "{}"), "HTTP/1.1 200 OK");
    assert_string_equal(f->last->headends[0]->name, "");
    stop(f);
}

static void a_check_in_has_no_values(void **state) {
    static const char *const bodies[] = {"{}", "{\"metrics\":{}}", "{\"headless\":false}"};
    fixture *f = start();
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        assert_has(post(f, CLIENT, bodies[i]), "HTTP/1.1 200 OK");
        assert_int_equal(last_client(f)->n_time_unix_ms, 1);
        assert_int_equal(last_client(f)->n_bytes_sent, 0);
        assert_false(last_client(f)->headless);
    }
    stop(f);
}

static void what_is_wrong_with_the_body_is_400_with_the_place(void **state) {
    static const struct {
        const char *body;
        const char *text;
    } table[] = {{"{\"metrics\":\n {\"bytes_sent\": }}", "line 2"},
                 {"", "the body is empty"},
                 {"{\"metrics\":{\"bytes_sent\":-1}}", "metrics.bytes_sent"},
                 {"{\"metrics\":{\"bytes_sent\":\"1\"}}", "metrics.bytes_sent"},
                 {"{\"metrics\":{\"bytes_sent\":1.5}}", "metrics.bytes_sent"},
                 {"{\"metrics\":{\"bytes_sent\":NaN}}", "line 1"},
                 {"{\"metrics\":{\"bytes_sent\":9223372036854775808}}", "{\"error\":\""},
                 {"{\"metrics\":{\"bytes_sent\":1,\"bytes_sent\":2}}", "{\"error\":\""},
                 {"{\"headless\":1}", "headless"},
                 {"[]", "{\"error\":\""},
                 {"{} x", "{\"error\":\""}};
    fixture *f = start();
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        const char *text = post(f, CLIENT, table[i].body);
        assert_has(text, "HTTP/1.1 400 Bad Request");
        assert_has(text, table[i].text);
    }
    assert_int_equal(f->batches, 0);
    assert_has(post(f, "/api/v1/clients/a%20b/metrics", "{}"), "HTTP/1.1 400");
    assert_has(post(f, HEADEND, "{\"headend_name\":5}"), "headend_name");
    stop(f);
}

static void a_request_without_a_proper_token_is_401(void **state) {
    static const char *const headers[] = {"", "Authorization: Basic abc\r\n", "Authorization: Bearer\r\n",
                                          "Authorization: Bearer a b\r\n", "Authorization: Bearer \xff\r\n"};
    fixture *f = start();
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
        const char *text = post_bytes(f, CLIENT, headers[i], "{}", 2);
        assert_has(text, "HTTP/1.1 401 Unauthorized");
        assert_has(text, "www-authenticate: Bearer\r\n");
    }
    assert_int_equal(f->batches, 0);
    stop(f);
}

static void other_content_types_are_415(void **state) {
    fixture *f = start();
    (void)state;
    assert_has(post_bytes(f, CLIENT, TOKEN "Content-Type: application/x-www-form-urlencoded\r\n", "{}", 2),
               "HTTP/1.1 415");
    assert_has(post_bytes(f, CLIENT, TOKEN "Content-Type: application/json; charset=utf-8\r\n", "{}", 2),
               "HTTP/1.1 200");
    assert_has(post_bytes(f, CLIENT, TOKEN, "{}", 2), "HTTP/1.1 200");
    const char *text = post_bytes(f, CLIENT, JSON "Content-Encoding: br\r\n", "{}", 2);
    assert_has(text, "HTTP/1.1 415");
    assert_has(text, "accept-encoding: gzip\r\n");
    stop(f);
}

static void gzip_bodies_are_decoded_up_to_their_limit(void **state) {
    static const char body[] = "{\"metrics\":{\"bytes_sent\":77}}";
    fixture *f = start();
    uint8_t zipped[4096];
    (void)state;
    size_t n = gzip(body, strlen(body), zipped, sizeof(zipped));
    assert_has(post_bytes(f, CLIENT, JSON "Content-Encoding: gzip\r\n", zipped, n), "HTTP/1.1 200");
    assert_int_equal(last_client(f)->bytes_sent[0], 77);
    assert_has(post_bytes(f, CLIENT, JSON "Content-Encoding: gzip\r\n", zipped, n - 9), "HTTP/1.1 400");
    assert_has(post_bytes(f, CLIENT, JSON "Content-Encoding: gzip\r\n", body, strlen(body)), "HTTP/1.1 400");
    stop(f);
}

static void a_body_one_byte_over_a_limit_is_413(void **state) {
    fixture *f = start();
    size_t size = TOB_GATEWAY_MAX_INFLATED_JSON + 1;
    char *body = malloc(size);
    uint8_t zipped[4096];
    (void)state;
    memset(body, ' ', size);
    memcpy(body, "{}", 2);
    assert_has(post_bytes(f, CLIENT, JSON, body, 2000), "HTTP/1.1 200");
    assert_has(post_bytes(f, CLIENT, JSON, body, 2001), "HTTP/1.1 413");
    size_t n = gzip(body, size - 1, zipped, sizeof(zipped));
    assert_has(post_bytes(f, CLIENT, JSON "Content-Encoding: gzip\r\n", zipped, n), "HTTP/1.1 200");
    n = gzip(body, size, zipped, sizeof(zipped));
    assert_has(post_bytes(f, CLIENT, JSON "Content-Encoding: gzip\r\n", zipped, n), "HTTP/1.1 413");
    free(body);
    stop(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_client_report_is_stored),
        cmocka_unit_test(the_documented_headend_report_is_stored),
        cmocka_unit_test(a_check_in_has_no_values),
        cmocka_unit_test(what_is_wrong_with_the_body_is_400_with_the_place),
        cmocka_unit_test(a_request_without_a_proper_token_is_401),
        cmocka_unit_test(other_content_types_are_415),
        cmocka_unit_test(gzip_bodies_are_decoded_up_to_their_limit),
        cmocka_unit_test(a_body_one_byte_over_a_limit_is_413),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
