#include "exporter/scrape.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "exporter/body.h"
#include "exporter/exposition.h"

struct tob_scrape {
    tob_scrape_options options;
    _Atomic uint64_t active;
};

// One response under way; in its request's pool.
typedef struct stream {
    h2o_generator_t super;
    tob_scrape *scrape;
    h2o_req_t *req;
    tob_body *body;
    h2o_loop_t *loop;
    h2o_timeout_t *timeout; // of the worker
    h2o_timeout_entry_t stall;
} stream;

tob_error tob_scrape_new(const tob_scrape_options *options, tob_scrape **ret) {
    tob_scrape *scrape = calloc(1, sizeof(*scrape));
    if (!scrape) {
        return TOB_NO_MEMORY;
    }
    scrape->options = *options;
    *ret = scrape;
    return TOB_OK;
}

void tob_scrape_free(tob_scrape *scrape) {
    free(scrape);
}

// h2o's timeouts are lists of one duration each, kept by the loop.
void *tob_scrape_worker_start(void *user, tob_http_worker *worker) {
    const tob_scrape *scrape = user;
    h2o_timeout_t *timeout = h2o_mem_alloc(sizeof(*timeout));
    *timeout = (h2o_timeout_t){0};
    h2o_timeout_init(tob_http_worker_context(worker)->loop, timeout, scrape->options.stall_ms);
    return timeout;
}

void tob_scrape_worker_stop(void *user, tob_http_worker *worker, void *state) {
    (void)user;
    h2o_timeout_dispose(tob_http_worker_context(worker)->loop, state);
    free(state);
}

static void dispose(void *memory) {
    stream *s = memory;
    h2o_timeout_unlink(&s->stall);
    tob_body_free(s->body);
    atomic_fetch_sub(&s->scrape->active, 1);
}

// While a write is pending, the request is h2o's: an end of the socket makes h2o end it.
static void on_stall(h2o_timeout_entry_t *entry) {
    stream *s = H2O_STRUCT_FROM_MEMBER(stream, stall, entry);
    h2o_socket_t *socket = s->req->conn->callbacks->get_socket(s->req->conn);
    shutdown(h2o_socket_get_fd(socket), SHUT_RDWR);
}

static void send_piece(stream *s) {
    const void *bytes = NULL;
    size_t n = 0;
    tob_error err = tob_body_read(s->body, &bytes, &n);
    h2o_timeout_unlink(&s->stall);
    if (err) {
        h2o_send(s->req, NULL, 0, H2O_SEND_STATE_ERROR); // no last chunk: the reader sees that it is cut off
        return;
    }
    h2o_timeout_link(s->loop, s->timeout, &s->stall);
    h2o_iovec_t piece = {.base = (char *)(uintptr_t)bytes, .len = n};
    h2o_send(s->req, &piece, n ? 1 : 0, n ? H2O_SEND_STATE_IN_PROGRESS : H2O_SEND_STATE_FINAL);
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req) {
    (void)req;
    send_piece((stream *)self);
}

static bool authorized(const tob_scrape *scrape, h2o_req_t *req) {
    h2o_iovec_t header = tob_http_header(req, "authorization");
    const char *token = NULL;
    size_t len = 0;
    bool good = tob_bearer(header.base, header.len, &token, &len) == TOB_OK &&
                tob_secrets_match(scrape->options.tokens, token, len);
    tob_counter_add(good ? scrape->options.auth_success : scrape->options.auth_failure, 1);
    return good;
}

static bool starts_with(h2o_iovec_t text, const char *prefix) {
    return text.len >= strlen(prefix) && strncasecmp(text.base, prefix, strlen(prefix)) == 0;
}

static unsigned part_named(h2o_iovec_t name) {
    static const struct {
        const char *name;
        unsigned part;
    } parts[] = {{"client", TOB_PART_CLIENT}, {"headend", TOB_PART_HEADEND}, {"manager", TOB_PART_MANAGER}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (name.len == strlen(parts[i].name) && memcmp(name.base, parts[i].name, name.len) == 0) {
            return parts[i].part;
        }
    }
    return 0;
}

// Reads collect[]=client&collect[]=headend; all parts when there is none. Other parameters are ignored.
static bool wanted_parts(h2o_iovec_t query, unsigned *ret) {
    unsigned parts = 0;
    while (query.len) {
        const char *end = memchr(query.base, '&', query.len);
        h2o_iovec_t parameter = {.base = query.base, .len = end ? (size_t)(end - query.base) : query.len};
        size_t skip = parameter.len + (end ? 1 : 0);
        query = h2o_iovec_init(query.base + skip, query.len - skip);
        size_t key = starts_with(parameter, "collect[]=")       ? strlen("collect[]=")
                     : starts_with(parameter, "collect%5B%5D=") ? strlen("collect%5B%5D=")
                                                                : 0;
        if (key) {
            unsigned part = part_named(h2o_iovec_init(parameter.base + key, parameter.len - key));
            if (!part) {
                return false;
            }
            parts |= part;
        }
    }
    *ret = parts ? parts : TOB_PART_ALL;
    return true;
}

