#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "exporter/scrape.h"
#include "support.h"
#include "util/buffer.h"
#include "util/clock.h"
#include "wire/compress.h"

#define DEADLINE_S  20
#define MAX_SCRAPES 2
#define CLIENTS     40000
#define AUTH        "Authorization: Bearer right\r\n"

typedef struct setup {
    tob_mirror *mirror;
    tob_manager *manager;
    tob_instances *instances;
    tob_secrets *tokens;
    tob_process *process;
    tob_counter *success;
    tob_counter *failure;
    tob_scrape *scrape;
    tob_http_server *server;
} setup;

static setup start_with(uint64_t stall_ms, unsigned parts) {
    setup s = {.mirror = new_mirror(CLIENTS, DAY_MS), .manager = new_manager()};
    tob_moment now = {.monotonic_ms = 1, .unix_ms = 1};
    tob_instances_options followed = {.mirror = s.mirror, .manager = s.manager, .ready_timeout_ms = DAY_MS};
    assert_int_equal(tob_instances_new(&followed, now, &s.instances), TOB_OK);
    assert_int_equal(tob_secrets_new("right,also-right", NULL, &s.tokens), TOB_OK);
    assert_int_equal(tob_process_new("exporter", &s.process), TOB_OK);
    Tobogganing__V1__CounterFamily family = TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    s.success = tob_process_counter(s.process, family, "metrics", "success", NULL);
    s.failure = tob_process_counter(s.process, family, "metrics", "failure", NULL);
    tob_scrape_options options = {.mirror = s.mirror,
                                  .manager = s.manager,
                                  .instances = s.instances,
                                  .parts = parts,
                                  .tokens = s.tokens,
                                  .auth_success = s.success,
                                  .auth_failure = s.failure,
                                  .max_scrapes = MAX_SCRAPES,
                                  .stall_ms = stall_ms};
    assert_int_equal(tob_scrape_new(&options, &s.scrape), TOB_OK);
    tob_http_server_options http = {.listen = "127.0.0.1:0",
                                    .workers = 2,
                                    .max_connections = 100,
                                    .on_worker_start = tob_scrape_worker_start,
                                    .on_worker_stop = tob_scrape_worker_stop,
                                    .user = s.scrape};
    assert_int_equal(tob_http_server_new(&http, &s.server), TOB_OK);
    assert_int_equal(tob_scrape_register(s.scrape, s.server), TOB_OK);
    assert_int_equal(tob_http_server_start(s.server), TOB_OK);
    return s;
}

static setup start(uint64_t stall_ms) {
    return start_with(stall_ms, TOB_PART_ALL);
}

static void stop(setup *s) {
    tob_http_server_stop(s->server, 2000);
    tob_http_server_free(s->server);
    tob_scrape_free(s->scrape);
    tob_process_free(s->process);
    tob_secrets_free(s->tokens);
    tob_instances_free(s->instances);
    tob_manager_free(s->manager);
    tob_mirror_free(s->mirror);
}

static void fill(tob_mirror *mirror, unsigned clients) {
    for (unsigned i = 0; i < clients; i++) {
        char id[24];
        snprintf(id, sizeof(id), "client-%06u", i);
        tob_mirror_row row = client_row(id, 1, i);
        assert_int_equal(tob_mirror_put(mirror, TOB_SOURCE_CLIENT, &row, true, 0), TOB_OK);
    }
}

// Ends the first snapshot; the mirror keeps what it has.
static void make_ready(setup *s, unsigned clients) {
    uint64_t last[TOB_BUS_BUCKETS] = {0};
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    tob_page_request request;
    const tob_behind behind = {.known = true};
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    tob_moment now = {.monotonic_ms = 2, .unix_ms = 2};
    message.topic = TOB_BUS_TOPIC_HEARTBEAT;
    message.heartbeat = &heartbeat;
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    heartbeat.last_sequences = last;
    tob_instances_bus(s->instances, &message, now);
    assert_true(tob_instances_request(s->instances, 0, now, &request));
    fill(s->mirror, clients);
    page.n_last_sequences = TOB_BUS_BUCKETS;
    page.last_sequences = last;
    tob_instances_snapshot(s->instances, 0, &page, 100, now);
    tob_instances_check_ready(s->instances, &behind, 1, 1, now);
    assert_true(tob_instances_ready(s->instances));
}

