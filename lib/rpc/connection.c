#include "rpc/connection.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/attempt.h"
#include "rpc/dial.h"
#include "rpc/nng.h"
#include "rpc/request.h"
#include "rpc/resolver.h"
#include "rpc/response.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/index.h"
#include "wire/batch.h"

enum {
    DEFAULT_IN_FLIGHT = 16,
    RECONNECT_MIN_MS = 100,
    RECONNECT_MAX_MS = 1000,
    STOP_GRACE_MS = 200, // for answers that are on their way
};

typedef enum slot_state { SLOT_FREE, SLOT_SENDING, SLOT_RECEIVING } slot_state;

// A slot is one NNG context, used for one call after another. All of it is under the connection's lock.
typedef struct slot {
    tob_rpc_connection *connection;
    nng_ctx ctx;
    nng_aio *aio;
    slot_state state;
    bool wait;      // for a connection
    bool broken;    // cancelled because the connection is gone
    bool cancelled; // by _stop
    uint64_t deadline_ms;
    tob_rpc_done done;
    void *user;
    struct slot *next_free;
} slot;

struct tob_rpc_connection {
    char *url;
    uint64_t server;
    nng_socket socket;
    tob_dial *dial;
    bool open;
    bool abandoned; // the socket could not be closed: NNG may still call on_pipe
    tob_rpc_encoder encoder;
    atomic_bool connected;
    atomic_uint_least64_t generation;

    pthread_mutex_t notify_lock; // one on_connected at a time; taken before `lock`
    tob_rpc_connected_fn on_connected;
    void *user;
    uint32_t pipe;         // 0: not connected
    uint32_t removed_pipe; // the last one that went

    // Guards what follows, and is held while a call of ours is inside NNG (whose callbacks never run within one), so
    // that the socket is not closed then.
    pthread_mutex_t lock;
    pthread_cond_t idle;
    char *authorization; // "Bearer TOKEN", or ""
    slot **slots;        // made when first needed
    size_t slot_count;
    size_t max_slots;
    slot *free_slots;
    size_t running; // calls whose callback has not returned
    bool stopped;
};

uint64_t tob_rpc_server_id(const char *address) {
    uint64_t id = tob_id_hash(address, strlen(address));
    return id ? id : 1;
}

static void finish(slot *s, const tob_rpc_result *result) {
    tob_rpc_connection *connection = s->connection;
    pthread_mutex_lock(&connection->lock);
    tob_rpc_done done = s->done;
    void *user = s->user;
    s->state = SLOT_FREE;
    s->next_free = connection->free_slots;
    connection->free_slots = s;
    pthread_mutex_unlock(&connection->lock);
    done(user, result);
    pthread_mutex_lock(&connection->lock);
    connection->running--;
    pthread_cond_broadcast(&connection->idle);
    pthread_mutex_unlock(&connection->lock);
}

static void finish_response(slot *s, nng_msg *msg) {
    tob_rpc_response response;
    tob_rpc_result result = {.message = "", .server = s->connection->server};
    tob_rpc_response_read(&response, msg, &result);
    nng_msg_free(msg);
    finish(s, &result);
    tob_rpc_response_fini(&response);
}

// What NNG's error means for a call that `was_sent`.
static void finish_failure(slot *s, int nng_error, bool was_sent, bool was_broken, bool was_cancelled) {
    tob_rpc_connection *connection = s->connection;
    tob_rpc_result result = {.error = tob_error_from_nng(nng_error),
                             .message = nng_strerror(nng_error),
                             .sent = was_sent,
                             .server = connection->server};
    if (was_cancelled) {
        result.error = TOB_CANCELLED;
        result.message = "the client was stopped";
    } else if (nng_error == NNG_ETIMEDOUT) {
        result.message =
            atomic_load(&connection->connected) ? "no answer in time" : "not connected to the server";
    } else if (was_broken || nng_error == NNG_ECONNRESET) {
        result.error = TOB_UNAVAILABLE;
        result.message = was_sent ? "the connection to the server broke" : "not connected to the server";
    }
    finish(s, &result);
}

