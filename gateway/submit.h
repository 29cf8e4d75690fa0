// The two documented endpoints: POST /api/v1/clients/{client_id}/metrics and …/headends/{headend_id}/metrics.
//
// Threads: the request's.
#ifndef TOB_GATEWAY_SUBMIT_H
#define TOB_GATEWAY_SUBMIT_H

#include "http/server.h"

// Handlers; the worker's state is a tob_gateway_worker.
void tob_submit_client(h2o_req_t *req, const tob_http_match *match, void *user);
void tob_submit_headend(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
