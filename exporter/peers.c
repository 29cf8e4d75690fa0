#include "exporter/peers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/health.pb-c.h"

#define MAX_REQUEST_BYTES 128

typedef struct peer {
    tob_rpc_connection *connection;
    uint64_t id; // never used again
    bool known;
    uint64_t instance;
    uint64_t generation; // of the connection, which `known` is about
    uint64_t health_due_ms;
    bool health_asked;
    bool page_asked;
} peer;

// A call from its start until its answer is taken.
typedef struct call {
    struct call *next;
    tob_peers *peers;
    uint64_t peer_id;
    uint64_t generation;
    tob_peer_answer answer;
} call;

struct tob_peers {
    pthread_mutex_t lock; // of all below
    void (*wake)(void *user);
    void *user;
    char *bearer;
    peer *peers[TOB_PEERS_MAX];
    size_t count;
    uint64_t last_id;
    call *answered; // the last one first
};

static void free_secret(char *secret) {
    if (secret) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

tob_error tob_peers_new(const char *bearer, void (*wake)(void *user), void *user, tob_peers **ret) {
    tob_peers *peers = calloc(1, sizeof(*peers));
    char *copy = bearer ? strdup(bearer) : NULL;
    if (!peers || (bearer && !copy)) {
        free(peers);
        free_secret(copy);
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&peers->lock, NULL);
    peers->wake = wake;
    peers->user = user;
    peers->bearer = copy;
    *ret = peers;
    return TOB_OK;
}

static void free_peer(peer *p) {
    tob_rpc_connection_stop(p->connection);
    tob_rpc_connection_free(p->connection);
    free(p);
}

void tob_peers_stop(tob_peers *peers) {
    for (size_t i = 0; i < peers->count; i++) {
        free_peer(peers->peers[i]);
    }
    peers->count = 0;
}

void tob_peers_free(tob_peers *peers) {
    if (!peers) {
        return;
    }
    tob_peers_stop(peers);
    tob_peer_answer answer;
    while (tob_peers_take(peers, &answer)) {
        tob_peer_answer_clear(&answer);
    }
    free_secret(peers->bearer);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

static bool is_among(const char *address, const char *const *addresses, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(address, addresses[i]) == 0) {
            return true;
        }
    }
    return false;
}

// The lock is held.
static bool has_address(const tob_peers *peers, const char *address) {
    for (size_t i = 0; i < peers->count; i++) {
        if (strcmp(tob_rpc_connection_url(peers->peers[i]->connection), address) == 0) {
            return true;
        }
    }
    return false;
}

// The lock is held.
static tob_error add(tob_peers *peers, const char *address) {
    tob_rpc_connection_options options = {.url = address, .bearer = peers->bearer};
    if (peers->count == TOB_PEERS_MAX) {
        return TOB_TOO_LARGE;
    }
    peer *p = calloc(1, sizeof(*p));
    if (!p) {
        return TOB_NO_MEMORY;
    }
    tob_error err = tob_rpc_connection_new(&options, &p->connection);
    if (err) {
        free(p);
        return err;
    }
    p->id = ++peers->last_id;
    peers->peers[peers->count++] = p;
    return TOB_OK;
}

tob_error tob_peers_set_addresses(tob_peers *peers, const char *const *addresses, size_t count) {
    peer *gone[TOB_PEERS_MAX];
    size_t gone_count = 0;
    size_t kept = 0;
    tob_error first = TOB_OK;
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->count; i++) {
        peer *p = peers->peers[i];
        if (is_among(tob_rpc_connection_url(p->connection), addresses, count)) {
            peers->peers[kept++] = p;
        } else {
            gone[gone_count++] = p;
        }
    }
    peers->count = kept;
    for (size_t i = 0; i < count; i++) {
        tob_error err = has_address(peers, addresses[i]) ? TOB_OK : add(peers, addresses[i]);
        first = first ? first : err;
    }
    pthread_mutex_unlock(&peers->lock);
    for (size_t i = 0; i < gone_count; i++) {
        free_peer(gone[i]); // not under the lock: its calls end, and their answers are put
    }
    return first;
}

