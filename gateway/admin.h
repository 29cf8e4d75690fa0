// The HTTP side of the services Registry, Certificates and SigningKeys (their .proto files): one table says which path is which
// call. JSON in and out, or what the route's content_type says. The gateway knows no admin token: the caller's own goes along
// with the call, and ingestd judges it.
//
// Threads: the request's; the table is constant.
#ifndef TOB_GATEWAY_ADMIN_H
#define TOB_GATEWAY_ADMIN_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/server.h"

#define TOB_ADMIN_KEPT           4    // public answers that are kept
#define TOB_ADMIN_KEEP_MS        1000 // for so long
#define TOB_ADMIN_MAX_AGE_HEADER "max-age=300"

typedef enum tob_admin_from {
    TOB_ADMIN_FROM_PATH, // the pattern's parameter: an id, or a serial
    TOB_ADMIN_FROM_QUERY,
    TOB_ADMIN_FROM_BODY,
    TOB_ADMIN_ALWAYS, // no value of the request: true, or an empty message
} tob_admin_from;

// Where a field of the call's request message comes from.
typedef struct tob_admin_field {
    tob_admin_from from;
    const char *name; // in the request; NULL ends a list
    const char *to;   // in the message: "certificate.csr"; NULL: the same name
    bool required;
    uint64_t fallback; // of a number that is not given
    const char *const
        *members; // a text may be an object with one of these instead, the first counts; NULL ends them
} tob_admin_field;

typedef struct tob_admin_route {
    const char *method;
    const char *pattern;
    const ProtobufCServiceDescriptor *service;
    const char *call;              // of the service
    const tob_admin_field *fields; // NULL: none
    // The answer as JSON; NULL: the whole message, in the style TIMES. `id` is the path's, "" if it has none. Returns NULL
    // without memory.
    json_t *(*render)(const ProtobufCMessage *response, const char *id);
    // Instead: an answer that is not made of JSON, and may be had without a credential.
    h2o_iovec_t (*raw)(const ProtobufCMessage *response);
    const char *content_type; // of `raw`
    unsigned kept;            // of `raw`: its number, below TOB_ADMIN_KEPT
    bool repeatable;          // carried out twice it is the same
} tob_admin_route;

extern const tob_admin_route tob_admin_routes[];
extern const size_t tob_admin_route_count;

// Has the route a body, and can it do without?
bool tob_admin_has_body(const tob_admin_route *route);
bool tob_admin_needs_body(const tob_admin_route *route);

typedef struct tob_admin tob_admin;

// What a worker keeps for its admin routes. Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_admin_new(tob_admin **ret);
void tob_admin_free(tob_admin *admin);

// Handler; the worker's state is a tob_gateway_worker, `user` the route.
void tob_admin_handle(h2o_req_t *req, const tob_http_match *match, void *user);

// ---- between the files of this

// tob_admin_request_pack makes the serialized request message of the route's call.
//   body   JSON, or empty
//   ret    lives as long as the request
// False: the request has been answered 400 or 503.
bool tob_admin_request_pack(h2o_req_t *req, const tob_http_match *match, const tob_admin_route *route,
                            h2o_iovec_t body, h2o_iovec_t *ret);

// The descriptor of the route's call.
const ProtobufCMethodDescriptor *tob_admin_call(const tob_admin_route *route);

#endif
