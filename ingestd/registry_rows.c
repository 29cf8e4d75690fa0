#include "ingestd/registry_rows.h"

#include <string.h>

#include "ingestd/registry_fields.h"
#include "util/clock.h"

static tob_error fill_client(tob_arena *arena, const tob_registry_client *client, uint64_t now_unix_ms,
                             Tobogganing__V1__Client *to) {
    to->client_id = tob_registry_text(arena, client->id);
    to->name = tob_registry_text(arena, client->name);
    to->type = tob_registry_text(arena, client->type);
    to->cluster_id = tob_registry_text(arena, client->cluster_id);
    to->public_key = tob_registry_text(arena, client->public_key);
    to->location = tob_registry_text(arena, client->location);
    to->created_unix_ms = client->created_unix_ms;
    to->revoked_unix_ms = client->revoked_unix_ms;
    to->key_generation = client->key_generation;
    to->key_created_unix_ms = client->key_created_unix_ms;
    bool overlap = client->previous_key_expires_unix_ms > now_unix_ms;
    to->previous_key_expires_unix_ms = overlap ? client->previous_key_expires_unix_ms : 0;
    return tob_arena_error(arena);
}

static tob_error fill_cluster(tob_arena *arena, const tob_registry_cluster *cluster, uint64_t now_unix_ms,
                              Tobogganing__V1__Cluster *to) {
    to->cluster_id = tob_registry_text(arena, cluster->id);
    to->name = tob_registry_text(arena, cluster->name);
    to->region = tob_registry_text(arena, cluster->region);
    to->datacenter = tob_registry_text(arena, cluster->datacenter);
    to->headend_url = tob_registry_text(arena, cluster->headend_url);
    to->created_unix_ms = cluster->created_unix_ms;
    to->revoked_unix_ms = cluster->revoked_unix_ms;
    to->heartbeat_unix_ms = cluster->heartbeat_unix_ms;
    to->client_count = cluster->client_count;
    to->status = (char *)tob_registry_cluster_status(cluster, now_unix_ms);
    to->registered_clients = cluster->registered_clients;
    return tob_arena_error(arena);
}

static tob_error fill_headend(tob_arena *arena, const tob_registry_headend *headend,
                              Tobogganing__V1__Headend *to) {
    to->headend_id = tob_registry_text(arena, headend->id);
    to->name = tob_registry_text(arena, headend->name);
    to->cluster_id = tob_registry_text(arena, headend->cluster_id);
    to->created_unix_ms = headend->created_unix_ms;
    to->revoked_unix_ms = headend->revoked_unix_ms;
    to->tokens_not_before_unix_s = headend->tokens_not_before_unix_s;
    return tob_arena_error(arena);
}

// ---- pages

bool tob_rows_begin(tob_registry_call *call, const Tobogganing__V1__ListRequest *request, tob_rows *ret) {
    *ret = (tob_rows){.now_unix_ms = tob_clock_unix_ms(), .with_key_hashes = request->with_key_hashes};
    return tob_field_optional_id(call->call, "page", request->page) &&
           tob_registry_page_begin(call, request->page_size, &ret->page);
}

tob_error tob_rows_client(void *user, const tob_registry_client *client) {
    tob_rows *rows = user;
    Tobogganing__V1__Client *row = NULL;
    size_t bytes = strlen(client->id) + strlen(client->name) + strlen(client->type) +
                   strlen(client->cluster_id) + strlen(client->public_key) + strlen(client->location) +
                   (rows->with_key_hashes ? TOB_SHA256_BYTES : 0);
    tob_error err =
        tob_registry_page_row(&rows->page, &tobogganing__v1__client__descriptor, bytes, (void **)&row);
    if (!err) {
        err = fill_client(rows->page.arena, client, rows->now_unix_ms, row);
    }
    if (err || !rows->with_key_hashes) {
        return err;
    }
    row->key_sha256.data = tob_arena_alloc(rows->page.arena, TOB_SHA256_BYTES);
    if (!row->key_sha256.data) {
        return tob_arena_error(rows->page.arena);
    }
    row->key_sha256.len = TOB_SHA256_BYTES;
    memcpy(row->key_sha256.data, client->key_hash, TOB_SHA256_BYTES);
    return TOB_OK;
}

tob_error tob_rows_cluster(void *user, const tob_registry_cluster *cluster) {
    tob_rows *rows = user;
    Tobogganing__V1__Cluster *row = NULL;
    size_t bytes = strlen(cluster->id) + strlen(cluster->name) + strlen(cluster->region) +
                   strlen(cluster->datacenter) + strlen(cluster->headend_url);
    tob_error err =
        tob_registry_page_row(&rows->page, &tobogganing__v1__cluster__descriptor, bytes, (void **)&row);
    return err ? err : fill_cluster(rows->page.arena, cluster, rows->now_unix_ms, row);
}

tob_error tob_rows_headend(void *user, const tob_registry_headend *headend) {
    tob_rows *rows = user;
    Tobogganing__V1__Headend *row = NULL;
    size_t bytes = strlen(headend->id) + strlen(headend->name) + strlen(headend->cluster_id);
    tob_error err =
        tob_registry_page_row(&rows->page, &tobogganing__v1__headend__descriptor, bytes, (void **)&row);
    return err ? err : fill_headend(rows->page.arena, headend, row);
}

// ---- one row: a page of it

static tob_rows only_row(tob_registry_call *call, void **row) {
    return (tob_rows){.page = {.arena = call->arena, .rows = row, .max = 1},
                      .now_unix_ms = tob_clock_unix_ms()};
}

tob_error tob_read_client(tob_registry_call *call, const char *id, Tobogganing__V1__Client **ret) {
    void *row = NULL;
    tob_rows one = only_row(call, &row);
    tob_error err = tob_registry_get_client(call->service->registry, id, tob_rows_client, &one);
    *ret = err ? *ret : row;
    return err;
}

tob_error tob_read_cluster(tob_registry_call *call, const char *id, Tobogganing__V1__Cluster **ret) {
    void *row = NULL;
    tob_rows one = only_row(call, &row);
    tob_error err = tob_registry_get_cluster(call->service->registry, id, tob_rows_cluster, &one);
    *ret = err ? *ret : row;
    return err;
}

tob_error tob_read_headend(tob_registry_call *call, const char *id, Tobogganing__V1__Headend **ret) {
    void *row = NULL;
    tob_rows one = only_row(call, &row);
    tob_error err = tob_registry_get_headend(call->service->registry, id, tob_rows_headend, &one);
    *ret = err ? *ret : row;
    return err;
}
