#include "rpc/client.h"

#include <pthread.h>
#include <stdlib.h>

#include "rpc/pending.h"
#include "rpc/resolver.h"
#include "util/clock.h"
#include "util/cond.h"

enum {
    DEFAULT_IN_FLIGHT = 16,
    // A connection takes so many times the client's calls: those that have been given up on stay there until it answers.
    ORPHANS_FACTOR = 4,
    REAP_MS = 1000,    // until closing or connecting is tried again
    SEARCH_MS = 60000, // after a loss: for a server that comes back under another address
    SEARCH_EVERY_MS = 1000,
    STOP_GRACE_MS = 200, // for answers that are on their way
};

static void attend(tob_rpc_pending *c, uint64_t now) {
    c->references++;
    if (c->deadline_ms <= now) {
        tob_rpc_pending_finish_late(c);
    } else if (c->attempts && c->silent_at_ms <= now) {
        tob_rpc_pending_ask_another(c, now);
    } else {
        tob_rpc_pending_ask(c);
    }
    tob_rpc_pending_release(c);
}

static uint64_t due_ms(const tob_rpc_pending *c) {
    if (c->looked != c->client->changes && (!c->attempts || c->silent)) {
        return 0;
    }
    uint64_t at_ms = c->attempts ? c->silent_at_ms : c->again_ms;
    return at_ms < c->deadline_ms ? at_ms : c->deadline_ms;
}

// A call that is due, or NULL and when the next one is.
static tob_rpc_pending *next_due(const tob_rpc_client *client, uint64_t now, uint64_t *ret_ms) {
    uint64_t next_ms = UINT64_MAX;
    for (tob_rpc_pending *c = client->calls; c; c = c->next) {
        uint64_t at_ms = due_ms(c);
        if (at_ms <= now) {
            return c;
        }
        next_ms = at_ms < next_ms ? at_ms : next_ms;
    }
    *ret_ms = next_ms;
    return NULL;
}

// The lock is held, but not while it works. Returns when to come again.
static uint64_t reap(tob_rpc_client *client) {
    client->reap = false;
    pthread_mutex_unlock(&client->lock);
    bool left = tob_rpc_servers_reap(&client->servers);
    pthread_mutex_lock(&client->lock);
    return left ? tob_clock_monotonic_ms() + REAP_MS : UINT64_MAX;
}

// For a while after a loss the names are asked for more often. Returns when to come again.
static uint64_t search(tob_rpc_client *client, uint64_t now) {
    if (now >= client->search_until_ms) {
        return UINT64_MAX;
    }
    if (now >= client->search_ms) {
        client->search_ms = now + SEARCH_EVERY_MS;
        tob_endpoints_hurry(client->endpoints);
    }
    return client->search_ms;
}

// Waits for what no answer brings: silence, deadlines, connections.
static void *run(void *arg) {
    tob_rpc_client *client = arg;
    uint64_t reap_ms = UINT64_MAX;
    pthread_mutex_lock(&client->lock);
    while (!client->quit) {
        uint64_t now = tob_clock_monotonic_ms();
        uint64_t next_ms = UINT64_MAX;
        tob_rpc_pending *c = client->stopped ? NULL : next_due(client, now, &next_ms);
        client->wake_ms = 0; // it looks before it waits
        if (c) {
            attend(c, now);
        } else if (client->reap || reap_ms <= now) {
            reap_ms = reap(client);
        } else {
            uint64_t search_ms = search(client, now);
            next_ms = next_ms < reap_ms ? next_ms : reap_ms;
            client->wake_ms = next_ms < search_ms ? next_ms : search_ms;
            tob_cond_wait_until(&client->wake, &client->lock, client->wake_ms);
        }
    }
    pthread_mutex_unlock(&client->lock);
    return NULL;
}

static void on_change(void *user, bool connected) {
    tob_rpc_client *client = user;
    pthread_mutex_lock(&client->lock);
    client->changes++;
    if (!connected) {
        client->search_until_ms = tob_clock_monotonic_ms() + SEARCH_MS;
    }
    pthread_cond_signal(&client->wake);
    pthread_mutex_unlock(&client->lock);
}

