#include "tests/unit/gateway/fixture.h"

static size_t pack_submit(uint8_t *to, size_t size) {
    tob_batch_builder *builder = NULL;
    tob_client_sample sample = {.time_unix_ms = 1, .present = 1, .values = {5}};
    tob_buffer out;
    tob_buffer_init(&out, size);
    assert_int_equal(tob_batch_builder_new("agent", 1, 1u << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, "bad1", "tobk_p", false, &sample, 1), TOB_OK);
    assert_int_equal(tob_batch_pack(builder, 1, &out), TOB_OK);
    size_t n = out.len;
    memcpy(to, out.data, n);
    tob_buffer_fini(&out);
    tob_batch_builder_free(builder);
    return n;
}

static void protobuf_batches_pass_through(void **state) {
    static const char path[] = "/tobogganing.v1.Ingest/Submit";
    fixture *f = start();
    uint8_t body[1000];
    uint8_t zipped[1000];
    (void)state;
    f->reject = "bad";
    size_t n = pack_submit(body, sizeof(body));
    const char *text = post_bytes(f, path, "Content-Type: application/x-protobuf\r\n", body, n);
    assert_has(text, "HTTP/1.1 200 OK");
    assert_has(text, "content-type: application/x-protobuf");
    assert_has(text, "credential: wrong"); // the rejection's reason, in the message
    assert_string_equal(f->last->agent_id, "agent");
    n = gzip(body, n, zipped, sizeof(zipped));
    assert_has(post_bytes(f, path, "Content-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n",
                          zipped, n),
               "HTTP/1.1 200 OK");
    assert_has(post_bytes(f, path, "Content-Type: application/x-protobuf\r\n", "\x0a\x01\xff", 3),
               "HTTP/1.1 400");
    assert_has(post_bytes(f, path, JSON, "{}", 2), "HTTP/1.1 415");
    f->fails = TOB_UNAVAILABLE;
    n = pack_submit(body, sizeof(body));
    text = post_bytes(f, path, "Content-Type: application/x-protobuf\r\n", body, n);
    assert_has(text, "HTTP/1.1 503");
    assert_has(text, "content-type: application/json");
    stop(f);
}

static void a_scrape_is_relayed_with_its_credentials_and_nothing_else(void **state) {
    fixture *f = start();
    char want[256];
    (void)state;
    const char *text = ask(
        f,
        "GET /metrics?collect[]=client HTTP/1.1\r\nHost: evil.example\r\nCookie: c\r\nConnection: close\r\n"
        "Authorization: Bearer scrape\r\nAccept: text/plain\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_has(text, "HTTP/1.1 200 OK");
    assert_has(text, "content-type: text/plain; version=0.0.4\r\n");
    assert_has(text, "content-encoding: gzip\r\n");
    assert_has(text, "Content-Length: 8\r\n");
    assert_has(text, "\r\n\r\nmetrics\n");
    assert_null(strstr(text, "x-internal"));
    snprintf(want, sizeof(want), "[Bearer scrape] [collect[]=client] [text/plain] [gzip] [127.0.0.1:%u] []",
             tob_http_server_port(f->exporter));
    assert_string_equal(f->exporter_saw, want);
    text = ask(f, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 401");
    assert_has(text, "www-authenticate: Bearer\r\n");
    text = ask(f, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer scrape\r\n\r\n");
    assert_has(text, "HTTP/1.1 200");
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    stop(f);
}

static void a_long_scrape_is_streamed_also_to_a_slow_reader(void **state) {
    fixture *f = start();
    (void)state;
    int fd = peer_dial(tob_gateway_port(f->gateway));
    int small = 65536; // less than the gateway reads ahead
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    peer_put(fd,
             "GET /metrics?big HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\nConnection: close\r\n\r\n");
    const char *text = peer_get_all(fd);
    size_t count = 0;
    for (const char *at = strstr(text, "\r\n\r\n"); at && *at; at++) {
        count += *at == 'x';
    }
    assert_int_equal(count, 100 * 65536);
    assert_string_equal(text + strlen(text) - 5, "0\r\n\r\n");
    close(fd);
    stop(f);
}

static void an_exporter_that_is_away_is_503(void **state) {
    fixture *f = start();
    (void)state;
    tob_http_server_stop(f->exporter, 0);
    const char *text = ask(f, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 503");
    assert_has(text, "{\"error\":\"the exporter is not reachable\"}");
    assert_has(text, "retry-after: ");
    stop(f);
}

// Asks until the status is as wanted; ticks, as main does.
static const char *wait_ready(fixture *f, const char *want) {
    uint64_t deadline_ms = tob_clock_monotonic_ms() + PEER_DEADLINE_MS;
    const char *text = NULL;
    do {
        tob_gateway_tick(f->gateway);
        text = ask(f, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    } while (!strstr(text, want) && tob_clock_monotonic_ms() < deadline_ms);
    assert_has(text, want);
    return text;
}

static void readiness_is_ingestds(void **state) {
    fixture *f = start();
    (void)state;
    wait_ready(f, "HTTP/1.1 200");
    pthread_mutex_lock(&f->mutex);
    f->not_serving = true;
    pthread_mutex_unlock(&f->mutex);
    assert_has(wait_ready(f, "HTTP/1.1 503"), "the disk is full");
    assert_has(ask(f, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    stop(f);
}

static void responses_and_unknown_metrics_are_counted_and_reported(void **state) {
    fixture *f = start();
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_has(post(f, CLIENT, "{\"metrics\":{\"bytes_sent\":1,\"novel\":2,\"other\":3}}"),
                   "HTTP/1.1 200");
    }
    tob_gateway_stop(f->gateway, PEER_DEADLINE_MS); // reports once more
    assert_int_equal(f->http_requests, 3);
    assert_int_equal(f->unknown_metrics, 6);
    stop(f);
}

static void a_wrong_url_names_its_option(void **state) {
    tob_gateway_options options = {.listen = "127.0.0.1:0",
                                   .ingest = "tcp://127.0.0.1:1",
                                   .exporter = "ftp://x",
                                   .cluster_token = "t",
                                   .workers = 1,
                                   .max_body_bytes = 1,
                                   .request_timeout_ms = 1000};
    tob_gateway *gateway = NULL;
    const char *option = NULL;
    (void)state;
    assert_int_equal(tob_gateway_new(&options, &option, &gateway), TOB_INVALID);
    assert_string_equal(option, "exporter");
    options.exporter = "http://x";
    options.ingest = "nonsense";
    assert_int_equal(tob_gateway_new(&options, &option, &gateway), TOB_INVALID);
    assert_string_equal(option, "ingest");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(protobuf_batches_pass_through),
        cmocka_unit_test(a_scrape_is_relayed_with_its_credentials_and_nothing_else),
        cmocka_unit_test(a_long_scrape_is_streamed_also_to_a_slow_reader),
        cmocka_unit_test(an_exporter_that_is_away_is_503),
        cmocka_unit_test(readiness_is_ingestds),
        cmocka_unit_test(responses_and_unknown_metrics_are_counted_and_reported),
        cmocka_unit_test(a_wrong_url_names_its_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