static int open_socket(const setup *s, int receive_bytes) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(tob_http_server_port(s->server))};
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    if (receive_bytes) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void send_request(int fd, const char *method, const char *path, const char *headers) {
    char request[1024];
    int n = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
                     method, path, headers);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

typedef struct response {
    int status;
    char *head; // with its last empty line, a string
    tob_buffer body;
    bool whole; // it came to its end
} response;

static void read_to_end(int fd, tob_buffer *all) {
    char piece[65536];
    for (;;) {
        ssize_t n = recv(fd, piece, sizeof(piece), 0);
        if (n <= 0) {
            close(fd);
            return;
        }
        assert_int_equal(tob_buffer_append(all, piece, (size_t)n), TOB_OK);
    }
}

// Chunked coding, RFC 9112 §7.1. False when the last chunk is missing.
static bool unchunk(const char *at, const char *end, tob_buffer *to) {
    while (at < end) {
        char *line_end = NULL;
        size_t n = strtoul(at, &line_end, 16);
        const char *data = line_end + 2;
        if (n == 0 && data <= end && memcmp(line_end, "\r\n", 2) == 0) {
            return true;
        }
        if (n == 0 || n > (size_t)(end - data)) {
            return false;
        }
        assert_int_equal(tob_buffer_append(to, data, n), TOB_OK);
        at = data + n + 2;
    }
    return false;
}

static response read_response(int fd) {
    response r = {.status = 0};
    tob_buffer all;
    tob_buffer_init(&all, 256u << 20);
    tob_buffer_init(&r.body, 256u << 20);
    read_to_end(fd, &all);
    assert_int_equal(tob_buffer_append(&all, "", 1), TOB_OK);
    const char *text = (const char *)all.data;
    const char *end = text + all.len - 1;
    const char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    body += 4;
    r.status = atoi(text + strlen("HTTP/1.1 "));
    r.head = strndup(text, (size_t)(body - text));
    if (strstr(r.head, "transfer-encoding: chunked")) {
        r.whole = unchunk(body, end, &r.body);
    } else {
        r.whole = true;
        assert_int_equal(tob_buffer_append(&r.body, body, (size_t)(end - body)), TOB_OK);
    }
    tob_buffer_fini(&all);
    return r;
}

static void free_response(response *r) {
    free(r->head);
    tob_buffer_fini(&r->body);
}

static response get(const setup *s, const char *method, const char *path, const char *headers) {
    int fd = open_socket(s, 0);
    send_request(fd, method, path, headers);
    return read_response(fd);
}

static void expect(const setup *s, const char *method, const char *path, const char *headers, int status,
                   const char *in_head) {
    response r = get(s, method, path, headers);
    assert_int_equal(r.status, status);
    if (!strstr(r.head, in_head)) {
        fail_msg("%s %s: no '%s' in %s", method, path, in_head, r.head);
    }
    free_response(&r);
}

static void assert_body_is_exposition(const setup *s, const void *body, size_t n, unsigned parts) {
    char *text = exposition_of(s->mirror, s->manager, parts);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(body, text, n);
    free(text);
}

static void a_scrape_needs_the_token(void **state) {
    (void)state;
    setup s = start(5000);
    make_ready(&s, 1);
    expect(&s, "GET", "/metrics", "", 401, "\r\nwww-authenticate: Bearer\r\n");
    expect(&s, "GET", "/metrics", "Authorization: Bearer wrong\r\n", 401, "\r\nwww-authenticate: Bearer\r\n");
    expect(&s, "GET", "/metrics", "Authorization: Basic right\r\n", 401, "");
    expect(&s, "GET", "/metrics", "Authorization: Bearer \r\n", 401, "");
    expect(&s, "GET", "/metrics", "Authorization: Bearer also-right\r\n", 200, "");
    expect(&s, "GET", "/metrics", AUTH, 200,
           "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n");
    assert_int_equal(tob_counter_value(s.success), 2);
    assert_int_equal(tob_counter_value(s.failure), 4);
    stop(&s);
}

