// The sender against a real RPC server on loopback, whose Submit does what each test asks for.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "agent/sender.h"
#include "rpc/server.h"
#include "util/clock.h"

enum { WAIT_MS = 20000, MAX_SEEN = 64 };

// One Submit as the server saw it.
typedef struct seen {
    uint64_t boot_id;
    uint64_t number;
    size_t series;
    size_t samples;
    char agent_id[TOB_MAX_ID_BYTES + 1];
    char credential[16];
} seen;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tob_rpc_server *server;
    char url[64];
    // What to do with the calls to come.
    tob_error fail_with; // TOB_OK: answer
    unsigned fail_times;
    uint32_t retry_after_ms;
    const char *refuse_id; // this client's series
    unsigned limit_times;  // as not looked at
    // What came.
    seen calls[MAX_SEEN];
    size_t call_count;
    // What the sender told.
    size_t events[TOB_SENDER_DROPPED + 1];
    tob_sender_event last[TOB_SENDER_DROPPED + 1];
    tob_batch_part last_part;
    char last_message[TOB_SENDER_DROPPED + 1][256];
} t;

static void note_call(const Tobogganing__V1__SubmitRequest *request, const Tobogganing__V1__Batch *batch) {
    seen *s = &t.calls[t.call_count < MAX_SEEN ? t.call_count : MAX_SEEN - 1];
    *s = (seen){.boot_id = batch->boot_id, .number = batch->number, .series = batch->n_clients};
    snprintf(s->agent_id, sizeof(s->agent_id), "%s", batch->agent_id);
    snprintf(s->credential, sizeof(s->credential), "%s",
             request->n_credentials ? request->credentials[0] : "");
    for (size_t i = 0; i < batch->n_clients; i++) {
        s->samples += batch->clients[i]->n_time_unix_ms;
    }
    t.call_count++;
    pthread_cond_broadcast(&t.changed);
}

static void answer(tob_rpc_call *call, const Tobogganing__V1__Batch *batch) {
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    Tobogganing__V1__Rejection rejection = TOBOGGANING__V1__REJECTION__INIT;
    Tobogganing__V1__Rejection *rejections[] = {&rejection};
    response.rejected = rejections;
    for (size_t i = 0; t.refuse_id && i < batch->n_clients; i++) {
        if (strcmp(batch->clients[i]->client_id, t.refuse_id) == 0) {
            rejection.series = (uint32_t)i;
            rejection.code = TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED;
            rejection.reason = (char *)"api_key: not this client's";
            response.n_rejected = 1;
        }
    }
    if (response.n_rejected && t.limit_times) {
        t.limit_times--;
        rejection.retry_after_ms = 10;
    }
    response.next_report_in_ms = 60000;
    tob_rpc_reply(call, &response.base);
}

static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    Tobogganing__V1__Batch *batch =
        tobogganing__v1__batch__unpack(NULL, request->batch.len, request->batch.data);
    pthread_mutex_lock(&t.lock);
    if (!batch) {
        tob_rpc_fail(call, TOB_MALFORMED, 0, "batch");
    } else {
        note_call(request, batch);
        if (t.fail_times) {
            t.fail_times--;
            tob_rpc_fail(call, t.fail_with, t.retry_after_ms, "not now");
        } else {
            answer(call, batch);
        }
    }
    pthread_mutex_unlock(&t.lock);
    if (batch) {
        tobogganing__v1__batch__free_unpacked(batch, NULL);
    }
}

static void on_event(void *user, const tob_sender_event *event) {
    (void)user;
    pthread_mutex_lock(&t.lock);
    t.events[event->kind]++;
    t.last[event->kind] = *event;
    snprintf(t.last_message[event->kind], sizeof(t.last_message[0]), "%s", event->message);
    if (event->part) {
        t.last_part = *event->part;
    }
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
}

