// The committer behind a real RPC server, with a real journal and a real subscriber; only authentication is left
// out: the handlers hand everything on.
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingestd/bus.h"
#include "ingestd/committer.h"
#include "rpc/client.h"
#include "rpc/nng.h"
#include "util/clock.h"
#include "util/index.h"
#include "wire/batch.h"

enum { SEGMENT_BYTES = 1 << 20, TIMEOUT_MS = 10000 };

static char dir[64];
static tob_directory *directory;
static tob_process *process;
static tob_committer *committer;
static tob_rpc_server *server;
static tob_rpc_client *client;
static nng_socket subscriber;

static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    tob_arena *arena = tob_rpc_call_arena(call);
    tob_submission *s = tob_arena_alloc(arena, sizeof(*s));
    ProtobufCMessage *unpacked = NULL;
    const char *reason = NULL;
    assert_int_equal(tob_arena_unpack(arena, &tobogganing__v1__batch__descriptor, request->batch.data,
                                      request->batch.len, &unpacked),
                     TOB_OK);
    Tobogganing__V1__Batch *batch = (Tobogganing__V1__Batch *)unpacked;
    *s = (tob_submission){.batch = request->batch.data,
                          .batch_len = request->batch.len,
                          .received_unix_ms = tob_clock_unix_ms(),
                          .clients = batch->clients,
                          .client_count = batch->n_clients,
                          .headends = batch->headends,
                          .headend_count = batch->n_headends};
    for (size_t i = 0; i < batch->n_clients; i++) {
        assert_int_equal(tob_batch_check_client(batch->clients[i], s->received_unix_ms, &reason), TOB_OK);
    }
    for (size_t i = 0; i < batch->n_headends; i++) {
        assert_int_equal(tob_batch_check_headend(batch->headends[i], s->received_unix_ms, &reason), TOB_OK);
    }
    tob_committer_submit(committer, call, s);
}

static void on_snapshot(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    tob_committer_snapshot(committer, call, (const Tobogganing__V1__SnapshotRequest *)message);
}

static void on_report(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    tob_committer_report(committer, call, (const Tobogganing__V1__Process *)message);
}

static void start(void) {
    tob_committer_options options = {.journal = {.dir = dir, .segment_bytes = SEGMENT_BYTES},
                                     .bus_url = "tcp://127.0.0.1:0",
                                     .instance = 99,
                                     .report_interval_ms = 60000,
                                     .directory = directory,
                                     .process = process};
    tob_journal_problem problem;
    bool bus_failed = false;
    tob_rpc_server_options rpc = {.url = "tcp://127.0.0.1:0",
                                  .contexts = 16,
                                  .max_connections = 16,
                                  .max_message_bytes = 5 << 20,
                                  .max_inflated_bytes = 16 << 20,
                                  .max_arena_bytes = 64 << 20};
    char url[64];
    assert_int_equal(tob_committer_new(&options, &committer, &problem, &bus_failed), TOB_OK);
    assert_int_equal(tob_rpc_server_new(&rpc, &server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit,
                                        NULL),
                     0);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__bus__descriptor, "Snapshot", on_snapshot,
                                        NULL),
                     0);
    assert_int_equal(tob_rpc_server_add(server, &tobogganing__v1__processes__descriptor, "Report", on_report,
                                        NULL),
                     0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_committer_bus_port(committer));
    assert_int_equal(nng_sub0_open(&subscriber), 0);
    assert_int_equal(nng_socket_set_int(subscriber, NNG_OPT_RECVBUF, 4096), 0);
    assert_int_equal(nng_socket_set_ms(subscriber, NNG_OPT_RECVTIMEO, TIMEOUT_MS), 0);
    assert_int_equal(nng_socket_set(subscriber, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
    assert_int_equal(nng_dial(subscriber, url, NULL, 0), 0);
    assert_int_equal(tob_committer_start(committer), TOB_OK);
    assert_int_equal(tob_rpc_server_start(server), TOB_OK);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(server));
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = url}, &client), TOB_OK);
}

static void stop(void) {
    tob_rpc_client_free(client);
    tob_rpc_server_stop(server);
    tob_committer_stop(committer);
    tob_rpc_server_free(server);
    tob_committer_free(committer);
    assert_true(tob_nng_close(subscriber));
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tob-committer-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(tob_directory_new(&directory), TOB_OK);
    assert_int_equal(tob_process_new("ingestd", &process), TOB_OK);
    assert_int_equal(tob_directory_put_client(
                         directory, &(tob_directory_client){.id = "c-1", .name = "laptop", .type = "native"}),
                     TOB_OK);
    start();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char remove_dir[128];
    stop();
    tob_directory_free(directory);
    tob_process_free(process);
    snprintf(remove_dir, sizeof(remove_dir), "rm -r %s", dir);
    return system(remove_dir);
}

