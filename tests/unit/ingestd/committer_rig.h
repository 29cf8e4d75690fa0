// The committer and the threads beside it behind a real RPC server, with a real journal and a real subscriber; only
// authentication is left out: the handlers hand everything on.
#ifndef TOB_TESTS_COMMITTER_RIG_H
#define TOB_TESTS_COMMITTER_RIG_H

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tobogganing/v1/journal.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/reports.pb-c.h"

#include "ingestd/bus.h"
#include "ingestd/checkpointer.h"
#include "ingestd/committer.h"
#include "ingestd/replayer.h"
#include "rpc/client.h"
#include "rpc/nng.h"
#include "util/clock.h"
#include "util/index.h"
#include "wire/batch.h"

enum { RIG_TIMEOUT_MS = 10000, RIG_INSTANCE = 99, RIG_CONTEXTS = 16 };

typedef struct rig {
    char dir[64];
    tob_committer_options options; // changed by a test before rig_start, if at all
    tob_checkpointer_options checkpoints;
    uint64_t max_waiting; // of the replayer
    tob_arena_budget budget;
    tob_directory *directory;
    tob_process *process;
    tob_store_recovery recovery;
    tob_committer *committer;
    tob_checkpointer *checkpointer;
    tob_replayer *replayer;
    tob_rpc_server *server;
    tob_rpc_client *client;
    nng_socket subscriber;
    uint64_t number; // of the last batch
} rig;

static inline void rig_on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    rig *r = user;
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
                          .agent_id = batch->agent_id,
                          .boot_id = batch->boot_id,
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
    tob_committer_submit(r->committer, call, s);
}

static inline void rig_on_snapshot(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_committer_snapshot(((rig *)user)->committer, call, (const Tobogganing__V1__SnapshotRequest *)message);
}

static inline void rig_on_report(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_committer_report(((rig *)user)->committer, call, (const Tobogganing__V1__Process *)message);
}

static inline void rig_on_replay(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_replayer_call(((rig *)user)->replayer, call, (const Tobogganing__V1__ReplayRequest *)message);
}

static inline void rig_on_commit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_committer_commit(((rig *)user)->committer, call, (const Tobogganing__V1__CommitRequest *)message);
}

static inline void rig_on_list(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)message;
    tob_committer_list_consumers(((rig *)user)->committer, call);
}

static inline void rig_on_forget(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_committer_forget(((rig *)user)->committer, call,
                         (const Tobogganing__V1__ForgetConsumerRequest *)message);
}

static inline void rig_on_delete_client(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    tob_committer_remove(((rig *)user)->committer, call, TOB_SOURCE_CLIENT,
                         ((const Tobogganing__V1__ClientId *)message)->client_id);
}

static inline void rig_on_last(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    const Tobogganing__V1__LastRequest *request = (const Tobogganing__V1__LastRequest *)message;
    bool client = *request->client_id != 0;
    tob_committer_last(((rig *)user)->committer, call, client ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND,
                       client ? request->client_id : request->headend_id);
}

static inline void rig_serve(rig *r) {
    const struct {
        const ProtobufCServiceDescriptor *service;
        const char *method;
        tob_rpc_handler handler;
    } methods[] = {
        {&tobogganing__v1__ingest__descriptor, "Submit", rig_on_submit},
        {&tobogganing__v1__bus__descriptor, "Snapshot", rig_on_snapshot},
        {&tobogganing__v1__bus__descriptor, "Replay", rig_on_replay},
        {&tobogganing__v1__bus__descriptor, "Commit", rig_on_commit},
        {&tobogganing__v1__bus__descriptor, "ListConsumers", rig_on_list},
        {&tobogganing__v1__bus__descriptor, "ForgetConsumer", rig_on_forget},
        {&tobogganing__v1__processes__descriptor, "Report", rig_on_report},
        {&tobogganing__v1__registry__descriptor, "DeleteClient", rig_on_delete_client},
        {&tobogganing__v1__reports__descriptor, "Last", rig_on_last},
    };
    tob_rpc_server_options rpc = {.url = "tcp://127.0.0.1:0",
                                  .contexts = RIG_CONTEXTS,
                                  .max_connections = 16,
                                  .max_message_bytes = 5 << 20,
                                  .max_inflated_bytes = 16 << 20,
                                  .max_arena_bytes = 64 << 20,
                                  .budget = &r->budget};
    assert_int_equal(tob_rpc_server_new(&rpc, &r->server), TOB_OK);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        assert_int_equal(tob_rpc_server_add(r->server, methods[i].service, methods[i].method,
                                            methods[i].handler, r),
                         TOB_OK);
    }
    assert_int_equal(tob_rpc_server_start(r->server), TOB_OK);
}