static void start_server(void) {
    tob_rpc_server_options options = {.url = t.url,
                                      .contexts = 4,
                                      .max_connections = 8,
                                      .max_message_bytes = 4u << 20,
                                      .max_inflated_bytes = 16u << 20,
                                      .max_arena_bytes = 64u << 20};
    assert_int_equal(tob_rpc_server_new(&options, &t.server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(t.server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(t.server), TOB_OK);
    snprintf(t.url, sizeof(t.url), "tcp://127.0.0.1:%u", tob_rpc_server_port(t.server));
}

static void stop_server(void) {
    tob_rpc_server_stop(t.server);
    tob_rpc_server_free(t.server);
    t.server = NULL;
}

static int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    strcpy(t.url, "tcp://127.0.0.1:0");
    start_server();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (t.server) {
        stop_server();
    }
    pthread_mutex_destroy(&t.lock);
    pthread_cond_destroy(&t.changed);
    return 0;
}

static tob_sender *new_sender(uint64_t interval_ms, size_t max_queued) {
    const tob_sender_options options = {.server = t.url,
                                        .agent_id = "agent-test",
                                        .boot_id = 4711,
                                        .interval_ms = interval_ms,
                                        .call_timeout_ms = 500,
                                        .max_queued = max_queued,
                                        .on_event = on_event};
    tob_sender *sender = NULL;
    assert_int_equal(tob_sender_new(&options, &sender), TOB_OK);
    return sender;
}

static tob_sender *start_sender(uint64_t interval_ms, size_t max_queued) {
    tob_sender *sender = new_sender(interval_ms, max_queued);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    return sender;
}

static void end_sender(tob_sender *sender) {
    tob_sender_stop(sender);
    tob_sender_free(sender);
}

static tob_error push(tob_sender *sender, const char *id, int64_t value, bool drop_oldest) {
    const tob_agent_report report = {.kind = TOB_SOURCE_CLIENT,
                                     .id = id,
                                     .credential = "key",
                                     .line = (uint64_t)value,
                                     .sample.client = {.time_unix_ms = value,
                                                       .present = 1,
                                                       .values = {value}}};
    return tob_sender_push(sender, &report, drop_oldest);
}

static void push_some(tob_sender *sender, const char *id, int n) {
    for (int i = 1; i <= n; i++) {
        assert_int_equal(push(sender, id, i, false), TOB_OK);
    }
}

static void flush(tob_sender *sender) {
    tob_sender_hurry(sender);
    assert_int_equal(tob_sender_wait_idle(sender, WAIT_MS), TOB_OK);
}

// Waits until `*count` is at least n.
static void wait_for(const size_t *count, size_t n) {
    uint64_t at = tob_clock_monotonic_ms() + WAIT_MS;
    struct timespec deadline = {.tv_sec = (time_t)(at / 1000), .tv_nsec = (long)(at % 1000) * 1000000};
    pthread_mutex_lock(&t.lock);
    while (*count < n && pthread_cond_timedwait(&t.changed, &t.lock, &deadline) == 0) {
    }
    size_t have = *count;
    pthread_mutex_unlock(&t.lock);
    assert_true(have >= n);
}

static void samples_are_sent_as_one_batch_and_acknowledged(void **state) {
    (void)state;
    tob_sender *sender = start_sender(3600000, 100);
    push_some(sender, "c1", 60);
    flush(sender);
    assert_int_equal(t.call_count, 1);
    assert_string_equal(t.calls[0].agent_id, "agent-test");
    assert_string_equal(t.calls[0].credential, "key");
    assert_int_equal(t.calls[0].boot_id, 4711);
    assert_int_equal(t.calls[0].number, 1);
    assert_int_equal(t.calls[0].series, 1);
    assert_int_equal(t.calls[0].samples, 60);
    push_some(sender, "c1", 1);
    assert_int_equal(tob_sender_wait_idle(sender, WAIT_MS), TOB_OK); // still in a hurry
    assert_int_equal(t.calls[1].number, 2);
    tob_sender_stats stats = tob_sender_statistics(sender);
    assert_int_equal(stats.pushed, 61);
    assert_int_equal(stats.acked, 61);
    assert_int_equal(stats.waiting, 0);
    end_sender(sender);
}

static void batches_go_out_by_the_interval_without_being_asked(void **state) {
    (void)state;
    tob_sender *sender = start_sender(100, 100);
    push_some(sender, "c1", 1);
    wait_for(&t.call_count, 1);
    push_some(sender, "c1", 1);
    wait_for(&t.call_count, 2);
    end_sender(sender);
}

static void a_full_queue_is_sent_before_its_time(void **state) {
    (void)state;
    tob_sender *sender = start_sender(3600000, 10);
    for (int i = 0; i < 1000; i++) { // waits for room instead of losing anything
        while (push(sender, "c1", i, false) == TOB_BUSY) {
            struct timespec pause = {.tv_nsec = 1000000};
            nanosleep(&pause, NULL);
        }
    }
    flush(sender);
    assert_int_equal(tob_sender_statistics(sender).acked, 1000);
    end_sender(sender);
}

static void a_refused_series_does_not_stop_its_neighbours_and_is_not_repeated(void **state) {
    (void)state;
    tob_sender *sender = new_sender(3600000, 100);
    t.refuse_id = "bad";
    push_some(sender, "bad", 3);
    push_some(sender, "good", 5);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    flush(sender);
    tob_sender_stats stats = tob_sender_statistics(sender);
    assert_int_equal(stats.acked, 5);
    assert_int_equal(stats.rejected, 3);
    assert_int_equal(t.call_count, 1);
    assert_int_equal(t.events[TOB_SENDER_REJECTED], 1);
    assert_int_equal(t.last[TOB_SENDER_REJECTED].error, TOB_UNAUTHENTICATED);
    assert_string_equal(t.last_message[TOB_SENDER_REJECTED], "api_key: not this client's");
    assert_string_equal(t.last_part.id, "bad");
    assert_int_equal(t.last_part.first_line, 1);
    assert_int_equal(t.last_part.last_line, 3);
    end_sender(sender);
}

static void a_batch_that_was_not_looked_at_is_repeated_until_it_is(void **state) {
    (void)state;
    tob_sender *sender = start_sender(3600000, 100);
    t.refuse_id = "late";
    t.limit_times = TOB_SENDER_LIMITED_REPEATS + 1;
    push_some(sender, "late", 3);
    flush(sender);
    assert_int_equal(t.call_count, TOB_SENDER_LIMITED_REPEATS + 2);
    assert_int_equal(t.events[TOB_SENDER_FAILED], TOB_SENDER_LIMITED_REPEATS + 1);
    assert_int_equal(t.last[TOB_SENDER_FAILED].error, TOB_UNAUTHENTICATED);
    assert_true(t.last[TOB_SENDER_FAILED].retry_in_ms >= 10);
    assert_int_equal(t.calls[1].number, t.calls[0].number);
    assert_int_equal(t.events[TOB_SENDER_REJECTED], 1); // looked at, and wrong
    assert_int_equal(tob_sender_statistics(sender).rejected, 3);
    end_sender(sender);
}

static void a_part_that_is_never_looked_at_does_not_hold_up_the_others_for_ever(void **state) {
    (void)state;
    tob_sender *sender = new_sender(3600000, 100);
    t.refuse_id = "late";
    t.limit_times = 1000;
    push_some(sender, "late", 3);
    push_some(sender, "good", 5);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    flush(sender);
    assert_int_equal(t.call_count, TOB_SENDER_LIMITED_REPEATS + 1);
    assert_int_equal(tob_sender_statistics(sender).acked, 5);
    assert_int_equal(tob_sender_statistics(sender).rejected, 3);
    push_some(sender, "good", 1); // the next batch begins anew
    flush(sender);
    assert_int_equal(t.call_count, TOB_SENDER_LIMITED_REPEATS + 2);
    end_sender(sender);
}

static void a_batch_is_repeated_under_its_number_until_it_is_answered(void **state) {
    (void)state;
    tob_sender *sender = start_sender(3600000, 100);
    t.fail_with = TOB_UNAVAILABLE;
    t.fail_times = 2;
    push_some(sender, "c1", 4);
    flush(sender);
    assert_int_equal(t.call_count, 3);
    assert_int_equal(t.events[TOB_SENDER_FAILED], 2);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(t.calls[i].number, 1);
        assert_int_equal(t.calls[i].samples, 4);
    }
    assert_int_equal(t.last[TOB_SENDER_ACKED].failures, 2);
    assert_int_equal(tob_sender_statistics(sender).acked, 4);
    end_sender(sender);
}

