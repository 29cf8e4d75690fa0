// POST /tobogganing.v1.Ingest/Submit: a serialized SubmitRequest goes to ingestd as it is; the answer is the serialized
// SubmitResponse. Addresses in such a body are never believed: the call goes without our token.
//
// Threads: the request's.
#ifndef TOB_GATEWAY_INGEST_PROXY_H
#define TOB_GATEWAY_INGEST_PROXY_H

#include "http/server.h"

#define TOB_INGEST_PROXY_PATH      "/tobogganing.v1.Ingest/Submit"
#define TOB_INGEST_PROXY_IN_FLIGHT 16 // for each worker; more are answered 503

// Handler; the worker's state is a tob_gateway_worker.
void tob_ingest_proxy_submit(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
