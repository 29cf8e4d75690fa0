#include "ingestd/client_erase.h"

#include <stdio.h>
#include <string.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/fleet.h"
#include "ingestd/registry_clients.h"
#include "ingestd/registry_fields.h"
#include "util/log.h"

static void remember(tob_erased *erased, const char *id, uint32_t fleet_rows) {
    size_t at = erased->next++ % TOB_ERASED_MAX;
    snprintf(erased->rows[at].client_id, sizeof(erased->rows[at].client_id), "%s", id);
    erased->rows[at].fleet_rows = fleet_rows;
}

static uint32_t remembered(const tob_erased *erased, const char *id) {
    uint32_t rows = 0;
    for (size_t i = 0; i < TOB_ERASED_MAX; i++) {
        if (strcmp(erased->rows[i].client_id, id) == 0) {
            rows = erased->rows[i].fleet_rows > rows ? erased->rows[i].fleet_rows : rows;
        }
    }
    return rows;
}

typedef struct look {
    const char *id;
    uint32_t rows;
} look;

static void look_for_row(const tob_committer_view *view, void *user) {
    look *l = user;
    l->rows = tob_fleet_find_client(tob_store_fleet(view->store), l->id, strlen(l->id)) != TOB_FLEET_NONE;
}

static tob_error see_client(void *user, const tob_registry_client *client) {
    (void)client;
    *(bool *)user = true;
    return TOB_OK;
}

static tob_error see_deletion(void *user, const tob_registry_deletion *deletion) {
    *(tob_registry_deletion *)user = *deletion; // its strings are not looked at
    return TOB_OK;
}

// What the registry has of the client before it is asked to erase it.
static tob_error read_state(tob_registry_call *call, const char *id, bool *ret_registered,
                            tob_registry_deletion *ret_note) {
    tob_registry *registry = call->service->registry;
    bool registered = false;
    tob_registry_deletion note = {.erase = false};
    tob_error err = tob_registry_get_client(registry, id, see_client, &registered);
    if (!err || err == TOB_NOT_FOUND) {
        err = tob_registry_get_deletion(registry, "client", id, see_deletion, &note);
    }
    if (err && err != TOB_NOT_FOUND) {
        return err;
    }
    *ret_registered = registered;
    *ret_note = note;
    return TOB_OK;
}

// Deletes the client, or says of one that was deleted that its reports are to go too. False: answered.
static bool begin_erasure(tob_registry_call *call, const char *id, tob_registry_deletion *ret_note) {
    look l = {.id = id};
    if (tob_committer_stalled(call->service->committer)) {
        tob_rpc_fail(call->call, TOB_UNAVAILABLE, TOB_REGISTRY_RETRY_MS, "the journal can't be written now");
        return false;
    }
    tob_committer_run(call->service->committer, look_for_row, &l);
    if (!tob_registry_call_begin(call)) {
        return false;
    }
    tob_error err = tob_registry_delete_client(call->service->registry, id, true);
    if (!err) {
        err = tob_registry_get_deletion(call->service->registry, "client", id, see_deletion, ret_note);
    }
    if (!tob_registry_call_end(call, err, "client_id", "client")) {
        return false;
    }
    remember(call->erased, id, l.rows);
    tob_info("client_erased", TOB_STR("client_id", id));
    return true;
}

// state: room for what the answer's strings are in
static void tell_progress(const tob_registry_call *call, const char *id, tob_erasure *state,
                          Tobogganing__V1__Erasure *response) {
    if (!call->service->eraser) {
        response->progress = (char *)"journal: nobody erases here";
        return;
    }
    if (!tob_eraser_get(call->service->eraser, id, state)) {
        response->done = true; // before the last start: the eraser hears of every erasure when it starts
        return;
    }
    response->done = state->done;
    response->progress = state->done ? response->progress : state->progress;
    response->problem = state->problem;
    response->segments = state->segments;
    response->segments_rewritten = state->segments_rewritten;
    response->records = state->records;
    response->samples = state->samples;
    response->checkpoints = state->checkpoints;
    response->finished_unix_ms = state->finished_unix_ms;
}

void tob_erase_client(tob_registry_call *call, const ProtobufCMessage *message) {
    char *id = ((const Tobogganing__V1__ClientId *)message)->client_id;
    bool registered = false;
    tob_registry_deletion note;
    tob_erasure state;
    if (!tob_field_id(call->call, "client_id", id)) {
        return;
    }
    tob_error err = read_state(call, id, &registered, &note);
    if (err) {
        tob_registry_call_fail(call, err, "client_id", "client");
        return;
    }
    if (registered || !note.erase) {
        if (!begin_erasure(call, id, &note)) {
            return;
        }
    } else {
        // Another process may have asked for it a moment ago: the eraser hears of that now.
        err = tob_registry_sync_run(call->service->sync);
        if (err) {
            tob_registry_call_fail(call, err, "client_id", "client");
            return;
        }
    }
    Tobogganing__V1__Erasure response = TOBOGGANING__V1__ERASURE__INIT;
    response.client_id = id;
    response.clients = 1;
    response.certificates = note.certificates;
    response.fleet_rows = remembered(call->erased, id);
    tell_progress(call, id, &state, &response);
    tob_rpc_reply(call->call, &response.base);
}