static void the_server_says_how_long_to_wait(void **state) {
    (void)state;
    tob_sender *sender = start_sender(3600000, 100);
    t.fail_with = TOB_BUSY;
    t.fail_times = 1;
    t.retry_after_ms = 300;
    push_some(sender, "c1", 1);
    uint64_t start = tob_clock_monotonic_ms();
    flush(sender);
    assert_true(tob_clock_monotonic_ms() - start >= 300);
    assert_true(t.last[TOB_SENDER_FAILED].retry_in_ms >= 300);
    end_sender(sender);
}

static void a_batch_that_is_refused_for_good_is_not_repeated(void **state) {
    (void)state;
    static const tob_error errors[] = {TOB_INVALID, TOB_UNAUTHENTICATED, TOB_PERMISSION_DENIED,
                                       TOB_NOT_FOUND};
    for (size_t i = 0; i < 4; i++) {
        tob_sender *sender = start_sender(3600000, 100);
        t.fail_with = errors[i];
        t.fail_times = 1;
        t.call_count = 0;
        push_some(sender, "c1", 2);
        flush(sender);
        assert_int_equal(t.call_count, 1);
        assert_int_equal(t.last[TOB_SENDER_DISCARDED].error, errors[i]);
        assert_int_equal(tob_sender_statistics(sender).rejected, 2);
        end_sender(sender);
    }
}

