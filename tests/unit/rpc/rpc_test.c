// A real server and real clients over loopback TCP.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/ingest.pb-c.h"

#include "rpc/client.h"
#include "rpc/process.h"
#include "rpc/server.h"
#include "rpc/status.h"
#include "util/clock.h"

static tob_rpc_server *server;
static char url[64];
static tob_rpc_call *held;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request;
    (void)user;
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    const char *bearer = tob_rpc_call_bearer(call);
    response.version = (char *)(bearer ? bearer : "none");
    tob_rpc_reply(call, &response.base);
}

// "echo N" answers a message of N bytes, "fail" an error, "hold" nothing until the test releases it.
static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    const char *what = request->n_credentials ? request->credentials[0] : "";
    if (strcmp(what, "fail") == 0) {
        tob_rpc_fail(call, TOB_BUSY, 1500, "too much, field %s", "x");
    } else if (strcmp(what, "hold") == 0) {
        pthread_mutex_lock(&lock);
        held = call;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    } else {
        Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
        Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
        Tobogganing__V1__Rejection *rejections[] = {&rejection};
        char *reason = calloc(1, request->batch.len + 1);
        memset(reason, 'a', request->batch.len);
        rejection.reason = reason;
        response.rejected = rejections;
        response.n_rejected = 1;
        tob_rpc_reply(call, &response.base);
        free(reason);
    }
}

static int start(void **state) {
    (void)state;
    tob_rpc_server_options options = {.url = "tcp://127.0.0.1:0",
                                      .contexts = 4,
                                      .max_connections = 8,
                                      .max_message_bytes = 1 << 20,
                                      .max_inflated_bytes = 2 << 20,
                                      .max_arena_bytes = 8 << 20};
    assert_int_equal(tob_rpc_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__health__descriptor, "Check", on_check,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Nothing", on_submit,
                                        NULL),
                     TOB_NOT_FOUND);
    assert_int_equal(tob_rpc_server_start(server), TOB_OK);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(server));
    return 0;
}

static int stop(void **state) {
    (void)state;
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    server = NULL;
    return 0;
}

static tob_rpc_client *connect_client(const char *bearer, bool compress) {
    tob_rpc_client *client = NULL;
    tob_rpc_client_options options = {.urls = url,
                                      .bearer = bearer,
                                      .compress = compress,
                                      .repeatable = true};
    assert_int_equal(tob_rpc_client_new(&options, &client), TOB_OK);
    return client;
}

static tob_error submit(tob_rpc_client *client, const char *what, size_t n, uint32_t timeout_ms,
                        size_t *ret_n, tob_rpc_failure *failure) {
    Tobogganing__V1__SubmitRequest request = TOBOGGANING__V1__SUBMIT_REQUEST__INIT;
    char *credentials[] = {(char *)what};
    request.credentials = credentials;
    request.n_credentials = 1;
    request.batch.data = calloc(1, n + 1);
    request.batch.len = n;
    ProtobufCMessage *response = NULL;
    tob_error err = tob_rpc_client_call_wait(client, "/tobogganing.v1.Ingest/Submit", &request.base,
                                             &tobogganing__v1__submit_response__descriptor, timeout_ms,
                                             &response, failure);
    free(request.batch.data);
    if (!err) {
        *ret_n = strlen(((Tobogganing__V1__SubmitResponse *)response)->rejected[0]->reason);
        protobuf_c_message_free_unpacked(response, NULL);
    }
    return err;
}

static void a_call_carries_the_bearer_and_comes_back(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client("secret-1", false);
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    assert_int_equal(tob_rpc_client_call_wait(client, "/tobogganing.v1.Health/Check", &request.base,
                                              &tobogganing__v1__health_check_response__descriptor, 5000,
                                              &response, NULL),
                     TOB_OK);
    assert_string_equal(((Tobogganing__V1__HealthCheckResponse *)response)->version, "secret-1");
    protobuf_c_message_free_unpacked(response, NULL);
    tob_rpc_client_free(client);
}

static void bodies_survive_compression_both_ways(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client(NULL, true);
    for (size_t n = 0; n < 300000; n = n * 3 + 1) {
        size_t got = 0;
        assert_int_equal(submit(client, "echo", n, 5000, &got, NULL), TOB_OK);
        assert_int_equal(got, n);
    }
    tob_rpc_client_free(client);
}

