#include "gateway/openapi.h"

void tob_openapi_send(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("max-age=300"));
    tob_http_send(req, 200, "application/json", tob_openapi_document, tob_openapi_document_bytes);
}
