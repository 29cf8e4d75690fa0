#include <openssl/crypto.h>
#include <string.h>

#include "ingestd/client_erase.h"
#include "ingestd/registry_fields.h"
#include "ingestd/registry_kind.h"
#include "ingestd/registry_rows.h"
#include "util/clock.h"
#include "util/log.h"

#define NO_SUCH "client_id", "client"

static const char *id_of(const ProtobufCMessage *message) {
    return ((const Tobogganing__V1__ClientId *)message)->client_id;
}

static tob_error read_row(tob_registry_call *call, const char *id, const ProtobufCMessage **ret) {
    Tobogganing__V1__Client *client = NULL;
    tob_error err = tob_read_client(call, id, &client);
    *ret = err ? *ret : &client->base;
    return err;
}

static const tob_registry_kind kind = {NO_SUCH, read_row};

// ---- adding

// What is being made of an AddClientRequest.
typedef struct addition {
    char id[TOB_MAX_ID_BYTES + 1];
    char cluster_id[TOB_MAX_ID_BYTES + 1];
    char key[TOB_API_KEY_BYTES];
    tob_registry_client client;
} addition;

static bool check_addition(tob_registry_call *call, const Tobogganing__V1__AddClientRequest *request) {
    return tob_field_optional_id(call->call, "client_id", request->client_id) &&
           tob_field_name(call->call, "name", request->name) &&
           (!*request->type || tob_field_client_type(call->call, "type", request->type)) &&
           tob_field_optional_id(call->call, "cluster_id", request->cluster_id) &&
           tob_field_url(call->call, "public_key", request->public_key) &&
           tob_field_name(call->call, "location", request->location);
}

static void prepare(addition *a, const Tobogganing__V1__AddClientRequest *request) {
    tob_make_id("c-", a->id);
    tob_api_key_make(a->key);
    a->client = (tob_registry_client){.id = *request->client_id ? request->client_id : a->id,
                                      .type = *request->type ? request->type : "native",
                                      .cluster_id = request->cluster_id,
                                      .public_key = request->public_key,
                                      .location = request->location,
                                      .created_unix_ms = tob_clock_unix_ms()};
    a->client.name = *request->name ? request->name : a->client.id;
    tob_sha256(a->key, strlen(a->key), a->client.key_hash);
}

static tob_error choose_cluster(void *user, const tob_registry_cluster *cluster) {
    addition *a = user;
    strncpy(a->cluster_id, cluster->id, sizeof(a->cluster_id) - 1);
    a->client.cluster_id = a->cluster_id;
    return TOB_OK;
}

// Chooses a cluster if that is asked for. False: answered.
static bool place(tob_registry_call *call, const Tobogganing__V1__AddClientRequest *request, addition *a) {
    if (!request->place || *request->cluster_id) {
        return true;
    }
    tob_error err = tob_registry_place_client(call->service->registry, request->location,
                                              a->client.created_unix_ms, choose_cluster, a);
    if (err == TOB_NOT_FOUND) {
        tob_registry_call_refuse(call, TOB_ABORTED, "cluster_id: no active cluster has a headend_url");
        return false;
    }
    return !err || tob_registry_call_end(call, err, "cluster_id", "cluster");
}

// Everything inside the change. False: answered.
static bool carry_out_addition(tob_registry_call *call, const Tobogganing__V1__AddClientRequest *request,
                               addition *a, Tobogganing__V1__AddClientResponse *response) {
    if (!tob_registry_call_begin(call)) {
        return false;
    }
    if (!place(call, request, a)) {
        return false;
    }
    tob_error err = tob_registry_add_client(call->service->registry, &a->client);
    if (!err) {
        err = tob_read_client(call, a->client.id, &response->client);
    }
    if (!err && *a->client.cluster_id) {
        err = tob_read_cluster(call, a->client.cluster_id, &response->cluster);
    }
    if (!err && request->certificate) {
        if (!tob_registry_call_issue(call, "client", a->client.id, NULL, 0, request->certificate,
                                     response->certificate)) {
            return false;
        }
    }
    return tob_kind_end(call, &kind, err);
}

