// tob_rpc_client calls services (rpc.proto) over NNG REQ. One socket, dialled to every URL in the background
// and re-dialled for ever; each call goes to one that is connected.
//
// Threads: any, also from a done callback. Callbacks run on NNG's threads and must not block.
#ifndef TOB_RPC_CLIENT_H
#define TOB_RPC_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_RPC_MESSAGE_BYTES 256 // of a failure's text; longer ones are cut

typedef struct tob_rpc_client tob_rpc_client;

typedef struct tob_rpc_client_options {
    const char *urls;          // comma-separated, "tcp://127.0.0.1:8010"; copied
    unsigned max_in_flight;    // calls at once; 0: 16
    bool compress;             // zlib for bodies over 256 bytes when that makes them smaller
    const char *bearer;        // token for `authorization`, or NULL; copied
    uint64_t reconnect_max_ms; // 0: 1 s
} tob_rpc_client_options;

// How a call ended; borrowed for the callback.
typedef struct tob_rpc_result {
    tob_error error;         // TOB_OK, what the server said, TOB_DEADLINE, TOB_CANCELLED on _stop
    const char *message;     // the server's text, "" if none
    uint32_t retry_after_ms; // 0: not said
    const uint8_t *body;     // TOB_OK: the serialized response message, decoded
    size_t body_len;
} tob_rpc_result;

typedef void (*tob_rpc_done)(void *user, const tob_rpc_result *result);

// Errors: TOB_INVALID for a URL, TOB_NO_MEMORY. Does not wait for a connection.
TOB_MUST_USE tob_error tob_rpc_client_new(const tob_rpc_client_options *options, tob_rpc_client **ret);

// tob_rpc_client_stop ends all calls in flight (their callbacks get TOB_CANCELLED) and waits for the
// callbacks.
void tob_rpc_client_stop(tob_rpc_client *client);
void tob_rpc_client_free(tob_rpc_client *client);

// tob_rpc_client_call sends a serialized request message (borrowed for the call; it is copied) and returns.
//   method       "/tobogganing.v1.Ingest/Submit"
//   timeout_ms   for the whole call, from now: also while nothing is connected
//   done         called exactly once if and only if TOB_OK is returned, possibly before the return
// Errors: TOB_BUSY when max_in_flight calls are under way; TOB_TOO_LARGE, TOB_NO_MEMORY, TOB_CANCELLED.
TOB_MUST_USE tob_error tob_rpc_client_call(tob_rpc_client *client, const char *method, const void *body,
                                           size_t body_len, uint32_t timeout_ms, tob_rpc_done done,
                                           void *user);

// tob_rpc_client_set_bearer changes the token for the calls to come; copied. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_client_set_bearer(tob_rpc_client *client, const char *bearer);

// A failure as tob_rpc_client_call_wait reports it.
typedef struct tob_rpc_failure {
    char message[TOB_RPC_MESSAGE_BYTES];
    uint32_t retry_after_ms;
} tob_rpc_failure;

// tob_rpc_client_call_wait packs, calls, waits and unpacks: for tools and slow paths. Not from a callback.
//   ret       the response; owned by the caller, free with protobuf_c_message_free_unpacked(ret, NULL)
//   failure   filled on an error; may be NULL
TOB_MUST_USE tob_error tob_rpc_client_call_wait(tob_rpc_client *client, const char *method,
                                                const ProtobufCMessage *request,
                                                const ProtobufCMessageDescriptor *response_type,
                                                uint32_t timeout_ms, ProtobufCMessage **ret,
                                                tob_rpc_failure *failure);

// How many connections are up now.
unsigned tob_rpc_client_connections(const tob_rpc_client *client);

#endif
