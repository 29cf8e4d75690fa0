#include <string.h>

#include "http/internal.h"

// What we know of a request: kept in its pool, found by its prefilter.
typedef struct request_state {
    h2o_req_prefilter_t super;
    tob_http_match match;
    struct hold_node *holds;
    bool answered; // a status was sent
} request_state;

typedef struct hold_node {
    tob_http_hold hold;
    request_state *request;
    struct hold_node *next;
} hold_node;

typedef struct error_ostream {
    h2o_ostream_t super;
    h2o_iovec_t body;
} error_ostream;

typedef struct server_handler {
    h2o_handler_t super;
    tob_http_server *server;
} server_handler;

typedef struct server_filter {
    h2o_filter_t super;
    tob_http_server *server;
} server_filter;

static void report_response(tob_http_server *server, h2o_req_t *req, const char *pattern) {
    if (server->options.on_response) {
        server->options.on_response(server->options.user, tob_http_method(req->input.method), pattern,
                                    req->res.status);
    }
}

// Swallows the body of an answer to HEAD (RFC 9110 §9.3.2), whatever the handler sends.
static void send_no_body(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                         h2o_send_state_t state) {
    (void)bufs;
    (void)count;
    h2o_ostream_send_next(self, req, NULL, 0, state);
}

static void on_setup_ostream(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot) {
    request_state *request = (request_state *)self;
    const tob_http_route *route = request->match.route;
    request->answered = true;
    if (req->conn->ctx->shutdown_requested) {
        req->http1_is_persistent = 0; // it came before the stop
    }
    report_response(request->match.worker->server, req, route ? route->pattern : "unmatched");
    h2o_setup_next_prefilter(self, req, slot);
    if (h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"))) {
        while ((*slot)->next) {
            slot = &(*slot)->next; // ours comes last, before the one that writes to the socket
        }
        h2o_add_ostream(req, sizeof(h2o_ostream_t), slot)->do_send = send_no_body;
    }
}

static request_state *state_of(const h2o_req_t *req) {
    h2o_req_prefilter_t *prefilter = req->prefilters;
    while (prefilter && prefilter->on_setup_ostream != on_setup_ostream) {
        prefilter = prefilter->next;
    }
    return (request_state *)prefilter;
}

static void drop_holds(request_state *request) {
    for (hold_node *node = request->holds; node; node = node->next) {
        node->hold.req = NULL;
        node->request = NULL;
    }
    request->holds = NULL;
}

// h2o calls loggers when a request is over, on its way to free its pool.
static void on_request_end(h2o_logger_t *self, h2o_req_t *req) {
    request_state *request = state_of(req);
    (void)self;
    if (request) {
        drop_holds(request);
        tob_http_connection_of(req)->req = NULL;
    }
}

// One character of a path, and the bytes that it takes: '.' and '/' may be escaped (RFC 3986 §2.1).
static char next_character(const char *at, size_t left, size_t *ret_bytes) {
    bool escaped = left > 2 && at[0] == '%' && at[1] == '2';
    *ret_bytes = escaped ? 3 : 1;
    if (escaped && (at[2] == 'e' || at[2] == 'E')) {
        return '.';
    }
    if (escaped && (at[2] == 'f' || at[2] == 'F')) {
        return '/';
    }
    *ret_bytes = 1;
    return at[0];
}

// A decoded %2F would look like a separator, and dot segments would be removed: /clients/a%2Fb is not /clients/a/b, and
// /clients/a/../b not /clients/b, whatever those before and behind us make of them.
static bool is_ambiguous(const h2o_req_t *req) {
    size_t end = req->query_at == SIZE_MAX ? req->path.len : req->query_at;
    size_t dots = 0; // of a segment that has nothing else so far
    bool dotted = true;
    if (!req->norm_indexes) {
        return false; // there was nothing to decode or to remove
    }
    for (size_t i = 1, bytes; i < end; i += bytes) {
        char c = next_character(req->path.base + i, end - i, &bytes);
        bool last = i + bytes == end;
        if (c == '/' && bytes > 1) {
            return true;
        }
        dotted = dotted && (c == '.' || c == '/');
        dots += c == '.';
        if ((c == '/' || last) && dotted && (dots == 1 || dots == 2)) {
            return true;
        }
        if (c == '/') {
            dots = 0;
            dotted = true;
        }
    }
    return false;
}

static bool needs_body(const char *method) {
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
}

static void send_not_routed(h2o_req_t *req, const char *method, const char *allow) {
    if (!*allow) {
        tob_http_send_error(req, 404, 0, "there is nothing at this path");
        return;
    }
    h2o_iovec_t value = h2o_strdup(&req->pool, allow, strlen(allow));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, NULL, value.base, value.len);
    tob_http_send_error(req, 405, 0, "%s is not possible here, but %s", method, allow);
}

