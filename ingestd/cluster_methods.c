#include <string.h>

#include "ingestd/registry_fields.h"
#include "ingestd/registry_kind.h"
#include "ingestd/registry_rows.h"
#include "util/clock.h"
#include "util/log.h"

#define NO_SUCH "cluster_id", "cluster"

static const char *id_of(const ProtobufCMessage *message) {
    return ((const Tobogganing__V1__ClusterId *)message)->cluster_id;
}

static tob_error read_row(tob_registry_call *call, const char *id, const ProtobufCMessage **ret) {
    Tobogganing__V1__Cluster *cluster = NULL;
    tob_error err = tob_read_cluster(call, id, &cluster);
    *ret = err ? *ret : &cluster->base;
    return err;
}

static const tob_registry_kind kind = {NO_SUCH, read_row};

// ---- adding

static bool check_addition(tob_registry_call *call, const Tobogganing__V1__AddClusterRequest *request) {
    return tob_field_optional_id(call->call, "cluster_id", request->cluster_id) &&
           tob_field_name(call->call, "name", request->name) &&
           tob_field_name(call->call, "region", request->region) &&
           tob_field_name(call->call, "datacenter", request->datacenter) &&
           tob_field_url(call->call, "headend_url", request->headend_url);
}

// The host of "scheme://user@host:port/path", of "host:port" or "[address]:port" (RFC 3986 §3.2), in the arena. NULL without
// memory; "" when there is none.
static const char *host_of(tob_arena *arena, const char *url) {
    const char *scheme = strstr(url, "://");
    const char *host = scheme ? scheme + 3 : url;
    size_t authority = strcspn(host, "/?#"), len = 0;
    const char *at = memchr(host, '@', authority);
    if (at) {
        authority -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    if (*host == '[') {
        host++;
        len = strcspn(host, "]");
    } else {
        len = strcspn(host, ":/?#");
    }
    char *copy = tob_arena_alloc(arena, len + 1);
    if (copy) {
        memcpy(copy, host, len);
        copy[len] = 0;
    }
    return copy;
}

// False: answered.
static bool issue(tob_registry_call *call, const Tobogganing__V1__AddClusterRequest *request, const char *id,
                  Tobogganing__V1__IssuedCertificate *ret) {
    const char *host = host_of(call->arena, request->headend_url);
    if (!host) {
        return tob_registry_call_end(call, TOB_NO_MEMORY, NO_SUCH);
    }
    return tob_registry_call_issue(call, "headend", id, &host, *host ? 1 : 0, request->certificate, ret);
}

// Everything inside the change. False: answered.
static bool carry_out_addition(tob_registry_call *call, const Tobogganing__V1__AddClusterRequest *request,
                               const tob_registry_cluster *cluster,
                               Tobogganing__V1__AddClusterResponse *response) {
    if (!tob_registry_call_begin(call)) {
        return false;
    }
    tob_error err = tob_registry_add_cluster(call->service->registry, cluster);
    if (!err) {
        err = tob_read_cluster(call, cluster->id, &response->cluster);
    }
    if (!err && request->certificate && !issue(call, request, cluster->id, response->certificate)) {
        return false;
    }
    return tob_registry_call_end(call, err, NO_SUCH);
}

static void add_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddClusterRequest *request = (const Tobogganing__V1__AddClusterRequest *)message;
    Tobogganing__V1__AddClusterResponse response = TOBOGGANING__V1__ADD_CLUSTER_RESPONSE__INIT;
    Tobogganing__V1__IssuedCertificate certificate = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;
    char made[TOB_MAX_ID_BYTES + 1];
    if (!check_addition(call, request)) {
        return;
    }
    tob_make_id("cl-", made);
    tob_registry_cluster cluster = {.id = *request->cluster_id ? request->cluster_id : made,
                                    .region = request->region,
                                    .datacenter = request->datacenter,
                                    .headend_url = request->headend_url,
                                    .created_unix_ms = tob_clock_unix_ms()};
    cluster.name = *request->name ? request->name : cluster.id;
    response.certificate = request->certificate ? &certificate : NULL;
    if (!carry_out_addition(call, request, &cluster, &response)) {
        return;
    }
    if (request->certificate) {
        tob_registry_count_issued(call, "headend");
    }
    tob_info("cluster_added", TOB_STR("cluster_id", cluster.id));
    tob_rpc_reply(call->call, &response.base);
}

// ---- reading

static void get_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_get(call, &kind, id_of(message));
}

static void list_clusters(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    tob_rows rows;
    if (!tob_rows_begin(call, request, &rows)) {
        return;
    }
    tob_error err = tob_registry_list_clusters(call->service->registry, request->page,
                                               (uint32_t)rows.page.max + 1, tob_rows_cluster, &rows);
    if (!tob_registry_page_end(call, err)) {
        return;
    }
    Tobogganing__V1__ListClustersResponse response = TOBOGGANING__V1__LIST_CLUSTERS_RESPONSE__INIT;
    response.clusters = (Tobogganing__V1__Cluster **)rows.page.rows;
    response.n_clusters = rows.page.count;
    if (rows.page.more) {
        response.next_page = response.clusters[rows.page.count - 1]->cluster_id;
    }
    tob_rpc_reply(call->call, &response.base);
}

