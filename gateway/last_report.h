// GET /api/v1/clients/{client_id}/metrics and …/headends/{headend_id}/metrics: what a source reported last, with the credential
// that it reports with. Each ingestd knows what was reported to it: all that are connected are asked, one after the other, and
// the latest check-in is the answer.
//
// Threads: the request's.
#ifndef TOB_GATEWAY_LAST_REPORT_H
#define TOB_GATEWAY_LAST_REPORT_H

#include "http/server.h"

// Handlers; the worker's state is a tob_gateway_worker.
void tob_last_report_client(h2o_req_t *req, const tob_http_match *match, void *user);
void tob_last_report_headend(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