static nng_duration remaining_ms(uint64_t deadline_ms) {
    uint64_t now = tob_clock_monotonic_ms();
    return deadline_ms > now ? (nng_duration)(deadline_ms - now) : 1;
}

static void on_aio(void *arg) {
    slot *s = arg;
    tob_rpc_connection *connection = s->connection;
    int rv = nng_aio_result(s->aio);
    pthread_mutex_lock(&connection->lock);
    bool sending = s->state == SLOT_SENDING;
    bool broken = s->broken;
    bool cancelled = s->cancelled;
    if (sending && rv == 0 && !cancelled) {
        // Only now: NNG 1.5 crashes when a recv is cancelled whose send is still pending.
        s->state = SLOT_RECEIVING;
        nng_aio_set_timeout(s->aio, remaining_ms(s->deadline_ms));
        nng_ctx_recv(s->ctx, s->aio);
        pthread_mutex_unlock(&connection->lock);
        return;
    }
    pthread_mutex_unlock(&connection->lock);
    if (!sending && rv == 0) {
        finish_response(s, nng_aio_get_msg(s->aio));
        return;
    }
    if (sending && rv != 0) { // not taken over: ours to free
        nng_msg_free(nng_aio_get_msg(s->aio));
        nng_aio_set_msg(s->aio, NULL);
    }
    finish_failure(s, rv, !sending || rv == 0, broken, cancelled);
}

// The connection is gone. NNG itself ends the calls that it had sent on it (there is no resend time); those that were
// still to be sent would wait for the next connection.
static void cancel_unsent(tob_rpc_connection *connection) {
    pthread_mutex_lock(&connection->lock);
    atomic_store(&connection->connected, false);
    for (size_t i = 0; i < connection->slot_count; i++) {
        slot *s = connection->slots[i];
        if (s->state == SLOT_SENDING && !s->wait) {
            s->broken = true;
            nng_aio_cancel(s->aio);
        }
    }
    pthread_mutex_unlock(&connection->lock);
}

// NNG may tell of the end of a pipe before it tells of its start, and of the end alone.
static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    tob_rpc_connection *connection = arg;
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    bool changed = false;
    pthread_mutex_lock(&connection->notify_lock);
    if (event == NNG_PIPE_EV_ADD_POST && id != connection->removed_pipe) {
        connection->pipe = id;
        atomic_fetch_add(&connection->generation, 1);
        atomic_store(&connection->connected, true);
        changed = true;
    } else if (event == NNG_PIPE_EV_REM_POST) {
        connection->removed_pipe = id;
        changed = connection->pipe == id;
        if (changed) {
            connection->pipe = 0;
            cancel_unsent(connection);
        }
    }
    if (changed && connection->on_connected) {
        connection->on_connected(connection->user, event == NNG_PIPE_EV_ADD_POST);
    }
    pthread_mutex_unlock(&connection->notify_lock);
}

static tob_error open_socket(tob_rpc_connection *connection, uint64_t reconnect_max_ms) {
    if (!tob_endpoints_is_url(connection->url)) { // NNG takes the last 16 bits of a greater port, for one
        return TOB_INVALID;
    }
    int rv = nng_req0_open(&connection->socket);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    connection->open = true;
    nng_socket socket = connection->socket;
    nng_duration max = (nng_duration)(reconnect_max_ms ? reconnect_max_ms : RECONNECT_MAX_MS);
    // Without a resend time a request is sent once, and a broken connection ends it (req0_pipe_close, NNG 1.5.2).
    if ((rv = nng_socket_set_ms(socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0 ||
        (rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS)) != 0 ||
        (rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, max)) != 0 ||
        (rv = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, TOB_MAX_INFLATED_BYTES + 4096)) != 0 ||
        (rv = nng_socket_set_bool(socket, NNG_OPT_TCP_NODELAY, true)) != 0 ||
        (rv = nng_socket_set_bool(socket, NNG_OPT_TCP_KEEPALIVE, true)) != 0 ||
        (rv = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, on_pipe, connection)) != 0 ||
        (rv = nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_pipe, connection)) != 0) {
        return tob_error_from_nng(rv);
    }
    bool ours = strncmp(connection->url, "tcp://", 6) == 0;
    return ours ? tob_dial_start(socket, connection->url, &connection->connected, &connection->dial)
                : TOB_INVALID;
}

