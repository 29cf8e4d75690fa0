#include "ingestd/registry_methods.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/committer.h"
#include "ingestd/registry_fields.h"
#include "util/clock.h"
#include "util/log.h"
#include "wire/metrics.h"

void tob_registry_fail(tob_registry_service_arg s, tob_rpc_call *call, tob_error err, const char *id_field) {
    if (err == TOB_ALREADY_EXISTS) {
        tob_rpc_fail(call, err, 0, "%s: is taken", id_field);
    } else if (err == TOB_NOT_FOUND) {
        tob_rpc_fail(call, err, 0, "cluster_id: no such cluster");
    } else {
        tob_err("registry_failed", TOB_ERR(err), TOB_STR("problem", tob_registry_last_problem(s->registry)));
        tob_rpc_fail(call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "the registry's database failed: %s",
                     tob_error_string(err));
    }
}

// It is in the database and not in the directory: only without memory.
static void fail_directory(tob_rpc_call *call, tob_error err) {
    tob_err("directory_failed", TOB_ERR(err));
    tob_rpc_fail(call, err, 0, "stored, but not in effect before the next start: %s", tob_error_string(err));
}

static void add_cluster(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddClusterRequest *request = (const Tobogganing__V1__AddClusterRequest *)message;
    char made[TOB_MAX_ID_BYTES + 1];
    if (!tob_field_optional_id(call, "cluster_id", request->cluster_id) ||
        !tob_field_name(call, "name", request->name) || !tob_field_name(call, "region", request->region) ||
        !tob_field_name(call, "datacenter", request->datacenter) ||
        !tob_field_url(call, "headend_url", request->headend_url)) {
        return;
    }
    tob_make_id("cl-", made);
    Tobogganing__V1__Cluster response = TOBOGGANING__V1__CLUSTER__INIT;
    response.cluster_id = *request->cluster_id ? request->cluster_id : made;
    response.name = *request->name ? request->name : response.cluster_id;
    response.region = request->region;
    response.datacenter = request->datacenter;
    response.headend_url = request->headend_url;
    response.created_unix_ms = tob_clock_unix_ms();
    tob_registry_cluster cluster = {.id = response.cluster_id,
                                    .name = response.name,
                                    .region = response.region,
                                    .datacenter = response.datacenter,
                                    .headend_url = response.headend_url,
                                    .created_unix_ms = response.created_unix_ms};
    tob_error err = tob_registry_add_cluster(s->registry, &cluster);
    if (err) {
        tob_registry_fail(s, call, err, "cluster_id");
        return;
    }
    tob_directory_count_cluster(s->directory);
    tob_info("cluster_added", TOB_STR("cluster_id", cluster.id));
    tob_rpc_reply(call, &response.base);
}

static void add_client(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddClientRequest *request = (const Tobogganing__V1__AddClientRequest *)message;
    char made[TOB_MAX_ID_BYTES + 1], key[TOB_API_KEY_BYTES];
    const char *type = *request->type ? request->type : "native";
    if (!tob_field_optional_id(call, "client_id", request->client_id) ||
        !tob_field_name(call, "name", request->name) || !tob_field_client_type(call, "type", type) ||
        !tob_field_optional_id(call, "cluster_id", request->cluster_id)) {
        return;
    }
    tob_make_id("c-", made);
    tob_make_api_key(key);
    tob_registry_client client = {.id = *request->client_id ? request->client_id : made,
                                  .type = type,
                                  .cluster_id = request->cluster_id,
                                  .created_unix_ms = tob_clock_unix_ms()};
    client.name = *request->name ? request->name : client.id;
    tob_sha256(key, strlen(key), client.key_hash);
    tob_error err = tob_registry_add_client(s->registry, &client);
    if (err) {
        tob_registry_fail(s, call, err, "client_id");
        goto out;
    }
    tob_directory_client row = tob_registry_directory_client(&client);
    err = tob_directory_put_client(s->directory, &row);
    if (err) {
        fail_directory(call, err);
        goto out;
    }
    tob_info("client_added", TOB_STR("client_id", client.id));
    Tobogganing__V1__Client added = TOBOGGANING__V1__CLIENT__INIT;
    added.client_id = (char *)client.id;
    added.name = (char *)client.name;
    added.type = (char *)client.type;
    added.cluster_id = (char *)client.cluster_id;
    added.created_unix_ms = client.created_unix_ms;
    Tobogganing__V1__AddClientResponse response = TOBOGGANING__V1__ADD_CLIENT_RESPONSE__INIT;
    response.client = &added;
    response.api_key = key;
    tob_rpc_reply(call, &response.base);
out:
    OPENSSL_cleanse(key, sizeof(key));
}

