#include "ingestd/registry_door.h"

#include <stdio.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "util/clock.h"

#define KEY_PREFIX "tobk_"

void tob_registry_door_init(tob_registry_door *door, const tob_registry_service_options *options) {
    door->credentials = options->credentials;
    tob_door_init(&door->admins, options->admin_secrets, "ADMIN_TOKEN", "admin", options->limiter,
                  options->process);
}

static bool name_actor(tob_registry_call *call, const char *kind, const char *name) {
    char who[TOB_REGISTRY_MAX_WHO_BYTES];
    const char *peer = tob_rpc_call_peer(call->call);
    snprintf(who, sizeof(who), "%s%s%s", kind, *name ? " " : "", name);
    call->actor.who = tob_arena_strdup(call->arena, who);
    call->actor.peer = strlen(peer) < TOB_REGISTRY_MAX_PEER_BYTES ? peer : "";
    if (!call->actor.who) {
        tob_rpc_fail(call->call, tob_arena_error(call->arena), 0, "the call: no memory for it");
    }
    return call->actor.who != NULL;
}

static bool refuse_claim(tob_registry_call *call, const tob_claim *claim) {
    tob_rpc_fail(call->call, claim->error, claim->retry_after_ms, "%s", claim->reason);
    return false;
}

// Is it meant as an API key? Ours tell by their form; those that were imported may have any.
static bool is_key(const tob_registry_call *call, const ProtobufCMessage *request, const char *token) {
    const char *id = ((const Tobogganing__V1__RotateClientKeyRequest *)request)->client_id;
    tob_directory *directory = call->service->directory;
    uint8_t hash[TOB_SHA256_BYTES];
    if (strncmp(token, KEY_PREFIX, sizeof(KEY_PREFIX) - 1) == 0) {
        return true;
    }
    tob_sha256(token, strlen(token), hash);
    tob_directory_read_lock(directory);
    const tob_directory_client *client = tob_directory_find_client(directory, id, strlen(id));
    bool fits = tob_directory_match_key(client, hash, tob_clock_unix_ms()) != TOB_KEY_WRONG;
    tob_directory_read_unlock(directory);
    return fits;
}

// Of RotateClientKey, the one method that a client may call for itself.
static bool open_for_client(const tob_registry_door *door, const ProtobufCMessage *request, const char *key,
                            tob_registry_call *call) {
    const char *id = ((const Tobogganing__V1__RotateClientKeyRequest *)request)->client_id;
    tob_claim claim = {.id = id, .credential = key};
    tob_credentials_clients(door->credentials, call->call, &claim, 1);
    if (claim.error) {
        return refuse_claim(call, &claim);
    }
    call->client_id = id;
    tob_sha256(key, strlen(key), call->client_key_hash);
    return name_actor(call, "client", id);
}

static bool open_for_headend(const tob_registry_door *door, const char *token, tob_registry_call *call) {
    char id[TOB_MAX_ID_BYTES + 1];
    tob_claim claim = {.id = "", .credential = token};
    tob_credentials_token(door->credentials, call->call, &claim, id);
    if (claim.error) {
        return refuse_claim(call, &claim);
    }
    call->headend_id = tob_arena_strdup(call->arena, id);
    if (!call->headend_id) {
        tob_rpc_fail(call->call, tob_arena_error(call->arena), 0, "the call: no memory for it");
        return false;
    }
    return name_actor(call, "headend", id);
}

// Only by its form: a JWS has two dots (RFC 7515 §7.1).
static bool looks_like_jwt(const char *token) {
    const char *first = strchr(token, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;
    return second && !strchr(second + 1, '.');
}

bool tob_registry_door_open(const tob_registry_door *door, tob_registry_access access,
                            const ProtobufCMessage *request, tob_registry_call *call) {
    char name[TOB_SECRET_NAME_BYTES];
    if (access == TOB_ACCESS_ALL) {
        return name_actor(call, "anybody", "");
    }
    if (tob_door_fits(&door->admins, call->call, name)) {
        return name_actor(call, "admin", name);
    }
    const char *token = tob_rpc_call_bearer(call->call);
    if (access == TOB_ACCESS_ADMIN_OR_CLIENT && token && is_key(call, request, token)) {
        return open_for_client(door, request, token, call);
    }
    if (access == TOB_ACCESS_ADMIN_OR_HEADEND && token && looks_like_jwt(token)) {
        return open_for_headend(door, token, call);
    }
    tob_door_refuse(&door->admins, call->call);
    return false;
}
