// tob_rpc_connection calls the services (rpc.proto) of one server over NNG REQ: one socket, dialled in the background and
// re-dialled for ever. A call is sent once: what happens after a failure is for the caller to say (rpc/client.h tries
// other servers).
//
// Threads: any, also from a done callback; _new, _stop and _free from one. Callbacks run on NNG's threads and must not
// block; none is made from within a call of this interface.
#ifndef TOB_RPC_CONNECTION_H
#define TOB_RPC_CONNECTION_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_RPC_MESSAGE_BYTES 256 // of a failure's text; longer ones are cut

typedef struct tob_rpc_connection tob_rpc_connection;

// tob_rpc_connected_fn: the connection is up, or gone. Must neither block nor stop the connection.
typedef void (*tob_rpc_connected_fn)(void *user, bool connected);

typedef struct tob_rpc_connection_options {
    const char *url;                   // one, "tcp://192.0.2.1:8010"; copied
    unsigned max_in_flight;            // calls at once; 0: 16
    bool compress;                     // zlib for bodies over 256 bytes when that makes them smaller
    const char *bearer;                // token for `authorization`, or NULL; copied
    uint64_t reconnect_max_ms;         // 0: 1 s
    tob_rpc_connected_fn on_connected; // may be NULL
    void *user;                        // of on_connected
} tob_rpc_connection_options;

// How a call ended; borrowed for the callback.
typedef struct tob_rpc_result {
    // TOB_OK, what the server said, TOB_DEADLINE, TOB_UNAVAILABLE when the connection broke, TOB_CANCELLED on _stop
    tob_error error;
    const char *message;     // the server's text, "" if none; never NULL
    uint32_t retry_after_ms; // 0: not said
    const uint8_t *body;     // TOB_OK: the serialized response message, decoded
    size_t body_len;
    bool answered;   // `error` is what the server said
    bool sent;       // the server may have got the request; false: it certainly has not
    uint64_t server; // tob_rpc_server_id of the address that answered or was tried last; 0: none was
} tob_rpc_result;

typedef void (*tob_rpc_done)(void *user, const tob_rpc_result *result);

// tob_rpc_server_id: a number for an address as text ("tcp://192.0.2.1:8010"), the same in every process. Never 0.
uint64_t tob_rpc_server_id(const char *address);

// Errors: TOB_INVALID for a URL, TOB_NO_MEMORY. Does not wait for a connection.
TOB_MUST_USE tob_error tob_rpc_connection_new(const tob_rpc_connection_options *options,
                                              tob_rpc_connection **ret);

// tob_rpc_connection_stop ends all calls in flight (their callbacks get TOB_CANCELLED), waits for the callbacks, and
// closes the socket: on_connected is not called any more. Not from a callback. Takes up to 1.5 s. Idempotent.
void tob_rpc_connection_stop(tob_rpc_connection *connection);
void tob_rpc_connection_free(tob_rpc_connection *connection); // NULL is fine; stops

// tob_rpc_connection_call sends a serialized request message (borrowed for the call; it is copied) and returns. While
// nothing is connected it waits for a connection. When the connection breaks before the answer, the call ends at once
// with TOB_UNAVAILABLE: it is not sent again.
//   method       "/tobogganing.v1.Ingest/Submit"
//   timeout_ms   for the whole call, from now: also while nothing is connected
//   done         called exactly once if and only if TOB_OK is returned, possibly before the return
// Errors: TOB_BUSY when max_in_flight calls are under way; TOB_TOO_LARGE, TOB_NO_MEMORY, TOB_CANCELLED.
TOB_MUST_USE tob_error tob_rpc_connection_call(tob_rpc_connection *connection, const char *method,
                                               const void *body, size_t body_len, uint32_t timeout_ms,
                                               tob_rpc_done done, void *user);

// tob_rpc_connection_set_bearer changes the token for the calls to come; copied. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_connection_set_bearer(tob_rpc_connection *connection, const char *bearer);

// Whether the connection is up now. Lock-free.
bool tob_rpc_connection_connected(const tob_rpc_connection *connection);

// How often it has been up: another number than before means that another process may be at the other end. Lock-free.
uint64_t tob_rpc_connection_generation(const tob_rpc_connection *connection);

// The URL it was made with; borrowed.
const char *tob_rpc_connection_url(const tob_rpc_connection *connection);

// A failure as the _call_wait functions report it.
typedef struct tob_rpc_failure {
    char message[TOB_RPC_MESSAGE_BYTES];
    uint32_t retry_after_ms;
    bool answered; // as in tob_rpc_result, as the next two
    bool sent;
    uint64_t server;
} tob_rpc_failure;

// tob_rpc_connection_call_wait packs, calls, waits and unpacks: for tools and slow paths. Not from a callback.
//   ret       the response; owned by the caller, free with protobuf_c_message_free_unpacked(ret, NULL)
//   failure   how it ended, also without an error; may be NULL
TOB_MUST_USE tob_error tob_rpc_connection_call_wait(tob_rpc_connection *connection, const char *method,
                                                    const ProtobufCMessage *request,
                                                    const ProtobufCMessageDescriptor *response_type,
                                                    uint32_t timeout_ms, ProtobufCMessage **ret,
                                                    tob_rpc_failure *failure);

#endif
