#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/server.h"
#include "tests/unit/http/peer.h"

#define DEADLINE_MS PEER_DEADLINE_MS
#define BODY_MAX    1000

typedef struct fixture {
    tob_http_server *server;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    tob_http_hold *held;
    tob_http_worker *held_worker;
    pthread_t answerer;
    bool has_answerer;
    atomic_int stopped_workers;
    atomic_int last_status;
    _Atomic(const char *) last_pattern;
    _Atomic(const char *) last_method;
    int chunks_left;
    atomic_int generators_stopped;
} fixture;

static void on_hello(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)user;
    tob_http_send(req, 200, "text/plain", match->params[0].base, match->params[0].len);
}

static void on_echo(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    tob_http_send(req, 200, "text/plain", req->entity.base, req->entity.len);
}

// The parameter x of the query, in brackets, and where the request came from.
static void on_query(h2o_req_t *req, const tob_http_match *match, void *user) {
    char peer[TOB_HTTP_PEER_BYTES];
    char text[512];
    h2o_iovec_t x = tob_http_query_value(req, "x");
    (void)match;
    (void)user;
    tob_http_peer(req, peer);
    int n = snprintf(text, sizeof(text), "%s[%.*s] %s", x.base ? "" : "none", (int)x.len,
                     x.base ? x.base : "", peer);
    tob_http_send(req, 200, "text/plain", text, (size_t)n);
}

static void on_fail(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    h2o_iovec_t status = tob_http_query(req);
    tob_http_send_error(req, atoi(status.base), 1001, "a \"quoted\" \\ thing\n\x01 and \xff");
}

