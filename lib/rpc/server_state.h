// The server's insides, for its own files only: server.c is its life, server_call.c what happens to a call.
#ifndef TOB_RPC_SERVER_STATE_H
#define TOB_RPC_SERVER_STATE_H

#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tobogganing/v1/rpc.pb-c.h"

#include "rpc/peer.h"
#include "rpc/server.h"
#include "wire/compress.h"

typedef struct tob_rpc_method {
    char path[TOB_RPC_MAX_METHOD_BYTES + 1];
    const ProtobufCMessageDescriptor *input;
    tob_rpc_handler handler;
    void *user;
} tob_rpc_method;

typedef enum tob_call_state {
    TOB_CALL_IDLE,
    TOB_CALL_RECEIVING,
    TOB_CALL_WORKING,
    TOB_CALL_SENDING,
} tob_call_state;

// A call is one NNG context, used for one request after another.
struct tob_rpc_call {
    tob_rpc_server *server;
    nng_ctx ctx;
    nng_aio *aio;
    pthread_mutex_t lock; // guards state; of its own, so that calls don't wait for each other
    tob_call_state state;
    tob_arena *arena;
    tob_inflater *inflater; // made when first needed
    tob_deflater *deflater; // likewise
    const Tobogganing__V1__Request *request;
    nng_pipe pipe; // that it came by; may be closed by now
    bool peer_known;
    char peer[TOB_PEER_BYTES];
    uint64_t deadline_ms;
};

struct tob_rpc_server {
    tob_rpc_server_options options;
    nng_socket socket;
    uint16_t port;
    tob_rpc_method *methods;
    size_t method_count;
    tob_rpc_call *calls;
    size_t call_count; // that have a context
    atomic_size_t connections;
    atomic_uint_least64_t refused;
    bool open;
    bool abandoned; // the socket could not be closed: NNG may still call on_pipe
    atomic_bool stopping;
    pthread_mutex_t lock; // guards active
    pthread_cond_t idle;
    size_t active; // calls that are not retired
};

// tob_rpc_call_receive starts to receive, or retires the call when the server stops.
void tob_rpc_call_receive(tob_rpc_call *call);

// What NNG calls when something of the call has come or gone.
void tob_rpc_call_on_aio(void *call);

#endif
