// Routes: patterns of paths, and finding the one that a request means.
//
// Threads: changed by one before requests come, then read by any.
#ifndef TOB_HTTP_ROUTER_H
#define TOB_HTTP_ROUTER_H

#include "http/server.h"

struct tob_http_route {
    const char *method;
    const char *pattern;
    tob_http_handler handler;
    void *user;
    bool body_optional;
};

#define TOB_HTTP_ALLOW_BYTES 64

typedef struct tob_http_router {
    tob_http_route routes[TOB_HTTP_MAX_ROUTES];
    size_t count;
} tob_http_router;

// Errors: TOB_INVALID, TOB_TOO_LARGE.
TOB_MUST_USE tob_error tob_http_router_add(tob_http_router *router, const tob_http_route *route);

// tob_http_router_find looks a decoded path up.
//   ret_params   set for a route that was found; point into `path`
//   ret_allow    when the path exists with other methods: those, "GET, HEAD", else ""
// Returns NULL when there is no route for method and path.
const tob_http_route *tob_http_router_find(const tob_http_router *router, const char *method,
                                           h2o_iovec_t path, h2o_iovec_t ret_params[TOB_HTTP_MAX_PARAMS],
                                           char ret_allow[TOB_HTTP_ALLOW_BYTES]);

// tob_http_method is the static text of a method that somebody may serve, else "OTHER".
const char *tob_http_method(h2o_iovec_t method);

#endif
