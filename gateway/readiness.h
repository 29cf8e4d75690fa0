// tob_readiness: whether the gateway can do its work, which is whether any ingestd can. All that are connected are asked, in
// the background, so that GET /readyz answers at once.
//
// Threads: any.
#ifndef TOB_GATEWAY_READINESS_H
#define TOB_GATEWAY_READINESS_H

#include <stdbool.h>

#include "http/server.h"
#include "rpc/client.h"
#include "util/error.h"

#define TOB_READINESS_STALE_MS 5000 // an older answer says nothing

typedef struct tob_readiness tob_readiness;

// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_readiness_new(tob_rpc_client *rpc, tob_readiness **ret);

// tob_readiness_stop waits for a check that is under way, two seconds at most. No check may start any more.
void tob_readiness_stop(tob_readiness *readiness);

// tob_readiness_free: after tob_rpc_client_stop.
void tob_readiness_free(tob_readiness *readiness);

// tob_readiness_check starts a check unless one is under way. Never blocks.
void tob_readiness_check(tob_readiness *readiness);

// tob_readiness_get: false with the reason in `ret_reason`, TOB_RPC_MESSAGE_BYTES long.
bool tob_readiness_get(tob_readiness *readiness, char *ret_reason);

// Handlers: GET /healthz, and GET /readyz with the readiness as its user.
void tob_health_live(h2o_req_t *req, const tob_http_match *match, void *user);
void tob_health_ready(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