static void samples_wait_while_the_server_is_away_and_arrive_when_it_is_back(void **state) {
    (void)state;
    stop_server();
    tob_sender *sender = start_sender(50, 100);
    push_some(sender, "c1", 3);
    wait_for(&t.events[TOB_SENDER_FAILED], 1);
    push_some(sender, "c2", 4);
    start_server(); // the same port
    assert_int_equal(tob_sender_wait_idle(sender, WAIT_MS), TOB_OK);
    assert_int_equal(tob_sender_statistics(sender).acked, 7);
    stop_server();
    push_some(sender, "c1", 5);
    wait_for(&t.events[TOB_SENDER_FAILED], 2);
    start_server();
    assert_int_equal(tob_sender_wait_idle(sender, WAIT_MS), TOB_OK);
    assert_int_equal(tob_sender_statistics(sender).acked, 12);
    end_sender(sender);
}

static void with_several_servers_the_one_that_is_there_gets_the_batch(void **state) {
    (void)state;
    char first[64];
    char second[64];
    char both[160];
    snprintf(first, sizeof(first), "%s", t.url);
    stop_server();
    strcpy(t.url, "tcp://127.0.0.1:0");
    start_server();
    snprintf(second, sizeof(second), "%s", t.url);
    snprintf(both, sizeof(both), "%s,%s", first, second);
    const tob_sender_options options = {.server = both,
                                        .agent_id = "agent-test",
                                        .interval_ms = 3600000,
                                        .call_timeout_ms = 10000,
                                        .max_queued = 100,
                                        .on_event = on_event};
    tob_sender *sender = NULL;
    assert_int_equal(tob_sender_new(&options, &sender), TOB_OK);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    push_some(sender, "c1", 2);
    flush(sender);
    assert_int_equal(t.events[TOB_SENDER_ACKED], 1);
    stop_server();
    strcpy(t.url, first);
    start_server();
    push_some(sender, "c1", 3);
    flush(sender); // it hurries still: the three may go in one batch or in several
    assert_int_equal(t.events[TOB_SENDER_FAILED], 0);
    assert_int_equal(tob_sender_statistics(sender).acked, 5);
    end_sender(sender);
}