static ProtobufCMessage *call_packed(const char *method, const void *body, size_t n,
                                     const ProtobufCMessageDescriptor *request_type,
                                     const ProtobufCMessageDescriptor *type) {
    ProtobufCMessage *request = protobuf_c_message_unpack(request_type, NULL, n, body);
    ProtobufCMessage *response = NULL;
    assert_int_equal(tob_rpc_client_call_wait(client, method, request, type, TIMEOUT_MS, &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(request, NULL);
    return response;
}

static void submit(const char *id, int64_t time, int64_t sent) {
    tob_batch_builder *builder = NULL;
    tob_buffer packed;
    tob_client_sample sample = {.time_unix_ms = time,
                                .present = 1u << TOB_CLIENT_BYTES_SENT,
                                .values = {sent}};
    tob_buffer_init(&packed, 1 << 20);
    assert_int_equal(tob_batch_builder_new("a", 1, 1 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, id, "k", false, &sample, 1), TOB_OK);
    assert_int_equal(tob_batch_pack(builder, 1, &packed), TOB_OK);
    ProtobufCMessage *response = call_packed("/tobogganing.v1.Ingest/Submit", packed.data, packed.len,
                                             &tobogganing__v1__submit_request__descriptor,
                                             &tobogganing__v1__submit_response__descriptor);
    const Tobogganing__V1__SubmitResponse *r = (const Tobogganing__V1__SubmitResponse *)response;
    assert_int_equal(r->stored_series, 1);
    assert_int_equal(r->stored_samples, 1);
    assert_non_null(r->durable);
    assert_in_range(r->next_report_in_ms, 54000, 66000);
    protobuf_c_message_free_unpacked(response, NULL);
    tob_batch_builder_free(builder);
    tob_buffer_fini(&packed);
}

static Tobogganing__V1__SnapshotResponse *snapshot(uint64_t cursor, uint32_t max_rows) {
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.cursor = cursor;
    request.max_rows = max_rows;
    assert_int_equal(tob_rpc_client_call_wait(client, "/tobogganing.v1.Bus/Snapshot", &request.base,
                                              &tobogganing__v1__snapshot_response__descriptor, TIMEOUT_MS,
                                              &response, NULL),
                     TOB_OK);
    return (Tobogganing__V1__SnapshotResponse *)response;
}

static Tobogganing__V1__BusMessage *receive(void) {
    nng_msg *msg = NULL;
    assert_int_equal(nng_recvmsg(subscriber, &msg, 0), 0);
    Tobogganing__V1__BusMessage *message =
        tobogganing__v1__bus_message__unpack(NULL, nng_msg_len(msg), nng_msg_body(msg));
    assert_non_null(message);
    // The documented subscription prefix.
    assert_int_equal(((uint8_t *)nng_msg_body(msg))[0], 0x08);
    assert_int_equal(((uint8_t *)nng_msg_body(msg))[1], message->topic);
    nng_msg_free(msg);
    return message;
}

static void an_acked_report_is_on_the_bus_in_its_bucket_with_its_labels(void **state) {
    (void)state;
    submit("c-1", 1000, 42);
    for (;;) {
        Tobogganing__V1__BusMessage *message = receive();
        bool rows = message->heartbeat == NULL;
        if (rows) {
            assert_int_equal(message->instance, 99);
            assert_int_equal(message->topic, 1 + tob_id_hash("c-1", 3) % TOB_BUS_BUCKETS);
            assert_int_equal(message->sequence, 1);
            assert_int_equal(message->n_clients, 1);
            assert_string_equal(message->clients[0]->name, "laptop");
            assert_string_equal(message->clients[0]->type, "native");
            assert_int_equal(message->clients[0]->bytes_sent, 42);
            assert_int_equal(message->clients[0]->present, 1);
        } else {
            assert_int_equal(message->topic, TOB_BUS_TOPIC_HEARTBEAT);
            assert_int_equal(message->heartbeat->n_last_sequences, TOB_BUS_BUCKETS);
            assert_int_equal(message->heartbeat->manager->clients, 1);
        }
        tobogganing__v1__bus_message__free_unpacked(message, NULL);
        if (rows) {
            return;
        }
    }
}

static void what_was_acked_is_there_after_a_restart(void **state) {
    (void)state;
    submit("c-1", 1000, 42);
    submit("c-1", 2000, 43);
    submit("c-1", 1500, 1); // late: changes nothing
    Tobogganing__V1__SnapshotResponse *before = snapshot(0, 0);
    stop();
    start();
    Tobogganing__V1__SnapshotResponse *page = snapshot(0, 0);
    assert_int_equal(page->n_clients, 1);
    assert_int_equal(page->clients[0]->bytes_sent, 43);
    assert_int_equal(page->clients[0]->version, before->clients[0]->version);
    assert_int_equal(page->clients[0]->last_check_in_unix_ms, before->clients[0]->last_check_in_unix_ms);
    assert_int_not_equal(page->epoch, before->epoch);
    assert_int_equal(page->instance, before->instance);
    tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    tobogganing__v1__snapshot_response__free_unpacked(before, NULL);
}

static void a_snapshot_pages_through_every_row_once(void **state) {
    (void)state;
    enum { CLIENTS = 25, HEADENDS = 7, PAGE = 10 };
    tob_batch_builder *builder = NULL;
    tob_buffer packed;
    char id[16];
    tob_buffer_init(&packed, 1 << 20);
    assert_int_equal(tob_batch_builder_new("a", 1, 1 << 20, &builder), TOB_OK);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        assert_int_equal(tob_batch_add_client(builder, id, "k", false,
                                              &(tob_client_sample){.time_unix_ms = 1}, 1),
                         0);
    }
    for (int i = 0; i < HEADENDS; i++) {
        snprintf(id, sizeof(id), "h-%d", i);
        assert_int_equal(tob_batch_add_headend(builder, id, "", "k", &(tob_headend_sample){.time_unix_ms = 1},
                                               1),
                         0);
    }
    assert_int_equal(tob_batch_pack(builder, 1, &packed), TOB_OK);
    protobuf_c_message_free_unpacked(call_packed("/tobogganing.v1.Ingest/Submit", packed.data, packed.len,
                                                 &tobogganing__v1__submit_request__descriptor,
                                                 &tobogganing__v1__submit_response__descriptor),
                                     NULL);
    size_t clients = 0, headends = 0;
    uint64_t cursor = 0;
    do {
        Tobogganing__V1__SnapshotResponse *page = snapshot(cursor, PAGE);
        assert_true(page->n_clients + page->n_headends <= PAGE);
        for (size_t i = 0; i < page->n_clients; i++) {
            snprintf(id, sizeof(id), "c-%zu", clients++);
            assert_string_equal(page->clients[i]->client_id, id);
        }
        headends += page->n_headends;
        cursor = page->next_cursor;
        tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    } while (cursor);
    assert_int_equal(clients, CLIENTS);
    assert_int_equal(headends, HEADENDS);
    tob_batch_builder_free(builder);
    tob_buffer_fini(&packed);
}

static uint64_t counted(uint64_t process_id) {
    Tobogganing__V1__SnapshotResponse *page = snapshot(0, 0);
    uint64_t value = 0;
    for (size_t i = 0; i < page->manager->n_processes; i++) {
        const Tobogganing__V1__Process *p = page->manager->processes[i];
        value += p->id == process_id && p->n_counters ? p->counters[0]->value : 0;
    }
    tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    return value;
}

static void counters_of_other_processes_survive_a_restart(void **state) {
    (void)state;
    Tobogganing__V1__Process gateway = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Counter *counters[] = {&counter};
    ProtobufCMessage *response = NULL;
    gateway.id = 12345;
    gateway.kind = (char *)"gateway";
    gateway.counters = counters;
    gateway.n_counters = 1;
    counter.value = 17;
    assert_int_equal(tob_rpc_client_call_wait(client, "/tobogganing.v1.Processes/Report", &gateway.base,
                                              &tobogganing__v1__report_response__descriptor, TIMEOUT_MS,
                                              &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(response, NULL);
    assert_int_equal(counted(12345), 17);
    stop();
    start();
    assert_int_equal(counted(12345), 17);
}

static void a_page_over_the_limit_is_refused(void **state) {
    (void)state;
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    tob_rpc_failure failure;
    request.max_rows = TOB_SNAPSHOT_MAX_ROWS + 1;
    assert_int_equal(tob_rpc_client_call_wait(client, "/tobogganing.v1.Bus/Snapshot", &request.base,
                                              &tobogganing__v1__snapshot_response__descriptor, TIMEOUT_MS,
                                              &response, &failure),
                     TOB_INVALID);
    assert_string_equal(failure.message, "max_rows: over 10000");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_acked_report_is_on_the_bus_in_its_bucket_with_its_labels, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_was_acked_is_there_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_pages_through_every_row_once, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_of_other_processes_survive_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_over_the_limit_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
