// What rpc/client.c needs of a connection beyond connection.h: one attempt of a call that may have several. Internal to
// lib/rpc.
#ifndef TOB_RPC_ATTEMPT_H
#define TOB_RPC_ATTEMPT_H

#include "rpc/connection.h"
#include "rpc/request.h"

// tob_rpc_connection_send sends a request, once.
//   request       held until it is packed
//   deadline_ms   of the call, monotonic
//   wait          for a connection, when there is none. Else the attempt ends with TOB_UNAVAILABLE, not sent, when the
//                 connection goes before the request does.
//   done          as for tob_rpc_connection_call
// Errors: TOB_UNAVAILABLE not connected and not `wait`; else as tob_rpc_connection_call.
TOB_MUST_USE tob_error tob_rpc_connection_send(tob_rpc_connection *connection, const tob_rpc_request *request,
                                               uint64_t deadline_ms, bool wait, tob_rpc_done done,
                                               void *user);

// tob_rpc_connection_abort ends all calls in flight; their callbacks get TOB_CANCELLED soon. Takes no further ones.
void tob_rpc_connection_abort(tob_rpc_connection *connection);

#endif