// Answers for a failed call about the one row of an id.
static void fail_row(tob_registry_service_arg s, tob_rpc_call *call, tob_error err, const char *id_field,
                     const char *what) {
    if (err == TOB_NOT_FOUND) {
        tob_rpc_fail(call, err, 0, "%s: no such %s", id_field, what);
    } else {
        tob_registry_fail(s, call, err, id_field);
    }
}

// A revocation that is in the database, on its way into the directory and the answer.
typedef struct revocation {
    tob_registry_service_arg service;
    tob_rpc_call *call;
} revocation;

static tob_error finish_revocation(void *user, const tob_registry_client *client) {
    const revocation *r = user;
    tob_directory_client row = tob_registry_directory_client(client);
    tob_error err = tob_directory_put_client(r->service->directory, &row);
    if (err) {
        fail_directory(r->call, err);
        return TOB_OK; // answered
    }
    tob_info("client_revoked", TOB_STR("client_id", client->id));
    Tobogganing__V1__Client response = TOBOGGANING__V1__CLIENT__INIT;
    response.client_id = (char *)client->id;
    response.name = (char *)client->name;
    response.type = (char *)client->type;
    response.cluster_id = (char *)client->cluster_id;
    response.created_unix_ms = client->created_unix_ms;
    response.revoked_unix_ms = client->revoked_unix_ms;
    tob_rpc_reply(r->call, &response.base);
    return TOB_OK;
}

static void revoke_client(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__RevokeClientRequest *request =
        (const Tobogganing__V1__RevokeClientRequest *)message;
    if (!tob_field_id(call, "client_id", request->client_id)) {
        return;
    }
    revocation r = {.service = s, .call = call};
    tob_error err = tob_registry_revoke_client(s->registry, request->client_id, tob_clock_unix_ms());
    if (!err) {
        err = tob_registry_get_client(s->registry, request->client_id, finish_revocation, &r);
    }
    if (err) {
        fail_row(s, call, err, "client_id", "client");
    }
}

// The committer, which owns the fleet's rows, has the last part: it answers.
static void delete_client(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const char *id = ((const Tobogganing__V1__DeleteClientRequest *)message)->client_id;
    if (!tob_field_id(call, "client_id", id)) {
        return;
    }
    tob_error err = tob_registry_delete_client(s->registry, id);
    if (err) {
        fail_row(s, call, err, "client_id", "client");
        return;
    }
    tob_directory_remove_client(s->directory, id);
    tob_info("client_deleted", TOB_STR("client_id", id));
    tob_committer_remove(s->committer, call, TOB_SOURCE_CLIENT, id);
}

static void delete_headend(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const char *id = ((const Tobogganing__V1__DeleteHeadendRequest *)message)->headend_id;
    if (!tob_field_id(call, "headend_id", id)) {
        return;
    }
    tob_error err = tob_registry_delete_headend(s->registry, id);
    if (err) {
        fail_row(s, call, err, "headend_id", "headend");
        return;
    }
    tob_directory_remove_headend(s->directory, id);
    tob_info("headend_deleted", TOB_STR("headend_id", id));
    tob_committer_remove(s->committer, call, TOB_SOURCE_HEADEND, id);
}

static tob_error put_headend(void *user, const tob_registry_headend *headend) {
    tob_directory_headend row = tob_registry_directory_headend(headend);
    return tob_directory_put_headend(user, &row);
}

