#include "rpc/client.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/nng.h"
#include "rpc/status.h"
#include "util/clock.h"
#include "util/cond.h"
#include "wire/batch.h"
#include "wire/compress.h"

enum {
    DEFAULT_IN_FLIGHT = 16,
    COMPRESS_ABOVE_BYTES = 256,
    COMPRESS_LEVEL = 6, // batches are small and sent seldom: bytes count more than cycles
    RECONNECT_MIN_MS = 100,
    RECONNECT_MAX_MS = 1000,
    RESEND_MS = 3600000, // longer than any call
    STOP_GRACE_MS = 200, // for answers that are on their way
    MAX_URLS = 64,
};

typedef enum slot_state { SLOT_FREE, SLOT_SENDING, SLOT_RECEIVING } slot_state;

// A slot is one NNG context, used for one call after another.
typedef struct slot {
    tob_rpc_client *client;
    nng_ctx ctx;
    nng_aio *aio;
    slot_state state; // changed by whoever owns the call; the free list is under the client's lock
    uint64_t deadline_ms;
    tob_rpc_done done;
    void *user;
    struct slot *next_free;
} slot;

struct tob_rpc_client {
    nng_socket socket;
    bool open;
    bool abandoned; // the socket could not be closed: NNG may still call on_pipe
    bool compress;
    pthread_mutex_t deflater_lock;
    tob_deflater *deflater; // made when first needed: its 256 KiB are costly to get
    slot *slots;
    size_t slot_count;
    atomic_uint connections;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t idle;
    char *authorization; // "Bearer TOKEN", or ""
    slot *free_slots;
    // Calls whose callback has not returned, and threads that are inside NNG: the socket is closed when none is.
    size_t running;
    bool stopped;
};

static void enter(tob_rpc_client *client) {
    pthread_mutex_lock(&client->lock);
    client->running++;
    pthread_mutex_unlock(&client->lock);
}

static void leave(tob_rpc_client *client) {
    pthread_mutex_lock(&client->lock);
    client->running--;
    pthread_cond_broadcast(&client->idle);
    pthread_mutex_unlock(&client->lock);
}

static void finish(slot *s, const tob_rpc_result *result) {
    tob_rpc_client *client = s->client;
    tob_rpc_done done = s->done;
    void *user = s->user;
    pthread_mutex_lock(&client->lock);
    s->state = SLOT_FREE;
    s->next_free = client->free_slots;
    client->free_slots = s;
    pthread_mutex_unlock(&client->lock);
    done(user, result);
    leave(client);
}

static void finish_error(slot *s, tob_error error, const char *message) {
    finish(s, &(tob_rpc_result){.error = error, .message = message});
}

static tob_error inflate_body(const Tobogganing__V1__Response *response, uint8_t **ret) {
    if (response->size > TOB_MAX_INFLATED_BYTES) {
        return TOB_TOO_LARGE;
    }
    tob_inflater *inflater = NULL;
    uint8_t *to = malloc(response->size ? response->size : 1);
    tob_error err = to ? tob_inflater_new(&inflater) : TOB_NO_MEMORY;
    if (!err) {
        err = tob_inflate(inflater, response->body.data, response->body.len, to, response->size);
    }
    tob_inflater_free(inflater);
    if (err) {
        free(to);
        return err;
    }
    *ret = to;
    return TOB_OK;
}

static void finish_response(slot *s, nng_msg *msg) {
    Tobogganing__V1__Response *response =
        tobogganing__v1__response__unpack(NULL, nng_msg_len(msg), nng_msg_body(msg));
    nng_msg_free(msg);
    if (!response) {
        finish_error(s, TOB_MALFORMED, "the answer is not a tobogganing.v1.Response");
        return;
    }
    uint8_t *inflated = NULL;
    tob_error err = TOB_OK;
    if (response->encoding == TOBOGGANING__V1__ENCODING__ENCODING_ZLIB) {
        err = inflate_body(response, &inflated);
    }
    if (err) {
        finish_error(s, TOB_MALFORMED, "the answer's body can't be inflated");
    } else {
        finish(s, &(tob_rpc_result){.error = tob_status_error(response->code),
                                    .message = response->message,
                                    .retry_after_ms = response->retry_after_ms,
                                    .body = inflated ? inflated : response->body.data,
                                    .body_len = inflated ? response->size : response->body.len});
    }
    free(inflated);
    tobogganing__v1__response__free_unpacked(response, NULL);
}

