#include "gateway/readiness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/health.pb-c.h"

#include "util/clock.h"

#define CHECK_TIMEOUT_MS 2000
#define RETRY_AFTER_MS   1000

struct tob_readiness {
    tob_rpc_client *rpc;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t checked;
    bool checking;
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

static void set(tob_readiness *readiness, bool ready, const char *reason) {
    pthread_mutex_lock(&readiness->mutex);
    readiness->checking = false;
    pthread_cond_broadcast(&readiness->checked);
    readiness->ready = ready;
    readiness->answered_at_ms = tob_clock_monotonic_ms();
    snprintf(readiness->reason, sizeof(readiness->reason), "%s", reason);
    pthread_mutex_unlock(&readiness->mutex);
}

static void on_done(void *user, const tob_rpc_result *result) {
    tob_readiness *readiness = user;
    char reason[TOB_RPC_MESSAGE_BYTES];
    if (result->error) {
        bool told = result->message && *result->message;
        snprintf(reason, sizeof(reason), "ingestd: %.200s",
                 told ? result->message : tob_error_string(result->error));
        set(readiness, false, reason);
        return;
    }
    Tobogganing__V1__HealthCheckResponse *response =
        tobogganing__v1__health_check_response__unpack(NULL, result->body_len, result->body);
    if (!response) {
        set(readiness, false, "ingestd: its health can't be read");
    } else if (response->status != TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING) {
        snprintf(reason, sizeof(reason), "ingestd does not take reports: %.200s", response->reason);
        set(readiness, false, reason);
    } else {
        set(readiness, true, "");
    }
    if (response) {
        tobogganing__v1__health_check_response__free_unpacked(response, NULL);
    }
}

void tob_readiness_check(tob_readiness *readiness) {
    pthread_mutex_lock(&readiness->mutex);
    bool start = !readiness->checking;
    readiness->checking = true;
    pthread_mutex_unlock(&readiness->mutex);
    if (!start) {
        return;
    }
    // The request message has no fields. When no call is free, the one that asks a second later may find one;
    // the last answer gets too old by itself.
    if (tob_rpc_client_call(readiness->rpc, "/tobogganing.v1.Health/Check", "", 0, CHECK_TIMEOUT_MS, on_done,
                            readiness)) {
        pthread_mutex_lock(&readiness->mutex);
        readiness->checking = false;
        pthread_cond_broadcast(&readiness->checked);
        pthread_mutex_unlock(&readiness->mutex);
    }
}

void tob_readiness_stop(tob_readiness *readiness) {
    pthread_mutex_lock(&readiness->mutex);
    while (readiness->checking) {
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
