// tob_rpc_servers is a client's table of servers: which there are, and which of them a call goes to. Internal to lib/rpc.
//
// Threads: under the client's lock, all but _set and _reap, which take it themselves (they make and close connections,
// which must not be done under it).
#ifndef TOB_RPC_SERVERS_H
#define TOB_RPC_SERVERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/client.h"
#include "rpc/endpoints.h"

typedef struct tob_rpc_servers tob_rpc_servers;

// One address. Stays while a call is under way on it, also when it is not in the table any more.
typedef struct tob_rpc_remote {
    tob_rpc_servers *servers;
    uint64_t id;
    char *address;
    tob_rpc_connection *connection; // NULL: could not be made yet
    unsigned in_flight;             // attempts
    uint64_t answered;              // number of its last answer, of all servers' answers
    uint64_t rank;                  // random: decides between equals
    uint64_t broken_generation;     // of the connection: it broke, which it may not know yet
    uint64_t lost_ms;               // when the connection was lost, monotonic; 0: never
    uint64_t suspect_until_ms;      // it was silent
    uint64_t busy_until_ms;         // its connection takes no more calls
    struct tob_rpc_remote *next;    // of the removed
} tob_rpc_remote;

// tob_rpc_servers_fn: a server's connection is up, or gone. The lock is not held.
typedef void (*tob_rpc_servers_fn)(void *user, bool connected);

struct tob_rpc_servers {
    pthread_mutex_t *lock;
    pthread_mutex_t change_lock;        // one at a time adds and connects; taken before `lock`
    tob_rpc_connection_options options; // but for url and bearer
    tob_rpc_servers_fn on_change;
    void *user;
    char *bearer;
    tob_rpc_remote *remotes[TOB_ENDPOINTS_MAX_ADDRESSES]; // in the order of the URLs
    size_t count;
    tob_rpc_remote *removed; // to be closed when nothing is under way on them
    uint64_t removed_ms;     // when the last one was removed; 0: never
    uint64_t answers;
};

// What a call rules out.
typedef bool (*tob_rpc_servers_excluded)(const void *call, const tob_rpc_remote *remote);

tob_rpc_remote *tob_rpc_servers_pick(const tob_rpc_servers *servers, tob_rpc_servers_excluded excluded,
                                     const void *call);
unsigned tob_rpc_servers_connected(const tob_rpc_servers *servers);

void tob_rpc_servers_state(const tob_rpc_remote *remote, tob_rpc_server_state *ret);

// Whether one that is away was there a moment ago: not connected, or not even in the table.
bool tob_rpc_servers_one_is_away(const tob_rpc_servers *servers);

void tob_rpc_servers_answered(tob_rpc_servers *servers, tob_rpc_remote *remote);
TOB_MUST_USE tob_error tob_rpc_servers_set_bearer(tob_rpc_servers *servers, const char *bearer);

// tob_rpc_servers_set makes these the servers. Errors: TOB_INVALID for an address; TOB_NO_MEMORY: some are missing.
TOB_MUST_USE tob_error tob_rpc_servers_set(tob_rpc_servers *servers, const char *const *addresses,
                                           size_t count);

// tob_rpc_servers_reap closes what was removed and is idle, and connects what could not be connected before. Returns
// whether there is something left to do.
bool tob_rpc_servers_reap(tob_rpc_servers *servers);

// tob_rpc_servers_close ends all attempts and closes everything. Takes the lock; nobody else uses the table any more.
void tob_rpc_servers_close(tob_rpc_servers *servers);

// tob_rpc_servers_init: `options`, `lock`, `on_change` and `user` are set already.
void tob_rpc_servers_init(tob_rpc_servers *servers);
void tob_rpc_servers_fini(tob_rpc_servers *servers); // closed, or never set

#endif
