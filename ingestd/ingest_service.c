#include "ingestd/ingest_service.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/status.h"
#include "util/clock.h"
#include "util/text.h"
#include "wire/batch.h"

struct tob_ingest_service {
    tob_ingest_service_options options;
    atomic_uint_least64_t rejected;
};

// One Submit while it is checked. Everything is in the call's arena.
typedef struct check {
    tob_ingest_service *service;
    tob_rpc_call *call;
    tob_arena *arena;
    const Tobogganing__V1__SubmitRequest *request;
    bool peers_believed;
    Tobogganing__V1__Batch *batch;
    tob_submission *submission;
    tob_claim *claims; // of each series, clients first; those with an error are refused
} check;

tob_error tob_ingest_service_new(const tob_ingest_service_options *options, tob_ingest_service **ret) {
    tob_ingest_service *service = calloc(1, sizeof(*service));
    if (!service) {
        return TOB_NO_MEMORY;
    }
    service->options = *options;
    *ret = service;
    return TOB_OK;
}

void tob_ingest_service_free(tob_ingest_service *service) {
    free(service);
}

uint64_t tob_ingest_service_rejected(const tob_ingest_service *service) {
    return atomic_load_explicit(&service->rejected, memory_order_relaxed);
}

static size_t series_count(const check *c) {
    return c->batch->n_clients + c->batch->n_headends;
}

static void authenticate(check *c) {
    const Tobogganing__V1__SubmitRequest *request = c->request;
    size_t clients = c->batch->n_clients;
    for (size_t i = 0; i < series_count(c); i++) {
        c->claims[i] = (tob_claim){.id = i < clients ? c->batch->clients[i]->client_id
                                                     : c->batch->headends[i - clients]->headend_id,
                                   .credential = request->credentials[request->n_credentials == 1 ? 0 : i],
                                   .peer = c->peers_believed ? request->peers[i] : NULL};
    }
    tob_credentials_clients(c->service->options.credentials, c->call, c->claims, clients);
    tob_credentials_headends(c->service->options.credentials, c->call, c->claims + clients,
                             c->batch->n_headends);
}

static void check_series(check *c, uint64_t now_unix_ms) {
    for (size_t i = 0; i < series_count(c); i++) {
        const char *reason = NULL;
        if (c->claims[i].error) {
            continue;
        }
        c->claims[i].error =
            i < c->batch->n_clients
                ? tob_batch_check_client(c->batch->clients[i], now_unix_ms, &reason)
                : tob_batch_check_headend(c->batch->headends[i - c->batch->n_clients], now_unix_ms, &reason);
        c->claims[i].reason = reason;
    }
}

static tob_error list_rejections(check *c) {
    tob_submission *s = c->submission;
    s->rejected = tob_arena_alloc(c->arena, series_count(c) * sizeof(*s->rejected));
    if (!s->rejected) {
        return tob_arena_error(c->arena);
    }
    for (size_t i = 0; i < series_count(c); i++) {
        if (!c->claims[i].error) {
            continue;
        }
        Tobogganing__V1__Rejection *rejection = tob_arena_alloc(c->arena, sizeof(*rejection));
        if (!rejection) {
            return tob_arena_error(c->arena);
        }
        tobogganing__v1__rejection__init(rejection);
        rejection->series = (uint32_t)i;
        rejection->code = tob_status_code(c->claims[i].error);
        rejection->reason = (char *)c->claims[i].reason;
        rejection->retry_after_ms = c->claims[i].retry_after_ms;
        s->rejected[s->rejected_count++] = rejection;
    }
    atomic_fetch_add_explicit(&c->service->rejected, s->rejected_count, memory_order_relaxed);
    return TOB_OK;
}

// Drops the refused series from a batch's two arrays.
static void drop_refused(const check *c, Tobogganing__V1__Batch *batch) {
    size_t clients = 0, headends = 0;
    for (size_t i = 0; i < batch->n_clients; i++) {
        if (!c->claims[i].error) {
            batch->clients[clients++] = batch->clients[i];
        }
    }
    for (size_t i = 0; i < batch->n_headends; i++) {
        if (!c->claims[batch->n_clients + i].error) {
            batch->headends[headends++] = batch->headends[i];
        }
    }
    batch->n_clients = clients;
    batch->n_headends = headends;
}

