#include "rpc/servers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/attempt.h"
#include "util/clock.h"
#include "util/random.h"

static bool connected(const tob_rpc_remote *remote) {
    return remote->connection && tob_rpc_connection_connected(remote->connection);
}

static bool usable(const tob_rpc_remote *remote, uint64_t now) {
    return connected(remote) && remote->busy_until_ms <= now &&
           tob_rpc_connection_generation(remote->connection) != remote->broken_generation;
}

static bool better(const tob_rpc_remote *a, const tob_rpc_remote *b, uint64_t now) {
    bool a_suspect = a->suspect_until_ms > now;
    bool b_suspect = b->suspect_until_ms > now;
    if (a_suspect != b_suspect) {
        return b_suspect;
    }
    if (a->in_flight != b->in_flight) {
        return a->in_flight < b->in_flight;
    }
    return a->answered != b->answered ? a->answered > b->answered : a->rank < b->rank;
}

tob_rpc_remote *tob_rpc_servers_pick(const tob_rpc_servers *servers, tob_rpc_servers_excluded excluded,
                                     const void *call) {
    uint64_t now = tob_clock_monotonic_ms();
    tob_rpc_remote *best = NULL;
    for (size_t i = 0; i < servers->count; i++) {
        tob_rpc_remote *remote = servers->remotes[i];
        if (usable(remote, now) && !excluded(call, remote) && (!best || better(remote, best, now))) {
            best = remote;
        }
    }
    return best;
}

unsigned tob_rpc_servers_connected(const tob_rpc_servers *servers) {
    unsigned count = 0;
    for (size_t i = 0; i < servers->count; i++) {
        count += connected(servers->remotes[i]);
    }
    return count;
}

void tob_rpc_servers_state(const tob_rpc_remote *remote, tob_rpc_server_state *ret) {
    *ret = (tob_rpc_server_state){.id = remote->id,
                                  .connected = connected(remote),
                                  .generation = remote->connection
                                                    ? tob_rpc_connection_generation(remote->connection)
                                                    : 0};
    snprintf(ret->address, sizeof(ret->address), "%s", remote->address);
}

bool tob_rpc_servers_one_is_away(const tob_rpc_servers *servers) {
    uint64_t now = tob_clock_monotonic_ms();
    bool found = servers->removed_ms && now - servers->removed_ms < TOB_RPC_LATELY_MS;
    for (size_t i = 0; i < servers->count && !found; i++) {
        const tob_rpc_remote *remote = servers->remotes[i];
        found = !connected(remote) && remote->lost_ms && now - remote->lost_ms < TOB_RPC_LATELY_MS;
    }
    return found;
}

void tob_rpc_servers_answered(tob_rpc_servers *servers, tob_rpc_remote *remote) {
    remote->answered = ++servers->answers;
    remote->suspect_until_ms = 0;
}

static tob_error use_bearer(tob_rpc_remote *remote, const char *bearer) {
    return remote->connection ? tob_rpc_connection_set_bearer(remote->connection, bearer) : TOB_OK;
}

