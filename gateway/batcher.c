#include "gateway/batcher.h"

#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "gateway/outcome.h"
#include "util/clock.h"
#include "util/random.h"
#include "wire/batch.h"

#define LANES           (TOB_BATCHER_IN_FLIGHT + 1) // one gathers
#define RESPONSE_ARENA  (4u << 20)
#define SUBMIT_METHOD   "/tobogganing.v1.Ingest/Submit"
#define STORED_RESPONSE "{\"status\":\"metrics_received\"}"

// The requests whose series are in a batch, in the order of the series.
typedef struct waiting {
    tob_http_hold *holds[TOB_BATCHER_MAX_SERIES];
    size_t count;
} waiting;

// One batch: gathering, or under way, or empty.
typedef struct lane {
    tob_batcher *batcher;
    tob_batch_builder *builder;
    uint64_t number;
    waiting clients;
    waiting headends;
    bool in_flight;
    // How the call ended: written by the callback, read by the task.
    tob_http_task task;
    tob_error error;
    uint32_t retry_after_ms;
    char message[TOB_RPC_MESSAGE_BYTES];
    tob_buffer response;
} lane;

struct tob_batcher {
    tob_http_worker *worker;
    tob_rpc_client *rpc;
    uint64_t request_timeout_ms;
    lane lanes[LANES];
    lane *gathering;
    unsigned in_flight;
    uint64_t gathering_since_ms;
    h2o_timeout_entry_t flush; // at the end of the loop's turn
    h2o_timeout_t patience;    // how long a report may gather
    h2o_timeout_entry_t impatient;
    tob_buffer packed;
    tob_arena *arena;
};

static size_t lane_count(const lane *l) {
    return l->clients.count + l->headends.count;
}

static void answer(tob_http_hold **hold, const tob_outcome *outcome) {
    h2o_req_t *req = *hold ? (*hold)->req : NULL;
    if (req && outcome) {
        tob_http_send_error(req, outcome->status, outcome->retry_after_ms, "%s", outcome->text);
    } else if (req) {
        tob_http_send(req, 200, "application/json", STORED_RESPONSE, sizeof(STORED_RESPONSE) - 1);
    }
    tob_http_hold_release(*hold);
    *hold = NULL;
}

// Answers all that have not been answered yet and makes the lane empty. outcome NULL: stored.
static void answer_rest(lane *l, const tob_outcome *outcome) {
    for (size_t i = 0; i < l->clients.count; i++) {
        answer(&l->clients.holds[i], outcome);
    }
    for (size_t i = 0; i < l->headends.count; i++) {
        answer(&l->headends.holds[i], outcome);
    }
    l->clients.count = 0;
    l->headends.count = 0;
    tob_batch_clear(l->builder);
}

static void answer_failed(lane *l, tob_error error, const char *message, uint32_t retry_after_ms) {
    tob_outcome outcome = tob_outcome_of_batch(error, message, retry_after_ms);
    answer_rest(l, &outcome);
}

static void answer_rejected(lane *l, const Tobogganing__V1__SubmitResponse *response) {
    for (size_t i = 0; i < response->n_rejected; i++) {
        const Tobogganing__V1__Rejection *rejection = response->rejected[i];
        tob_outcome outcome = tob_outcome_of_rejection(rejection);
        size_t at = rejection->series;
        answer(at < l->clients.count ? &l->clients.holds[at] : &l->headends.holds[at - l->clients.count],
               &outcome);
    }
}

// Each series is stored or named as rejected; anything else is not an answer to this batch.
static bool response_fits(const lane *l, const Tobogganing__V1__SubmitResponse *response) {
    for (size_t i = 0; i < response->n_rejected; i++) {
        if (response->rejected[i]->series >= lane_count(l)) {
            return false;
        }
    }
    return response->stored_series + response->n_rejected == lane_count(l);
}