static inline void rig_subscribe(rig *r) {
    char url[64];
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_committer_bus_port(r->committer));
    assert_int_equal(nng_sub0_open(&r->subscriber), 0);
    assert_int_equal(nng_socket_set_int(r->subscriber, NNG_OPT_RECVBUF, 4096), 0);
    assert_int_equal(nng_socket_set_ms(r->subscriber, NNG_OPT_RECVTIMEO, RIG_TIMEOUT_MS), 0);
    assert_int_equal(nng_socket_set(r->subscriber, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
    assert_int_equal(nng_dial(r->subscriber, url, NULL, 0), 0);
}

static inline void rig_nothing(const tob_committer_view *view, void *user) {
    (void)view;
    (void)user;
}

static inline void rig_start(rig *r) {
    tob_journal_problem problem;
    bool bus_failed = false;
    char url[64];
    r->options.store.journal.dir = r->dir;
    r->options.directory = r->directory;
    r->options.process = r->process;
    tob_error err = tob_committer_new(&r->options, &r->committer, &r->recovery, &problem, &bus_failed);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), problem.text);
    }
    r->checkpoints.committer = r->committer;
    r->checkpoints.journal_dir = r->dir;
    r->checkpoints.segment_bytes = r->options.store.journal.segment_bytes;
    r->checkpoints.last = r->recovery.checkpoint;
    r->checkpoints.last_bytes = r->recovery.checkpoint_bytes;
    tob_replayer_options replayer = {.committer = r->committer,
                                     .journal_dir = r->dir,
                                     .segment_bytes = r->options.store.journal.segment_bytes,
                                     .instance = RIG_INSTANCE,
                                     .max_waiting = r->max_waiting};
    assert_int_equal(tob_checkpointer_new(&r->checkpoints, &r->checkpointer), TOB_OK);
    assert_int_equal(tob_replayer_new(&replayer, &r->replayer), TOB_OK);
    rig_subscribe(r);
    assert_int_equal(tob_committer_start(r->committer), TOB_OK);
    tob_committer_run(r->committer, rig_nothing,
                      NULL); // after the first heartbeat, which journals our counters
    assert_int_equal(tob_checkpointer_start(r->checkpointer), TOB_OK);
    assert_int_equal(tob_replayer_start(r->replayer), TOB_OK);
    rig_serve(r);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(r->server));
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = url}, &r->client), TOB_OK);
}

static inline void rig_stop(rig *r) {
    tob_rpc_client_free(r->client);
    tob_replayer_hurry(r->replayer);
    tob_rpc_server_stop(r->server);
    tob_replayer_stop(r->replayer);
    tob_committer_drain(r->committer);
    tob_checkpointer_stop(r->checkpointer);
    tob_committer_stop(r->committer);
    tob_rpc_server_free(r->server);
    tob_replayer_free(r->replayer);
    tob_checkpointer_free(r->checkpointer);
    tob_committer_free(r->committer);
    assert_true(tob_nng_close(r->subscriber));
}

static inline void rig_register(rig *r, const char *client_id, const char *name) {
    tob_directory_client client = {.id = client_id, .name = name, .type = "native"};
    assert_int_equal(tob_directory_put_client(r->directory, &client, NULL), TOB_OK);
}

static inline rig *rig_new(void) {
    rig *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    *r = (rig){.dir = "/tmp/tob-committer-XXXXXX",
               .options = {.store = {.journal = {.segment_bytes = TOB_JOURNAL_MIN_SEGMENT},
                                     .retain_ms = 86400000,
                                     .retain_bytes = 1u << 30},
                           .bus_url = "tcp://127.0.0.1:0",
                           .instance = RIG_INSTANCE,
                           .report_interval_ms = 60000},
               .checkpoints = {.interval_ms = 3600000, .bytes = 1u << 30},
               .max_waiting = 4};
    tob_arena_budget_init(&r->budget, 256u << 20);
    assert_non_null(mkdtemp(r->dir));
    assert_int_equal(tob_directory_new(&r->directory), TOB_OK);
    assert_int_equal(tob_process_new("ingestd", &r->process), TOB_OK);
    rig_register(r, "c-1", "laptop");
    return r;
}

static inline void rig_free(rig *r) {
    char remove_dir[128];
    tob_directory_free(r->directory);
    tob_process_free(r->process);
    snprintf(remove_dir, sizeof(remove_dir), "rm -r %s", r->dir);
    assert_int_equal(system(remove_dir), 0);
    free(r);
}

// ---- calls

// Any call; the response is freed with protobuf_c_message_free_unpacked.
static inline tob_error rig_call(rig *r, const char *method, const ProtobufCMessage *request,
                                 const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret,
                                 tob_rpc_failure *failure) {
    return tob_rpc_client_call_wait(r->client, method, request, type, RIG_TIMEOUT_MS, ret, failure);
}