static void answer_held(void *arg) {
    fixture *f = arg;
    if (f->held->req) {
        tob_http_send(f->held->req, 200, "text/plain", "late", 4);
    }
    tob_http_hold_release(f->held);
    pthread_mutex_lock(&f->mutex);
    f->held = NULL;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void *answer_from_a_thread(void *arg) {
    fixture *f = arg;
    assert_int_equal(tob_http_post(f->held_worker, answer_held, f), TOB_OK);
    return NULL;
}

static void hold(fixture *f, h2o_req_t *req, const tob_http_match *match) {
    pthread_mutex_lock(&f->mutex);
    f->held = tob_http_hold_new(req);
    f->held_worker = match->worker;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void on_late(h2o_req_t *req, const tob_http_match *match, void *user) {
    fixture *f = user;
    hold(f, req, match);
    f->has_answerer = pthread_create(&f->answerer, NULL, answer_from_a_thread, f) == 0;
}

static void on_never(h2o_req_t *req, const tob_http_match *match, void *user) {
    hold(user, req, match);
}

typedef struct stream {
    h2o_generator_t super;
    fixture *f;
} stream;

static void stream_proceed(h2o_generator_t *self, h2o_req_t *req) {
    fixture *f = ((stream *)self)->f;
    h2o_iovec_t piece = h2o_iovec_init(H2O_STRLIT("piece;"));
    bool last = --f->chunks_left == 0;
    h2o_send(req, &piece, 1, last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void stream_stop(h2o_generator_t *self, h2o_req_t *req) {
    (void)req;
    atomic_fetch_add(&((stream *)self)->f->generators_stopped, 1);
}

static void on_stream(h2o_req_t *req, const tob_http_match *match, void *user) {
    stream *s = h2o_mem_alloc_pool(&req->pool, sizeof(*s));
    (void)match;
    *s = (stream){.super = {.proceed = stream_proceed, .stop = stream_stop}, .f = user};
    s->f->chunks_left = 3;
    req->res.status = 200;
    req->res.reason = "OK";
    h2o_start_response(req, &s->super);
    stream_proceed(&s->super, req);
}

static void stall_proceed(h2o_generator_t *self, h2o_req_t *req) {
    (void)self;
    (void)req; // waits for data that never comes
}

static void on_stall(h2o_req_t *req, const tob_http_match *match, void *user) {
    stream *s = h2o_mem_alloc_pool(&req->pool, sizeof(*s));
    h2o_iovec_t piece = h2o_iovec_init(H2O_STRLIT("begin"));
    (void)match;
    *s = (stream){.super = {.proceed = stall_proceed, .stop = stream_stop}, .f = user};
    req->res.status = 200;
    req->res.reason = "OK";
    h2o_start_response(req, &s->super);
    h2o_send(req, &piece, 1, H2O_SEND_STATE_IN_PROGRESS);
}

static void on_response(void *user, const char *method, const char *pattern, int status) {
    fixture *f = user;
    atomic_store(&f->last_method, method);
    atomic_store(&f->last_pattern, pattern);
    atomic_store(&f->last_status, status);
}

static void *on_worker_start(void *user, tob_http_worker *worker) {
    assert_ptr_equal(tob_http_worker_context(worker)->loop, tob_http_worker_context(worker)->loop);
    return user;
}

static void on_worker_stop(void *user, tob_http_worker *worker, void *state) {
    assert_ptr_equal(user, state);
    assert_ptr_equal(tob_http_worker_state(worker), state);
    atomic_fetch_add(&((fixture *)user)->stopped_workers, 1);
}

static fixture *start(uint64_t workers, uint64_t max_connections, uint64_t idle_timeout_ms) {
    fixture *f = calloc(1, sizeof(*f));
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    tob_http_server_options options = {.listen = "127.0.0.1:0",
                                       .workers = workers,
                                       .max_connections = max_connections,
                                       .max_body_bytes = BODY_MAX,
                                       .idle_timeout_ms = idle_timeout_ms,
                                       .on_response = on_response,
                                       .on_worker_start = on_worker_start,
                                       .on_worker_stop = on_worker_stop,
                                       .user = f};
    assert_int_equal(tob_http_server_new(&options, &f->server), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/hello/{name}", on_hello, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "POST", "/echo", on_echo, f), TOB_OK);
    assert_int_equal(tob_http_server_route_without_body(f->server, "POST", "/bodiless/{name}", on_hello, f),
                     TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/query", on_query, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/fail", on_fail, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/late", on_late, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/never", on_never, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/stream", on_stream, f), TOB_OK);
    assert_int_equal(tob_http_server_route(f->server, "GET", "/stall", on_stall, f), TOB_OK);
    assert_int_equal(tob_http_server_start(f->server), TOB_OK);
    return f;
}

static void stop(fixture *f) {
    if (f->has_answerer) {
        pthread_join(f->answerer, NULL);
    }
    tob_http_server_stop(f->server, DEADLINE_MS);
    tob_http_server_free(f->server);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

static int dial(const fixture *f) {
    return peer_dial(tob_http_server_port(f->server));
}

static const char *ask(const fixture *f, const char *request) {
    return peer_ask(tob_http_server_port(f->server), request, strlen(request));
}

static void wait_held(fixture *f) {
    pthread_mutex_lock(&f->mutex);
    while (!f->held) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}

static void a_connection_serves_one_request_after_the_other(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    int fd = dial(f);
    peer_put(fd, "GET /hello/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(fd), "\r\n\r\na");
    peer_put(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"
                 "GET /hello/b HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(fd), "\r\n\r\n12345");
    const char *text = peer_get(fd);
    assert_has(text, "\r\n\r\nb");
    assert_has(text, "Connection: keep-alive");
    assert_string_equal(atomic_load(&f->last_pattern), "/hello/{name}");
    assert_string_equal(atomic_load(&f->last_method), "GET");
    close(fd);
    stop(f);
}

static void what_is_not_there_gets_404_and_405(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    const char *text = ask(f, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 404 Not Found");
    assert_has(text, "{\"error\":\"there is nothing at this path\"}");
    assert_has(text, "content-type: application/json");
    assert_string_equal(atomic_load(&f->last_pattern), "unmatched");
    text = ask(f, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 405 Method Not Allowed");
    assert_has(text, "allow: POST\r\n");
    text = ask(f, "DELETE /fail HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "allow: GET, HEAD\r\n");
    stop(f);
}

static void encoded_paths_are_decoded_but_an_encoded_slash_is_no_separator(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    assert_has(ask(f, "GET /hello/%61%3ab HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\na:b");
    assert_has(ask(f, "GET /hello%2Fa HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404");
    assert_has(ask(f, "GET /hello/a?x=%2f HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200");
    assert_has(ask(f, "GET /hello/%2E%2ea%2e HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\n..a.");
    stop(f);
}

static void a_path_with_dot_segments_matches_nothing(void **state) {
    static const char *const paths[] = {"/x/../hello/a", "/hello/b/../a", "/hello/b/%2e%2E/a",
                                        "/hello/./a",    "/hello/%2e/a",  "/./hello/a",
                                        "/hello/a/.",    "/hello/a/x/..", "/hello/b/.%2e/a?x",
                                        "/hello/%2e%2e", "/../hello/a"};
    fixture *f = start(1, 0, 0);
    char request[128];
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
        assert_has(ask(f, request), "HTTP/1.1 404");
    }
    assert_has(ask(f, "GET /hello/... HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\n...");
    assert_has(ask(f, "GET /hello/.a?x=/../ HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\n.a");
    stop(f);
}

static void a_parameter_of_the_query_is_decoded(void **state) {
    static const char *const table[][2] = {
        {"", "none[]"},       {"?", "none[]"},           {"?x", "none[]"},    {"?x=", "[]"},
        {"?x=1", "[1]"},      {"?xy=1&x=2", "[2]"},      {"?x=1&x=2", "[1]"}, {"?y=x=1", "none[]"},
        {"?x=a+b", "[a b]"},  {"?x=%41%7a%2F", "[Az/]"}, {"?x=%4", "[%4]"},   {"?x=%zz%", "[%zz%]"},
        {"?&&x=%3d&", "[=]"}, {"?x=1%26y=2", "[1&y=2]"},
    };
    fixture *f = start(1, 0, 0);
    char request[128];
    char want[64];
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        snprintf(request, sizeof(request), "GET /query%s HTTP/1.1\r\nHost: x\r\n\r\n", table[i][0]);
        snprintf(want, sizeof(want), "\r\n\r\n%s 127.0.0.1", table[i][1]);
        assert_has(ask(f, request), want);
    }
    stop(f);
}

static void a_path_one_byte_over_the_limit_gets_414(void **state) {
    fixture *f = start(1, 0, 0);
    char request[TOB_HTTP_MAX_PATH_BYTES + 64];
    (void)state;
    snprintf(request, sizeof(request), "GET /hello/%0*d HTTP/1.1\r\nHost: x\r\n\r\n",
             TOB_HTTP_MAX_PATH_BYTES - 7, 0);
    assert_has(ask(f, request), "HTTP/1.1 200");
    snprintf(request, sizeof(request), "GET /hello/%0*d HTTP/1.1\r\nHost: x\r\n\r\n",
             TOB_HTTP_MAX_PATH_BYTES - 6, 0);
    assert_has(ask(f, request), "HTTP/1.1 414");
    stop(f);
}

static void a_post_without_a_length_gets_411_and_the_connection_closes(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    const char *text =
        ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 411 Length Required");
    assert_has(text, "Connection: close");
    assert_null(strstr(text, "smuggled"));
    assert_has(ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 200");
    stop(f);
}

static void a_route_that_needs_no_body_takes_a_post_without_a_length(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    const char *text =
        ask(f, "POST /bodiless/a HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 200");
    assert_has(text, "Connection: close");
    assert_null(strstr(text, "smuggled"));
    assert_has(ask(f, "POST /bodiless/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"), "HTTP/1.1 200");
    stop(f);
}

static void post_bytes(const fixture *f, size_t n, bool chunked, const char *want) {
    char *request = calloc(1, n + 256);
    if (chunked) {
        snprintf(
            request, n + 256,
            "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n%0*d\r\n0\r\n\r\n", n,
            (int)n, 0);
    } else {
        snprintf(request, n + 256, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%0*d", n,
                 (int)n, 0);
    }
    assert_has(ask(f, request), want);
    free(request);
}

static void a_body_one_byte_over_the_limit_gets_413(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    post_bytes(f, BODY_MAX, false, "HTTP/1.1 200");
    post_bytes(f, BODY_MAX, true, "HTTP/1.1 200");
    post_bytes(f, BODY_MAX + 1, false, "HTTP/1.1 413 Content Too Large");
    post_bytes(f, BODY_MAX + 1, true, "HTTP/1.1 413 Content Too Large");
    stop(f);
}

static void a_peer_that_is_still_sending_gets_to_read_its_413(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    for (int i = 0; i < 2; i++) {
        post_bytes(f, 2000000, i == 1, "{\"error\":\"the body is too long\"}");
        assert_int_equal(atomic_load(&f->last_status), 413);
    }
    stop(f);
}

static void broken_requests_get_400(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    assert_has(ask(f, "nonsense\r\n\r\n"), "HTTP/1.1 400");
    assert_has(ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"), "{\"error\":");
    assert_has(ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
               "HTTP/1.1 400");
    assert_has(ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: x\r\n\r\n1"),
               "HTTP/1.1 417");
    stop(f);
}

static void errors_are_valid_json_with_their_headers(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    const char *text = ask(f, "GET /fail?401 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 401 Unauthorized");
    assert_has(text, "www-authenticate: Bearer\r\n");
    assert_has(text, "retry-after: 2\r\n");
    assert_has(text, "{\"error\":\"a \\\"quoted\\\" \\\\ thing\\u000a\\u0001 and ?\"}");
    text = ask(f, "GET /fail?503 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_null(strstr(text, "www-authenticate"));
    stop(f);
}

static void head_has_headers_but_no_body(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    const char *text = ask(f, "HEAD /hello/abc HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "Content-Length: 3\r\n");
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    text = ask(f, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(text, "HTTP/1.1 200");
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    stop(f);
}

static void a_generator_streams_chunks(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    assert_has(ask(f, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"),
               "6\r\npiece;\r\n6\r\npiece;\r\n6\r\npiece;\r\n0\r\n\r\n");
    stop(f);
}

static void another_thread_answers_by_post(void **state) {
    fixture *f = start(2, 0, 0);
    (void)state;
    assert_has(ask(f, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\nlate");
    stop(f);
}

static void a_hold_forgets_a_request_that_is_gone(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    int fd = dial(f);
    peer_put(fd, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_held(f);
    tob_http_server_stop(f->server, 0);
    assert_null(f->held->req);
    assert_has(peer_get_all(fd), "HTTP/1.1 503");
    tob_http_hold_release(f->held);
    assert_int_equal(tob_http_post(f->held_worker, answer_held, f), TOB_CANCELLED);
    close(fd);
    stop(f);
}

static void connections_over_the_cap_wait_until_one_closes(void **state) {
    fixture *f = start(2, 2, 0);
    int fds[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(f);
        if (i < 2) {
            peer_put(fds[i], "GET /hello/a HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_has(peer_get(fds[i]), "\r\n\r\na");
        }
    }
    peer_put(fds[2], "GET /hello/b HTTP/1.1\r\nHost: x\r\n\r\n");
    struct pollfd waiting = {.fd = fds[2], .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, 100), 0);
    peer_put(fds[0], "GET /hello/c HTTP/1.1\r\nHost: x\r\n\r\n"); // those inside are served meanwhile
    assert_has(peer_get(fds[0]), "\r\n\r\nc");
    close(fds[1]);
    assert_has(peer_get(fds[2]), "\r\n\r\nb");
    close(fds[0]);
    close(fds[2]);
    stop(f);
}

// Reads until the server closes, whether or not in good order.
static void wait_closed(int fd) {
    char byte = 0;
    errno = 0;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_int_not_equal(errno, EAGAIN);
}

static void the_oldest_of_those_that_fill_memory_is_closed(void **state) {
    enum { SENDERS = 3, PART = 200000, LENGTH = 400000 };
    static char part[PART];
    static int served;
    tob_http_server_options options = {.listen = "127.0.0.1:0",
                                       .workers = 1,
                                       .max_body_bytes = LENGTH,
                                       .max_buffered_bytes = 600000};
    tob_http_server *server = NULL;
    int fds[SENDERS];
    (void)state;
    assert_int_equal(tob_http_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_http_server_route(server, "POST", "/echo", on_echo, &served), TOB_OK);
    assert_int_equal(tob_http_server_start(server), TOB_OK);
    memset(part, 'x', sizeof(part));
    for (int i = 0; i < SENDERS; i++) {
        char head[128];
        fds[i] = peer_dial(tob_http_server_port(server));
        snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", LENGTH);
        peer_put(fds[i], head);
        peer_put_bytes(fds[i], part, sizeof(part));
    }
    wait_closed(fds[0]);
    const char *request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok";
    assert_has(peer_ask(tob_http_server_port(server), request, strlen(request)), "\r\n\r\nok");
    for (size_t at = PART; at < LENGTH; at += PART) {
        peer_put_bytes(fds[SENDERS - 1], part, LENGTH - at < PART ? LENGTH - at : PART);
    }
    char first = 0; // alone it fits
    assert_int_equal(recv(fds[SENDERS - 1], &first, 1, 0), 1);
    for (int i = 0; i < SENDERS; i++) {
        close(fds[i]);
    }
    tob_http_server_stop(server, 0);
    tob_http_server_free(server);
}

static void an_idle_connection_is_closed_after_its_time(void **state) {
    fixture *f = start(1, 0, 100);
    (void)state;
    int fd = dial(f);
    peer_put(fd, "GET /hello/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(fd), "\r\n\r\na");
    assert_string_equal(peer_get_all(fd), "");
    close(fd);
    stop(f);
}

static void *stop_in_thread(void *arg) {
    tob_http_server_stop(((fixture *)arg)->server, DEADLINE_MS);
    return NULL;
}

static void a_stop_lets_requests_finish_and_closes_idle_connections(void **state) {
    fixture *f = start(1, 0, 0); // one worker: it closes the idle one and answers the other in that order
    pthread_t stopper;
    (void)state;
    int idle = dial(f);
    peer_put(idle, "GET /hello/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(peer_get(idle), "\r\n\r\na");
    int fd = dial(f);
    peer_put(fd, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_held(f);
    assert_int_equal(pthread_create(&stopper, NULL, stop_in_thread, f), 0);
    assert_string_equal(peer_get_all(idle), ""); // closed: the stop is under way
    assert_int_equal(tob_http_post(f->held_worker, answer_held, f), TOB_OK);
    const char *text = peer_get_all(fd);
    assert_has(text, "Connection: close");
    assert_has(text, "\r\n\r\nlate");
    pthread_join(stopper, NULL);
    assert_int_equal(atomic_load(&f->stopped_workers), 1);
    close(idle);
    close(fd);
    stop(f);
}

static void a_stop_ends_a_response_that_stalls(void **state) {
    fixture *f = start(1, 0, 0);
    (void)state;
    int fd = dial(f);
    peer_put(fd, "GET /stall HTTP/1.1\r\nHost: x\r\n\r\n");
    char first[1];
    assert_int_equal(recv(fd, first, 1, 0), 1);
    tob_http_server_stop(f->server, 0);
    assert_int_equal(atomic_load(&f->generators_stopped), 1);
    close(fd);
    stop(f);
}

static void an_address_that_is_taken_or_wrong_is_told_apart(void **state) {
    fixture *f = start(1, 0, 0);
    static const char *const wrong[] = {"",       "127.0.0.1", ":80",           "127.0.0.1:",
                                        "::1:80", "[::1:80",   "1.2.3.4:99999", "192.0.2.1:0"};
    char taken[32];
    (void)state;
    snprintf(taken, sizeof(taken), "127.0.0.1:%u", tob_http_server_port(f->server));
    for (size_t i = 0; i <= sizeof(wrong) / sizeof(*wrong); i++) {
        bool is_taken = i == sizeof(wrong) / sizeof(*wrong);
        tob_http_server_options options = {.listen = is_taken ? taken : wrong[i], .workers = 2};
        tob_http_server *server = NULL;
        assert_int_equal(tob_http_server_new(&options, &server), TOB_OK);
        assert_int_equal(tob_http_server_start(server), is_taken ? TOB_UNAVAILABLE : TOB_INVALID);
        tob_http_server_free(server);
    }
    stop(f);
}

static void ipv6_is_served(void **state) {
    tob_http_server_options options = {.listen = "[::1]:0", .workers = 1};
    tob_http_server *server = NULL;
    (void)state;
    assert_int_equal(tob_http_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_http_server_start(server), TOB_OK);
    assert_int_not_equal(tob_http_server_port(server), 0);
    tob_http_server_stop(server, 0);
    tob_http_server_free(server);
}

static void one_worker_over_the_limit_is_refused(void **state) {
    tob_http_server_options options = {.listen = "127.0.0.1:0", .workers = TOB_HTTP_MAX_WORKERS + 1};
    tob_http_server *server = NULL;
    (void)state;
    assert_int_equal(tob_http_server_new(&options, &server), TOB_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_serves_one_request_after_the_other),
        cmocka_unit_test(what_is_not_there_gets_404_and_405),
        cmocka_unit_test(encoded_paths_are_decoded_but_an_encoded_slash_is_no_separator),
        cmocka_unit_test(a_path_with_dot_segments_matches_nothing),
        cmocka_unit_test(a_parameter_of_the_query_is_decoded),
        cmocka_unit_test(a_path_one_byte_over_the_limit_gets_414),
        cmocka_unit_test(a_post_without_a_length_gets_411_and_the_connection_closes),
        cmocka_unit_test(a_route_that_needs_no_body_takes_a_post_without_a_length),
        cmocka_unit_test(a_body_one_byte_over_the_limit_gets_413),
        cmocka_unit_test(a_peer_that_is_still_sending_gets_to_read_its_413),
        cmocka_unit_test(broken_requests_get_400),
        cmocka_unit_test(errors_are_valid_json_with_their_headers),
        cmocka_unit_test(head_has_headers_but_no_body),
        cmocka_unit_test(a_generator_streams_chunks),
        cmocka_unit_test(another_thread_answers_by_post),
        cmocka_unit_test(a_hold_forgets_a_request_that_is_gone),
        cmocka_unit_test(connections_over_the_cap_wait_until_one_closes),
        cmocka_unit_test(the_oldest_of_those_that_fill_memory_is_closed),
        cmocka_unit_test(an_idle_connection_is_closed_after_its_time),
        cmocka_unit_test(a_stop_lets_requests_finish_and_closes_idle_connections),
        cmocka_unit_test(a_stop_ends_a_response_that_stalls),
        cmocka_unit_test(an_address_that_is_taken_or_wrong_is_told_apart),
        cmocka_unit_test(ipv6_is_served),
        cmocka_unit_test(one_worker_over_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