static void answer_stored(lane *l) {
    tob_arena *arena = l->batcher->arena;
    ProtobufCMessage *message = NULL;
    tob_error error = tob_arena_unpack(arena, &tobogganing__v1__submit_response__descriptor, l->response.data,
                                       l->response.len, &message);
    const Tobogganing__V1__SubmitResponse *response = (const Tobogganing__V1__SubmitResponse *)message;
    if (error || !response_fits(l, response)) {
        answer_failed(l, TOB_INTERNAL, NULL, 0);
    } else {
        answer_rejected(l, response);
        answer_rest(l, NULL);
    }
    tob_arena_clear(arena);
}

static void flush_soon(tob_batcher *batcher) {
    h2o_context_t *context = tob_http_worker_context(batcher->worker);
    if (!h2o_timeout_is_linked(&batcher->flush)) {
        h2o_timeout_link(context->loop, &context->zero_timeout, &batcher->flush);
    }
}

// On the worker's thread: a call has ended.
static void on_ended(void *arg) {
    lane *l = arg;
    tob_batcher *batcher = l->batcher;
    l->in_flight = false;
    batcher->in_flight--;
    if (l->error) {
        answer_failed(l, l->error, l->message, l->retry_after_ms);
    } else {
        answer_stored(l);
    }
    if (lane_count(batcher->gathering)) {
        flush_soon(batcher);
    }
}

// On a thread of the RPC client.
static void on_done(void *user, const tob_rpc_result *result) {
    lane *l = user;
    l->error = tob_call_error(result);
    l->retry_after_ms = result->retry_after_ms;
    l->message[0] = 0;
    strncat(l->message, result->message ? result->message : "", sizeof(l->message) - 1);
    tob_buffer_clear(&l->response);
    if (!l->error) {
        l->error = tob_buffer_append(&l->response, result->body, result->body_len);
    }
    // Fails once the worker has stopped: then its requests are gone too.
    (void)!tob_http_post_task(l->batcher->worker, &l->task);
}

static lane *empty_lane(tob_batcher *batcher) {
    lane *l = batcher->lanes;
    while (l->in_flight) {
        l++; // there are more lanes than may be in flight
    }
    return l;
}

static void send_batch(tob_batcher *batcher) {
    lane *l = batcher->gathering;
    uint64_t waited_ms = tob_clock_monotonic_ms() - batcher->gathering_since_ms;
    uint64_t left_ms = batcher->request_timeout_ms > waited_ms ? batcher->request_timeout_ms - waited_ms : 1;
    tob_buffer_clear(&batcher->packed);
    tob_error error = tob_batch_pack(l->builder, l->number + 1, &batcher->packed);
    if (!error) {
        l->in_flight = true;
        error = tob_rpc_client_call(batcher->rpc, SUBMIT_METHOD, batcher->packed.data, batcher->packed.len,
                                    (uint32_t)left_ms, on_done, l);
    }
    if (error) {
        l->in_flight = false;
        answer_failed(l, error, NULL, 0);
        return;
    }
    l->number++;
    batcher->in_flight++;
    batcher->gathering = empty_lane(batcher);
}

static void on_flush(h2o_timeout_entry_t *entry) {
    tob_batcher *batcher = H2O_STRUCT_FROM_MEMBER(tob_batcher, flush, entry);
    if (lane_count(batcher->gathering) && batcher->in_flight < TOB_BATCHER_IN_FLIGHT) {
        h2o_timeout_unlink(&batcher->impatient);
        send_batch(batcher);
    }
}

static void on_impatient(h2o_timeout_entry_t *entry) {
    tob_batcher *batcher = H2O_STRUCT_FROM_MEMBER(tob_batcher, impatient, entry);
    answer_failed(batcher->gathering, TOB_UNAVAILABLE, "ingestd did not answer in time", 0);
}

static tob_error lane_init(lane *l, tob_batcher *batcher, const char *agent_id) {
    l->batcher = batcher;
    l->task = (tob_http_task){.fn = on_ended, .arg = l};
    tob_buffer_init(&l->response, TOB_MAX_INFLATED_BYTES);
    return tob_batch_builder_new(agent_id, tob_random_u64(), TOB_BATCHER_MAX_BYTES, &l->builder);
}