static void nothing_is_shown_before_the_first_snapshot(void **state) {
    (void)state;
    setup s = start(5000);
    fill(s.mirror, 3);
    expect(&s, "GET", "/metrics", AUTH, 503, "\r\nretry-after: 1\r\n");
    expect(&s, "GET", "/metrics", "", 401, "");
    expect(&s, "GET", "/readyz", "", 503, "\r\nretry-after: 1\r\n");
    expect(&s, "GET", "/healthz", "", 200, "");
    expect(&s, "GET", "/", "", 200, "");
    make_ready(&s, 3);
    expect(&s, "GET", "/metrics", AUTH, 200, "");
    expect(&s, "GET", "/readyz", "", 200, "");
    stop(&s);
}

static void a_large_scrape_is_whole_as_text_and_as_gzip(void **state) {
    (void)state;
    setup s = start(5000);
    make_ready(&s, CLIENTS);
    response r = get(&s, "GET", "/metrics", AUTH);
    assert_int_equal(r.status, 200);
    assert_true(r.whole);
    assert_null(strstr(r.head, "content-encoding"));
    assert_body_is_exposition(&s, r.body.data, r.body.len, TOB_PART_ALL);
    free_response(&r);

    tob_buffer text;
    tob_buffer_init(&text, 256u << 20);
    r = get(&s, "GET", "/metrics", AUTH "Accept-Encoding: br;q=0.1, gzip\r\n");
    assert_true(r.whole);
    assert_non_null(strstr(r.head, "\r\ncontent-encoding: gzip\r\n"));
    assert_non_null(strstr(r.head, "\r\nvary: accept-encoding\r\n"));
    assert_int_equal(tob_gunzip(r.body.data, r.body.len, &text), TOB_OK);
    assert_body_is_exposition(&s, text.data, text.len, TOB_PART_ALL);
    free_response(&r);
    tob_buffer_fini(&text);
    stop(&s);
}

static void head_has_the_headers_and_no_body(void **state) {
    (void)state;
    setup s = start(5000);
    make_ready(&s, 10);
    response r = get(&s, "HEAD", "/metrics", AUTH);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.len, 0);
    assert_non_null(strstr(r.head, "content-type: text/plain; version=0.0.4"));
    free_response(&r);
    expect(&s, "HEAD", "/metrics", "", 401, "");
    expect(&s, "POST", "/metrics", AUTH "Content-Length: 0\r\n", 405, "\r\nallow: ");
    stop(&s);
}

static void collect_selects_parts(void **state) {
    (void)state;
    setup s = start(5000);
    make_ready(&s, 10);
    response r = get(&s, "GET", "/metrics?collect[]=manager", AUTH);
    assert_body_is_exposition(&s, r.body.data, r.body.len, TOB_PART_MANAGER);
    free_response(&r);
    r = get(&s, "GET", "/metrics?x=1&collect%5b%5D=client&collect[]=headend", AUTH);
    assert_body_is_exposition(&s, r.body.data, r.body.len, TOB_PART_CLIENT | TOB_PART_HEADEND);
    free_response(&r);
    r = get(&s, "GET", "/metrics?", AUTH);
    assert_body_is_exposition(&s, r.body.data, r.body.len, TOB_PART_ALL);
    free_response(&r);
    expect(&s, "GET", "/metrics?collect[]=clients", AUTH, 400, "");
    expect(&s, "GET", "/metrics?collect[]=", AUTH, 400, "");
    stop(&s);
}

static void an_exporter_without_the_managers_families_shows_the_others(void **state) {
    (void)state;
    setup s = start_with(5000, TOB_PART_CLIENT | TOB_PART_HEADEND);
    make_ready(&s, 10);
    response r = get(&s, "GET", "/metrics", AUTH);
    assert_body_is_exposition(&s, r.body.data, r.body.len, TOB_PART_CLIENT | TOB_PART_HEADEND);
    free_response(&r);
    r = get(&s, "GET", "/metrics?collect[]=manager", AUTH);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.len, 0);
    free_response(&r);
    stop(&s);
}

