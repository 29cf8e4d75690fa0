#include <stdbool.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/registry_fields.h"
#include "ingestd/registry_methods.h"

// A page of rows being read: messages in the call's arena.
typedef struct page {
    tob_arena *arena;
    void **rows;
    size_t count;
    size_t max;
    size_t bytes;
    bool more; // rows after these
} page;

// The reading ends here, and that is no error.
#define PAGE_FULL TOB_CANCELLED

// Room for one row of row_bytes whose strings are text_bytes long.
static tob_error page_row(page *p, size_t row_bytes, size_t text_bytes, void **ret) {
    if (p->count == p->max || p->bytes > TOB_REGISTRY_MAX_PAGE_BYTES) {
        p->more = true;
        return PAGE_FULL;
    }
    void *row = tob_arena_alloc(p->arena, row_bytes);
    if (!row) {
        return tob_arena_error(p->arena);
    }
    p->rows[p->count++] = row;
    p->bytes += text_bytes + 32; // tags, lengths, times
    *ret = row;
    return TOB_OK;
}

// Copies a borrowed string; the error of a failed copy is the arena's, looked at once for the row.
static char *keep(page *p, const char *text) {
    char *copy = tob_arena_strdup(p->arena, text);
    return copy ? copy : (char *)protobuf_c_empty_string;
}

static tob_error page_cluster(void *user, const tob_registry_cluster *cluster) {
    page *p = user;
    Tobogganing__V1__Cluster *row = NULL;
    size_t text_bytes = strlen(cluster->id) + strlen(cluster->name) + strlen(cluster->region) +
                        strlen(cluster->datacenter) + strlen(cluster->headend_url);
    tob_error err = page_row(p, sizeof(*row), text_bytes, (void **)&row);
    if (err) {
        return err;
    }
    tobogganing__v1__cluster__init(row);
    row->cluster_id = keep(p, cluster->id);
    row->name = keep(p, cluster->name);
    row->region = keep(p, cluster->region);
    row->datacenter = keep(p, cluster->datacenter);
    row->headend_url = keep(p, cluster->headend_url);
    row->created_unix_ms = cluster->created_unix_ms;
    return tob_arena_error(p->arena);
}

static tob_error page_client(void *user, const tob_registry_client *client) {
    page *p = user;
    Tobogganing__V1__Client *row = NULL;
    size_t text_bytes =
        strlen(client->id) + strlen(client->name) + strlen(client->type) + strlen(client->cluster_id);
    tob_error err = page_row(p, sizeof(*row), text_bytes, (void **)&row);
    if (err) {
        return err;
    }
    tobogganing__v1__client__init(row);
    row->client_id = keep(p, client->id);
    row->name = keep(p, client->name);
    row->type = keep(p, client->type);
    row->cluster_id = keep(p, client->cluster_id);
    row->created_unix_ms = client->created_unix_ms;
    row->revoked_unix_ms = client->revoked_unix_ms;
    return tob_arena_error(p->arena);
}

static tob_error page_headend(void *user, const tob_registry_headend *headend) {
    page *p = user;
    Tobogganing__V1__Headend *row = NULL;
    size_t text_bytes = strlen(headend->id) + strlen(headend->name) + strlen(headend->cluster_id);
    tob_error err = page_row(p, sizeof(*row), text_bytes, (void **)&row);
    if (err) {
        return err;
    }
    tobogganing__v1__headend__init(row);
    row->headend_id = keep(p, headend->id);
    row->name = keep(p, headend->name);
    row->cluster_id = keep(p, headend->cluster_id);
    row->created_unix_ms = headend->created_unix_ms;
    return tob_arena_error(p->arena);
}

// Checks a list request and begins its page. False when the call has been answered.
static bool page_begin(tob_rpc_call *call, const Tobogganing__V1__ListRequest *request, page *ret) {
    if (!tob_field_optional_id(call, "page", request->page) ||
        !tob_field_at_most(call, "page_size", request->page_size, TOB_REGISTRY_MAX_PAGE_ROWS)) {
        return false;
    }
    page p = {.arena = tob_rpc_call_arena(call),
              .max = request->page_size ? request->page_size : TOB_REGISTRY_DEFAULT_PAGE_ROWS};
    p.rows = tob_arena_alloc(p.arena, p.max * sizeof(*p.rows));
    if (!p.rows) {
        tob_error err = tob_arena_error(p.arena);
        tob_rpc_fail(call, err, 0, "page_size: %s", tob_error_string(err));
        return false;
    }
    *ret = p;
    return true;
}

// False when the call has been answered with an error.
static bool page_end(tob_registry_service_arg s, tob_rpc_call *call, const page *p, tob_error err) {
    if (!err || err == PAGE_FULL) {
        return true;
    }
    if (tob_arena_error(p->arena)) {
        tob_rpc_fail(call, err, 0, "page_size: the page is %s", tob_error_string(err));
    } else {
        tob_registry_fail(s, call, err, "page");
    }
    return false;
}

void tob_registry_method_list_clusters(tob_registry_service_arg s, tob_rpc_call *call,
                                       const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    page p;
    if (!page_begin(call, request, &p)) {
        return;
    }
    tob_error err =
        tob_registry_list_clusters(s->registry, request->page, (uint32_t)p.max + 1, page_cluster, &p);
    if (!page_end(s, call, &p, err)) {
        return;
    }
    Tobogganing__V1__ListClustersResponse response = TOBOGGANING__V1__LIST_CLUSTERS_RESPONSE__INIT;
    response.clusters = (Tobogganing__V1__Cluster **)p.rows;
    response.n_clusters = p.count;
    response.next_page = p.more ? response.clusters[p.count - 1]->cluster_id : response.next_page;
    tob_rpc_reply(call, &response.base);
}

void tob_registry_method_list_clients(tob_registry_service_arg s, tob_rpc_call *call,
                                      const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    page p;
    if (!page_begin(call, request, &p)) {
        return;
    }
    tob_error err =
        tob_registry_list_clients(s->registry, request->page, (uint32_t)p.max + 1, page_client, &p);
    if (!page_end(s, call, &p, err)) {
        return;
    }
    Tobogganing__V1__ListClientsResponse response = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    response.clients = (Tobogganing__V1__Client **)p.rows;
    response.n_clients = p.count;
    response.next_page = p.more ? response.clients[p.count - 1]->client_id : response.next_page;
    tob_rpc_reply(call, &response.base);
}

void tob_registry_method_list_headends(tob_registry_service_arg s, tob_rpc_call *call,
                                       const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    page p;
    if (!page_begin(call, request, &p)) {
        return;
    }
    tob_error err =
        tob_registry_list_headends(s->registry, request->page, (uint32_t)p.max + 1, page_headend, &p);
    if (!page_end(s, call, &p, err)) {
        return;
    }
    Tobogganing__V1__ListHeadendsResponse response = TOBOGGANING__V1__LIST_HEADENDS_RESPONSE__INIT;
    response.headends = (Tobogganing__V1__Headend **)p.rows;
    response.n_headends = p.count;
    response.next_page = p.more ? response.headends[p.count - 1]->headend_id : response.next_page;
    tob_rpc_reply(call, &response.base);
}
