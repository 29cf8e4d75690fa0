// tob_batcher: the reports that arrive at one worker together travel to ingestd in one batch. A batch is sent at
// the end of the loop's turn; while TOB_BATCHER_IN_FLIGHT are under way further reports gather, up to the caps.
//
// Threads: the worker's, except _new and _free.
#ifndef TOB_GATEWAY_BATCHER_H
#define TOB_GATEWAY_BATCHER_H

#include <h2o.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/caller.h"
#include "http/server.h"
#include "rpc/client.h"
#include "util/error.h"
#include "wire/metrics.h"

#define TOB_BATCHER_IN_FLIGHT  2
#define TOB_BATCHER_MAX_SERIES 1000       // in one batch
#define TOB_BATCHER_MAX_BYTES  (2u << 20) // of memory for one batch's samples

typedef struct tob_batcher tob_batcher;

// tob_batcher_new
//   worker     whose thread calls all the rest but _free
//   rpc        outlives the batcher
//   agent_id   borrowed; outlives the batcher. Each batch of a batcher's has its own boot id and numbers, since
//              several are under way at once and numbers must arrive in order.
// Errors: TOB_INVALID for the id, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_batcher_new(tob_http_worker *worker, tob_rpc_client *rpc, const char *agent_id,
                                       uint64_t request_timeout_ms, tob_batcher **ret);

// tob_batcher_add_client takes a request over: it is answered once ingestd has. Everything is copied. The batch says which
// address each report came from.
// Errors: TOB_BUSY when too many wait: the caller answers; TOB_NO_MEMORY, likewise.
TOB_MUST_USE tob_error tob_batcher_add_client(tob_batcher *batcher, h2o_req_t *req, const char *client_id,
                                              const tob_caller *caller, bool headless,
                                              const tob_client_sample *sample);
TOB_MUST_USE tob_error tob_batcher_add_headend(tob_batcher *batcher, h2o_req_t *req, const char *headend_id,
                                               const char *name, const tob_caller *caller,
                                               const tob_headend_sample *sample);

// tob_batcher_stop leaves the loop; at the end of the worker, when all its requests are gone.
void tob_batcher_stop(tob_batcher *batcher);

// tob_batcher_free: after tob_rpc_client_stop, since calls under way point to it.
void tob_batcher_free(tob_batcher *batcher);

#endif