static bool wants_gzip(const h2o_req_t *req) {
    h2o_iovec_t header = tob_http_header(req, "accept-encoding");
    return header.base && tob_accepts_gzip(header.base, header.len);
}

static void start_response(h2o_req_t *req, bool gzip, h2o_generator_t *generator) {
    req->res.status = 200;
    req->res.reason = "OK";
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT(TOB_EXPOSITION_TYPE));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_VARY, NULL, H2O_STRLIT("accept-encoding"));
    if (gzip) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_ENCODING, NULL, H2O_STRLIT("gzip"));
    }
    h2o_start_response(req, generator);
}

static void start_stream(tob_scrape *scrape, h2o_req_t *req, const tob_http_match *match, unsigned parts) {
    tob_body *body = NULL;
    bool gzip = wants_gzip(req);
    tob_error err = tob_body_new(scrape->options.mirror, scrape->options.manager, parts, gzip, &body);
    if (err) {
        atomic_fetch_sub(&scrape->active, 1);
        tob_http_send_error(req, tob_http_status(err), TOB_SCRAPE_RETRY_AFTER_MS, "%s",
                            tob_error_string(err));
        return;
    }
    stream *s = h2o_mem_alloc_shared(&req->pool, sizeof(*s), dispose);
    *s = (stream){
        .super = {.proceed = on_proceed},
        .scrape = scrape,
        .req = req,
        .body = body,
        .loop = tob_http_worker_context(match->worker)->loop,
        .timeout = tob_http_worker_state(match->worker),
        .stall = {.cb = on_stall},
    };
    start_response(req, gzip, &s->super);
    send_piece(s);
}

static void answer_head(h2o_req_t *req) {
    static h2o_generator_t nothing = {NULL, NULL};
    start_response(req, wants_gzip(req), &nothing);
    h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
}

static void on_metrics(h2o_req_t *req, const tob_http_match *match, void *user) {
    tob_scrape *scrape = user;
    unsigned parts = 0;
    if (!authorized(scrape, req)) {
        tob_http_send_error(req, 401, 0, "the metrics token is missing or wrong");
    } else if (!wanted_parts(tob_http_query(req), &parts)) {
        tob_http_send_error(req, 400, 0, "collect[] is none of client, headend, manager");
    } else if (!tob_instances_ready(scrape->options.instances)) {
        tob_http_send_error(req, 503, TOB_SCRAPE_RETRY_AFTER_MS, "the fleet is not complete yet");
    } else if (h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"))) {
        answer_head(req);
    } else if (atomic_fetch_add(&scrape->active, 1) >= scrape->options.max_scrapes) {
        atomic_fetch_sub(&scrape->active, 1);
        tob_http_send_error(req, 503, TOB_SCRAPE_RETRY_AFTER_MS, "too many scrapes at once");
    } else {
        start_stream(scrape, req, match, parts & scrape->options.parts);
    }
}

static void on_healthz(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    tob_http_send(req, 200, "application/json", H2O_STRLIT("{\"status\":\"ok\"}"));
}

static void on_readyz(h2o_req_t *req, const tob_http_match *match, void *user) {
    const tob_scrape *scrape = user;
    (void)match;
    if (!tob_instances_ready(scrape->options.instances)) {
        tob_http_send_error(req, 503, TOB_SCRAPE_RETRY_AFTER_MS, "the fleet is not complete yet");
    } else if (tob_instances_silent(scrape->options.instances)) {
        tob_http_send(req, 200, "application/json", H2O_STRLIT("{\"status\":\"ready\",\"bus\":\"silent\"}"));
    } else {
        tob_http_send(req, 200, "application/json", H2O_STRLIT("{\"status\":\"ready\",\"bus\":\"live\"}"));
    }
}

static void on_root(h2o_req_t *req, const tob_http_match *match, void *user) {
    (void)match;
    (void)user;
    tob_http_send(req, 200, "text/plain; charset=utf-8",
                  H2O_STRLIT("tobogganing-exporter: the metrics are at /metrics\n"));
}

tob_error tob_scrape_register(tob_scrape *scrape, tob_http_server *server) {
    static const struct {
        const char *pattern;
        tob_http_handler handler;
    } routes[] = {{"/metrics", on_metrics}, {"/healthz", on_healthz}, {"/readyz", on_readyz}, {"/", on_root}};
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        tob_error err = tob_http_server_route(server, "GET", routes[i].pattern, routes[i].handler, scrape);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}