static inline Tobogganing__V1__SubmitResponse *rig_send(rig *r, tob_batch_builder *builder, uint64_t number) {
    tob_buffer packed;
    ProtobufCMessage *response = NULL;
    tob_buffer_init(&packed, 4u << 20);
    assert_int_equal(tob_batch_pack(builder, number, &packed), TOB_OK);
    ProtobufCMessage *request = protobuf_c_message_unpack(&tobogganing__v1__submit_request__descriptor, NULL,
                                                          packed.len, packed.data);
    assert_non_null(request);
    assert_int_equal(rig_call(r, "/tobogganing.v1.Ingest/Submit", request,
                              &tobogganing__v1__submit_response__descriptor, &response, NULL),
                     TOB_OK);
    protobuf_c_message_free_unpacked(request, NULL);
    tob_buffer_fini(&packed);
    return (Tobogganing__V1__SubmitResponse *)response;
}

// One sample of one client as batch `number` of agent "a".
static inline Tobogganing__V1__SubmitResponse *rig_submit_as(rig *r, uint64_t number, const char *id,
                                                             int64_t time, int64_t sent) {
    tob_batch_builder *builder = NULL;
    tob_client_sample sample = {.time_unix_ms = time,
                                .present = 1u << TOB_CLIENT_BYTES_SENT,
                                .values = {sent}};
    assert_int_equal(tob_batch_builder_new("a", 1, 1 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, id, "k", false, &sample, 1), TOB_OK);
    Tobogganing__V1__SubmitResponse *response = rig_send(r, builder, number);
    tob_batch_builder_free(builder);
    return response;
}

// Likewise, the next batch, which must be stored. Returns where.
static inline tob_position rig_submit(rig *r, const char *id, int64_t time, int64_t sent) {
    Tobogganing__V1__SubmitResponse *response = rig_submit_as(r, ++r->number, id, time, sent);
    assert_int_equal(response->stored_series, 1);
    assert_int_equal(response->stored_samples, 1);
    assert_false(response->repeated);
    assert_non_null(response->durable);
    tob_position at = {response->durable->segment, response->durable->offset};
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
    return at;
}

static inline Tobogganing__V1__SnapshotResponse *rig_snapshot(rig *r, uint64_t cursor, uint32_t max_rows,
                                                              uint64_t buckets) {
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.cursor = cursor;
    request.max_rows = max_rows;
    request.buckets = buckets;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Bus/Snapshot", &request.base,
                              &tobogganing__v1__snapshot_response__descriptor, &response, NULL),
                     TOB_OK);
    return (Tobogganing__V1__SnapshotResponse *)response;
}

// How many rows there are of the client, and its bytes_sent.
static inline size_t rig_rows_of(rig *r, const char *id, uint64_t *ret_sent) {
    size_t rows = 0;
    uint64_t cursor = 0;
    do {
        Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, cursor, 0, 0);
        for (size_t i = 0; i < page->n_clients; i++) {
            if (strcmp(page->clients[i]->client_id, id) == 0) {
                rows++;
                *ret_sent = page->clients[i]->bytes_sent;
            }
        }
        cursor = page->next_cursor;
        tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    } while (cursor);
    return rows;
}

static inline Tobogganing__V1__BusMessage *rig_receive(rig *r) {
    nng_msg *msg = NULL;
    assert_int_equal(nng_recvmsg(r->subscriber, &msg, 0), 0);
    Tobogganing__V1__BusMessage *message =
        tobogganing__v1__bus_message__unpack(NULL, nng_msg_len(msg), nng_msg_body(msg));
    assert_non_null(message);
    // The documented subscription prefix.
    assert_int_equal(((uint8_t *)nng_msg_body(msg))[0], 0x08);
    assert_int_equal(((uint8_t *)nng_msg_body(msg))[1], message->topic);
    nng_msg_free(msg);
    return message;
}

// ---- a committer that hangs, as if its disk did

typedef struct rig_hang {
    rig *rig;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hanging;
    bool released;
} rig_hang;

static inline void rig_hang_task(const tob_committer_view *view, void *user) {
    rig_hang *h = user;
    (void)view;
    pthread_mutex_lock(&h->lock);
    h->hanging = true;
    pthread_cond_broadcast(&h->changed);
    while (!h->released) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

static inline void *rig_hang_run(void *user) {
    rig_hang *h = user;
    tob_committer_run(h->rig->committer, rig_hang_task, h);
    return NULL;
}

static inline void rig_hang_begin(rig_hang *h, rig *r) {
    *h = (rig_hang){.rig = r};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    assert_int_equal(pthread_create(&h->thread, NULL, rig_hang_run, h), 0);
    pthread_mutex_lock(&h->lock);
    while (!h->hanging) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

static inline void rig_hang_end(rig_hang *h) {
    pthread_mutex_lock(&h->lock);
    h->released = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->changed);
}

// ---- most tests begin with one that runs

static inline int rig_set_up(void **state) {
    rig *r = rig_new();
    rig_start(r);
    *state = r;
    return 0;
}

static inline int rig_tear_down(void **state) {
    rig *r = *state;
    rig_stop(r);
    rig_free(r);
    return 0;
}

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

#endif