// The bytes to journal: as they came when every series was accepted, else packed again without the refused
// ones (from a fresh copy: checking has turned the columns of ours into values).
static tob_error journal_bytes(check *c) {
    tob_submission *s = c->submission;
    s->batch = c->request->batch.data;
    s->batch_len = c->request->batch.len;
    if (s->rejected_count == 0) {
        return TOB_OK;
    }
    ProtobufCMessage *fresh = NULL;
    tob_error err =
        tob_arena_unpack(c->arena, &tobogganing__v1__batch__descriptor, s->batch, s->batch_len, &fresh);
    if (err) {
        return err;
    }
    drop_refused(c, (Tobogganing__V1__Batch *)fresh);
    uint8_t *packed = tob_arena_alloc(c->arena, protobuf_c_message_get_packed_size(fresh));
    if (!packed) {
        return tob_arena_error(c->arena);
    }
    s->batch_len = protobuf_c_message_pack(fresh, packed);
    s->batch = packed;
    return TOB_OK;
}

static void answer_nothing_stored(const check *c) {
    Tobogganing__V1__SubmitResponse response;
    tob_submit_response_init(c->service->options.committer, &response);
    response.rejected = c->submission->rejected;
    response.n_rejected = c->submission->rejected_count;
    tob_rpc_reply(c->call, &response.base);
}

// Does the call come from one of our own?
static bool from_gateway(const check *c) {
    tob_secrets *secrets = c->service->options.forwarder_secrets;
    const char *token = secrets ? tob_rpc_call_bearer(c->call) : NULL;
    return token && tob_secrets_match(secrets, token, strlen(token));
}

// Unpacks the batch and checks what holds for it as a whole. NULL, or what is wrong.
static const char *open_batch(check *c, tob_error *ret_error) {
    ProtobufCMessage *message = NULL;
    *ret_error = tob_arena_unpack(c->arena, &tobogganing__v1__batch__descriptor, c->request->batch.data,
                                  c->request->batch.len, &message);
    if (*ret_error) {
        return *ret_error == TOB_MALFORMED ? "batch: not a well-formed tobogganing.v1.Batch"
               : *ret_error == TOB_BUSY    ? "too many requests are being worked on"
                                           : "batch: over a limit (unknown fields, or memory to unpack it)";
    }
    c->batch = (Tobogganing__V1__Batch *)message;
    *ret_error = TOB_INVALID;
    if (!tob_id_valid(c->batch->agent_id, strlen(c->batch->agent_id))) {
        return "agent_id: must be 1-128 bytes of [A-Za-z0-9._:-]";
    }
    if (series_count(c) == 0) {
        return "clients, headends: no series";
    }
    if (series_count(c) > TOB_MAX_SERIES_PER_BATCH) {
        return "clients, headends: more than 10000 series";
    }
    if (c->request->n_credentials != 1 && c->request->n_credentials != series_count(c)) {
        return "credentials: must be one, or one for each series";
    }
    c->peers_believed = c->request->n_peers > 0 && from_gateway(c);
    if (c->peers_believed && c->request->n_peers != series_count(c)) {
        return "peers: must be none, or one for each series";
    }
    *ret_error = TOB_OK;
    return NULL;
}

static tob_error judge(check *c) {
    c->claims = tob_arena_alloc(c->arena, series_count(c) * sizeof(*c->claims));
    c->submission = tob_arena_alloc(c->arena, sizeof(*c->submission));
    if (!c->claims || !c->submission) {
        return tob_arena_error(c->arena);
    }
    *c->submission = (tob_submission){.agent_id = c->batch->agent_id,
                                      .boot_id = c->batch->boot_id,
                                      .received_unix_ms = tob_clock_unix_ms()};
    authenticate(c);
    check_series(c, c->submission->received_unix_ms);
    tob_error err = list_rejections(c);
    if (err || c->submission->rejected_count == series_count(c)) {
        return err;
    }
    err = journal_bytes(c);
    drop_refused(c, c->batch);
    c->submission->clients = c->batch->clients;
    c->submission->client_count = c->batch->n_clients;
    c->submission->headends = c->batch->headends;
    c->submission->headend_count = c->batch->n_headends;
    return err;
}

static void on_submit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    check c = {.service = user,
               .call = call,
               .arena = tob_rpc_call_arena(call),
               .request = (const Tobogganing__V1__SubmitRequest *)message};
    tob_error err = TOB_OK;
    if (tob_committer_refuses(c.service->options.committer, call)) {
        return;
    }
    const char *problem = open_batch(&c, &err);
    if (problem) {
        tob_rpc_fail(call, err, 0, "%s", problem);
        return;
    }
    err = judge(&c);
    if (err) {
        tob_rpc_fail(call, err, 0, "%s",
                     err == TOB_BUSY ? "too many requests are being worked on"
                                     : "the batch takes too much memory");
    } else if (c.submission->client_count + c.submission->headend_count == 0) {
        answer_nothing_stored(&c);
    } else {
        tob_committer_submit(c.service->options.committer, call, c.submission);
    }
}

tob_error tob_ingest_service_register(tob_ingest_service *service, tob_rpc_server *server) {
    return tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit, service);
}