static void dispatch(tob_http_server *server, h2o_req_t *req, request_state *request) {
    const char *method = tob_http_method(req->input.method);
    char allow[TOB_HTTP_ALLOW_BYTES] = "";
    const tob_http_route *route = NULL;
    if (req->path.len > TOB_HTTP_MAX_PATH_BYTES) {
        tob_http_send_error(req, 414, 0, "the path is longer than %d bytes", TOB_HTTP_MAX_PATH_BYTES);
        return;
    }
    if (!is_ambiguous(req)) {
        route =
            tob_http_router_find(&server->router, method, req->path_normalized, request->match.params, allow);
    }
    if (!req->entity.base && needs_body(method)) {
        tob_http_linger(req); // what follows may be a body, not a request
    }
    if (!route) {
        send_not_routed(req, method, allow);
        return;
    }
    request->match.route = route;
    if (!req->entity.base && needs_body(method) && !route->body_optional) {
        tob_http_send_error(req, 411, 0, "the request has neither Content-Length nor a chunked body");
    } else if (req->entity.len > server->options.max_body_bytes) {
        tob_http_send_error(req, 413, 0, "the body is longer than %zu bytes", server->options.max_body_bytes);
    } else {
        route->handler(req, &request->match, route->user);
    }
}

static int on_req(h2o_handler_t *self, h2o_req_t *req) {
    tob_http_server *server = ((server_handler *)self)->server;
    request_state *request = (request_state *)h2o_add_prefilter(req, sizeof(*request));
    h2o_req_prefilter_t *next = request->super.next;
    *request = (request_state){.super = {.next = next, .on_setup_ostream = on_setup_ostream}};
    request->match.worker = H2O_STRUCT_FROM_MEMBER(tob_http_worker, context, req->conn->ctx);
    tob_http_connection_of(req)->req = req;
    dispatch(server, req, request);
    return 0;
}

static void send_error_body(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                            h2o_send_state_t state) {
    (void)bufs;
    h2o_ostream_send_next(self, req, &((error_ostream *)self)->body, count ? 1 : 0, state);
}

// h2o's own errors, before a request gets to us: their text becomes our JSON.
static void on_h2o_error(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot) {
    static const char too_large[] = "{\"error\":\"the body is too long\"}";
    static const char expectation[] = "{\"error\":\"the only Expect we know is 100-continue\"}";
    static const char bad[] = "{\"error\":\"Content-Length, Transfer-Encoding or a chunk is malformed\"}";
    const char *text = req->res.status == 413 ? too_large : req->res.status == 417 ? expectation : bad;
    report_response(((server_filter *)self)->server, req, "unmatched");
    tob_http_linger(req);
    req->res.reason = tob_http_reason(req->res.status);
    req->res.content_length = strlen(text);
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, H2O_STRLIT("application/json"), 1);
    error_ostream *ostream = (error_ostream *)h2o_add_ostream(req, sizeof(*ostream), slot);
    ostream->super.do_send = send_error_body;
    ostream->body = h2o_iovec_init(text, strlen(text));
    h2o_setup_next_ostream(req, &ostream->super.next);
}

void tob_http_register(tob_http_server *server, h2o_hostconf_t *host) {
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    server_handler *handler = (server_handler *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = on_req;
    handler->server = server;
    h2o_create_logger(path, sizeof(h2o_logger_t))->log_access = on_request_end;
    server_filter *filter = (server_filter *)h2o_create_filter(&host->fallback_path, sizeof(*filter));
    filter->super.on_setup_ostream = on_h2o_error;
    filter->server = server;
}

static void end_request(h2o_req_t *req) {
    request_state *request = state_of(req);
    h2o_generator_t *generator = req->_generator;
    drop_holds(request);
    req->http1_is_persistent = 0;
    if (!request->answered) {
        tob_http_send_error(req, 503, 1000, "the server is stopping");
    } else if (generator && !h2o_socket_is_writing(tob_http_connection_of(req)->sock)) {
        if (generator->stop) {
            generator->stop(generator, req);
        }
        h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
    }
}

void tob_http_end_requests(tob_http_worker *worker) {
    for (h2o_linklist_t *link = worker->connections.next, *next; link != &worker->connections; link = next) {
        next = link->next;
        h2o_req_t *req = H2O_STRUCT_FROM_MEMBER(tob_http_connection, link, link)->req;
        if (req) {
            end_request(req);
        }
    }
}

tob_http_hold *tob_http_hold_new(h2o_req_t *req) {
    request_state *request = state_of(req);
    hold_node *node = h2o_mem_alloc(sizeof(*node));
    *node = (hold_node){.hold = {.req = req}, .request = request, .next = request->holds};
    request->holds = node;
    return &node->hold;
}

void tob_http_hold_release(tob_http_hold *hold) {
    hold_node *node = (hold_node *)hold;
    if (node && node->request) {
        hold_node **link = &node->request->holds;
        while (*link != node) {
            link = &(*link)->next;
        }
        *link = node->next;
    }
    free(node);
}