static void a_failure_carries_code_text_and_retry_time(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client(NULL, false);
    tob_rpc_failure failure;
    size_t n = 0;
    assert_int_equal(submit(client, "fail", 1, 5000, &n, &failure), TOB_BUSY);
    assert_string_equal(failure.message, "too much, field x");
    assert_int_equal(failure.retry_after_ms, 1500);
    tob_rpc_client_free(client);
}

static void an_unknown_method_is_unimplemented(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client(NULL, false);
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    assert_int_equal(tob_rpc_client_call_wait(client, "/tobogganing.v1.Health/Nothing", &request.base,
                                              &tobogganing__v1__health_check_response__descriptor, 5000,
                                              &response, NULL),
                     TOB_UNIMPLEMENTED);
    tob_rpc_client_free(client);
}

static void a_body_over_the_limit_is_refused_and_the_client_goes_on(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client(NULL, true);
    size_t n = 0;
    // 3 MiB of zeros compress to a few KiB but inflate to more than this server's 2 MiB.
    assert_int_equal(submit(client, "echo", 3 << 20, 5000, &n, NULL), TOB_INVALID);
    assert_int_equal(submit(client, "echo", 7, 5000, &n, NULL), TOB_OK);
    tob_rpc_client_free(client);
}

static void nobody_listening_ends_with_the_deadline(void **state) {
    (void)state;
    tob_rpc_client *client = NULL;
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = "tcp://127.0.0.1:1"}, &client),
                     TOB_OK);
    tob_rpc_failure failure;
    size_t n = 0;
    uint64_t before = tob_clock_monotonic_ms();
    assert_int_equal(submit(client, "echo", 1, 200, &n, &failure), TOB_DEADLINE);
    assert_true(tob_clock_monotonic_ms() - before >= 200);
    assert_string_equal(failure.message, "not connected to the server");
    tob_rpc_client_free(client);
}

static void a_bad_url_is_invalid(void **state) {
    (void)state;
    tob_rpc_client *client = NULL;
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = "ipc:///tmp/x"}, &client),
                     TOB_INVALID);
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = "nonsense"}, &client), TOB_INVALID);
}

static void *release_held(void *arg) {
    (void)arg;
    pthread_mutex_lock(&lock);
    while (!held) {
        pthread_cond_wait(&changed, &lock);
    }
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
    Tobogganing__V1__Rejection *rejections[] = {&rejection};
    response.rejected = rejections;
    response.n_rejected = 1;
    tob_rpc_reply(held, &response.base);
    held = NULL;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void a_call_may_be_answered_later_by_another_thread(void **state) {
    (void)state;
    tob_rpc_client *client = connect_client(NULL, false);
    pthread_t thread;
    pthread_create(&thread, NULL, release_held, NULL);
    size_t n = 1;
    assert_int_equal(submit(client, "hold", 1, 5000, &n, NULL), TOB_OK);
    assert_int_equal(n, 0);
    pthread_join(thread, NULL);
    tob_rpc_client_free(client);
}

static void count_cancelled(void *user, const tob_rpc_result *result) {
    assert_int_equal(result->error, TOB_CANCELLED);
    (*(int *)user)++;
}

static void stopping_a_client_ends_its_calls(void **state) {
    (void)state;
    tob_rpc_client *client = NULL;
    int ended = 0;
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = "tcp://127.0.0.1:1",
                                                                  .max_in_flight = 2},
                                        &client),
                     TOB_OK);
    assert_int_equal(tob_rpc_client_call(client, "/x/y", "", 0, 60000, count_cancelled, &ended), TOB_OK);
    assert_int_equal(tob_rpc_client_call(client, "/x/y", "", 0, 60000, count_cancelled, &ended), TOB_OK);
    assert_int_equal(tob_rpc_client_call(client, "/x/y", "", 0, 60000, count_cancelled, &ended), TOB_BUSY);
    tob_rpc_client_stop(client);
    assert_int_equal(ended, 2);
    assert_int_equal(tob_rpc_client_call(client, "/x/y", "", 0, 60000, count_cancelled, &ended),
                     TOB_CANCELLED);
    tob_rpc_client_free(client);
}