static nng_duration remaining_ms(const slot *s) {
    uint64_t now = tob_clock_monotonic_ms();
    return s->deadline_ms > now ? (nng_duration)(s->deadline_ms - now) : 1;
}

static void on_aio(void *arg) {
    slot *s = arg;
    tob_rpc_client *client = s->client;
    int rv = nng_aio_result(s->aio);
    if (s->state == SLOT_SENDING && rv == 0) {
        // Only now: NNG 1.5 crashes when a recv is cancelled whose send is still pending.
        enter(client);
        s->state = SLOT_RECEIVING;
        nng_aio_set_timeout(s->aio, remaining_ms(s));
        nng_ctx_recv(s->ctx, s->aio);
        leave(client);
    } else if (s->state == SLOT_RECEIVING && rv == 0) {
        finish_response(s, nng_aio_get_msg(s->aio));
    } else {
        if (s->state == SLOT_SENDING) { // not taken over: ours to free
            nng_msg_free(nng_aio_get_msg(s->aio));
            nng_aio_set_msg(s->aio, NULL);
        }
        finish_error(s, tob_error_from_nng(rv),
                     rv != NNG_ETIMEDOUT                       ? "the client was stopped"
                     : tob_rpc_client_connections(client) == 0 ? "not connected to the server"
                                                               : "no answer in time");
    }
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)pipe;
    tob_rpc_client *client = arg;
    if (event == NNG_PIPE_EV_ADD_POST) {
        atomic_fetch_add(&client->connections, 1);
    } else {
        atomic_fetch_sub(&client->connections, 1);
    }
}

// Dials every URL of the comma-separated list in the background.
static tob_error dial(tob_rpc_client *client, const char *urls) {
    char *copy = strdup(urls);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    tob_error err = TOB_OK;
    char *rest = copy;
    size_t count = 0;
    for (char *url = strsep(&rest, ","); url && !err; url = strsep(&rest, ",")) {
        bool ours = strncmp(url, "tcp://", 6) == 0 && ++count <= MAX_URLS;
        err = ours ? tob_error_from_nng(nng_dial(client->socket, url, NULL, NNG_FLAG_NONBLOCK)) : TOB_INVALID;
    }
    free(copy);
    return err;
}

static tob_error open_socket(tob_rpc_client *client, const tob_rpc_client_options *options) {
    int rv = nng_req0_open(&client->socket);
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    client->open = true;
    uint64_t max = options->reconnect_max_ms ? options->reconnect_max_ms : RECONNECT_MAX_MS;
    // REQ sends again at once when a connection breaks; by time it need not. (Without a resend time it would not
    // send again at all.)
    if ((rv = nng_socket_set_ms(client->socket, NNG_OPT_REQ_RESENDTIME, RESEND_MS)) != 0 ||
        (rv = nng_socket_set_ms(client->socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS)) != 0 ||
        (rv = nng_socket_set_ms(client->socket, NNG_OPT_RECONNMAXT, (nng_duration)max)) != 0 ||
        (rv = nng_socket_set_size(client->socket, NNG_OPT_RECVMAXSZ, TOB_MAX_INFLATED_BYTES + 4096)) != 0 ||
        (rv = nng_socket_set_bool(client->socket, NNG_OPT_TCP_NODELAY, true)) != 0 ||
        (rv = nng_socket_set_bool(client->socket, NNG_OPT_TCP_KEEPALIVE, true)) != 0 ||
        (rv = nng_pipe_notify(client->socket, NNG_PIPE_EV_ADD_POST, on_pipe, client)) != 0 ||
        (rv = nng_pipe_notify(client->socket, NNG_PIPE_EV_REM_POST, on_pipe, client)) != 0) {
        return tob_error_from_nng(rv);
    }
    for (size_t i = 0; i < client->slot_count; i++) {
        slot *s = &client->slots[i];
        s->client = client;
        if ((rv = nng_ctx_open(&s->ctx, client->socket)) != 0 ||
            (rv = nng_aio_alloc(&s->aio, on_aio, s)) != 0) {
            return tob_error_from_nng(rv);
        }
        s->next_free = client->free_slots;
        client->free_slots = s;
    }
    return dial(client, options->urls);
}

