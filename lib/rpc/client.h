// tob_rpc_client calls services (rpc.proto) on one of several servers that can all do the work: it keeps a connection
// (rpc/connection.h) to every address behind its URLs, names resolved again every few seconds (rpc/endpoints.h).
//
// Which server: a connected one, the one with the fewest calls of ours under way; of equals the one that answered last. So
// a caller with one call at a time stays with one server, and one with many spreads them.
//
// What happens when a server fails a call, until the call's deadline:
//   the connection breaks      The attempt ends at once, and another server is tried, or this one when it is back.
//   UNAVAILABLE, RESOURCE_EXHAUSTED
//                              Another server that has not refused this call is tried. When all that are connected have,
//                              the last answer is the result; but while a server is away that was there a moment ago
//                              (being restarted, say), and the answer was UNAVAILABLE, it is waited for, up to
//                              TOB_RPC_REFUSED_WAIT_MS.
//   no answer                  After half of the call's time, at most TOB_RPC_SILENT_MS, another server is asked as well,
//                              and the first to answer is believed. The silent one gets no new calls for
//                              TOB_RPC_SUSPECT_MS unless it answers or there is no other.
//   none is connected          The call waits for one.
// A call may so be carried out more than once. Clients that are not `repeatable` send a call once: it may only move to
// another server while it has certainly not been sent, and a broken connection is TOB_UNAVAILABLE with a text that it may
// have been carried out.
//
// Threads: any, also from a done callback; _new, _stop and _free from one. Callbacks run on NNG's threads or the client's
// own and must not block.
#ifndef TOB_RPC_CLIENT_H
#define TOB_RPC_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/connection.h"
#include "util/error.h"
#include "util/text.h"

#define TOB_RPC_SILENT_MS       2000
#define TOB_RPC_MAX_ASKED       2 // servers that one call waits for at once
#define TOB_RPC_SUSPECT_MS      5000
#define TOB_RPC_REFUSED_WAIT_MS 2000
#define TOB_RPC_LATELY_MS       30000 // a server that was connected within this is "there a moment ago"

typedef struct tob_rpc_client tob_rpc_client;

typedef struct tob_rpc_client_options {
    const char *urls;          // comma-separated, "tcp://127.0.0.1:8010"; copied
    unsigned max_in_flight;    // calls at once; 0: 16
    bool compress;             // zlib for bodies over 256 bytes when that makes them smaller
    bool repeatable;           // the calls may be carried out more than once
    const char *bearer;        // token for `authorization`, or NULL; copied
    uint64_t reconnect_max_ms; // 0: 1 s
} tob_rpc_client_options;

// Errors: TOB_INVALID for a URL, TOB_TOO_LARGE for too many, TOB_NO_MEMORY. Does not wait for a connection.
TOB_MUST_USE tob_error tob_rpc_client_new(const tob_rpc_client_options *options, tob_rpc_client **ret);

// tob_rpc_client_stop ends all calls in flight (their callbacks get TOB_CANCELLED) and waits for the
// callbacks. Not from a callback. Idempotent.
void tob_rpc_client_stop(tob_rpc_client *client);
void tob_rpc_client_free(tob_rpc_client *client); // NULL is fine; stops

// tob_rpc_client_call sends a serialized request message (borrowed for the call; it is copied) and returns.
//   method       "/tobogganing.v1.Ingest/Submit"
//   timeout_ms   for the whole call, from now: also while nothing is connected
//   done         called exactly once if and only if TOB_OK is returned, possibly before the return
// Errors: TOB_BUSY when max_in_flight calls are under way; TOB_TOO_LARGE, TOB_NO_MEMORY, TOB_CANCELLED.
TOB_MUST_USE tob_error tob_rpc_client_call(tob_rpc_client *client, const char *method, const void *body,
                                           size_t body_len, uint32_t timeout_ms, tob_rpc_done done,
                                           void *user);

// A call that is made for somebody else: his credential goes with it, and ours vouches for his address.
typedef struct tob_rpc_caller {
    const char *bearer;  // his token, or NULL; borrowed
    const char *address; // his IP address; borrowed
    bool repeatable;     // the call may be carried out more than once
    uint64_t server;     // tob_rpc_server_state.id: only this one, once, as tob_rpc_client_call_to does; 0: any
} tob_rpc_caller;

// tob_rpc_client_call_for is tob_rpc_client_call for a caller (rpc.proto: authorization, forwarded_for, forwarded_by).
TOB_MUST_USE tob_error tob_rpc_client_call_for(tob_rpc_client *client, const tob_rpc_caller *caller,
                                               const char *method, const void *body, size_t body_len,
                                               uint32_t timeout_ms, tob_rpc_done done, void *user);

// tob_rpc_client_call_to sends a call to one server, once: there is no other attempt. It ends with TOB_UNAVAILABLE when
// the server is not connected or not known any more.
//   server   tob_rpc_server.id
TOB_MUST_USE tob_error tob_rpc_client_call_to(tob_rpc_client *client, uint64_t server, const char *method,
                                              const void *body, size_t body_len, uint32_t timeout_ms,
                                              tob_rpc_done done, void *user);

// tob_rpc_client_set_bearer changes the token for the calls to come; copied. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_client_set_bearer(tob_rpc_client *client, const char *bearer);

// tob_rpc_client_call_wait packs, calls, waits and unpacks: for tools and slow paths. Not from a callback.
//   ret       the response; owned by the caller, free with protobuf_c_message_free_unpacked(ret, NULL)
//   failure   how it ended, also without an error; may be NULL
TOB_MUST_USE tob_error tob_rpc_client_call_wait(tob_rpc_client *client, const char *method,
                                                const ProtobufCMessage *request,
                                                const ProtobufCMessageDescriptor *response_type,
                                                uint32_t timeout_ms, ProtobufCMessage **ret,
                                                tob_rpc_failure *failure);

// tob_rpc_client_call_to_wait: the same for tob_rpc_client_call_to.
TOB_MUST_USE tob_error tob_rpc_client_call_to_wait(tob_rpc_client *client, uint64_t server,
                                                   const char *method, const ProtobufCMessage *request,
                                                   const ProtobufCMessageDescriptor *response_type,
                                                   uint32_t timeout_ms, ProtobufCMessage **ret,
                                                   tob_rpc_failure *failure);

// One of the servers behind the URLs, as it is now.
typedef struct tob_rpc_server_state {
    uint64_t id; // tob_rpc_server_id of the address
    char address[TOB_ADDRESS_BYTES];
    bool connected;
    uint64_t generation; // grows with every connection
} tob_rpc_server_state;

// tob_rpc_client_servers fills in up to `max`, in the order of the URLs; returns how many there are.
size_t tob_rpc_client_servers(tob_rpc_client *client, tob_rpc_server_state *ret, size_t max);

// How many connections are up now.
unsigned tob_rpc_client_connections(tob_rpc_client *client);

#endif
