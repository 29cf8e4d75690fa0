// Who a request comes from, and whom it is about: the token of its Authorization header, its address, the id in its path.
//
// Threads: the request's.
#ifndef TOB_GATEWAY_CALLER_H
#define TOB_GATEWAY_CALLER_H

#include <h2o.h>
#include <stdbool.h>

#include "http/server.h"
#include "rpc/process.h"
#include "util/text.h"
#include "wire/batch.h"

typedef struct tob_caller {
    char address[TOB_HTTP_PEER_BYTES];
    char bearer[TOB_MAX_CREDENTIAL_BYTES + 1];
} tob_caller;

// tob_caller_read. False: there is no token of the form that RFC 6750 §2.1 knows; the request has been answered 401.
//   refused   counts that; an attempt that is passed on is counted where it is judged
bool tob_caller_read(h2o_req_t *req, tob_counter *refused, tob_caller *ret);

// tob_path_id_read takes the id out of the path, the pattern's first parameter. False: it can't be one; the request has been
// answered 400.
//   field   what it is called in the answer
bool tob_path_id_read(h2o_req_t *req, const tob_http_match *match, const char *field,
                      char ret[TOB_MAX_ID_BYTES + 1]);

#endif