tob_error tob_peers_set_bearer(tob_peers *peers, const char *bearer) {
    char *copy = strdup(bearer);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    tob_error first = TOB_OK;
    pthread_mutex_lock(&peers->lock);
    free_secret(peers->bearer);
    peers->bearer = copy;
    for (size_t i = 0; i < peers->count; i++) {
        tob_error err = tob_rpc_connection_set_bearer(peers->peers[i]->connection, bearer);
        first = first ? first : err;
    }
    pthread_mutex_unlock(&peers->lock);
    return first;
}

// The lock is held. NULL when it is gone.
static peer *find(tob_peers *peers, uint64_t id) {
    for (size_t i = 0; i < peers->count; i++) {
        if (peers->peers[i]->id == id) {
            return peers->peers[i];
        }
    }
    return NULL;
}

static void on_done(void *user, const tob_rpc_result *result) {
    call *c = user;
    tob_peers *peers = c->peers;
    tob_peer_answer *a = &c->answer;
    a->error = result->error;
    a->retry_after_ms = result->retry_after_ms;
    strncpy(a->message, result->message, sizeof(a->message) - 1);
    if (!a->error) {
        a->body = malloc(result->body_len ? result->body_len : 1);
        a->error = a->body ? TOB_OK : TOB_NO_MEMORY;
    }
    if (a->body && result->body_len) {
        memcpy(a->body, result->body, result->body_len);
        a->body_len = result->body_len;
    }
    pthread_mutex_lock(&peers->lock);
    c->next = peers->answered;
    peers->answered = c;
    pthread_mutex_unlock(&peers->lock);
    peers->wake(peers->user);
}

// The lock is held; on_done waits for it on a thread of NNG's.
static tob_error start_call(tob_peers *peers, const peer *p, const char *method, const void *body, size_t n,
                            uint32_t timeout_ms, const tob_peer_answer *answer) {
    call *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    c->peers = peers;
    c->peer_id = p->id;
    c->generation = p->generation;
    c->answer = *answer;
    tob_error err = tob_rpc_connection_call(p->connection, method, body, n, timeout_ms, on_done, c);
    if (err) {
        free(c);
    }
    return err;
}

// The lock is held.
static void check_health(tob_peers *peers, peer *p, uint64_t monotonic_ms) {
    const tob_peer_answer answer = {.kind = TOB_RESYNC_NONE};
    uint64_t generation = tob_rpc_connection_generation(p->connection);
    if (!tob_rpc_connection_connected(p->connection)) {
        return;
    }
    if (generation != p->generation) {
        p->generation = generation;
        p->known = false;
        p->health_due_ms = 0;
    }
    if (p->health_asked || monotonic_ms < p->health_due_ms) {
        return;
    }
    p->health_due_ms = monotonic_ms + TOB_PEER_HEALTH_RETRY_MS;
    p->health_asked = start_call(peers, p, "/tobogganing.v1.Health/Check", "", 0, TOB_PEER_HEALTH_TIMEOUT_MS,
                                 &answer) == TOB_OK;
}

void tob_peers_tick(tob_peers *peers, uint64_t monotonic_ms) {
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->count; i++) {
        check_health(peers, peers->peers[i], monotonic_ms);
    }
    pthread_mutex_unlock(&peers->lock);
}

static bool is_v6(const char *url) {
    return strchr(url, '[') != NULL;
}

// Names of one host often have an address of each IP version, of which the server listens at one. The lock is held.
static bool is_needless(const tob_peers *peers, const peer *p) {
    const char *url = tob_rpc_connection_url(p->connection);
    for (size_t i = 0; i < peers->count && !p->known; i++) {
        const char *other = tob_rpc_connection_url(peers->peers[i]->connection);
        if (peers->peers[i]->known && is_v6(other) != is_v6(url) &&
            strcmp(strrchr(other, ':'), strrchr(url, ':')) == 0) {
            return true;
        }
    }
    return false;
}

