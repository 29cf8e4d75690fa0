#include "gateway/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/worker.h"

#define RETRY_AFTER_MS 5000

struct tob_relay {
    tob_http_worker *worker;
    const tob_relay_target *target;
    h2o_timeout_t timeout;
    h2o_http1client_ctx_t client_context;
    size_t requests;
};

// One relayed request: lives in its pool.
typedef struct relayed {
    h2o_generator_t super;
    tob_relay *relay;
    tob_http_hold *hold;
    h2o_http1client_t *client; // NULL once the exporter's answer is complete or has failed
    h2o_iovec_t request;
    bool is_head;
    bool failed;
    h2o_doublebuffer_t sending;
    h2o_buffer_t *rest;        // what was read but not sent when the client ended
    h2o_socket_cb on_readable; // set while reading is stopped for a slow reader
} relayed;

// Letters, digits, '.', '-', '_' and, in an IPv6 address, ':'. h2o takes anything up to a slash.
static bool host_valid(h2o_iovec_t host) {
    for (size_t i = 0; i < host.len; i++) {
        char c = host.base[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr(".-_:", c))) {
            return false;
        }
    }
    return host.len && host.len <= TOB_RELAY_MAX_HOST;
}

tob_error tob_relay_target_parse(const char *url, tob_relay_target *ret) {
    h2o_url_t parsed;
    if (!url || h2o_url_parse(url, strlen(url), &parsed) != 0 || parsed.scheme != &H2O_URL_SCHEME_HTTP) {
        return TOB_INVALID;
    }
    bool root = parsed.path.len == 0 || h2o_memis(parsed.path.base, parsed.path.len, H2O_STRLIT("/"));
    if (!root || !host_valid(parsed.host) || parsed.authority.len >= sizeof(ret->authority)) {
        return TOB_INVALID;
    }
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->host, parsed.host.base, parsed.host.len);
    memcpy(ret->authority, parsed.authority.base, parsed.authority.len);
    ret->port = h2o_url_get_port(&parsed);
    return ret->port ? TOB_OK : TOB_INVALID;
}

static void on_dispose(void *arg) {
    relayed *r = arg;
    if (r->client) {
        h2o_http1client_cancel(r->client);
    }
    tob_http_hold_release(r->hold);
    h2o_buffer_dispose(&r->rest);
    h2o_doublebuffer_dispose(&r->sending);
    r->relay->requests--;
}

// The exporter's answer can't be had, or not to its end; nothing was sent yet.
static void send_unavailable(relayed *r, int status, const char *text) {
    r->client = NULL;
    if (r->hold->req) {
        tob_http_send_error(r->hold->req, status, RETRY_AFTER_MS, "%s", text);
    }
}

static void send_piece(relayed *r) {
    h2o_req_t *req = r->hold->req;
    h2o_buffer_t **from = r->client ? &r->client->sock->input : &r->rest;
    h2o_iovec_t piece = h2o_doublebuffer_prepare(&r->sending, from, req->preferred_chunk_size);
    bool last = !r->client && piece.len == r->sending.buf->size && !r->rest->size;
    if (last) {
        h2o_send(req, &piece, piece.len ? 1 : 0, r->failed ? H2O_SEND_STATE_ERROR : H2O_SEND_STATE_FINAL);
    } else if (piece.len) {
        h2o_send(req, &piece, 1, H2O_SEND_STATE_IN_PROGRESS);
    }
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req) {
    relayed *r = (relayed *)self;
    (void)req;
    h2o_doublebuffer_consume(&r->sending);
    send_piece(r);
    if (r->client && r->on_readable) {
        h2o_socket_read_start(r->client->sock, r->on_readable);
        r->on_readable = NULL;
    }
}

static int on_body(h2o_http1client_t *client, const char *failure) {
    relayed *r = client->data;
    if (failure) {
        r->failed = failure != h2o_http1client_error_is_eos;
        r->rest = client->sock->input;
        h2o_buffer_init(&client->sock->input, &h2o_socket_buffer_prototype);
        r->client = NULL;
    }
    if (!r->hold->req) {
        return 0; // the server has ended the request: it is about to be disposed of
    }
    if (!r->sending.bytes_inflight) {
        send_piece(r);
    }
    if (r->client && client->sock->input->size > TOB_RELAY_BUFFER_BYTES) {
        r->on_readable = client->sock->_cb.read;
        h2o_socket_read_stop(client->sock);
    }
    return 0;
}

// Names of the headers that are passed back; all others are the exporter's business.
static bool passed_back(const h2o_header_t *header) {
    const h2o_iovec_t *const names[] = {&H2O_TOKEN_CONTENT_TYPE->buf, &H2O_TOKEN_CONTENT_ENCODING->buf,
                                        &H2O_TOKEN_WWW_AUTHENTICATE->buf, &H2O_TOKEN_RETRY_AFTER->buf,
                                        &H2O_TOKEN_VARY->buf};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (header->name == names[i]) {
            return true;
        }
    }
    return false;
}

static void copy_headers(h2o_req_t *req, const h2o_header_t *headers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (headers[i].name == &H2O_TOKEN_CONTENT_LENGTH->buf) {
            req->res.content_length = h2o_strtosize(headers[i].value.base, headers[i].value.len);
        } else if (passed_back(&headers[i])) {
            const h2o_token_t *token = H2O_STRUCT_FROM_MEMBER(h2o_token_t, buf, headers[i].name);
            h2o_iovec_t value = h2o_strdup(&req->pool, headers[i].value.base, headers[i].value.len);
            h2o_add_header(&req->pool, &req->res.headers, token, NULL, value.base, value.len);
        }
    }
}