tob_error tob_batcher_new(tob_http_worker *worker, tob_rpc_client *rpc, const char *agent_id,
                          uint64_t request_timeout_ms, tob_batcher **ret) {
    h2o_context_t *context = tob_http_worker_context(worker);
    tob_batcher *batcher = calloc(1, sizeof(*batcher));
    if (!batcher) {
        return TOB_NO_MEMORY;
    }
    tob_error error = tob_arena_new(RESPONSE_ARENA, &batcher->arena);
    for (size_t i = 0; i < LANES && !error; i++) {
        error = lane_init(&batcher->lanes[i], batcher, agent_id);
    }
    if (error) {
        tob_batcher_free(batcher);
        return error;
    }
    batcher->worker = worker;
    batcher->rpc = rpc;
    batcher->request_timeout_ms = request_timeout_ms;
    batcher->gathering = batcher->lanes;
    batcher->flush.cb = on_flush;
    batcher->impatient.cb = on_impatient;
    tob_buffer_init(&batcher->packed, TOB_MAX_BATCH_BYTES);
    h2o_timeout_init(context->loop, &batcher->patience, request_timeout_ms);
    *ret = batcher;
    return TOB_OK;
}

static tob_error has_room(const tob_batcher *batcher) {
    return lane_count(batcher->gathering) < TOB_BATCHER_MAX_SERIES ? TOB_OK : TOB_BUSY;
}

// The request's series is in the batch: it waits now.
static void wait_for_answer(tob_batcher *batcher, waiting *list, h2o_req_t *req) {
    if (!lane_count(batcher->gathering)) {
        h2o_context_t *context = tob_http_worker_context(batcher->worker);
        batcher->gathering_since_ms = tob_clock_monotonic_ms();
        h2o_timeout_link(context->loop, &batcher->patience, &batcher->impatient);
    }
    list->holds[list->count++] = tob_http_hold_new(req);
    flush_soon(batcher);
}

tob_error tob_batcher_add_client(tob_batcher *batcher, h2o_req_t *req, const char *client_id,
                                 const tob_caller *caller, bool headless, const tob_client_sample *sample) {
    lane *l = batcher->gathering;
    tob_error error = has_room(batcher);
    if (!error) {
        tob_batch_set_peer(l->builder, caller->address);
        error = tob_batch_add_client(l->builder, client_id, caller->bearer, headless, sample, 1);
    }
    if (!error) {
        wait_for_answer(batcher, &l->clients, req);
    }
    return error == TOB_TOO_LARGE ? TOB_BUSY : error;
}

tob_error tob_batcher_add_headend(tob_batcher *batcher, h2o_req_t *req, const char *headend_id,
                                  const char *name, const tob_caller *caller,
                                  const tob_headend_sample *sample) {
    lane *l = batcher->gathering;
    tob_error error = has_room(batcher);
    if (!error) {
        tob_batch_set_peer(l->builder, caller->address);
        error = tob_batch_add_headend(l->builder, headend_id, name, caller->bearer, sample, 1);
    }
    if (!error) {
        wait_for_answer(batcher, &l->headends, req);
    }
    return error == TOB_TOO_LARGE ? TOB_BUSY : error;
}

void tob_batcher_stop(tob_batcher *batcher) {
    h2o_timeout_unlink(&batcher->flush);
    h2o_timeout_unlink(&batcher->impatient);
    h2o_timeout_dispose(tob_http_worker_context(batcher->worker)->loop, &batcher->patience);
}

static void release_all(waiting *list) {
    for (size_t i = 0; i < list->count; i++) {
        tob_http_hold_release(list->holds[i]);
    }
}

void tob_batcher_free(tob_batcher *batcher) {
    if (!batcher) {
        return;
    }
    for (size_t i = 0; i < LANES; i++) {
        release_all(&batcher->lanes[i].clients);
        release_all(&batcher->lanes[i].headends);
        tob_batch_builder_free(batcher->lanes[i].builder);
        tob_buffer_fini(&batcher->lanes[i].response);
    }
    tob_buffer_fini(&batcher->packed);
    tob_arena_free(batcher->arena);
    free(batcher);
}