static void add_client(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__AddClientRequest *request = (const Tobogganing__V1__AddClientRequest *)message;
    Tobogganing__V1__AddClientResponse response = TOBOGGANING__V1__ADD_CLIENT_RESPONSE__INIT;
    Tobogganing__V1__IssuedCertificate certificate = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;
    addition a = {.id = ""};
    if (!check_addition(call, request)) {
        return;
    }
    prepare(&a, request);
    response.certificate = request->certificate ? &certificate : NULL;
    if (carry_out_addition(call, request, &a, &response)) {
        if (request->certificate) {
            tob_registry_count_issued(call, "client");
        }
        tob_info("client_added", TOB_STR("client_id", a.client.id),
                 TOB_STR("cluster_id", a.client.cluster_id));
        response.api_key = a.key;
        tob_rpc_reply(call->call, &response.base);
    }
    OPENSSL_cleanse(a.key, sizeof(a.key));
}

// ---- reading

static void get_client(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_get(call, &kind, id_of(message));
}

static void list_clients(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    tob_rows rows;
    if (!tob_rows_begin(call, request, &rows)) {
        return;
    }
    tob_error err = tob_registry_list_clients(call->service->registry, request->page,
                                              (uint32_t)rows.page.max + 1, tob_rows_client, &rows);
    if (!tob_registry_page_end(call, err)) {
        return;
    }
    Tobogganing__V1__ListClientsResponse response = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    response.clients = (Tobogganing__V1__Client **)rows.page.rows;
    response.n_clients = rows.page.count;
    if (rows.page.more) {
        response.next_page = response.clients[rows.page.count - 1]->client_id;
    }
    tob_rpc_reply(call->call, &response.base);
}

// ---- changing

static const char *const changeable[] = {"name", "type", "cluster_id", "public_key", "location", NULL};

// The mask's fields only: what the others hold does not matter.
static bool check_update(tob_registry_call *call, const Tobogganing__V1__UpdateClientRequest *request,
                         uint32_t *ret_mask) {
    uint32_t mask = 0;
    if (!tob_field_id(call->call, "client_id", request->client_id) ||
        !tob_field_mask(call->call, request->update_mask, request->n_update_mask, changeable, &mask) ||
        ((mask & 1) && !tob_field_name(call->call, "name", request->name)) ||
        ((mask & 2) && !tob_field_client_type(call->call, "type", request->type)) ||
        ((mask & 4) && !tob_field_optional_id(call->call, "cluster_id", request->cluster_id)) ||
        ((mask & 8) && !tob_field_url(call->call, "public_key", request->public_key)) ||
        ((mask & 16) && !tob_field_name(call->call, "location", request->location))) {
        return false;
    }
    *ret_mask = mask;
    return true;
}

static void update_client(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__UpdateClientRequest *request =
        (const Tobogganing__V1__UpdateClientRequest *)message;
    Tobogganing__V1__Client *now = NULL;
    uint32_t mask = 0;
    if (!check_update(call, request, &mask) || !tob_registry_call_begin(call)) {
        return;
    }
    tob_error err = tob_read_client(call, request->client_id, &now);
    if (err) {
        (void)!tob_registry_call_end(call, err, NO_SUCH);
        return;
    }
    const char *name = *request->name ? request->name : request->client_id;
    tob_registry_client client = {.id = request->client_id,
                                  .name = mask & 1 ? name : now->name,
                                  .type = mask & 2 ? request->type : now->type,
                                  .cluster_id = mask & 4 ? request->cluster_id : now->cluster_id,
                                  .public_key = mask & 8 ? request->public_key : now->public_key,
                                  .location = mask & 16 ? request->location : now->location};
    err = tob_registry_update_client(call->service->registry, &client);
    tob_kind_end_update(call, &kind, request->client_id, err, "client_updated");
}

// ---- keys

typedef struct own_key {
    const uint8_t *hash;
    bool good;
} own_key;

