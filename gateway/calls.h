// tob_calls: HTTP requests that each wait for a call to ingestd of their own. There is a fixed number of places, so that one
// kind of requests can't take all that ingestd and the RPC client have.
//
// Threads: the worker's, except _new and _free.
#ifndef TOB_GATEWAY_CALLS_H
#define TOB_GATEWAY_CALLS_H

#include <stdint.h>

#include "http/server.h"
#include "rpc/client.h"
#include "util/error.h"

typedef struct tob_calls tob_calls;

// tob_call_done: the call has ended, and the request is still there: it is answered now, or starts another call. On the
// worker's thread; `result` is borrowed for the time of the call.
typedef void (*tob_call_done)(h2o_req_t *req, const tob_rpc_result *result, void *user);

//   max   calls at once
//   rpc   outlives the calls
// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_calls_new(tob_http_worker *worker, tob_rpc_client *rpc, unsigned max,
                                     tob_calls **ret);

// tob_calls_free: after tob_rpc_client_stop.
void tob_calls_free(tob_calls *calls);

// tob_calls_full: tob_calls_start would answer TOB_BUSY now. To be asked before work that would be for nothing.
bool tob_calls_full(const tob_calls *calls);

// tob_calls_start calls ingestd for a request; all but the request is copied or, `user`, not looked into.
// Errors: TOB_BUSY when all places are taken; those of tob_rpc_client_call_for. The request is not answered then.
TOB_MUST_USE tob_error tob_calls_start(tob_calls *calls, h2o_req_t *req, const tob_rpc_caller *caller,
                                       const char *method, const void *body, size_t n, uint32_t timeout_ms,
                                       tob_call_done done, void *user);

// tob_calls_send_failure answers for a call that failed, or that could not be started.
//   message   what ingestd said, or NULL
void tob_calls_send_failure(h2o_req_t *req, tob_error error, const char *message, uint32_t retry_after_ms);

#endif
