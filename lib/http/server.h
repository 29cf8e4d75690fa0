// tob_http_server is h2o with our limits: worker loops, listeners, routes, bearer tokens. HTTP/1.1 only (see
// http1.upgrade_to_http2 in h2o 2.2: HTTP/2 has unfixed denial-of-service holes there).
//
// Threads: routes and options before _start. A handler, and every use of its h2o_req_t, runs on the thread of
//          the worker that has the connection. tob_http_post and tob_http_post_task from any thread.
#ifndef TOB_HTTP_SERVER_H
#define TOB_HTTP_SERVER_H

#include <h2o.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_HTTP_MAX_PARAMS              4
#define TOB_HTTP_MAX_ROUTES              64
#define TOB_HTTP_MAX_PATH_BYTES          1024
#define TOB_HTTP_MAX_WORKERS             256

#define TOB_HTTP_DEFAULT_CONNECTIONS     10000
#define TOB_HTTP_DEFAULT_BODY_BYTES      (1u << 20)
#define TOB_HTTP_DEFAULT_BUFFERED_BYTES  (256u << 20)
#define TOB_HTTP_DEFAULT_IDLE_TIMEOUT_MS 60000

typedef struct tob_http_server tob_http_server;
typedef struct tob_http_worker tob_http_worker;

typedef struct tob_http_route tob_http_route;

// A request and the route that it matched; lives as long as the request.
typedef struct tob_http_match {
    const tob_http_route *route;
    tob_http_worker *worker;
    h2o_iovec_t params[TOB_HTTP_MAX_PARAMS]; // the {…} of the pattern in order, percent-decoded
} tob_http_match;

// A handler answers with the functions below or with h2o's own, at once or later; every request is answered.
// The body is req->entity. A POST, PUT or PATCH without a body's length was answered 411 before, unless its route can do
// without a body: then req->entity.len is 0.
typedef void (*tob_http_handler)(h2o_req_t *req, const tob_http_match *match, void *user);

// Called on the worker's thread when a response's status is sent, also for 404 and 405.
//   method    static text; "OTHER" for one that nobody serves
//   pattern   the route's, the same pointer each time, or "unmatched": never the raw path
typedef void (*tob_http_on_response)(void *user, const char *method, const char *pattern, int status);

typedef struct tob_http_server_options {
    const char *listen;       // "HOST:PORT", "[::1]:PORT"; port 0 picks one; copied
    uint64_t workers;         // loops, each with a thread; 0: one for each CPU
    uint64_t max_connections; // over all workers; further ones wait in the kernel's queue; 0: 10 000
    size_t max_body_bytes;    // 413 over it; 0: 1 MiB
    // Memory of a worker for requests that are still arriving. Looked after ten times a second: when it is more,
    // the oldest connections with much of it are closed. 0: 256 MiB.
    size_t max_buffered_bytes;
    uint64_t idle_timeout_ms;         // a connection's idle time plus one request's headers and body; 0: 60 s
    tob_http_on_response on_response; // may be NULL
    // Run on each worker's thread before it accepts, and after its last connection; may be NULL. What
    // on_worker_start returns is tob_http_worker_state.
    void *(*on_worker_start)(void *user, tob_http_worker *worker);
    void (*on_worker_stop)(void *user, tob_http_worker *worker, void *state);
    void *user;
} tob_http_server_options;

// Errors: TOB_INVALID over TOB_HTTP_MAX_WORKERS, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_http_server_new(const tob_http_server_options *options, tob_http_server **ret);

// tob_http_server_route: a pattern is a path whose {name} segments match any one non-empty segment, e.g.
// "/api/v1/clients/{client_id}/metrics". Other methods on a known path are answered 405 with Allow, unknown
// paths 404; HEAD follows GET. Of several patterns that match, the one that was added first counts. A path with an encoded
// slash (%2F) or a segment "." or ".." (also encoded) matches nothing: what it means would be a matter of opinion.
//   method, pattern   static text
// Errors: TOB_INVALID for a pattern, TOB_TOO_LARGE over a cap above.
TOB_MUST_USE tob_error tob_http_server_route(tob_http_server *server, const char *method, const char *pattern,
                                             tob_http_handler handler, void *user);

// tob_http_server_route_without_body: the same for a POST, PUT or PATCH that may come without a body (`curl -X POST`).
TOB_MUST_USE tob_error tob_http_server_route_without_body(tob_http_server *server, const char *method,
                                                          const char *pattern, tob_http_handler handler,
                                                          void *user);