size_t tob_peers_behind(tob_peers *peers, tob_behind ret[TOB_PEERS_MAX]) {
    pthread_mutex_lock(&peers->lock);
    size_t count = peers->count;
    for (size_t i = 0; i < count; i++) {
        const peer *p = peers->peers[i];
        bool idle = p->known && !p->page_asked && tob_rpc_connection_connected(p->connection);
        ret[i] = (tob_behind){.known = p->known,
                              .idle = idle,
                              .needless = is_needless(peers, p),
                              .instance = p->instance};
    }
    pthread_mutex_unlock(&peers->lock);
    return count;
}

// The lock is held.
static peer *idle_peer_of(tob_peers *peers, uint64_t instance) {
    for (size_t i = 0; i < peers->count; i++) {
        peer *p = peers->peers[i];
        if (p->known && p->instance == instance && !p->page_asked &&
            tob_rpc_connection_connected(p->connection)) {
            return p;
        }
    }
    return NULL;
}

tob_error tob_peers_call(tob_peers *peers, uint64_t instance, const tob_page_request *request) {
    const tob_peer_answer answer = {.kind = request->kind, .instance = instance};
    bool snapshot = request->kind == TOB_RESYNC_SNAPSHOT;
    const char *method = snapshot ? "/tobogganing.v1.Bus/Snapshot" : "/tobogganing.v1.Bus/Replay";
    const ProtobufCMessage *message = snapshot ? &request->snapshot.base : &request->replay.base;
    uint8_t packed[MAX_REQUEST_BYTES];
    if (protobuf_c_message_get_packed_size(message) > sizeof(packed)) {
        return TOB_TOO_LARGE;
    }
    size_t n = protobuf_c_message_pack(message, packed);
    pthread_mutex_lock(&peers->lock);
    peer *p = idle_peer_of(peers, instance);
    tob_error err =
        p ? start_call(peers, p, method, packed, n, TOB_PEER_PAGE_TIMEOUT_MS, &answer) : TOB_UNAVAILABLE;
    if (!err) {
        p->page_asked = true;
    }
    pthread_mutex_unlock(&peers->lock);
    return err;
}

// The peer said who it is. False when it is no news any more, or none. The lock is held.
static bool take_health(peer *p, call *c) {
    Tobogganing__V1__HealthCheckResponse *health = NULL;
    if (p) {
        p->health_asked = false;
    }
    if (c->answer.error || !p || p->generation != c->generation) {
        return false;
    }
    health = tobogganing__v1__health_check_response__unpack(NULL, c->answer.body_len, c->answer.body);
    if (!health) {
        return false;
    }
    p->health_due_ms += TOB_PEER_HEALTH_MS - TOB_PEER_HEALTH_RETRY_MS;
    p->known = true;
    p->instance = health->instance;
    c->answer.instance = health->instance;
    c->answer.epoch = health->epoch;
    tobogganing__v1__health_check_response__free_unpacked(health, NULL);
    return true;
}

// Takes note of the answer; true when it is for the caller. The lock is held.
static bool take(tob_peers *peers, call *c) {
    peer *p = find(peers, c->peer_id);
    if (c->answer.kind == TOB_RESYNC_NONE) {
        return take_health(p, c);
    }
    if (p) {
        p->page_asked = false;
        p->health_due_ms = c->answer.error ? 0 : p->health_due_ms; // is it still who it was?
    }
    return true;
}

bool tob_peers_take(tob_peers *peers, tob_peer_answer *ret) {
    bool found = false;
    pthread_mutex_lock(&peers->lock);
    while (peers->answered && !found) {
        call *c = peers->answered;
        peers->answered = c->next;
        found = take(peers, c);
        if (found) {
            *ret = c->answer;
        } else {
            tob_peer_answer_clear(&c->answer);
        }
        free(c);
    }
    pthread_mutex_unlock(&peers->lock);
    return found;
}

void tob_peer_answer_clear(tob_peer_answer *answer) {
    free(answer->body);
    answer->body = NULL;
}
