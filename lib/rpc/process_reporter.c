#include "rpc/process_reporter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/process.pb-c.h"

#include "rpc/endpoints.h"
#include "rpc/process_shares.h"
#include "util/clock.h"
#include "util/cond.h"

enum {
    CHANGED_MS = 1000,
    IDLE_MS = 10000,
    CALL_MS = 2000,
    STOP_MS = 3000,   // for the last reports together
    MAX_FAILURES = 3, // in a row, until another ingestd is tried
    ARENA_BYTES = 4 << 20,
};

#define CHECK  "/tobogganing.v1.Health/Check"
#define REPORT "/tobogganing.v1.Processes/Report"

// Who is behind a connection.
typedef struct identity {
    uint64_t server;
    uint64_t generation;
    uint64_t key; // 0: not asked yet
} identity;

struct tob_process_reporter {
    tob_process *process;
    tob_rpc_client *client;
    bool started;
    pthread_t thread;
    atomic_int error;     // a tob_error
    pthread_mutex_t lock; // guards `stopping`
    pthread_cond_t wake;
    bool stopping;

    // Of the thread:
    tob_arena *arena;
    tob_process_shares shares;
    identity known[TOB_ENDPOINTS_MAX_ADDRESSES]; // the connected
    size_t known_count;
    tob_rpc_server_state servers[TOB_ENDPOINTS_MAX_ADDRESSES];
    uint64_t current; // the server that is reported to; 0: none
    unsigned failures;
};

tob_error tob_process_reporter_new(tob_process *process, tob_process_reporter **ret) {
    tob_process_reporter *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    r->process = process;
    pthread_mutex_init(&r->lock, NULL);
    tob_cond_init(&r->wake);
    *ret = r;
    return TOB_OK;
}

void tob_process_reporter_free(tob_process_reporter *r) {
    if (!r) {
        return;
    }
    tob_process_shares_fini(&r->shares);
    tob_arena_free(r->arena);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    free(r);
}

static identity *find_known(tob_process_reporter *r, uint64_t server) {
    for (size_t i = 0; i < r->known_count; i++) {
        if (r->known[i].server == server) {
            return &r->known[i];
        }
    }
    return NULL;
}

// The connected servers. Whom a new connection reaches must be asked again.
static void look_around(tob_process_reporter *r) {
    identity now[TOB_ENDPOINTS_MAX_ADDRESSES];
    size_t count = 0;
    size_t all = tob_rpc_client_servers(r->client, r->servers, TOB_ENDPOINTS_MAX_ADDRESSES);
    for (size_t i = 0; i < all && i < TOB_ENDPOINTS_MAX_ADDRESSES; i++) {
        const tob_rpc_server_state *server = &r->servers[i];
        const identity *before = find_known(r, server->id);
        if (server->connected) {
            bool same = before && before->generation == server->generation;
            now[count++] = (identity){.server = server->id,
                                      .generation = server->generation,
                                      .key = same ? before->key : 0};
        }
    }
    for (size_t i = 0; i < count; i++) {
        r->known[i] = now[i];
    }
    r->known_count = count;
}

// The instance that answers Health.Check; an ingestd that names none is known by its address. server 0: any, and which one
// it was.
static tob_error ask_identity(tob_process_reporter *r, uint64_t *server, uint32_t timeout_ms,
                              uint64_t *ret_key) {
    Tobogganing__V1__HealthCheckRequest request = TOBOGGANING__V1__HEALTH_CHECK_REQUEST__INIT;
    const ProtobufCMessageDescriptor *type = &tobogganing__v1__health_check_response__descriptor;
    ProtobufCMessage *response = NULL;
    tob_rpc_failure end = {.message = ""};
    tob_error err = *server ? tob_rpc_client_call_to_wait(r->client, *server, CHECK, &request.base, type,
                                                          timeout_ms, &response, &end)
                            : tob_rpc_client_call_wait(r->client, CHECK, &request.base, type, timeout_ms,
                                                       &response, &end);
    if (err && err != TOB_UNIMPLEMENTED) {
        return err;
    }
    uint64_t instance = err ? 0 : ((const Tobogganing__V1__HealthCheckResponse *)response)->instance;
    if (response) {
        protobuf_c_message_free_unpacked(response, NULL);
    }
    *server = end.server;
    *ret_key = instance ? instance : end.server;
    return TOB_OK;
}

// Errors that say that the report has changed nothing.
static bool not_taken(tob_error error, const tob_rpc_failure *end) {
    return !end->sent || (end->answered && (error == TOB_UNAUTHENTICATED || error == TOB_PERMISSION_DENIED ||
                                            error == TOB_UNIMPLEMENTED || error == TOB_INVALID));
}

static tob_error send_report(tob_process_reporter *r, uint64_t server,
                             const Tobogganing__V1__Process *message, uint32_t timeout_ms,
                             tob_rpc_failure *ret_end) {
    ProtobufCMessage *response = NULL;
    *ret_end = (tob_rpc_failure){.message = ""};
    tob_error err = tob_rpc_client_call_to_wait(r->client, server, REPORT, &message->base,
                                                &tobogganing__v1__report_response__descriptor, timeout_ms,
                                                &response, ret_end);
    if (!err) {
        protobuf_c_message_free_unpacked(response, NULL);
    }
    return err;
}