static void forget(char *secret) {
    if (secret) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

tob_error tob_rpc_client_set_bearer(tob_rpc_client *client, const char *bearer) {
    char *text = NULL;
    if (asprintf(&text, "%s%s", bearer && *bearer ? "Bearer " : "", bearer ? bearer : "") < 0) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_lock(&client->lock);
    char *before = client->authorization;
    client->authorization = text;
    pthread_mutex_unlock(&client->lock);
    forget(before);
    return TOB_OK;
}

tob_error tob_rpc_client_new(const tob_rpc_client_options *options, tob_rpc_client **ret) {
    tob_rpc_client *client = calloc(1, sizeof(*client));
    if (!client) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&client->lock, NULL);
    tob_cond_init(&client->idle);
    pthread_mutex_init(&client->deflater_lock, NULL);
    client->compress = options->compress;
    client->slot_count = options->max_in_flight ? options->max_in_flight : DEFAULT_IN_FLIGHT;
    client->slots = calloc(client->slot_count, sizeof(*client->slots));
    tob_error err = client->slots ? tob_rpc_client_set_bearer(client, options->bearer) : TOB_NO_MEMORY;
    if (!err) {
        err = open_socket(client, options);
    }
    if (err) {
        tob_rpc_client_free(client);
        return err;
    }
    *ret = client;
    return TOB_OK;
}

// Waits until no call is running, or for `ms`. The lock is held.
static void wait_idle(tob_rpc_client *client, uint64_t ms) {
    uint64_t until_ms = tob_clock_monotonic_ms() + ms;
    while (client->running > 0 && tob_cond_wait_until(&client->idle, &client->lock, until_ms)) {
    }
}

void tob_rpc_client_stop(tob_rpc_client *client) {
    pthread_mutex_lock(&client->lock);
    client->stopped = true;
    wait_idle(client, STOP_GRACE_MS); // see tob_nng_close: nothing should be arriving then
    pthread_mutex_unlock(&client->lock);
    for (size_t i = 0; i < client->slot_count && client->slots[i].aio; i++) {
        nng_aio_cancel(client->slots[i].aio);
    }
    pthread_mutex_lock(&client->lock);
    while (client->running > 0) {
        // A call that was between its send and its receive when it was cancelled goes on: cancel that too.
        wait_idle(client, STOP_GRACE_MS);
        for (size_t i = 0; client->running > 0 && i < client->slot_count; i++) {
            nng_aio_cancel(client->slots[i].aio);
        }
    }
    pthread_mutex_unlock(&client->lock);
    if (client->open) {
        client->abandoned = !tob_nng_close(client->socket);
        client->open = false;
    }
}

void tob_rpc_client_free(tob_rpc_client *client) {
    if (!client) {
        return;
    }
    tob_rpc_client_stop(client);
    if (client->abandoned) {
        return;
    }
    for (size_t i = 0; client->slots && i < client->slot_count; i++) {
        if (client->slots[i].aio) {
            nng_aio_stop(client->slots[i].aio);
            nng_aio_free(client->slots[i].aio);
        }
    }
    pthread_mutex_destroy(&client->lock);
    pthread_cond_destroy(&client->idle);
    pthread_mutex_destroy(&client->deflater_lock);
    tob_deflater_free(client->deflater);
    forget(client->authorization);
    free(client->slots);
    free(client);
}

