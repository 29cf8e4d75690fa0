// tob_rpc_server answers calls (rpc.proto) that arrive over NNG REP, dispatched by the descriptors that
// protoc-c makes of the services.
//
// Threads: handlers run on NNG's threads and must not block; a call is answered once, from any thread.
#ifndef TOB_RPC_SERVER_H
#define TOB_RPC_SERVER_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "util/error.h"
#include "util/secret.h"
#include "wire/arena.h"

#define TOB_RPC_DEFAULT_TIMEOUT_MS 10000
#define TOB_RPC_MAX_TIMEOUT_MS     600000
#define TOB_RPC_MAX_METHOD_BYTES   128
#define TOB_RPC_MAX_BEARER_BYTES   (TOB_SECRET_MAX_BYTES + 7) // "Bearer TOKEN"

typedef struct tob_rpc_server tob_rpc_server;
typedef struct tob_rpc_call tob_rpc_call;

typedef struct tob_rpc_server_options {
    const char *url;           // "tcp://127.0.0.1:8010"; port 0 picks one
    uint64_t contexts;         // calls that are worked on at once; more wait in their connections
    uint64_t max_connections;  // further ones are closed at once
    size_t max_message_bytes;  // as received; a longer one closes its connection
    size_t max_inflated_bytes; // a body once decoded
    size_t max_arena_bytes;    // memory of one unpacked request
    tob_arena_budget *budget;  // of all of them together, or NULL; borrowed
    tob_secrets
        *forwarder_secrets; // whose word for a caller's address is believed, or NULL: nobody's; borrowed
} tob_rpc_server_options;

// What a caller is told who is over a limit of this server's, with TOB_BUSY.
#define TOB_RPC_RETRY_MS 1000

// A handler gets the unpacked request, borrowed until the call is answered. It answers with tob_rpc_reply or
// tob_rpc_fail, at once or later.
typedef void (*tob_rpc_handler)(tob_rpc_call *call, const ProtobufCMessage *request, void *user);

// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_server_new(const tob_rpc_server_options *options, tob_rpc_server **ret);

// tob_rpc_server_add serves one method of a service, e.g. (&tobogganing__v1__ingest__descriptor, "Submit",
// …). Before _start. Errors: TOB_NOT_FOUND when the service has no such method; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_rpc_server_add(tob_rpc_server *server, const ProtobufCServiceDescriptor *service,
                                          const char *method, tob_rpc_handler handler, void *user);

// Errors: TOB_UNAVAILABLE when the address is taken, TOB_INVALID for a bad URL.
TOB_MUST_USE tob_error tob_rpc_server_start(tob_rpc_server *server);

// tob_rpc_server_port: the TCP port that was bound.
uint16_t tob_rpc_server_port(const tob_rpc_server *server);

// tob_rpc_server_stop takes no further calls and waits until those taken are answered, and sent to who reads his answers.
void tob_rpc_server_stop(tob_rpc_server *server);
void tob_rpc_server_free(tob_rpc_server *server);

// Calls that were answered TOB_BUSY, since the start. Lock-free.
uint64_t tob_rpc_server_refused(const tob_rpc_server *server);

// Memory that lives until the call is answered.
tob_arena *tob_rpc_call_arena(tob_rpc_call *call);

// The token of "Bearer TOKEN", borrowed, or NULL.
const char *tob_rpc_call_bearer(const tob_rpc_call *call);

// tob_rpc_call_peer: where the call came from: an IP address without port, "" if that can't be told. A gateway's word for it
// (forwarded_for) is believed when its forwarded_by is one of the server's forwarder_secrets, if it is an IP address at all.
// Found out when first asked for. Borrowed.
const char *tob_rpc_call_peer(tob_rpc_call *call);

// When the caller stops waiting, monotonic milliseconds.
uint64_t tob_rpc_call_deadline_ms(const tob_rpc_call *call);

// tob_rpc_reply packs and sends; the response is borrowed for the call. `call` and its arena are gone afterwards.
void tob_rpc_reply(tob_rpc_call *call, const ProtobufCMessage *response);

// tob_rpc_fail answers with an error and a message for a person; likewise.
//   retry_after_ms   0 for none; TOB_BUSY then says TOB_RPC_RETRY_MS
void tob_rpc_fail(tob_rpc_call *call, tob_error error, uint32_t retry_after_ms, const char *format, ...)
    TOB_PRINTF(4, 5);

#endif