static void a_slow_reader_holds_up_nobody(void **state) {
    (void)state;
    setup s = start(60000);
    make_ready(&s, CLIENTS);
    int slow = open_socket(&s, 4096);
    send_request(slow, "GET", "/metrics", AUTH);
    char first[100];
    assert_true(recv(slow, first, sizeof(first), 0) > 0);
    // Its scrape is in the middle now. Others are answered, and the mirror takes rows.
    response r = get(&s, "GET", "/metrics", AUTH);
    assert_int_equal(r.status, 200);
    assert_true(r.whole);
    free_response(&r);
    for (unsigned i = 0; i < 100; i++) {
        char id[24];
        snprintf(id, sizeof(id), "client-%06u", i * (CLIENTS / 100));
        tob_mirror_row row = client_row(id, 2, 7);
        assert_int_equal(tob_mirror_put(s.mirror, TOB_SOURCE_CLIENT, &row, false, 0), TOB_OK);
    }
    tob_mirror_remove(s.mirror, 0, TOB_SOURCE_CLIENT, "client-000001", UINT64_MAX);
    tob_buffer rest;
    tob_buffer_init(&rest, 256u << 20);
    read_to_end(slow, &rest);
    assert_true(rest.len > 1000000);
    assert_memory_equal(rest.data + rest.len - 5, "0\r\n\r\n", 5); // slow, but whole
    tob_buffer_fini(&rest);
    stop(&s);
}

static void scrapes_at_once_are_capped_and_stalled_ones_are_cut_off(void **state) {
    (void)state;
    setup s = start(300);
    make_ready(&s, CLIENTS);
    int slow[MAX_SCRAPES];
    char first[100];
    for (size_t i = 0; i < MAX_SCRAPES; i++) {
        slow[i] = open_socket(&s, 4096);
        send_request(slow[i], "GET", "/metrics", AUTH);
        assert_true(recv(slow[i], first, sizeof(first), 0) > 0);
    }
    expect(&s, "GET", "/metrics", AUTH, 503, "\r\nretry-after: 1\r\n");
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_S * 1000;
    int status = 503;
    while (status == 503 && tob_clock_monotonic_ms() < deadline) {
        response r = get(&s, "GET", "/metrics?collect[]=manager", AUTH);
        status = r.status;
        free_response(&r);
    }
    assert_int_equal(status, 200);
    for (size_t i = 0; i < MAX_SCRAPES; i++) {
        tob_buffer rest;
        tob_buffer_init(&rest, 256u << 20);
        read_to_end(slow[i], &rest);
        assert_true(rest.len < 5 || memcmp(rest.data + rest.len - 5, "0\r\n\r\n", 5) != 0);
        tob_buffer_fini(&rest);
    }
    stop(&s);
}

static void a_reader_that_goes_away_frees_its_place(void **state) {
    (void)state;
    setup s = start(60000);
    make_ready(&s, CLIENTS);
    for (int i = 0; i < 20; i++) {
        int fd = open_socket(&s, 4096);
        char first[100];
        send_request(fd, "GET", "/metrics", AUTH "Accept-Encoding: gzip\r\n");
        ssize_t n = recv(fd, first, sizeof(first), 0);
        assert_true(n > 0);
        close(fd); // with unread input: a reset
    }
    uint64_t deadline = tob_clock_monotonic_ms() + DEADLINE_S * 1000;
    int status = 503;
    while (status == 503 && tob_clock_monotonic_ms() < deadline) {
        response r = get(&s, "GET", "/metrics", AUTH);
        status = r.status;
        free_response(&r);
    }
    assert_int_equal(status, 200);
    stop(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scrape_needs_the_token),
        cmocka_unit_test(nothing_is_shown_before_the_first_snapshot),
        cmocka_unit_test(a_large_scrape_is_whole_as_text_and_as_gzip),
        cmocka_unit_test(head_has_the_headers_and_no_body),
        cmocka_unit_test(collect_selects_parts),
        cmocka_unit_test(an_exporter_without_the_managers_families_shows_the_others),
        cmocka_unit_test(a_slow_reader_holds_up_nobody),
        cmocka_unit_test(scrapes_at_once_are_capped_and_stalled_ones_are_cut_off),
        cmocka_unit_test(a_reader_that_goes_away_frees_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