static void forget(char *secret) {
    if (secret) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

tob_error tob_rpc_connection_set_bearer(tob_rpc_connection *connection, const char *bearer) {
    char *text = NULL;
    if (asprintf(&text, "%s%s", bearer && *bearer ? "Bearer " : "", bearer ? bearer : "") < 0) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_lock(&connection->lock);
    char *before = connection->authorization;
    connection->authorization = text;
    pthread_mutex_unlock(&connection->lock);
    forget(before);
    return TOB_OK;
}

tob_error tob_rpc_connection_new(const tob_rpc_connection_options *options, tob_rpc_connection **ret) {
    tob_rpc_connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&connection->notify_lock, NULL);
    pthread_mutex_init(&connection->lock, NULL);
    tob_cond_init(&connection->idle);
    tob_rpc_encoder_init(&connection->encoder, options->compress);
    connection->on_connected = options->on_connected;
    connection->user = options->user;
    connection->max_slots = options->max_in_flight ? options->max_in_flight : DEFAULT_IN_FLIGHT;
    connection->slots = calloc(connection->max_slots, sizeof(slot *));
    connection->url = strdup(options->url);
    tob_error err = connection->slots && connection->url ? TOB_OK : TOB_NO_MEMORY;
    if (!err) {
        connection->server = tob_rpc_server_id(connection->url);
        err = tob_rpc_connection_set_bearer(connection, options->bearer);
    }
    if (!err) {
        err = open_socket(connection, options->reconnect_max_ms);
    }
    if (err) {
        tob_rpc_connection_free(connection);
        return err;
    }
    *ret = connection;
    return TOB_OK;
}

void tob_rpc_connection_abort(tob_rpc_connection *connection) {
    pthread_mutex_lock(&connection->lock);
    connection->stopped = true;
    for (size_t i = 0; i < connection->slot_count; i++) {
        slot *s = connection->slots[i];
        if (s->state != SLOT_FREE) {
            s->cancelled = true; // for one that is just between its send and its receive
            nng_aio_cancel(s->aio);
        }
    }
    pthread_mutex_unlock(&connection->lock);
}

// Waits until no call is running, or until `at_ms`. The lock is held.
static void wait_idle(tob_rpc_connection *connection, uint64_t at_ms) {
    while (connection->running > 0 && tob_cond_wait_until(&connection->idle, &connection->lock, at_ms)) {
    }
}

void tob_rpc_connection_stop(tob_rpc_connection *connection) {
    pthread_mutex_lock(&connection->lock);
    bool aborted = connection->stopped;
    connection->stopped = true;
    if (!aborted) {
        // See tob_nng_close: nothing should be arriving then.
        wait_idle(connection, tob_clock_monotonic_ms() + STOP_GRACE_MS);
    }
    pthread_mutex_unlock(&connection->lock);
    tob_rpc_connection_abort(connection);
    pthread_mutex_lock(&connection->lock);
    wait_idle(connection, UINT64_MAX);
    pthread_mutex_unlock(&connection->lock);
    pthread_mutex_lock(&connection->notify_lock);
    connection->on_connected = NULL;
    pthread_mutex_unlock(&connection->notify_lock);
    tob_dial_forget(connection->dial);
    connection->dial = NULL;
    if (connection->open) {
        connection->abandoned = !tob_nng_close(connection->socket);
        connection->open = false;
    }
}

void tob_rpc_connection_free(tob_rpc_connection *connection) {
    if (!connection) {
        return;
    }
    tob_rpc_connection_stop(connection);
    if (connection->abandoned) {
        return;
    }
    for (size_t i = 0; i < connection->slot_count; i++) {
        nng_aio_stop(connection->slots[i]->aio);
        nng_aio_free(connection->slots[i]->aio);
        free(connection->slots[i]);
    }
    pthread_mutex_destroy(&connection->notify_lock);
    pthread_mutex_destroy(&connection->lock);
    pthread_cond_destroy(&connection->idle);
    tob_rpc_encoder_fini(&connection->encoder);
    forget(connection->authorization);
    free(connection->slots);
    free(connection->url);
    free(connection);
}