static h2o_http1client_body_cb on_head(h2o_http1client_t *client, const char *failure, int minor_version,
                                       int status, h2o_iovec_t msg, h2o_header_t *headers, size_t count,
                                       int rlen) {
    relayed *r = client->data;
    h2o_req_t *req = r->hold->req;
    bool complete = failure == h2o_http1client_error_is_eos;
    (void)minor_version;
    (void)msg;
    (void)rlen;
    if (failure && !complete) {
        send_unavailable(r, 502, "the exporter did not answer");
        return NULL;
    }
    if (!req || status < 200 || status > 599) {
        send_unavailable(r, 502, "the exporter's answer is none");
        return NULL;
    }
    req->res.status = status;
    req->res.reason = tob_http_reason(status);
    copy_headers(req, headers, count);
    h2o_start_response(req, &r->super);
    if (complete) {
        r->client = NULL;
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
        return NULL;
    }
    return on_body;
}

static h2o_http1client_head_cb on_connect(h2o_http1client_t *client, const char *failure,
                                          h2o_iovec_t **ret_bufs, size_t *ret_count, int *ret_is_head) {
    relayed *r = client->data;
    if (failure || !r->hold->req) {
        send_unavailable(r, 503, "the exporter is not reachable");
        return NULL;
    }
    *ret_bufs = &r->request;
    *ret_count = 1;
    *ret_is_head = r->is_head;
    return on_head;
}

static size_t add(char *to, const char *name, h2o_iovec_t value, const char *end) {
    size_t at = strlen(name);
    memcpy(to, name, at);
    if (value.len) {
        memcpy(to + at, value.base, value.len);
    }
    memcpy(to + at + value.len, end, strlen(end));
    return at + value.len + strlen(end);
}

// Header values have no line breaks and paths no spaces: h2o's parser refuses both.
static h2o_iovec_t build_request(h2o_req_t *req, const tob_relay_target *target) {
    static const char *const names[][2] = {{"authorization", "Authorization: "},
                                           {"accept", "Accept: "},
                                           {"accept-encoding", "Accept-Encoding: "},
                                           {"x-prometheus-scrape-timeout-seconds",
                                            "X-Prometheus-Scrape-Timeout-Seconds: "}};
    h2o_iovec_t values[sizeof(names) / sizeof(*names)];
    h2o_iovec_t query = tob_http_query(req);
    size_t size = 256 + strlen(target->authority) + query.len;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        values[i] = tob_http_header(req, names[i][0]);
        size += strlen(names[i][1]) + values[i].len + 2;
    }
    char *text = h2o_mem_alloc_pool(&req->pool, size);
    size_t at = add(text, "", req->input.method, " /metrics");
    at += query.len ? add(text + at, "?", query, "") : 0;
    at += add(text + at, " HTTP/1.1\r\nHost: ", h2o_iovec_init(target->authority, strlen(target->authority)),
              "\r\nConnection: close\r\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        at += values[i].base ? add(text + at, names[i][1], values[i], "\r\n") : 0;
    }
    at += add(text + at, "\r\n", h2o_iovec_init(NULL, 0), "");
    return h2o_iovec_init(text, at);
}

void tob_relay_metrics(h2o_req_t *req, const tob_http_match *match, void *user) {
    tob_relay *relay = ((tob_gateway_worker *)tob_http_worker_state(match->worker))->relay;
    (void)user;
    if (relay->requests >= TOB_RELAY_MAX_REQUESTS) {
        tob_http_send_error(req, 503, RETRY_AFTER_MS, "too many scrapes at once");
        return;
    }
    relayed *r = h2o_mem_alloc_shared(&req->pool, sizeof(*r), on_dispose);
    *r = (relayed){.super = {.proceed = on_proceed}, .relay = relay};
    relay->requests++;
    r->hold = tob_http_hold_new(req);
    r->request = build_request(req, relay->target);
    r->is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
    h2o_buffer_init(&r->rest, &h2o_socket_buffer_prototype);
    h2o_doublebuffer_init(&r->sending, &h2o_socket_buffer_prototype);
    h2o_http1client_connect(&r->client, r, &relay->client_context,
                            h2o_iovec_init(relay->target->host, strlen(relay->target->host)),
                            relay->target->port, 0, on_connect);
}

tob_error tob_relay_new(tob_http_worker *worker, const tob_relay_target *target, tob_relay **ret) {
    h2o_context_t *context = tob_http_worker_context(worker);
    tob_relay *relay = calloc(1, sizeof(*relay));
    if (!relay) {
        return TOB_NO_MEMORY;
    }
    relay->worker = worker;
    relay->target = target;
    h2o_timeout_init(context->loop, &relay->timeout, TOB_RELAY_TIMEOUT_MS);
    relay->client_context = (h2o_http1client_ctx_t){.loop = context->loop,
                                                    .getaddr_receiver = &context->receivers.hostinfo_getaddr,
                                                    .io_timeout = &relay->timeout};
    *ret = relay;
    return TOB_OK;
}

void tob_relay_free(tob_relay *relay) {
    if (relay) {
        h2o_timeout_dispose(tob_http_worker_context(relay->worker)->loop, &relay->timeout);
        free(relay);
    }
}
