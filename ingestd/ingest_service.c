#include "ingestd/ingest_service.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/status.h"
#include "util/clock.h"
#include "util/secret.h"
#include "util/text.h"
#include "wire/batch.h"

struct tob_ingest_service {
    tob_committer *committer;
    tob_directory *directory;
    tob_jwt *jwt;
    tob_counter *api_key_success;
    tob_counter *api_key_failure;
    tob_counter *jwt_success;
    tob_counter *jwt_failure;
    atomic_uint_least64_t rejected;
};

// One Submit while it is checked. Everything is in the call's arena.
typedef struct check {
    tob_ingest_service *service;
    tob_rpc_call *call;
    tob_arena *arena;
    const Tobogganing__V1__SubmitRequest *request;
    Tobogganing__V1__Batch *batch;
    tob_submission *submission;
    // Why each series is refused, NULL for those that are not; clients first.
    struct verdict {
        tob_error error;
        const char *reason;
    } * verdicts;
} check;

tob_error tob_ingest_service_new(tob_committer *committer, tob_directory *directory, tob_jwt *jwt,
                                 tob_process *process, tob_ingest_service **ret) {
    const Tobogganing__V1__CounterFamily family =
        TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS;
    tob_ingest_service *service = calloc(1, sizeof(*service));
    if (!service) {
        return TOB_NO_MEMORY;
    }
    service->committer = committer;
    service->directory = directory;
    service->jwt = jwt;
    service->api_key_success = tob_process_counter(process, family, "api_key", "success", NULL);
    service->api_key_failure = tob_process_counter(process, family, "api_key", "failure", NULL);
    service->jwt_success = tob_process_counter(process, family, "jwt", "success", NULL);
    service->jwt_failure = tob_process_counter(process, family, "jwt", "failure", NULL);
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

static const char *credential_of(const check *c, size_t series) {
    return c->request->credentials[c->request->n_credentials == 1 ? 0 : series];
}

static void refuse(check *c, size_t series, tob_error error, const char *reason) {
    c->verdicts[series] = (struct verdict){error, reason};
}

// The directory's read lock is held.
static void authenticate_client(check *c, size_t i, const uint8_t key_hash[TOB_SHA256_BYTES]) {
    const char *id = c->batch->clients[i]->client_id;
    const tob_directory_client *client = tob_directory_find_client(c->service->directory, id, strlen(id));
    // The hash is compared whether or not the client exists, and an unknown client is answered like a wrong
    // key: nobody can find out who is registered.
    static const uint8_t nobody[TOB_SHA256_BYTES];
    bool match = tob_equal_constant_time(client ? client->key_hash : nobody, key_hash, TOB_SHA256_BYTES);
    if (!client || !match) {
        refuse(c, i, TOB_UNAUTHENTICATED, "credential: not this client's API key");
    } else if (client->revoked) {
        refuse(c, i, TOB_UNAUTHENTICATED, "credential: this client's API key is revoked");
    }
    tob_counter_add(c->verdicts[i].error ? c->service->api_key_failure : c->service->api_key_success, 1);
}

// Whoever sends too long a credential is refused without looking at it.
static bool credential_too_long(check *c, size_t series, tob_counter *failure) {
    if (strlen(credential_of(c, series)) <= TOB_MAX_CREDENTIAL_BYTES) {
        return false;
    }
    refuse(c, series, TOB_UNAUTHENTICATED, "credential: over 8192 bytes");
    tob_counter_add(failure, 1);
    return true;
}

static void authenticate_clients(check *c) {
    const char *hashed = NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256_context *context = tob_sha256_context_new();
    tob_directory_read_lock(c->service->directory);
    for (size_t i = 0; i < c->batch->n_clients; i++) {
        const char *key = credential_of(c, i);
        if (credential_too_long(c, i, c->service->api_key_failure)) {
            continue;
        }
        if (key != hashed) { // an agent has one for all of its series
            tob_sha256_with(context, key, strlen(key), hash);
            hashed = key;
        }
        authenticate_client(c, i, hash);
    }
    tob_directory_read_unlock(c->service->directory);
    tob_sha256_context_free(context);
}

static void authenticate_headends(check *c) {
    uint64_t now_unix_s = tob_clock_unix_ms() / 1000;
    for (size_t i = 0; i < c->batch->n_headends; i++) {
        size_t series = c->batch->n_clients + i;
        const char *token = credential_of(c, series);
        const char *reason = NULL;
        char sub[TOB_MAX_ID_BYTES + 1];
        if (credential_too_long(c, series, c->service->jwt_failure)) {
            continue;
        }
        tob_error err = tob_jwt_verify(c->service->jwt, token, strlen(token), now_unix_s, sub, &reason);
        tob_counter_add(err ? c->service->jwt_failure : c->service->jwt_success, 1);
        if (err) {
            refuse(c, series, err, reason);
        } else if (strcmp(sub, c->batch->headends[i]->headend_id) != 0) {
            refuse(c, series, TOB_PERMISSION_DENIED, "credential: the token is for another headend");
        }
    }
    tob_directory_read_lock(c->service->directory);
    for (size_t i = 0; i < c->batch->n_headends; i++) {
        const char *id = c->batch->headends[i]->headend_id;
        size_t series = c->batch->n_clients + i;
        if (!c->verdicts[series].error &&
            !tob_directory_find_headend(c->service->directory, id, strlen(id))) {
            refuse(c, series, TOB_NOT_FOUND, "headend_id: no such headend is registered");
        }
    }
    tob_directory_read_unlock(c->service->directory);
}

static void check_series(check *c, uint64_t now_unix_ms) {
    for (size_t i = 0; i < series_count(c); i++) {
        const char *reason = NULL;
        if (c->verdicts[i].error) {
            continue;
        }
        tob_error err =
            i < c->batch->n_clients
                ? tob_batch_check_client(c->batch->clients[i], now_unix_ms, &reason)
                : tob_batch_check_headend(c->batch->headends[i - c->batch->n_clients], now_unix_ms, &reason);
        if (err) {
            refuse(c, i, err, reason);
        }
    }
}

static tob_error list_rejections(check *c) {
    tob_submission *s = c->submission;
    s->rejected = tob_arena_alloc(c->arena, series_count(c) * sizeof(*s->rejected));
    if (!s->rejected) {
        return tob_arena_error(c->arena);
    }
    for (size_t i = 0; i < series_count(c); i++) {
        if (!c->verdicts[i].error) {
            continue;
        }
        Tobogganing__V1__Rejection *rejection = tob_arena_alloc(c->arena, sizeof(*rejection));
        if (!rejection) {
            return tob_arena_error(c->arena);
        }
        tobogganing__v1__rejection__init(rejection);
        rejection->series = (uint32_t)i;
        rejection->code = tob_status_code(c->verdicts[i].error);
        rejection->reason = (char *)c->verdicts[i].reason;
        s->rejected[s->rejected_count++] = rejection;
    }
    atomic_fetch_add_explicit(&c->service->rejected, s->rejected_count, memory_order_relaxed);
    return TOB_OK;
}

// Drops the refused series from a batch's two arrays.
static void drop_refused(const check *c, Tobogganing__V1__Batch *batch) {
    size_t clients = 0, headends = 0;
    for (size_t i = 0; i < batch->n_clients; i++) {
        if (!c->verdicts[i].error) {
            batch->clients[clients++] = batch->clients[i];
        }
    }
    for (size_t i = 0; i < batch->n_headends; i++) {
        if (!c->verdicts[batch->n_clients + i].error) {
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
    tob_submit_response_init(c->service->committer, &response);
    response.rejected = c->submission->rejected;
    response.n_rejected = c->submission->rejected_count;
    tob_rpc_reply(c->call, &response.base);
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
    *ret_error = TOB_OK;
    return NULL;
}

static tob_error judge(check *c) {
    c->verdicts = tob_arena_alloc(c->arena, series_count(c) * sizeof(*c->verdicts));
    c->submission = tob_arena_alloc(c->arena, sizeof(*c->submission));
    if (!c->verdicts || !c->submission) {
        return tob_arena_error(c->arena);
    }
    memset(c->verdicts, 0, series_count(c) * sizeof(*c->verdicts));
    *c->submission = (tob_submission){.agent_id = c->batch->agent_id,
                                      .boot_id = c->batch->boot_id,
                                      .received_unix_ms = tob_clock_unix_ms()};
    authenticate_clients(c);
    authenticate_headends(c);
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
    if (tob_committer_refuses(c.service->committer, call)) {
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
        tob_committer_submit(c.service->committer, call, c.submission);
    }
}

tob_error tob_ingest_service_register(tob_ingest_service *service, tob_rpc_server *server) {
    return tob_rpc_server_add(server, &tobogganing__v1__ingest__descriptor, "Submit", on_submit, service);
}
