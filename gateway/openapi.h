// GET /openapi.json: the description of all our endpoints (OpenAPI 3.1), gateway/openapi.json in the source, built in.
//
// Threads: any.
#ifndef TOB_GATEWAY_OPENAPI_H
#define TOB_GATEWAY_OPENAPI_H

#include <stddef.h>

#include "http/server.h"

extern const char tob_openapi_document[]; // not ended by a NUL
extern const size_t tob_openapi_document_bytes;

// Handler.
void tob_openapi_send(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