static void on_addresses(void *user, const char *const *addresses, size_t count) {
    tob_rpc_client *client = user;
    tob_error err = tob_rpc_servers_set(&client->servers, addresses, count);
    pthread_mutex_lock(&client->lock);
    client->set_error = err; // for _new; the thread tries again
    client->changes++;
    client->reap = true;
    pthread_cond_signal(&client->wake);
    pthread_mutex_unlock(&client->lock);
}

static void client_init(tob_rpc_client *client, const tob_rpc_client_options *options) {
    client->max_in_flight = options->max_in_flight ? options->max_in_flight : DEFAULT_IN_FLIGHT;
    client->repeatable = options->repeatable;
    tob_rpc_encoder_init(&client->encoder, options->compress);
    pthread_mutex_init(&client->lock, NULL);
    tob_cond_init(&client->wake);
    tob_cond_init(&client->idle);
    client->servers.lock = &client->lock;
    client->servers.on_change = on_change;
    client->servers.user = client;
    client->servers.options = (tob_rpc_connection_options){
        .max_in_flight = (unsigned)client->max_in_flight * ORPHANS_FACTOR,
        .reconnect_max_ms = options->reconnect_max_ms,
    };
    tob_rpc_servers_init(&client->servers);
}

static tob_error client_start(tob_rpc_client *client, const tob_resolver *resolver,
                              const tob_rpc_client_options *options) {
    tob_error err = tob_rpc_servers_set_bearer(&client->servers, options->bearer);
    if (!err) {
        err = tob_endpoints_new_with(resolver, options->urls, on_addresses, client, &client->endpoints);
    }
    if (!err && pthread_create(&client->thread, NULL, run, client) != 0) {
        err = TOB_NO_MEMORY;
    }
    client->started = !err;
    if (!err) {
        err = tob_endpoints_start(client->endpoints);
    }
    pthread_mutex_lock(&client->lock);
    err = err ? err : client->set_error;
    pthread_mutex_unlock(&client->lock);
    return err;
}

tob_error tob_rpc_client_new_with(const tob_resolver *resolver, const tob_rpc_client_options *options,
                                  tob_rpc_client **ret) {
    tob_rpc_client *client = calloc(1, sizeof(*client));
    if (!client) {
        return TOB_NO_MEMORY;
    }
    client_init(client, options);
    tob_error err = client_start(client, resolver, options);
    if (err) {
        tob_rpc_client_free(client);
        return err;
    }
    *ret = client;
    return TOB_OK;
}

tob_error tob_rpc_client_new(const tob_rpc_client_options *options, tob_rpc_client **ret) {
    return tob_rpc_client_new_with(&tob_resolver_system, options, ret);
}

static void end_calls(tob_rpc_client *client) {
    uint64_t until_ms = tob_clock_monotonic_ms() + STOP_GRACE_MS;
    pthread_mutex_lock(&client->lock);
    client->stopped = true;
    while ((client->calls || client->busy) && tob_cond_wait_until(&client->idle, &client->lock, until_ms)) {
    }
    while (client->calls) {
        tob_rpc_pending_finish_failed(client->calls, TOB_CANCELLED, "the client was stopped");
    }
    while (client->busy) {
        pthread_cond_wait(&client->idle, &client->lock);
    }
    client->quit = true;
    pthread_cond_signal(&client->wake);
    pthread_mutex_unlock(&client->lock);
}

void tob_rpc_client_stop(tob_rpc_client *client) {
    end_calls(client);
    if (client->started) {
        pthread_join(client->thread, NULL);
        client->started = false;
    }
    if (client->endpoints) {
        tob_endpoints_stop(client->endpoints);
    }
    tob_rpc_servers_close(&client->servers);
}

void tob_rpc_client_free(tob_rpc_client *client) {
    if (!client) {
        return;
    }
    tob_rpc_client_stop(client);
    tob_endpoints_free(client->endpoints);
    tob_rpc_servers_fini(&client->servers);
    tob_rpc_encoder_fini(&client->encoder);
    pthread_mutex_destroy(&client->lock);
    pthread_cond_destroy(&client->wake);
    pthread_cond_destroy(&client->idle);
    free(client);
}

