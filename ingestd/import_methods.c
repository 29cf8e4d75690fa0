#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/imports.h"
#include "ingestd/registry_fields.h"
#include "ingestd/registry_rows.h"
#include "util/clock.h"
#include "util/log.h"

#define NAMED_BYTES 300 // of ids in an error's text

typedef const Tobogganing__V1__ImportedClient row;

// ---- checking

// The name of a field, made only when something is wrong with it.
typedef struct field_name {
    char text[48];
} field_name;

static const char *name_field(field_name *to, size_t i, const char *field) {
    snprintf(to->text, sizeof(to->text), "clients[%zu].%s", i, field);
    return to->text;
}

static bool check_hash(tob_registry_call *call, size_t i, row *r) {
    if (r->key_sha256.len == TOB_SHA256_BYTES) {
        return true;
    }
    tob_rpc_fail(call->call, TOB_INVALID, 0, "clients[%zu].key_sha256: must be %d bytes", i,
                 TOB_SHA256_BYTES);
    return false;
}

static bool check_row(tob_registry_call *call, size_t i, row *r) {
    field_name f;
    tob_rpc_call *to = call->call;
    return (tob_id_valid(r->client_id, strlen(r->client_id)) ||
            tob_field_id(to, name_field(&f, i, "client_id"), r->client_id)) &&
           (tob_name_valid(r->name, strlen(r->name)) ||
            tob_field_name(to, name_field(&f, i, "name"), r->name)) &&
           (!*r->type || tob_client_type_valid(r->type) ||
            tob_field_client_type(to, name_field(&f, i, "type"), r->type)) &&
           (!*r->cluster_id || tob_id_valid(r->cluster_id, strlen(r->cluster_id)) ||
            tob_field_id(to, name_field(&f, i, "cluster_id"), r->cluster_id)) &&
           (tob_url_valid(r->public_key) ||
            tob_field_url(to, name_field(&f, i, "public_key"), r->public_key)) &&
           (tob_name_valid(r->location, strlen(r->location)) ||
            tob_field_name(to, name_field(&f, i, "location"), r->location)) &&
           check_hash(call, i, r);
}

// ---- taking a chunk

static void fill(row *r, uint64_t now_unix_ms, tob_registry_client *to) {
    *to = (tob_registry_client){.id = r->client_id,
                                .name = *r->name ? r->name : r->client_id,
                                .type = *r->type ? r->type : "native",
                                .cluster_id = r->cluster_id,
                                .public_key = r->public_key,
                                .location = r->location,
                                .created_unix_ms = now_unix_ms};
    memcpy(to->key_hash, r->key_sha256.data, sizeof(to->key_hash));
}

static bool fail_stage(tob_registry_call *call, tob_error err) {
    if (err == TOB_TOO_LARGE) {
        tob_rpc_fail(call->call, err, 0, "clients: over %d in one import, or over %u MiB of text",
                     TOB_REGISTRY_MAX_IMPORT, TOB_IMPORTS_MAX_TEXT_BYTES >> 20);
    } else {
        tob_rpc_fail(call->call, err, 0, "clients: %s", tob_error_string(err));
    }
    return false;
}

static bool stage(tob_registry_call *call, tob_import *import,
                  const Tobogganing__V1__ImportClientsRequest *request) {
    size_t n = request->n_clients;
    uint64_t now_unix_ms = tob_clock_unix_ms();
    if (n > TOB_REGISTRY_MAX_IMPORT) {
        return fail_stage(call, TOB_TOO_LARGE);
    }
    tob_registry_client *clients = tob_arena_alloc(call->arena, (n ? n : 1) * sizeof(*clients));
    if (!clients) {
        return fail_stage(call, tob_arena_error(call->arena));
    }
    for (size_t i = 0; i < n; i++) {
        if (!check_row(call, i, request->clients[i])) {
            return false;
        }
        fill(request->clients[i], now_unix_ms, &clients[i]);
    }
    tob_error err = tob_import_add(import, clients, n);
    if (err) {
        return fail_stage(call, err);
    }
    import->sequence = request->sequence;
    return true;
}

