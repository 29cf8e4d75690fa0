#include "gateway/readiness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/health.pb-c.h"

#include "rpc/endpoints.h"
#include "util/clock.h"

#define CHECK_TIMEOUT_MS 2000
#define RETRY_AFTER_MS   1000

struct tob_readiness {
    tob_rpc_client *rpc;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t checked;
    unsigned asked; // that have not answered yet; 0: no check is under way
    bool serving;   // one of those that have answered, in this check
    char refusal[TOB_RPC_MESSAGE_BYTES];
    tob_rpc_server_state servers[TOB_ENDPOINTS_MAX_ADDRESSES];
    bool ready;
    uint64_t answered_at_ms; // 0: never
    char reason[TOB_RPC_MESSAGE_BYTES];
};

tob_error tob_readiness_new(tob_rpc_client *rpc, tob_readiness **ret) {
    tob_readiness *readiness = calloc(1, sizeof(*readiness));
    if (!readiness) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&readiness->mutex, NULL);
    pthread_cond_init(&readiness->checked, NULL);
    readiness->rpc = rpc;
    snprintf(readiness->reason, sizeof(readiness->reason), "ingestd has not answered yet");
    *ret = readiness;
    return TOB_OK;
}

void tob_readiness_free(tob_readiness *readiness) {
    if (readiness) {
        pthread_cond_destroy(&readiness->checked);
        pthread_mutex_destroy(&readiness->mutex);
        free(readiness);
    }
}

// The mutex is held.
static void set(tob_readiness *readiness, bool ready, const char *reason) {
    readiness->ready = ready;
    readiness->answered_at_ms = tob_clock_monotonic_ms();
    snprintf(readiness->reason, sizeof(readiness->reason), "%s", reason);
}

// One ingestd has answered, or will not. The first that serves makes the gateway ready; that none does is known when all
// have answered.
static void one_answered(tob_readiness *readiness, bool serving, const char *reason) {
    pthread_mutex_lock(&readiness->mutex);
    readiness->asked--;
    if (serving) {
        readiness->serving = true;
        set(readiness, true, "");
    } else {
        snprintf(readiness->refusal, sizeof(readiness->refusal), "%s", reason);
    }
    if (readiness->asked == 0 && !readiness->serving) {
        set(readiness, false, readiness->refusal);
    }
    pthread_cond_broadcast(&readiness->checked);
    pthread_mutex_unlock(&readiness->mutex);
}

static void on_done(void *user, const tob_rpc_result *result) {
    tob_readiness *readiness = user;
    char reason[TOB_RPC_MESSAGE_BYTES];
    if (result->error) {
        snprintf(reason, sizeof(reason), "ingestd: %.200s",
                 *result->message ? result->message : tob_error_string(result->error));
        one_answered(readiness, false, reason);
        return;
    }
    Tobogganing__V1__HealthCheckResponse *response =
        tobogganing__v1__health_check_response__unpack(NULL, result->body_len, result->body);
    if (!response) {
        one_answered(readiness, false, "ingestd: its health can't be read");
    } else if (response->status != TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING) {
        snprintf(reason, sizeof(reason), "ingestd does not take reports: %.200s", response->reason);
        one_answered(readiness, false, reason);
    } else {
        one_answered(readiness, true, "");
    }
    if (response) {
        tobogganing__v1__health_check_response__free_unpacked(response, NULL);
    }
}

// Takes back one that could not be asked. When no call is free, the check a second later may find one; the last answer
// gets too old by itself.
static void not_asked(tob_readiness *readiness) {
    pthread_mutex_lock(&readiness->mutex);
    readiness->asked--;
    pthread_cond_broadcast(&readiness->checked);
    pthread_mutex_unlock(&readiness->mutex);
}

static void ask(tob_readiness *readiness, uint64_t server) {
    static const char check[] = "/tobogganing.v1.Health/Check"; // its request has no fields
    tob_error error =
        server ? tob_rpc_client_call_to(readiness->rpc, server, check, "", 0, CHECK_TIMEOUT_MS, on_done,
                                        readiness)
               : tob_rpc_client_call(readiness->rpc, check, "", 0, CHECK_TIMEOUT_MS, on_done, readiness);
    if (error) {
        not_asked(readiness);
    }
}

void tob_readiness_check(tob_readiness *readiness) {
    uint64_t connected[TOB_ENDPOINTS_MAX_ADDRESSES];
    unsigned count = 0;
    pthread_mutex_lock(&readiness->mutex);
    bool start = readiness->asked == 0;
    if (start) {
        size_t all = tob_rpc_client_servers(readiness->rpc, readiness->servers, TOB_ENDPOINTS_MAX_ADDRESSES);
        for (size_t i = 0; i < all && i < TOB_ENDPOINTS_MAX_ADDRESSES; i++) {
            if (readiness->servers[i].connected) {
                connected[count++] = readiness->servers[i].id;
            }
        }
        readiness->asked = count ? count : 1;
        readiness->serving = false;
    }
    pthread_mutex_unlock(&readiness->mutex);
    if (start && count == 0) {
        ask(readiness, 0); // waits for a connection
    }
    for (unsigned i = 0; i < count; i++) {
        ask(readiness, connected[i]);
    }
}

void tob_readiness_stop(tob_readiness *readiness) {
    pthread_mutex_lock(&readiness->mutex);
    while (readiness->asked > 0) {
        pthread_cond_wait(&readiness->checked, &readiness->mutex);
    }
    pthread_mutex_unlock(&readiness->mutex);
}

bool tob_readiness_get(tob_readiness *readiness, char *ret_reason) {
    uint64_t now = tob_clock_monotonic_ms();
    pthread_mutex_lock(&readiness->mutex);
    bool stale = readiness->answered_at_ms && now - readiness->answered_at_ms > TOB_READINESS_STALE_MS;
    bool ready = readiness->ready && !stale;
    snprintf(ret_reason, TOB_RPC_MESSAGE_BYTES, "%s",
             stale ? "ingestd has not been heard of lately" : readiness->reason);
    pthread_mutex_unlock(&readiness->mutex);
    return ready;
}

static void send_ok(h2o_req_t *req) {
    static const char ok[] = "{\"status\":\"ok\"}";
    tob_http_send(req, 200, "application/json", ok, sizeof(ok) - 1);
}

void tob_health_live(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    send_ok(req);
}

void tob_health_ready(h2o_req_t *req, const tob_http_match *match, void *user) {
    char reason[TOB_RPC_MESSAGE_BYTES];
    (void)match;
    if (tob_readiness_get(user, reason)) {
        send_ok(req);
    } else {
        tob_http_send_error(req, 503, RETRY_AFTER_MS, "%s", reason);
    }
}
