// tob_rpc_pending is one call of a client that is under way, with the attempts that are made for it on one server after
// another: rpc/client.h says by which rules. Internal to lib/rpc.
//
// Threads: everything here is called under the client's lock, which is not held while a request is sent or a callback runs;
// the caller holds a reference meanwhile.
#ifndef TOB_RPC_PENDING_H
#define TOB_RPC_PENDING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/client.h"
#include "rpc/endpoints.h"
#include "rpc/request.h"
#include "rpc/servers.h"

typedef struct tob_rpc_pending tob_rpc_pending;
typedef struct tob_rpc_attempt tob_rpc_attempt;
typedef struct tob_rpc_refusal tob_rpc_refusal;

struct tob_rpc_pending {
    tob_rpc_client *client;
    unsigned references; // the client's, each attempt's, and each thread's that is at it
    bool finished;
    bool once;   // one attempt only
    uint64_t to; // this server only; 0: any
    tob_rpc_request *request;
    uint64_t deadline_ms; // monotonic, as all of these
    uint64_t patience_ms; // with a silent server
    uint64_t silent_at_ms;
    bool silent;       // the servers that have it have been waited for long enough
    uint64_t again_ms; // when to look for a server again; UINT64_MAX: when something changes
    uint64_t looked;   // at the client's change with this number
    bool sent;         // some server may have it
    tob_rpc_attempt *attempts;
    uint64_t last_server;
    tob_rpc_refusal *refusals;
    size_t refusal_count;
    uint64_t refused_ms;
    tob_error refused; // how the last refusal read; TOB_OK: none
    uint32_t retry_after_ms;
    char message[TOB_RPC_MESSAGE_BYTES];
    tob_rpc_done done;
    void *user;
    tob_rpc_pending *next;
    tob_rpc_pending *previous;
};

struct tob_rpc_client {
    tob_rpc_encoder encoder;
    tob_endpoints *endpoints;
    bool repeatable;
    size_t max_in_flight;
    tob_error set_error; // from the first _set
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t wake;  // of the thread
    pthread_cond_t idle;
    tob_rpc_servers servers;
    tob_rpc_pending *calls;
    size_t in_flight;
    size_t busy;      // callbacks that have not returned, and threads in tob_rpc_client_call
    uint64_t changes; // of connections
    uint64_t wake_ms; // when the thread wakes by itself
    uint64_t search_until_ms;
    uint64_t search_ms;
    bool reap;
    bool stopped;
    bool quit;
};

void tob_rpc_pending_release(tob_rpc_pending *c);

// tob_rpc_pending_ask looks for a server that can be asked, and asks it. Without one the call waits, or ends.
void tob_rpc_pending_ask(tob_rpc_pending *c);

// tob_rpc_pending_ask_another: the servers that have been asked are silent.
void tob_rpc_pending_ask_another(tob_rpc_pending *c, uint64_t now_ms);

void tob_rpc_pending_finish_failed(tob_rpc_pending *c, tob_error error, const char *message);
void tob_rpc_pending_finish_late(tob_rpc_pending *c); // the deadline is over

#endif