static void a_client_finds_a_server_that_starts_again(void **state) {
    tob_rpc_client *client = connect_client(NULL, false);
    size_t n = 0;
    assert_int_equal(submit(client, "echo", 3, 5000, &n, NULL), TOB_OK);
    uint16_t port = tob_rpc_server_port(server);
    stop(state);
    tob_rpc_failure failure;
    assert_int_equal(submit(client, "echo", 3, 100, &n, &failure), TOB_DEADLINE);
    tob_rpc_server_options options = {.url = url,
                                      .contexts = 1,
                                      .max_connections = 8,
                                      .max_message_bytes = 1 << 20,
                                      .max_inflated_bytes = 2 << 20,
                                      .max_arena_bytes = 8 << 20};
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", port);
    assert_int_equal(tob_rpc_server_new(&options, &server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(server), TOB_OK);
    assert_int_equal(submit(client, "echo", 3, 10000, &n, NULL), TOB_OK);
    tob_rpc_client_free(client);
}

static void codes_and_errors_agree(void **state) {
    (void)state;
    for (int e = 0; e < TOB_ERROR_COUNT; e++) {
        Tobogganing__V1__Code code = tob_status_code((tob_error)e);
        assert_int_equal(tob_status_code(tob_status_error(code)), code);
    }
    assert_string_equal(tob_status_name(tob_status_code(TOB_UNAUTHENTICATED)), "UNAUTHENTICATED");
    assert_int_equal(tob_status_error((Tobogganing__V1__Code)99), TOB_INTERNAL);
}

static void counters_are_found_again_and_rendered(void **state) {
    (void)state;
    tob_process *process = NULL;
    tob_arena *arena = NULL;
    Tobogganing__V1__Process *message = NULL;
    assert_int_equal(tob_process_new("gateway", &process), TOB_OK);
    assert_int_equal(tob_arena_new(1 << 20, &arena), TOB_OK);
    Tobogganing__V1__CounterFamily family = TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    tob_counter *counter = tob_process_counter(process, family, "jwt", "success", NULL);
    assert_ptr_equal(tob_process_counter(process, family, "jwt", "success", NULL), counter);
    assert_ptr_not_equal(tob_process_counter(process, family, "jwt", "failure", NULL), counter);
    tob_counter_add(counter, 3);
    assert_int_equal(tob_process_message(process, arena, &message), TOB_OK);
    assert_int_equal(message->n_counters, 2);
    assert_int_equal(message->counters[0]->value, 3);
    assert_string_equal(message->counters[0]->labels[1], "success");
    for (int i = 0; i < TOB_PROCESS_MAX_COUNTERS + 10; i++) { // past the cap: still a counter, not reported
        char label[16];
        snprintf(label, sizeof(label), "%d", i);
        tob_counter_add(tob_process_counter(process, family, label, NULL, NULL), 1);
    }
    assert_int_equal(tob_process_message(process, arena, &message), TOB_OK);
    assert_int_equal(message->n_counters, TOB_PROCESS_MAX_COUNTERS);
    tob_arena_free(arena);
    tob_process_free(process);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_carries_the_bearer_and_comes_back, start, stop),
        cmocka_unit_test_setup_teardown(bodies_survive_compression_both_ways, start, stop),
        cmocka_unit_test_setup_teardown(a_failure_carries_code_text_and_retry_time, start, stop),
        cmocka_unit_test_setup_teardown(an_unknown_method_is_unimplemented, start, stop),
        cmocka_unit_test_setup_teardown(a_body_over_the_limit_is_refused_and_the_client_goes_on, start, stop),
        cmocka_unit_test(nobody_listening_ends_with_the_deadline),
        cmocka_unit_test(a_bad_url_is_invalid),
        cmocka_unit_test_setup_teardown(a_call_may_be_answered_later_by_another_thread, start, stop),
        cmocka_unit_test(stopping_a_client_ends_its_calls),
        cmocka_unit_test_setup_teardown(a_client_finds_a_server_that_starts_again, start, stop),
        cmocka_unit_test(codes_and_errors_agree),
        cmocka_unit_test(counters_are_found_again_and_rendered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