// Finds or begins the import, and takes the chunk unless that was done. NULL: answered.
static tob_import *take_chunk(tob_registry_call *call, const Tobogganing__V1__ImportClientsRequest *request) {
    uint64_t now_ms = tob_clock_monotonic_ms();
    (void)tob_imports_expire(call->imports, now_ms);
    tob_import *import = tob_imports_find(call->imports, request->import_id);
    if (!import && request->sequence == 1) {
        tob_error err = tob_imports_begin(call->imports, request->import_id, now_ms, &import);
        if (err) {
            tob_rpc_fail(call->call, err, TOB_REGISTRY_RETRY_MS, "import_id: %d imports have begun already",
                         TOB_REGISTRY_MAX_IMPORTS);
            return NULL;
        }
    }
    if (!import || request->sequence > import->sequence + 1 ||
        (import->done && request->sequence > import->sequence)) {
        tob_rpc_fail(call->call, TOB_PRECONDITION, 0,
                     "sequence: the chunks before %" PRIu32 " are not here; begin again", request->sequence);
        return NULL;
    }
    import->used_ms = now_ms;
    if (request->sequence <= import->sequence || stage(call, import, request)) {
        return import;
    }
    if (import->sequence == 0) { // its place is not kept for what was refused from the start
        tob_import_drop(import);
    }
    return NULL;
}

// ---- committing

static void see_existing(void *user, const char *id) {
    tob_import_told *told = user;
    if (told->count < TOB_IMPORTS_MAX_TOLD) {
        snprintf(told->texts[told->count], sizeof(told->texts[0]), "%s", id);
        told->ids[told->count] = told->texts[told->count];
        told->count++;
    }
}

static void refuse_existing(tob_registry_call *call, const tob_import_told *told) {
    char named[NAMED_BYTES + TOB_MAX_ID_BYTES + 8];
    size_t used = 0;
    named[0] = 0;
    for (size_t i = 0; i < told->count && used < NAMED_BYTES; i++) {
        int n = snprintf(named + used, sizeof(named) - used, "%s%s", i ? ", " : "", told->ids[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    tob_registry_call_refuse(call, TOB_ALREADY_EXISTS,
                             "client_id: these are registered, or occur twice: %s%s", named,
                             used >= NAMED_BYTES ? " …" : "");
}

static void fail_commit(tob_registry_call *call, tob_error err, tob_import *import) {
    import->refused = err == TOB_ALREADY_EXISTS || err == TOB_NOT_FOUND || err == TOB_PRECONDITION;
    if (err == TOB_ALREADY_EXISTS && import->skipped->count) {
        refuse_existing(call, import->skipped);
    } else if (err == TOB_NOT_FOUND || err == TOB_PRECONDITION) { // of a cluster: the problem says which
        tob_registry_call_refuse(call, err, "cluster_id: %s",
                                 tob_registry_last_problem(call->service->registry));
    } else {
        (void)!tob_registry_call_end(call, err, "client_id", "client");
    }
}

// False: answered.
static bool commit(tob_registry_call *call, tob_import *import, bool skip_existing) {
    uint64_t added = 0;
    import->skipped = import->skipped ? import->skipped : malloc(sizeof(*import->skipped));
    if (!import->skipped) {
        return fail_stage(call, TOB_NO_MEMORY);
    }
    import->skipped->count = 0;
    if (!tob_registry_call_begin(call)) {
        return false;
    }
    tob_error err = tob_registry_import_clients(call->service->registry, import->clients, import->count,
                                                skip_existing, see_existing, import->skipped, &added);
    if (err) {
        fail_commit(call, err, import);
        return false;
    }
    if (!tob_registry_call_end(call, TOB_OK, "client_id", "client")) {
        return false;
    }
    import->done = true;
    import->added = (uint32_t)added;
    tob_import_clear(import);
    tob_info("clients_imported", TOB_UINT("clients", added), TOB_UINT("skipped", import->staged - added));
    return true;
}

static void import_clients(tob_registry_call *call, const ProtobufCMessage *message) {
    const Tobogganing__V1__ImportClientsRequest *request =
        (const Tobogganing__V1__ImportClientsRequest *)message;
    if (!request->import_id || !request->sequence) {
        tob_rpc_fail(call->call, TOB_INVALID, 0, "%s: must not be 0",
                     request->import_id ? "sequence" : "import_id");
        return;
    }
    tob_import *import = take_chunk(call, request);
    if (!import) {
        return;
    }
    if (request->commit && !import->done && !commit(call, import, request->skip_existing)) {
        return;
    }
    Tobogganing__V1__ImportClientsResponse response = TOBOGGANING__V1__IMPORT_CLIENTS_RESPONSE__INIT;
    response.staged = import->staged;
    if (import->done) {
        response.added = import->added;
        response.skipped = import->skipped->ids;
        response.n_skipped = import->skipped->count;
    }
    tob_rpc_reply(call->call, &response.base);
}

const tob_registry_method tob_import_methods[] = {
    {"ImportClients", TOB_ACCESS_ADMIN, import_clients},
    {.name = NULL},
};