// ---- changing

static const char *const changeable[] = {"name", "region", "datacenter", "headend_url", NULL};

static bool check_update(tob_registry_call *call, const Tobogganing__V1__UpdateClusterRequest *request,
                         uint32_t *ret_mask) {
    uint32_t mask = 0;
    if (!tob_field_id(call->call, "cluster_id", request->cluster_id) ||
        !tob_field_mask(call->call, request->update_mask, request->n_update_mask, changeable, &mask) ||
        ((mask & 1) && !tob_field_name(call->call, "name", request->name)) ||
        ((mask & 2) && !tob_field_name(call->call, "region", request->region)) ||
        ((mask & 4) && !tob_field_name(call->call, "datacenter", request->datacenter)) ||
        ((mask & 8) && !tob_field_url(call->call, "headend_url", request->headend_url))) {
        return false;
    }
    *ret_mask = mask;
    return true;
}

static void update_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__UpdateClusterRequest *request =
        (const Tobogganing__V1__UpdateClusterRequest *)message;
    Tobogganing__V1__Cluster *now = NULL;
    uint32_t mask = 0;
    if (!check_update(call, request, &mask) || !tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_read_cluster(call, request->cluster_id, &now);
    if (err) {
        (void)!tob_registry_call_end(call, err, NO_SUCH);
        return;
    }
    const char *name = *request->name ? request->name : request->cluster_id;
    tob_registry_cluster cluster = {.id = request->cluster_id,
                                    .name = mask & 1 ? name : now->name,
                                    .region = mask & 2 ? request->region : now->region,
                                    .datacenter = mask & 4 ? request->datacenter : now->datacenter,
                                    .headend_url = mask & 8 ? request->headend_url : now->headend_url};
    err = tob_registry_update_cluster(call->service->registry, &cluster);
    tob_kind_end_update(call, &kind, request->cluster_id, err, "cluster_updated");
}

static void revoke_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_act(call, &kind, id_of(message), tob_registry_revoke_cluster, "cluster_revoked");
}

static void delete_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    static const Tobogganing__V1__DeleteResponse response = TOBOGGANING__V1__DELETE_RESPONSE__INIT;
    if (!tob_field_id(call->call, "cluster_id", id_of(message)) || !tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_registry_delete_cluster(call->service->registry, id_of(message));
    if (err == TOB_PRECONDITION) {
        tob_registry_call_refuse(call, err, "cluster_id: clients or headends belong to it");
    } else if (tob_registry_call_end(call, err, NO_SUCH)) {
        tob_info("cluster_deleted", TOB_STR("cluster_id", id_of(message)));
        tob_rpc_reply(call->call, &response.base);
    }
}

// ---- heartbeats

// Is the caller a headend of the cluster, or an admin? False: answered.
static bool check_headend(tob_registry_call *call, const char *cluster_id) {
    tob_directory *directory = call->service->directory;
    if (!call->headend_id) {
        return true;
    }
    tob_directory_read_lock(directory);
    const tob_directory_headend *headend =
        tob_directory_find_headend(directory, call->headend_id, strlen(call->headend_id));
    bool belongs = headend && strcmp(headend->cluster_id, cluster_id) == 0;
    tob_directory_read_unlock(directory);
    if (!belongs) {
        tob_rpc_fail(call->call, TOB_PERMISSION_DENIED, 0,
                     "cluster_id: the token is not of a headend of this cluster");
    }
    return belongs;
}

static void heartbeat_cluster(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__HeartbeatClusterRequest *request =
        (const Tobogganing__V1__HeartbeatClusterRequest *)message;
    Tobogganing__V1__Cluster *cluster = NULL;
    if (!tob_field_id(call->call, "cluster_id", request->cluster_id) ||
        !tob_field_at_most(call->call, "client_count", request->client_count, INT64_MAX) ||
        !check_headend(call, request->cluster_id)) {
        return;
    }
    tob_error err = tob_registry_heartbeat_cluster(call->service->registry, request->cluster_id,
                                                   request->client_count, tob_clock_unix_ms());
    if (err == TOB_PRECONDITION) {
        tob_rpc_fail(call->call, err, 0, "cluster_id: the cluster is revoked");
        return;
    }
    if (!err) {
        err = tob_read_cluster(call, request->cluster_id, &cluster);
    }
    if (err) {
        tob_registry_call_fail(call, err, NO_SUCH);
        return;
    }
    tob_rpc_reply(call->call, &cluster->base);
}

const tob_registry_method tob_cluster_methods[] = {
    {"AddCluster", TOB_ACCESS_ADMIN, add_cluster},
    {"GetCluster", TOB_ACCESS_ADMIN, get_cluster},
    {"ListClusters", TOB_ACCESS_ADMIN, list_clusters},
    {"UpdateCluster", TOB_ACCESS_ADMIN, update_cluster},
    {"RevokeCluster", TOB_ACCESS_ADMIN, revoke_cluster},
    {"DeleteCluster", TOB_ACCESS_ADMIN, delete_cluster},
    {"HeartbeatCluster", TOB_ACCESS_ADMIN_OR_HEADEND, heartbeat_cluster},
    {.name = NULL},
};