// Gives one ingestd all that is not another's, when something has changed or it is time. A failure is tried again with
// the next turn: the values are cumulative, so nothing is lost.
static tob_error report_share(tob_process_reporter *r, const identity *to, bool due, uint32_t timeout_ms) {
    tob_process_share *share = NULL;
    Tobogganing__V1__Process *message = NULL;
    tob_rpc_failure end;
    uint64_t now = tob_clock_monotonic_ms();
    tob_arena_clear(r->arena);
    tob_error err = tob_process_message(r->process, r->arena, &message);
    if (!err) {
        err = tob_process_shares_of(&r->shares, to->key, now, tob_clock_unix_ms(), &share);
    }
    if (err) {
        return err;
    }
    tob_process_shares_assign(&r->shares, share, message);
    if (!share->dirty && !due && now - share->acked_ms < IDLE_MS) {
        return TOB_OK;
    }
    err = send_report(r, to->server, message, timeout_ms, &end);
    if (!err) {
        tob_process_share_acked(share, tob_clock_monotonic_ms());
    } else if (not_taken(err, &end)) {
        tob_process_share_not_taken(share);
    } else {
        tob_process_share_lost(share);
    }
    return err;
}

// Sends what another ingestd may not have got, once it can be reached again.
static void repeat_share(tob_process_reporter *r, tob_process_share *share, uint64_t server,
                         uint32_t timeout_ms) {
    Tobogganing__V1__Process *message = NULL;
    tob_rpc_failure end;
    tob_arena_clear(r->arena);
    share->tried_ms = tob_clock_monotonic_ms();
    if (tob_process_message(r->process, r->arena, &message) != TOB_OK) {
        return; // with the next turn
    }
    tob_process_shares_repeat(share, message);
    if (send_report(r, server, message, timeout_ms, &end) == TOB_OK) {
        tob_process_share_acked(share, tob_clock_monotonic_ms());
    }
}

static bool to_repeat(const tob_process_share *share, uint64_t now, bool at_once) {
    return share->dirty && share->ever_sent && now - share->acked_ms < TOB_SHARE_STALE_MS &&
           (at_once || now - share->tried_ms >= IDLE_MS);
}

static bool any_to_repeat(const tob_process_reporter *r, uint64_t current_key, bool at_once) {
    uint64_t now = tob_clock_monotonic_ms();
    for (size_t i = 0; i < r->shares.count; i++) {
        if (r->shares.shares[i]->key != current_key && to_repeat(r->shares.shares[i], now, at_once)) {
            return true;
        }
    }
    return false;
}

// How long the next call may take; 0: no time left.
static uint32_t time_left(uint64_t until_ms) {
    uint64_t now = tob_clock_monotonic_ms();
    uint64_t left = until_ms > now ? until_ms - now : 0;
    return left < CALL_MS ? (uint32_t)left : CALL_MS;
}

static void repeat_shares(tob_process_reporter *r, uint64_t current_key, bool at_once, uint64_t until_ms) {
    for (size_t i = 0; i < r->known_count && any_to_repeat(r, current_key, at_once); i++) {
        identity *who = &r->known[i];
        uint64_t server = who->server;
        uint32_t left = time_left(until_ms);
        if (!left || (!who->key && ask_identity(r, &server, left, &who->key) != TOB_OK)) {
            continue;
        }
        for (size_t k = 0; k < r->shares.count; k++) {
            tob_process_share *share = r->shares.shares[k];
            left = time_left(until_ms);
            if (left && share->key == who->key && share->key != current_key &&
                to_repeat(share, tob_clock_monotonic_ms(), at_once)) {
                repeat_share(r, share, who->server, left);
            }
        }
    }
}

// The ingestd to report to: the one of the last time, or one that answers. NULL: none.
static tob_error choose(tob_process_reporter *r, uint32_t timeout_ms, identity **ret) {
    uint64_t server = r->current && r->failures < MAX_FAILURES && find_known(r, r->current) ? r->current : 0;
    identity *who = server ? find_known(r, server) : NULL;
    uint64_t key = who ? who->key : 0;
    if (!key) {
        tob_error err = ask_identity(r, &server, timeout_ms, &key);
        if (err) {
            return err;
        }
        look_around(r); // it may have been connected just now
        who = find_known(r, server);
        if (!who) {
            return TOB_UNAVAILABLE;
        }
        who->key = key;
        r->failures = 0;
    }
    r->current = server;
    *ret = who;
    return TOB_OK;
}

static void turn(tob_process_reporter *r, bool last) {
    uint64_t until_ms = last ? tob_clock_monotonic_ms() + STOP_MS : UINT64_MAX;
    identity *who = NULL;
    look_around(r);
    tob_error err = choose(r, time_left(until_ms), &who);
    uint64_t key = err ? 0 : who->key;
    if (!err) {
        err = report_share(r, who, last, time_left(until_ms));
    }
    r->failures = err ? r->failures + 1 : 0;
    atomic_store(&r->error, (int)err);
    repeat_shares(r, key, last, until_ms);
}

static void *run(void *arg) {
    tob_process_reporter *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        pthread_mutex_unlock(&r->lock);
        turn(r, false);
        uint64_t until_ms = tob_clock_monotonic_ms() + CHANGED_MS;
        pthread_mutex_lock(&r->lock);
        while (!r->stopping && tob_cond_wait_until(&r->wake, &r->lock, until_ms)) {
        }
    }
    pthread_mutex_unlock(&r->lock);
    turn(r, true);
    return NULL;
}

tob_error tob_process_reporter_start(tob_process_reporter *r, tob_rpc_client *client) {
    r->client = client;
    r->stopping = false;
    tob_error err = r->arena ? TOB_OK : tob_arena_new(ARENA_BYTES, &r->arena);
    if (!err && pthread_create(&r->thread, NULL, run, r) != 0) {
        err = TOB_NO_MEMORY;
    }
    r->started = !err;
    return err;
}

void tob_process_reporter_stop(tob_process_reporter *r) {
    if (!r->started) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->started = false;
}

tob_error tob_process_reporter_error(const tob_process_reporter *r) {
    return (tob_error)atomic_load(&r->error);
}
