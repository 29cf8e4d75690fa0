// --from-stdin as a whole: a pipe with lines, a real sender, a real RPC server on loopback.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "agent/run.h"
#include "rpc/server.h"
#include "util/daemon.h"
#include "util/log.h"

static tob_rpc_server *server;
static char url[64];
static atomic_uint stored;
static atomic_uint batches;

// Stores everything but the series of the client "stranger".
static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    Tobogganing__V1__Batch *batch =
        tobogganing__v1__batch__unpack(NULL, request->batch.len, request->batch.data);
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
    Tobogganing__V1__Rejection *rejections[] = {&rejection};
    if (!batch) {
        tob_rpc_fail(call, TOB_MALFORMED, 0, "batch");
        return;
    }
    rejection.code = TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED;
    response.rejected = rejections;
    for (size_t i = 0; i < batch->n_clients; i++) {
        if (strcmp(batch->clients[i]->client_id, "stranger") == 0) {
            rejection.series = (uint32_t)i;
            response.n_rejected = 1;
        } else {
            atomic_fetch_add(&stored, (unsigned)batch->clients[i]->n_time_unix_ms);
        }
    }
    atomic_fetch_add(&batches, 1);
    tobogganing__v1__batch__free_unpacked(batch, NULL);
    tob_rpc_reply(call, &response.base);
}

static int start(void **state) {
    (void)state;
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 4,
                                      .max_connections = 8,
                                      .max_message_bytes = 4u << 20,
                                      .max_inflated_bytes = 16u << 20,
                                      .max_arena_bytes = 64u << 20};
    tob_daemon_block_signals();
    assert_int_equal(tob_log_configure("run_stdin_test", "error", "logfmt"), TOB_OK);
    assert_int_equal(tob_rpc_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(server), TOB_OK);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(server));
    return 0;
}

static int stop(void **state) {
    (void)state;
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    return 0;
}

static int forget(void **state) {
    (void)state;
    atomic_store(&stored, 0);
    atomic_store(&batches, 0);
    return 0;
}

// Relays what can be read from fd; returns the exit status.
static int relay(int fd, const char *server_url, size_t max_queued) {
    uint64_t dropped = 0;
    const tob_sender_options options = {.server = server_url,
                                        .agent_id = "agent-test",
                                        .boot_id = 1,
                                        .interval_ms = 3600000,
                                        .call_timeout_ms = 300,
                                        .max_queued = max_queued,
                                        .on_event = tob_agent_log_event,
                                        .user = &dropped};
    tob_agent_settings settings = {.kind = TOB_SOURCE_CLIENT,
                                   .id = "me",
                                   .credential = (char *)"key",
                                   .server = server_url,
                                   .deadline_ms = 1000};
    tob_sender *sender = NULL;
    assert_int_equal(tob_sender_new(&options, &sender), TOB_OK);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    int status = tob_agent_run_stdin(&settings, sender, fd);
    tob_sender_stop(sender);
    tob_sender_free(sender);
    return status;
}

// Relays a text that fits a pipe.
static int relay_text(const char *text) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
    close(fds[1]);
    int status = relay(fds[0], url, 100);
    close(fds[0]);
    return status;
}

static void everything_is_flushed_at_the_end_of_the_input(void **state) {
    (void)state;
    assert_int_equal(relay_text(
                         "{\"metrics\": {\"bytes_sent\": 1}}\n"
                         "\r\n"
                         "{\"client_id\": \"c1\", \"api_key\": \"k1\", \"metrics\": {\"bytes_sent\": 2}}\n"
                         "{}"),
                     0);
    assert_int_equal(atomic_load(&stored), 3);
    assert_int_equal(atomic_load(&batches), 1);
}

static void an_empty_input_is_fine(void **state) {
    (void)state;
    assert_int_equal(relay_text(""), 0);
    assert_int_equal(atomic_load(&batches), 0);
}

static void a_bad_line_does_not_stop_the_others_but_is_told_by_the_status(void **state) {
    (void)state;
    assert_int_equal(relay_text("{\"metrics\": {\"bytes_sent\": 1}}\nnonsense\n{\"metrics\": 5}\n{}\n"), 1);
    assert_int_equal(atomic_load(&stored), 2);
}

static void a_rejected_line_does_not_stop_the_others_but_is_told_by_the_status(void **state) {
    (void)state;
    assert_int_equal(relay_text("{}\n{\"client_id\": \"stranger\", \"api_key\": \"k\"}\n{}\n"), 1);
    assert_int_equal(atomic_load(&stored), 2);
}

static void a_server_that_is_away_is_told_by_the_status_after_the_deadline(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "{}\n", 3), 3);
    close(fds[1]);
    assert_int_equal(relay(fds[0], "tcp://127.0.0.1:1", 100), 1);
    close(fds[0]);
}

static void *write_many(void *arg) {
    int fd = *(int *)arg;
    static const char line[] = "{\"metrics\": {\"bytes_sent\": 123456789}}\n";
    for (int i = 0; i < 5000; i++) {
        if (write(fd, line, sizeof(line) - 1) != (ssize_t)sizeof(line) - 1) {
            break;
        }
    }
    close(fd);
    return NULL;
}

static void a_writer_that_is_faster_than_the_server_waits_and_loses_nothing(void **state) {
    (void)state;
    int fds[2];
    pthread_t writer;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_many, &fds[1]), 0);
    assert_int_equal(relay(fds[0], url, 500), 0);
    pthread_join(writer, NULL);
    close(fds[0]);
    assert_int_equal(atomic_load(&stored), 5000);
}

static void a_signal_to_stop_flushes_what_was_read(void **state) {
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "{}\n{}\n", 6), 6); // and the writer stays
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    char waiting[8];
    int status = 0;
    // The signal is pending before the relay looks: what is read first is still stored.
    assert_int_equal(pthread_kill(pthread_self(), SIGTERM), 0);
    status = relay(fds[0], url, 100);
    ssize_t unread = read(fds[0], waiting, sizeof(waiting));
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&stored) * 3 + (unread > 0 ? (unsigned)unread : 0), 6);
    close(fds[0]);
    close(fds[1]);
}

#define FRESH(name) cmocka_unit_test_setup(name, forget)

int main(void) {
    const struct CMUnitTest tests[] = {
        FRESH(everything_is_flushed_at_the_end_of_the_input),
        FRESH(an_empty_input_is_fine),
        FRESH(a_bad_line_does_not_stop_the_others_but_is_told_by_the_status),
        FRESH(a_rejected_line_does_not_stop_the_others_but_is_told_by_the_status),
        FRESH(a_server_that_is_away_is_told_by_the_status_after_the_deadline),
        FRESH(a_writer_that_is_faster_than_the_server_waits_and_loses_nothing),
        FRESH(a_signal_to_stop_flushes_what_was_read),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