tob_error tob_rpc_client_set_bearer(tob_rpc_client *client, const char *bearer) {
    pthread_mutex_lock(&client->lock);
    tob_error err = tob_rpc_servers_set_bearer(&client->servers, bearer);
    pthread_mutex_unlock(&client->lock);
    return err;
}

unsigned tob_rpc_client_connections(tob_rpc_client *client) {
    pthread_mutex_lock(&client->lock);
    unsigned count = tob_rpc_servers_connected(&client->servers);
    pthread_mutex_unlock(&client->lock);
    return count;
}

size_t tob_rpc_client_servers(tob_rpc_client *client, tob_rpc_server_state *ret, size_t max) {
    pthread_mutex_lock(&client->lock);
    size_t count = client->servers.count;
    for (size_t i = 0; i < count && i < max; i++) {
        tob_rpc_servers_state(client->servers.remotes[i], &ret[i]);
    }
    pthread_mutex_unlock(&client->lock);
    return count;
}

// Makes the call one of the client's and asks a server. The lock is held; `c` is moved on success.
static tob_error start(tob_rpc_client *client, tob_rpc_pending *c) {
    if (client->stopped) {
        return TOB_CANCELLED;
    }
    if (client->in_flight == client->max_in_flight) {
        return TOB_BUSY;
    }
    c->references = 2; // the client's and ours
    c->next = client->calls;
    if (c->next) {
        c->next->previous = c;
    }
    client->calls = c;
    client->in_flight++;
    client->busy++;
    tob_rpc_pending_ask(c);
    tob_rpc_pending_release(c);
    client->busy--;
    pthread_cond_broadcast(&client->idle);
    return TOB_OK;
}

// What a call is but for its request.
typedef struct call_way {
    uint64_t server; // 0: any
    bool once;
    const tob_rpc_caller *caller; // NULL: ourselves
} call_way;

static tob_error call_by(tob_rpc_client *client, const call_way *way, const char *method, const void *body,
                         size_t body_len, uint32_t timeout_ms, tob_rpc_done done, void *user) {
    tob_rpc_pending *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    tob_error err = tob_rpc_request_new(&client->encoder, method, body, body_len, way->caller, &c->request);
    if (!err) {
        c->client = client;
        c->once = way->once;
        c->to = way->server;
        c->deadline_ms = tob_clock_monotonic_ms() + timeout_ms;
        c->patience_ms = timeout_ms / 2 < TOB_RPC_SILENT_MS ? timeout_ms / 2 : TOB_RPC_SILENT_MS;
        c->done = done;
        c->user = user;
        pthread_mutex_lock(&client->lock);
        err = start(client, c);
        pthread_mutex_unlock(&client->lock);
    }
    if (err) {
        tob_rpc_request_release(c->request);
        free(c);
    }
    return err;
}

tob_error tob_rpc_client_call(tob_rpc_client *client, const char *method, const void *body, size_t body_len,
                              uint32_t timeout_ms, tob_rpc_done done, void *user) {
    call_way way = {.once = !client->repeatable};
    return call_by(client, &way, method, body, body_len, timeout_ms, done, user);
}

tob_error tob_rpc_client_call_for(tob_rpc_client *client, const tob_rpc_caller *caller, const char *method,
                                  const void *body, size_t body_len, uint32_t timeout_ms, tob_rpc_done done,
                                  void *user) {
    call_way way = {.server = caller->server,
                    .once = caller->server || !caller->repeatable,
                    .caller = caller};
    return call_by(client, &way, method, body, body_len, timeout_ms, done, user);
}

tob_error tob_rpc_client_call_to(tob_rpc_client *client, uint64_t server, const char *method,
                                 const void *body, size_t body_len, uint32_t timeout_ms, tob_rpc_done done,
                                 void *user) {
    call_way way = {.server = server, .once = true};
    return call_by(client, &way, method, body, body_len, timeout_ms, done, user);
}