// tob_http_server_start returns once every worker accepts connections. SIGPIPE is ignored from then on.
// Errors: TOB_INVALID for the address, TOB_UNAVAILABLE when it is taken, TOB_PERMISSION_DENIED,
// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_http_server_start(tob_http_server *server);
uint16_t tob_http_server_port(const tob_http_server *server);
unsigned tob_http_server_workers(const tob_http_server *server);

// tob_http_server_stop closes the listeners and idle connections, lets requests under way finish (at most
// grace_ms, then they are answered 503 and closed) and ends the threads. Blocks; twice is once.
void tob_http_server_stop(tob_http_server *server, uint64_t grace_ms);

// tob_http_server_free: stopped first. No tob_http_post to its workers may happen any more.
void tob_http_server_free(tob_http_server *server);

h2o_context_t *tob_http_worker_context(tob_http_worker *worker);
void *tob_http_worker_state(tob_http_worker *worker);
unsigned tob_http_worker_index(const tob_http_worker *worker);

// tob_http_post runs fn(arg) on the worker's thread, soon; from any thread.
// Errors: TOB_NO_MEMORY; TOB_CANCELLED once the worker has stopped (before _free): fn will not run.
TOB_MUST_USE tob_error tob_http_post(tob_http_worker *worker, void (*fn)(void *arg), void *arg);

// A task is memory of the caller for one post at a time, so that it can't fail for want of memory.
typedef struct tob_http_task {
    void (*fn)(void *arg);
    void *arg;
    struct tob_http_task *next; // the worker's
    bool owned;                 // the worker's
} tob_http_task;

// tob_http_post_task, likewise; `task` must stay until fn runs. Errors: TOB_CANCELLED.
TOB_MUST_USE tob_error tob_http_post_task(tob_http_worker *worker, tob_http_task *task);

// A request that its answer may outlive: holds NULL once the request is gone, or once a stop that ran out of
// time has answered it. Every handler that does not answer at once needs one. Make it in the handler, keep the pointer while the work is under way, and release it on the worker's thread (or on
// any, once the server has stopped). _new never returns NULL.
typedef struct tob_http_hold {
    h2o_req_t *req;
} tob_http_hold;
tob_http_hold *tob_http_hold_new(h2o_req_t *req);
void tob_http_hold_release(tob_http_hold *hold);

// tob_http_header finds a request header by its lower-case name; {NULL, 0} when there is none. Host,
// Content-Length, Transfer-Encoding, Expect and Upgrade are not kept by h2o.
h2o_iovec_t tob_http_header(const h2o_req_t *req, const char *name);

// tob_http_query is what follows the '?' of the path, undecoded; {NULL, 0} when there is none.
h2o_iovec_t tob_http_query(const h2o_req_t *req);

// tob_http_query_value finds the first parameter `name` of the query, with its %-escapes decoded (and '+' as a blank:
// application/x-www-form-urlencoded). An escape that is none stays as it is. Lives as long as the request; {NULL, 0} when
// there is none.
h2o_iovec_t tob_http_query_value(h2o_req_t *req, const char *name);

// tob_http_peer: the IP address that the request's connection comes from: "192.0.2.1", "2001:db8::1", without port. An IPv6
// address that stands for an IPv4 one (RFC 4291 §2.5.5.2) is that one. "" when it can't be told.
#define TOB_HTTP_PEER_BYTES 46
void tob_http_peer(const h2o_req_t *req, char ret[TOB_HTTP_PEER_BYTES]);

// tob_http_send sends a whole response, after the headers that were added to req->res.headers; the body is
// copied.
//   content_type   static text, or NULL
void tob_http_send(h2o_req_t *req, int status, const char *content_type, const void *body, size_t n);

// tob_http_send_error sends {"error": text}; 401 gets WWW-Authenticate: Bearer, and with retry_after_ms > 0
// Retry-After in seconds, rounded up.
void tob_http_send_error(h2o_req_t *req, int status, uint64_t retry_after_ms, const char *format, ...)
    TOB_PRINTF(4, 5);

// tob_http_status is the one table from tob_error to HTTP status.
int tob_http_status(tob_error error);

// tob_http_reason is the standard phrase of a status, never NULL.
const char *tob_http_reason(int status);

#endif