unsigned tob_rpc_client_connections(const tob_rpc_client *client) {
    return atomic_load(&client->connections);
}

// zlib when that is smaller; `compressed` keeps the bytes. A caller that finds the client's deflater in use takes
// one of its own rather than wait.
static void compress_body(tob_rpc_client *client, Tobogganing__V1__Request *request, tob_buffer *compressed) {
    tob_deflater *own = NULL;
    bool shared = pthread_mutex_trylock(&client->deflater_lock) == 0;
    tob_deflater **deflater = shared ? &client->deflater : &own;
    if ((*deflater || tob_deflater_new(COMPRESS_LEVEL, deflater) == TOB_OK) &&
        tob_deflate(*deflater, request->body.data, request->body.len, compressed) == TOB_OK &&
        compressed->len < request->body.len) {
        request->encoding = TOBOGGANING__V1__ENCODING__ENCODING_ZLIB;
        request->body.data = compressed->data;
        request->body.len = compressed->len;
    }
    if (shared) {
        pthread_mutex_unlock(&client->deflater_lock);
    }
    tob_deflater_free(own);
}

static tob_error pack_message(tob_rpc_client *client, Tobogganing__V1__Request *request, nng_msg **ret) {
    nng_msg *msg = NULL;
    pthread_mutex_lock(&client->lock);
    request->authorization = client->authorization;
    size_t n = tobogganing__v1__request__get_packed_size(request);
    tob_error err = n > TOB_MAX_BATCH_BYTES ? TOB_TOO_LARGE : tob_error_from_nng(nng_msg_alloc(&msg, n));
    if (!err) {
        tobogganing__v1__request__pack(request, nng_msg_body(msg));
        *ret = msg;
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

static tob_error make_message(tob_rpc_client *client, const char *method, const void *body, size_t body_len,
                              uint32_t timeout_ms, nng_msg **ret) {
    if (body_len > TOB_MAX_INFLATED_BYTES) {
        return TOB_TOO_LARGE;
    }
    Tobogganing__V1__Request request = TOBOGGANING__V1__REQUEST__INIT;
    request.method = (char *)method;
    request.timeout_ms = timeout_ms;
    request.size = (uint32_t)body_len;
    request.body = (ProtobufCBinaryData){.len = body_len, .data = (uint8_t *)body};
    tob_buffer compressed;
    tob_buffer_init(&compressed, TOB_MAX_INFLATED_BYTES * 2);
    if (client->compress && body_len > COMPRESS_ABOVE_BYTES) {
        compress_body(client, &request, &compressed);
    }
    tob_error err = pack_message(client, &request, ret);
    tob_buffer_fini(&compressed);
    return err;
}

static tob_error take_slot(tob_rpc_client *client, slot **ret) {
    tob_error err = TOB_OK;
    pthread_mutex_lock(&client->lock);
    if (client->stopped) {
        err = TOB_CANCELLED;
    } else if (!client->free_slots) {
        err = TOB_BUSY;
    } else {
        *ret = client->free_slots;
        client->free_slots = (*ret)->next_free;
        client->running += 2; // one until the callback has returned, one until we are out of NNG
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

tob_error tob_rpc_client_call(tob_rpc_client *client, const char *method, const void *body, size_t body_len,
                              uint32_t timeout_ms, tob_rpc_done done, void *user) {
    nng_msg *msg = NULL;
    slot *s = NULL;
    tob_error err = make_message(client, method, body, body_len, timeout_ms, &msg);
    if (err) {
        return err;
    }
    err = take_slot(client, &s);
    if (err) {
        nng_msg_free(msg);
        return err;
    }
    s->deadline_ms = tob_clock_monotonic_ms() + timeout_ms;
    s->done = done;
    s->user = user;
    s->state = SLOT_SENDING;
    nng_aio_set_msg(s->aio, msg);
    nng_aio_set_timeout(s->aio, remaining_ms(s));
    nng_ctx_send(s->ctx, s->aio);
    leave(client); // take_slot entered
    return TOB_OK;
}