static tob_error see_own_key(void *user, const tob_registry_client *client) {
    own_key *own = user;
    tob_directory_previous_key previous = {.expires_unix_ms = client->previous_key_expires_unix_ms};
    tob_directory_client keys = {.previous_key = previous.expires_unix_ms ? &previous : NULL};
    memcpy(keys.key_hash, client->key_hash, sizeof(keys.key_hash));
    memcpy(previous.hash, client->previous_key_hash, sizeof(previous.hash));
    own->good = tob_directory_match_key(&keys, own->hash, tob_clock_unix_ms()) != TOB_KEY_WRONG;
    return TOB_OK;
}

// Since the door let the client in, its key may have been replaced: by a call before this one, or by another process of whose
// change the directory has not heard. Whoever has a key that is refused must not get a new one for it. False: answered.
static bool check_own_key(tob_registry_call *call) {
    own_key own = {.hash = call->client_key_hash};
    if (!call->client_id) {
        return true;
    }
    tob_error err = tob_registry_get_client(call->service->registry, call->client_id, see_own_key, &own);
    if (err && err != TOB_NOT_FOUND) {
        return tob_registry_call_end(call, err, NO_SUCH);
    }
    if (!own.good) {
        tob_registry_call_refuse(call, TOB_UNAUTHENTICATED, "credential: not this client's API key any more");
    }
    return own.good;
}

static void rotate_client_key(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__RotateClientKeyRequest *request =
        (const Tobogganing__V1__RotateClientKeyRequest *)message;
    Tobogganing__V1__RotateClientKeyResponse response = TOBOGGANING__V1__ROTATE_CLIENT_KEY_RESPONSE__INIT;
    char key[TOB_API_KEY_BYTES];
    uint8_t hash[TOB_SHA256_BYTES];
    if (!tob_field_id(call->call, "client_id", request->client_id) ||
        !tob_field_at_most(call->call, "grace_s", request->grace_s, TOB_REGISTRY_MAX_GRACE_S) ||
        !tob_registry_call_begin(call) || !check_own_key(call)) {
        return;
    }
    tob_api_key_make(key);
    tob_sha256(key, strlen(key), hash);
    uint64_t expires = request->grace_s ? tob_clock_unix_ms() + request->grace_s * 1000 : 0;
    tob_error err =
        tob_registry_rotate_client_key(call->service->registry, request->client_id, hash, expires);
    if (!err) {
        err = tob_read_client(call, request->client_id, &response.client);
    }
    if (err == TOB_PRECONDITION) {
        tob_registry_call_refuse(call, err, "client_id: the client is revoked");
    } else if (tob_registry_call_end(call, err, NO_SUCH)) {
        tob_info("client_key_rotated", TOB_STR("client_id", request->client_id),
                 TOB_UINT("grace_s", request->grace_s));
        response.api_key = key;
        tob_rpc_reply(call->call, &response.base);
    }
    OPENSSL_cleanse(key, sizeof(key));
}

// ---- what needs nothing but the id

static void revoke_previous_key(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_act(call, &kind, id_of(message), tob_registry_revoke_previous_key,
                 "client_previous_key_revoked");
}

static void revoke_client(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_act(call, &kind, id_of(message), tob_registry_revoke_client, "client_revoked");
}

static tob_error delete_row(tob_registry *registry, const char *id) {
    return tob_registry_delete_client(registry, id, false);
}

static void delete_client(tob_registry_call *call, const ProtobufCMessage *message) {
    tob_kind_delete(call, &kind, id_of(message), delete_row, "client_deleted", TOB_SOURCE_CLIENT);
}

const tob_registry_method tob_client_methods[] = {
    {"AddClient", TOB_ACCESS_ADMIN, add_client},
    {"GetClient", TOB_ACCESS_ADMIN, get_client},
    {"ListClients", TOB_ACCESS_ADMIN, list_clients},
    {"UpdateClient", TOB_ACCESS_ADMIN, update_client},
    {"RotateClientKey", TOB_ACCESS_ADMIN_OR_CLIENT, rotate_client_key},
    {"RevokePreviousKey", TOB_ACCESS_ADMIN, revoke_previous_key},
    {"RevokeClient", TOB_ACCESS_ADMIN, revoke_client},
    {"DeleteClient", TOB_ACCESS_ADMIN, delete_client},
    {"EraseClient", TOB_ACCESS_ADMIN, tob_erase_client},
    {.name = NULL},
};