static void the_oldest_are_dropped_and_counted_when_asked_for(void **state) {
    (void)state;
    tob_sender *sender = new_sender(3600000, 5); // not started: nothing leaves
    for (int i = 1; i <= 8; i++) {
        assert_int_equal(push(sender, "c1", i, true), TOB_OK);
    }
    assert_int_equal(push(sender, "c1", 9, false), TOB_BUSY);
    assert_int_equal(t.events[TOB_SENDER_DROPPED], 3);
    assert_int_equal(tob_sender_statistics(sender).dropped, 3);
    assert_int_equal(tob_sender_statistics(sender).waiting, 5);
    assert_int_equal(tob_sender_start(sender), TOB_OK);
    flush(sender);
    assert_int_equal(t.calls[0].samples, 5);
    end_sender(sender);
}

static void stop_does_not_wait_for_a_server_that_is_away(void **state) {
    (void)state;
    stop_server();
    tob_sender *sender = start_sender(50, 100);
    push_some(sender, "c1", 3);
    wait_for(&t.events[TOB_SENDER_FAILED], 1);
    uint64_t start = tob_clock_monotonic_ms();
    assert_int_equal(tob_sender_wait_idle(sender, 10), TOB_DEADLINE);
    tob_sender_stop(sender);
    tob_sender_stop(sender); // again changes nothing
    assert_true(tob_clock_monotonic_ms() - start < 5000);
    assert_int_equal(tob_sender_statistics(sender).waiting, 3);
    tob_sender_free(sender);
}

static void wrong_options_are_refused(void **state) {
    (void)state;
    tob_sender *sender = NULL;
    tob_sender_options options = {.server = "http://x", .agent_id = "a", .max_queued = 1};
    assert_int_equal(tob_sender_new(&options, &sender), TOB_INVALID);
    options = (tob_sender_options){.server = t.url, .agent_id = "a b", .max_queued = 1};
    assert_int_equal(tob_sender_new(&options, &sender), TOB_INVALID);
    options = (tob_sender_options){.server = t.url, .agent_id = "a", .max_queued = 0};
    assert_int_equal(tob_sender_new(&options, &sender), TOB_INVALID);
    tob_sender_free(NULL);
    tob_sender_stop(NULL);
}

#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVER_TEST(samples_are_sent_as_one_batch_and_acknowledged),
        SERVER_TEST(batches_go_out_by_the_interval_without_being_asked),
        SERVER_TEST(a_full_queue_is_sent_before_its_time),
        SERVER_TEST(a_refused_series_does_not_stop_its_neighbours_and_is_not_repeated),
        SERVER_TEST(a_batch_that_was_not_looked_at_is_repeated_until_it_is),
        SERVER_TEST(a_part_that_is_never_looked_at_does_not_hold_up_the_others_for_ever),
        SERVER_TEST(a_batch_is_repeated_under_its_number_until_it_is_answered),
        SERVER_TEST(the_server_says_how_long_to_wait),
        SERVER_TEST(a_batch_that_is_refused_for_good_is_not_repeated),
        SERVER_TEST(samples_wait_while_the_server_is_away_and_arrive_when_it_is_back),
        SERVER_TEST(with_several_servers_the_one_that_is_there_gets_the_batch),
        SERVER_TEST(the_oldest_are_dropped_and_counted_when_asked_for),
        SERVER_TEST(stop_does_not_wait_for_a_server_that_is_away),
        SERVER_TEST(wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