static void add_headend(tob_registry_service_arg s, tob_rpc_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddHeadendRequest *request = (const Tobogganing__V1__AddHeadendRequest *)message;
    char made[TOB_MAX_ID_BYTES + 1];
    if (!tob_field_optional_id(call, "headend_id", request->headend_id) ||
        !tob_field_name(call, "name", request->name) ||
        !tob_field_optional_id(call, "cluster_id", request->cluster_id)) {
        return;
    }
    tob_make_id("h-", made);
    Tobogganing__V1__Headend response = TOBOGGANING__V1__HEADEND__INIT;
    response.headend_id = *request->headend_id ? request->headend_id : made;
    response.name = *request->name ? request->name : response.headend_id;
    response.cluster_id = request->cluster_id;
    response.created_unix_ms = tob_clock_unix_ms();
    tob_registry_headend headend = {.id = response.headend_id,
                                    .name = response.name,
                                    .cluster_id = response.cluster_id,
                                    .created_unix_ms = response.created_unix_ms};
    tob_error err = tob_registry_add_headend(s->registry, &headend);
    if (err) {
        tob_registry_fail(s, call, err, "headend_id");
        return;
    }
    // Read back, for its cluster's region and datacenter.
    err = tob_registry_get_headend(s->registry, headend.id, put_headend, s->directory);
    if (err) {
        fail_directory(call, err);
        return;
    }
    tob_info("headend_added", TOB_STR("headend_id", headend.id));
    tob_rpc_reply(call, &response.base);
}

static tob_error ignore_headend(void *user, const tob_registry_headend *headend) {
    (void)user, (void)headend; // that there is one is all we want to know
    return TOB_OK;
}

static void issue_headend_token(tob_registry_service_arg s, tob_rpc_call *call,
                                const ProtobufCMessage *message) {
    const Tobogganing__V1__IssueHeadendTokenRequest *request =
        (const Tobogganing__V1__IssueHeadendTokenRequest *)message;
    uint64_t ttl_s = request->ttl_s ? request->ttl_s : TOB_REGISTRY_DEFAULT_TTL_S;
    uint64_t now_s = tob_clock_unix_ms() / 1000;
    char *token = NULL;
    if (!tob_field_id(call, "headend_id", request->headend_id) ||
        !tob_field_at_most(call, "ttl_s", ttl_s, TOB_REGISTRY_MAX_TTL_S)) {
        return;
    }
    tob_error err = tob_registry_get_headend(s->registry, request->headend_id, ignore_headend, NULL);
    if (err) {
        fail_row(s, call, err, "headend_id", "headend");
        return;
    }
    err = tob_jwt_sign(s->jwt, request->headend_id, now_s, ttl_s, &token);
    if (err) {
        tob_err("signing_failed", TOB_ERR(err));
        tob_rpc_fail(call, err, 0, "the token can't be signed: %s", tob_error_string(err));
        return;
    }
    tob_info("headend_token_issued", TOB_STR("headend_id", request->headend_id), TOB_UINT("ttl_s", ttl_s));
    Tobogganing__V1__IssueHeadendTokenResponse response = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_RESPONSE__INIT;
    response.token = token;
    response.expires_unix_s = now_s + ttl_s;
    tob_rpc_reply(call, &response.base);
    OPENSSL_cleanse(token, strlen(token));
    free(token);
}

const tob_registry_method tob_registry_methods[TOB_REGISTRY_METHOD_COUNT] = {
    {"AddCluster", add_cluster},       {"ListClusters", tob_registry_method_list_clusters},
    {"AddClient", add_client},         {"ListClients", tob_registry_method_list_clients},
    {"RevokeClient", revoke_client},   {"DeleteClient", delete_client},
    {"AddHeadend", add_headend},       {"ListHeadends", tob_registry_method_list_headends},
    {"DeleteHeadend", delete_headend}, {"IssueHeadendToken", issue_headend_token},
};
