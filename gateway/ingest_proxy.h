// tob_ingest_proxy: POST /tobogganing.v1.Ingest/Submit with a serialized SubmitRequest goes to ingestd as it is;
// the answer is the serialized SubmitResponse.
//
// Threads: the worker's, except _new and _free.
#ifndef TOB_GATEWAY_INGEST_PROXY_H
#define TOB_GATEWAY_INGEST_PROXY_H

#include "http/server.h"
#include "rpc/client.h"
#include "util/error.h"

#define TOB_INGEST_PROXY_PATH      "/tobogganing.v1.Ingest/Submit"
#define TOB_INGEST_PROXY_IN_FLIGHT 16 // for each worker; more are answered 503

typedef struct tob_ingest_proxy tob_ingest_proxy;

// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_ingest_proxy_new(tob_http_worker *worker, tob_rpc_client *rpc,
                                            uint64_t request_timeout_ms, tob_ingest_proxy **ret);

// tob_ingest_proxy_free: after tob_rpc_client_stop.
void tob_ingest_proxy_free(tob_ingest_proxy *proxy);

// Handler; the worker's state is a tob_gateway_worker.
void tob_ingest_proxy_submit(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
