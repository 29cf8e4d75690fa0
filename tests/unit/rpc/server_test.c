// The server's own promises towards callers that a client of ours would not be: those who ask too much, or never read.
#include <arpa/inet.h>
#include <netinet/in.h>
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

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/server.h"
#include "util/clock.h"

enum {
    BUDGET = 1 << 20,
    MAX_MESSAGE = 4 << 20,
    ANSWER_BYTES = 16 << 20, // more than the kernel buffers for a connection
    CONTEXTS = 4,
    TIMEOUT_S = 10,
};

typedef struct fixture {
    tob_arena_budget budget;
    tob_rpc_server *server;
    char *answer;
    atomic_uint calls;
    int fd;
} fixture;

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request;
    fixture *f = user;
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.version = f->answer;
    atomic_fetch_add(&f->calls, 1);
    tob_rpc_reply(call, &response.base);
}

static void send_all(int fd, const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += sent;
        n -= (size_t)sent;
    }
}

static void receive_all(int fd, void *bytes, size_t n) {
    uint8_t *at = bytes;
    while (n > 0) {
        ssize_t got = recv(fd, at, n, 0);
        assert_true(got > 0);
        at += got;
        n -= (size_t)got;
    }
}

static void put_big_endian(uint8_t *to, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
}

// A connection that speaks SP over TCP (nanomsg RFC sp-tcp-mapping-01) as REQ.
static int connect_raw(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = TIMEOUT_S};
    const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    uint8_t theirs[8];
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    send_all(fd, hello, sizeof(hello));
    receive_all(fd, theirs, sizeof(theirs));
    assert_int_equal(theirs[5], 0x31); // REP
    return fd;
}

// Sends Health.Check with a body of `n` bytes that mean nothing.
static void ask(int fd, uint32_t id, size_t n) {
    Tobogganing__V1__Request request = TOBOGGANING__V1__REQUEST__INIT;
    request.method = (char *)"/tobogganing.v1.Health/Check";
    request.body.data = calloc(1, n + 1);
    request.body.len = n;
    size_t len = tobogganing__v1__request__get_packed_size(&request);
    uint8_t *message = malloc(12 + len);
    put_big_endian(message, 4 + len, 8);
    put_big_endian(message + 8, 0x80000000u | id, 4);
    tobogganing__v1__request__pack(&request, message + 12);
    send_all(fd, message, 12 + len);
    free(message);
    free(request.body.data);
}

static Tobogganing__V1__Response *read_answer(int fd) {
    uint8_t head[12];
    uint64_t len = 0;
    receive_all(fd, head, sizeof(head));
    for (unsigned i = 0; i < 8; i++) {
        len = len << 8 | head[i];
    }
    uint8_t *body = malloc(len - 4 + 1);
    receive_all(fd, body, len - 4);
    Tobogganing__V1__Response *response = tobogganing__v1__response__unpack(NULL, len - 4, body);
    assert_non_null(response);
    free(body);
    return response;
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = CONTEXTS,
                                      .max_connections = 8,
                                      .max_message_bytes = MAX_MESSAGE,
                                      .max_inflated_bytes = MAX_MESSAGE,
                                      .max_arena_bytes = MAX_MESSAGE,
                                      .budget = &f->budget};
    tob_arena_budget_init(&f->budget, BUDGET);
    f->answer = calloc(1, ANSWER_BYTES + 1);
    assert_int_equal(tob_rpc_server_new(&options, &f->server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(f->server, &tobogganing__v1__health__descriptor, "Check", on_check,
                                        f),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->server), TOB_OK);
    f->fd = connect_raw(tob_rpc_server_port(f->server));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    close(f->fd);
    tob_rpc_server_stop(f->server);
    tob_rpc_server_free(f->server);
    assert_int_equal(tob_arena_budget_used(&f->budget), 0);
    free(f->answer);
    free(f);
    return 0;
}

static void a_request_over_the_memory_of_all_is_refused_with_a_retry_and_counted(void **state) {
    fixture *f = *state;
    ask(f->fd, 1, BUDGET + 1);
    Tobogganing__V1__Response *response = read_answer(f->fd);
    assert_int_equal(response->code, TOBOGGANING__V1__CODE__CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(response->retry_after_ms, TOB_RPC_RETRY_MS);
    assert_string_not_equal(response->message, "");
    tobogganing__v1__response__free_unpacked(response, NULL);
    assert_int_equal(tob_rpc_server_refused(f->server), 1);
    ask(f->fd, 2, 0);
    response = read_answer(f->fd);
    assert_int_equal(response->code, TOBOGGANING__V1__CODE__CODE_OK);
    tobogganing__v1__response__free_unpacked(response, NULL);
    assert_int_equal(tob_rpc_server_refused(f->server), 1);
}

static void an_answered_call_keeps_no_more_than_a_small_chunk(void **state) {
    fixture *f = *state;
    for (uint32_t i = 1; i <= 8; i++) {
        ask(f->fd, i, BUDGET / 4);
        tobogganing__v1__response__free_unpacked(read_answer(f->fd), NULL);
        // The answer is sent after the memory went back.
        assert_true(tob_arena_budget_used(&f->budget) <= 4 * TOB_ARENA_KEPT_BYTES);
    }
}

static void who_never_reads_does_not_keep_the_server_from_stopping(void **state) {
    fixture *f = *state;
    memset(f->answer, 'a', ANSWER_BYTES);
    for (uint32_t i = 1; i <= 8; i++) {
        ask(f->fd, i, 0);
    }
    // The connection has taken one answer, and each context holds another.
    uint64_t before = tob_clock_monotonic_ms();
    while (atomic_load(&f->calls) <= CONTEXTS) {
        assert_true(tob_clock_monotonic_ms() - before < 1000 * TIMEOUT_S);
        usleep(1000);
    }
    before = tob_clock_monotonic_ms();
    tob_rpc_server_stop(f->server);
    assert_true(tob_clock_monotonic_ms() - before < 8000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_over_the_memory_of_all_is_refused_with_a_retry_and_counted,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_answered_call_keeps_no_more_than_a_small_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(who_never_reads_does_not_keep_the_server_from_stopping, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
