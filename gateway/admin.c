#include "gateway/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/body.h"
#include "gateway/caller.h"
#include "gateway/gateway.h"
#include "gateway/outcome.h"
#include "gateway/worker.h"
#include "report/message_json.h"
#include "util/clock.h"

// An answer that anyone may have is kept for a moment, so that nobody can keep ingestd busy with them.
typedef struct kept {
    tob_buffer body;
    uint64_t until_ms; // monotonic; 0: nothing is kept
} kept;

struct tob_admin {
    kept kept[TOB_ADMIN_KEPT];
};

// A request that waits for its call: lives in its pool.
typedef struct pending {
    const tob_admin_route *route;
    tob_gateway_worker *worker;
    char id[TOB_MAX_ID_BYTES + 1];
} pending;

const ProtobufCMethodDescriptor *tob_admin_call(const tob_admin_route *route) {
    return protobuf_c_service_descriptor_get_method_by_name(route->service, route->call);
}

bool tob_admin_has_body(const tob_admin_route *route) {
    for (const tob_admin_field *field = route->fields; field && field->name; field++) {
        if (field->from == TOB_ADMIN_FROM_BODY) {
            return true;
        }
    }
    return false;
}

bool tob_admin_needs_body(const tob_admin_route *route) {
    for (const tob_admin_field *field = route->fields; field && field->name; field++) {
        if (field->from == TOB_ADMIN_FROM_BODY && field->required) {
            return true;
        }
    }
    return false;
}

static void add_cache_control(h2o_req_t *req, const char *value) {
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, value, strlen(value));
}

static void send_raw(h2o_req_t *req, const tob_admin_route *route, const void *body, size_t n) {
    add_cache_control(req, TOB_ADMIN_MAX_AGE_HEADER);
    tob_http_send(req, 200, route->content_type, body, n);
}

static void keep(kept *to, h2o_iovec_t body) {
    tob_buffer_clear(&to->body);
    to->until_ms = 0;
    if (!tob_buffer_append(&to->body, body.base, body.len)) {
        to->until_ms = tob_clock_monotonic_ms() + TOB_ADMIN_KEEP_MS;
    }
}

static void answer_raw(h2o_req_t *req, const pending *p, const ProtobufCMessage *response) {
    h2o_iovec_t body = p->route->raw(response);
    keep(&p->worker->admin->kept[p->route->kept], body);
    send_raw(req, p->route, body.base, body.len);
}

static void answer_json(h2o_req_t *req, const pending *p, const ProtobufCMessage *response) {
    const tob_admin_route *route = p->route;
    json_t *json =
        route->render ? route->render(response, p->id) : tob_message_json(response, TOB_MESSAGE_JSON_TIMES);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text) {
        tob_http_send_error(req, 500, 0, "out of memory: it was carried out, but the answer can't be given");
        return;
    }
    size_t n = strlen(text);
    tob_http_send(req, 200, "application/json", text, n);
    explicit_bzero(text, n);
    free(text);
}

static void on_done(h2o_req_t *req, const tob_rpc_result *result, void *user) {
    const pending *p = user;
    ProtobufCMessage *response = NULL;
    if (result->error) {
        tob_calls_send_failure(req, result->error, result->message, result->retry_after_ms);
        return;
    }
    tob_error error = tob_arena_unpack(p->worker->arena, tob_admin_call(p->route)->output, result->body,
                                       result->body_len, &response);
    if (error) {
        tob_http_send_error(req, 502, 0, "ingestd's answer can't be read");
    } else if (p->route->raw) {
        answer_raw(req, p, response);
    } else {
        answer_json(req, p, response);
    }
    tob_arena_clear(p->worker->arena);
}

static bool read_body(h2o_req_t *req, tob_gateway_worker *worker, const tob_admin_route *route,
                      h2o_iovec_t *ret) {
    tob_body_rules rules = {.content_type = "application/json",
                            .max_bytes = worker->max_body_bytes,
                            .max_inflated_bytes = TOB_GATEWAY_MAX_INFLATED_JSON,
                            .may_be_empty = !tob_admin_needs_body(route)};
    return !tob_admin_has_body(route) || tob_body_read(req, &rules, &worker->inflated, ret);
}

static void start_call(h2o_req_t *req, tob_gateway_worker *worker, const tob_admin_route *route,
                       const tob_caller *caller, h2o_iovec_t message, pending *p) {
    tob_rpc_caller rpc_caller = {.bearer = route->raw ? NULL : caller->bearer,
                                 .address = caller->address,
                                 .repeatable = route->repeatable};
    char method[128];
    snprintf(method, sizeof(method), "/%s/%s", route->service->name, route->call);
    tob_error error = tob_calls_start(worker->calls, req, &rpc_caller, method, message.base, message.len,
                                      worker->request_timeout_ms, on_done, p);
    if (error) {
        tob_calls_send_failure(req, error, error == TOB_BUSY ? "too many requests wait for ingestd" : NULL,
                               0);
    }
}

static bool send_kept(h2o_req_t *req, const tob_admin_route *route, const tob_admin *admin) {
    const kept *from = &admin->kept[route->kept];
    bool fresh = tob_clock_monotonic_ms() < from->until_ms;
    if (fresh) {
        send_raw(req, route, from->body.data, from->body.len);
    }
    return fresh;
}

static bool read_caller(h2o_req_t *req, const tob_admin_route *route, tob_gateway_worker *worker,
                        tob_caller *ret) {
    if (route->raw) {
        tob_http_peer(req, ret->address);
        return true;
    }
    add_cache_control(req, "no-store");
    return tob_caller_read(req, worker->refused.admin, ret);
}

// The name of the path's parameter, or NULL.
static const char *path_field(const tob_admin_route *route) {
    const tob_admin_field *field = route->fields;
    return field && field->from == TOB_ADMIN_FROM_PATH ? field->name : NULL;
}

void tob_admin_handle(h2o_req_t *req, const tob_http_match *match, void *user) {
    const tob_admin_route *route = user;
    tob_gateway_worker *worker = tob_http_worker_state(match->worker);
    pending *p = h2o_mem_alloc_pool(&req->pool, sizeof(*p));
    *p = (pending){.route = route, .worker = worker};
    tob_caller caller;
    h2o_iovec_t body = {0};
    h2o_iovec_t message = {0};
    if (route->raw && send_kept(req, route, worker->admin)) {
        return;
    }
    if (path_field(route) && !tob_path_id_read(req, match, path_field(route), p->id)) {
        return;
    }
    if (read_caller(req, route, worker, &caller) && read_body(req, worker, route, &body) &&
        tob_admin_request_pack(req, match, route, body, &message)) {
        start_call(req, worker, route, &caller, message, p);
    }
}

tob_error tob_admin_new(tob_admin **ret) {
    tob_admin *admin = calloc(1, sizeof(*admin));
    if (!admin) {
        return TOB_NO_MEMORY;
    }
    for (size_t i = 0; i < TOB_ADMIN_KEPT; i++) {
        tob_buffer_init(&admin->kept[i].body, TOB_MAX_INFLATED_BYTES);
    }
    *ret = admin;
    return TOB_OK;
}

void tob_admin_free(tob_admin *admin) {
    if (!admin) {
        return;
    }
    for (size_t i = 0; i < TOB_ADMIN_KEPT; i++) {
        tob_buffer_fini(&admin->kept[i].body);
    }
    free(admin);
}
