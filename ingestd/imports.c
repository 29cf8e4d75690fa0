#include "ingestd/imports.h"

#include <stdlib.h>

#define MIN_ROOM 1024

struct tob_imports {
    tob_import slots[TOB_REGISTRY_MAX_IMPORTS];
};

tob_error tob_imports_new(tob_imports **ret) {
    tob_imports *imports = calloc(1, sizeof(*imports));
    if (!imports) {
        return TOB_NO_MEMORY;
    }
    *ret = imports;
    return TOB_OK;
}

void tob_import_clear(tob_import *import) {
    free(import->clients);
    import->clients = NULL;
    import->count = import->room = 0;
    if (import->arena) {
        tob_arena_clear(import->arena);
    }
}

void tob_import_drop(tob_import *import) {
    tob_import_clear(import);
    tob_arena_free(import->arena);
    free(import->skipped);
    *import = (tob_import){.id = 0};
}

void tob_imports_free(tob_imports *imports) {
    if (!imports) {
        return;
    }
    for (size_t i = 0; i < TOB_REGISTRY_MAX_IMPORTS; i++) {
        tob_import_drop(&imports->slots[i]);
    }
    free(imports);
}

bool tob_imports_expire(tob_imports *imports, uint64_t now_ms) {
    bool others = false;
    for (size_t i = 0; i < TOB_REGISTRY_MAX_IMPORTS; i++) {
        tob_import *import = &imports->slots[i];
        if (import->id && now_ms - import->used_ms >= TOB_REGISTRY_IMPORT_IDLE_MS) {
            tob_import_drop(import);
        }
        others = others || import->id;
    }
    return others;
}

tob_import *tob_imports_find(tob_imports *imports, uint64_t id) {
    for (size_t i = 0; i < TOB_REGISTRY_MAX_IMPORTS; i++) {
        if (imports->slots[i].id == id) {
            return &imports->slots[i];
        }
    }
    return NULL;
}

tob_error tob_imports_begin(tob_imports *imports, uint64_t id, uint64_t now_ms, tob_import **ret) {
    tob_import *best = NULL;
    for (size_t i = 0; i < TOB_REGISTRY_MAX_IMPORTS; i++) {
        tob_import *import = &imports->slots[i];
        if (import->id && !import->done && !import->refused) {
            continue;
        }
        if (!best || !import->id || (best->id && import->used_ms < best->used_ms)) {
            best = import;
        }
    }
    if (!best) {
        return TOB_BUSY;
    }
    tob_import_drop(best);
    tob_error err = tob_arena_new(TOB_IMPORTS_MAX_TEXT_BYTES, &best->arena);
    if (err) {
        return err;
    }
    best->id = id;
    best->used_ms = now_ms;
    *ret = best;
    return TOB_OK;
}

static tob_error make_room(tob_import *import, size_t count) {
    size_t needed = import->count + count, room = import->room ? import->room : MIN_ROOM;
    if (count > TOB_REGISTRY_MAX_IMPORT || needed > TOB_REGISTRY_MAX_IMPORT) {
        return TOB_TOO_LARGE;
    }
    while (room < needed) {
        room *= 2;
    }
    if (room == import->room) {
        return TOB_OK;
    }
    tob_registry_client *clients = realloc(import->clients, room * sizeof(*clients));
    if (!clients) {
        return TOB_NO_MEMORY;
    }
    import->clients = clients;
    import->room = room;
    return TOB_OK;
}

// Without room for all of its strings, none is looked at: the arena's error says so.
static const char *keep(tob_import *import, const char *text) {
    return *text ? tob_arena_strdup(import->arena, text) : "";
}

tob_error tob_import_add(tob_import *import, const tob_registry_client *clients, size_t count) {
    tob_error err = make_room(import, count);
    for (size_t i = 0; i < count && !err; i++) {
        tob_registry_client *to = &import->clients[import->count + i];
        *to = clients[i];
        to->id = keep(import, clients[i].id);
        to->name = keep(import, clients[i].name);
        to->type = keep(import, clients[i].type);
        to->cluster_id = keep(import, clients[i].cluster_id);
        to->public_key = keep(import, clients[i].public_key);
        to->location = keep(import, clients[i].location);
        err = tob_arena_error(import->arena);
    }
    if (!err) {
        import->count += count;
        import->staged = (uint32_t)import->count;
    }
    return err;
}
