// The body of a request as its handler wants it: of the right type, decoded, within limits.
//
// Threads: the request's.
#ifndef TOB_GATEWAY_BODY_H
#define TOB_GATEWAY_BODY_H

#include <h2o.h>
#include <stdbool.h>

#include "util/buffer.h"

typedef struct tob_body_rules {
    const char *content_type;  // "application/json"; a request without Content-Type is taken as this
    size_t max_bytes;          // as sent
    size_t max_inflated_bytes; // once decoded
    bool may_be_empty;         // then ret->len is 0
} tob_body_rules;

// tob_body_read finds the body; gzip is decoded into `scratch`, which is cleared first.
//   ret   borrowed from the request or from `scratch`
// False: the request has been answered 400, 413 or 415.
bool tob_body_read(h2o_req_t *req, const tob_body_rules *rules, tob_buffer *scratch, h2o_iovec_t *ret);

// tob_media_type_is compares the media type of a Content-Type, without its parameters (RFC 9110 §8.3.1).
bool tob_media_type_is(h2o_iovec_t content_type, const char *type);

#endif