static void forget(char *secret) {
    if (secret) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

tob_error tob_rpc_servers_set_bearer(tob_rpc_servers *servers, const char *bearer) {
    char *copy = strdup(bearer ? bearer : "");
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    forget(servers->bearer);
    servers->bearer = copy;
    tob_error err = TOB_OK;
    for (size_t i = 0; i < servers->count; i++) {
        tob_error one = use_bearer(servers->remotes[i], bearer);
        err = err ? err : one;
    }
    return err;
}

static void on_connected(void *user, bool up) {
    tob_rpc_remote *remote = user;
    tob_rpc_servers *servers = remote->servers;
    if (!up) {
        pthread_mutex_lock(servers->lock);
        remote->lost_ms = tob_clock_monotonic_ms();
        pthread_mutex_unlock(servers->lock);
    }
    servers->on_change(servers->user, up);
}

// Makes the connection of one that has none, in the table or about to be in it. The lock is not held.
static tob_error connect_remote(tob_rpc_servers *servers, tob_rpc_remote *remote) {
    tob_rpc_connection_options options = servers->options;
    tob_rpc_connection *connection = NULL;
    options.url = remote->address;
    options.on_connected = on_connected;
    options.user = remote;
    tob_error err = tob_rpc_connection_new(&options, &connection);
    if (err) {
        return err;
    }
    pthread_mutex_lock(servers->lock);
    err = tob_rpc_connection_set_bearer(connection, servers->bearer);
    if (!err) {
        remote->connection = connection;
    }
    pthread_mutex_unlock(servers->lock);
    if (err) {
        tob_rpc_connection_free(connection);
    }
    return err;
}

static void remote_free(tob_rpc_remote *remote) {
    if (remote) {
        tob_rpc_connection_free(remote->connection);
        free(remote->address);
        free(remote);
    }
}

static tob_rpc_remote *remote_new(tob_rpc_servers *servers, const char *address) {
    tob_rpc_remote *remote = calloc(1, sizeof(*remote));
    char *copy = strdup(address);
    if (!remote || !copy) {
        free(remote);
        free(copy);
        return NULL;
    }
    remote->servers = servers;
    remote->address = copy;
    remote->id = tob_rpc_server_id(address);
    remote->rank = tob_random_u64();
    return remote;
}

// Takes the server with this address out of the old table. The lock is held.
static tob_rpc_remote *take(tob_rpc_remote **table, size_t count, const char *address) {
    for (size_t i = 0; i < count; i++) {
        tob_rpc_remote *remote = table[i];
        if (remote && strcmp(remote->address, address) == 0) {
            table[i] = NULL;
            return remote;
        }
    }
    return NULL;
}

tob_error tob_rpc_servers_set(tob_rpc_servers *servers, const char *const *addresses, size_t count) {
    tob_rpc_remote *old[TOB_ENDPOINTS_MAX_ADDRESSES];
    tob_rpc_remote *fresh[TOB_ENDPOINTS_MAX_ADDRESSES];
    size_t fresh_count = 0;
    tob_error err = TOB_OK;
    pthread_mutex_lock(&servers->change_lock);
    pthread_mutex_lock(servers->lock);
    size_t old_count = servers->count;
    memcpy(old, servers->remotes, old_count * sizeof(old[0]));
    servers->count = 0;
    for (size_t i = 0; i < count && i < TOB_ENDPOINTS_MAX_ADDRESSES; i++) {
        tob_rpc_remote *remote = take(old, old_count, addresses[i]);
        if (!remote) {
            remote = remote_new(servers, addresses[i]);
            fresh[fresh_count] = remote;
            fresh_count += remote != NULL;
        }
        if (remote) {
            servers->remotes[servers->count++] = remote;
        } else {
            err = TOB_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < old_count; i++) {
        if (old[i]) {
            old[i]->next = servers->removed;
            servers->removed = old[i];
            servers->removed_ms = tob_clock_monotonic_ms();
        }
    }
    pthread_mutex_unlock(servers->lock);
    for (size_t i = 0; i < fresh_count; i++) {
        tob_error one = connect_remote(servers, fresh[i]);
        err = err ? err : one;
    }
    pthread_mutex_unlock(&servers->change_lock);
    return err;
}

// Takes one out of the removed that has no attempt under way, or NULL. The lock is held.
static tob_rpc_remote *take_idle(tob_rpc_servers *servers) {
    for (tob_rpc_remote **at = &servers->removed; *at; at = &(*at)->next) {
        tob_rpc_remote *remote = *at;
        if (remote->in_flight == 0) {
            *at = remote->next;
            return remote;
        }
    }
    return NULL;
}

// The first in the table without a connection, or NULL.
static tob_rpc_remote *unconnected(const tob_rpc_servers *servers) {
    for (size_t i = 0; i < servers->count; i++) {
        if (!servers->remotes[i]->connection) {
            return servers->remotes[i];
        }
    }
    return NULL;
}

bool tob_rpc_servers_reap(tob_rpc_servers *servers) {
    tob_error err = TOB_OK;
    pthread_mutex_lock(&servers->change_lock);
    pthread_mutex_lock(servers->lock);
    for (tob_rpc_remote *remote = take_idle(servers); remote; remote = take_idle(servers)) {
        pthread_mutex_unlock(servers->lock);
        remote_free(remote);
        pthread_mutex_lock(servers->lock);
    }
    for (tob_rpc_remote *remote = unconnected(servers); remote && !err; remote = unconnected(servers)) {
        pthread_mutex_unlock(servers->lock);
        err = connect_remote(servers, remote); // tried again with the next turn
        pthread_mutex_lock(servers->lock);
    }
    bool left = servers->removed || unconnected(servers);
    pthread_mutex_unlock(servers->lock);
    pthread_mutex_unlock(&servers->change_lock);
    return left;
}

static void abort_remote(const tob_rpc_remote *remote) {
    if (remote->connection) {
        tob_rpc_connection_abort(remote->connection);
    }
}

void tob_rpc_servers_close(tob_rpc_servers *servers) {
    pthread_mutex_lock(servers->lock);
    for (size_t i = 0; i < servers->count; i++) {
        servers->remotes[i]->next = servers->removed;
        servers->removed = servers->remotes[i];
    }
    servers->count = 0;
    tob_rpc_remote *all = servers->removed;
    servers->removed = NULL;
    pthread_mutex_unlock(servers->lock);
    for (const tob_rpc_remote *remote = all; remote; remote = remote->next) {
        abort_remote(remote);
    }
    while (all) {
        tob_rpc_remote *next = all->next;
        remote_free(all);
        all = next;
    }
}

void tob_rpc_servers_init(tob_rpc_servers *servers) {
    pthread_mutex_init(&servers->change_lock, NULL);
}

void tob_rpc_servers_fini(tob_rpc_servers *servers) {
    pthread_mutex_destroy(&servers->change_lock);
    forget(servers->bearer);
}