bool tob_rpc_connection_connected(const tob_rpc_connection *connection) {
    return atomic_load(&connection->connected);
}

uint64_t tob_rpc_connection_generation(const tob_rpc_connection *connection) {
    return atomic_load(&connection->generation);
}

const char *tob_rpc_connection_url(const tob_rpc_connection *connection) {
    return connection->url;
}

// The lock is held.
static tob_error add_slot(tob_rpc_connection *connection) {
    slot *s = calloc(1, sizeof(*s));
    if (!s) {
        return TOB_NO_MEMORY;
    }
    s->connection = connection;
    int rv = nng_aio_alloc(&s->aio, on_aio, s);
    if (rv == 0) {
        rv = nng_ctx_open(&s->ctx, connection->socket);
    }
    if (rv != 0) {
        nng_aio_free(s->aio);
        free(s);
        return tob_error_from_nng(rv);
    }
    connection->slots[connection->slot_count++] = s;
    s->next_free = connection->free_slots;
    connection->free_slots = s;
    return TOB_OK;
}

// Takes a slot and sends. The lock is held; `msg` is moved on success.
static tob_error start(tob_rpc_connection *connection, nng_msg *msg, uint64_t deadline_ms, bool wait,
                       tob_rpc_done done, void *user) {
    if (connection->stopped) {
        return TOB_CANCELLED;
    }
    if (!wait && !atomic_load(&connection->connected)) {
        return TOB_UNAVAILABLE;
    }
    if (!connection->free_slots && connection->slot_count == connection->max_slots) {
        return TOB_BUSY;
    }
    tob_error err = connection->free_slots ? TOB_OK : add_slot(connection);
    if (err) {
        return err;
    }
    slot *s = connection->free_slots;
    connection->free_slots = s->next_free;
    connection->running++;
    s->state = SLOT_SENDING;
    s->wait = wait;
    s->broken = false;
    s->cancelled = false;
    s->deadline_ms = deadline_ms;
    s->done = done;
    s->user = user;
    nng_aio_set_msg(s->aio, msg);
    nng_aio_set_timeout(s->aio, remaining_ms(deadline_ms));
    nng_ctx_send(s->ctx, s->aio);
    return TOB_OK;
}

// The authorization as it is now; freed by `forget`.
static char *copy_authorization(tob_rpc_connection *connection) {
    pthread_mutex_lock(&connection->lock);
    char *copy = strdup(connection->authorization);
    pthread_mutex_unlock(&connection->lock);
    return copy;
}

tob_error tob_rpc_connection_send(tob_rpc_connection *connection, const tob_rpc_request *request,
                                  uint64_t deadline_ms, bool wait, tob_rpc_done done, void *user) {
    nng_msg *msg = NULL;
    char *authorization = copy_authorization(connection);
    tob_error err = authorization ? tob_rpc_request_message(request, authorization,
                                                            (uint32_t)remaining_ms(deadline_ms), &msg)
                                  : TOB_NO_MEMORY;
    forget(authorization);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&connection->lock);
    err = start(connection, msg, deadline_ms, wait, done, user);
    pthread_mutex_unlock(&connection->lock);
    if (err) {
        nng_msg_free(msg);
    }
    return err;
}

tob_error tob_rpc_connection_call(tob_rpc_connection *connection, const char *method, const void *body,
                                  size_t body_len, uint32_t timeout_ms, tob_rpc_done done, void *user) {
    tob_rpc_request *request = NULL;
    tob_error err = tob_rpc_request_new(&connection->encoder, method, body, body_len, NULL, &request);
    if (!err) {
        err = tob_rpc_connection_send(connection, request, tob_clock_monotonic_ms() + timeout_ms, true, done,
                                      user);
    }
    tob_rpc_request_release(request);
    return err;
}
