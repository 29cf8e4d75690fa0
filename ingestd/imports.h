// tob_imports keeps the chunks of imports until the one that commits. Inside the services only.
//
// Threads: the worker's.
// Errors:  TOB_NO_MEMORY.
#ifndef TOB_INGESTD_IMPORTS_H
#define TOB_INGESTD_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingestd/registry_clients.h"
#include "ingestd/registry_methods.h"
#include "util/text.h"
#include "wire/arena.h"

#define TOB_IMPORTS_MAX_TEXT_BYTES (128u << 20) // of one import's fields
#define TOB_IMPORTS_MAX_TOLD       1000         // ids that an answer names

// Ids that are left out.
typedef struct tob_import_told {
    char *ids[TOB_IMPORTS_MAX_TOLD];
    char texts[TOB_IMPORTS_MAX_TOLD][TOB_MAX_ID_BYTES + 1];
    size_t count;
} tob_import_told;

typedef struct tob_import {
    uint64_t id;       // 0: free
    uint32_t sequence; // of the last chunk that was taken
    uint64_t used_ms;  // monotonic
    tob_arena *arena;  // what the clients' strings are in
    tob_registry_client *clients;
    size_t count;
    size_t room;
    uint32_t staged; // so many were taken
    bool refused;    // it can't be committed as it is
    // Once it is committed: what was answered, for a call that is repeated.
    bool done;
    uint32_t added;
    tob_import_told *skipped;
} tob_import;

TOB_MUST_USE tob_error tob_imports_new(tob_imports **ret);
void tob_imports_free(tob_imports *imports);

// tob_imports_find finds one that has begun; NULL.
tob_import *tob_imports_find(tob_imports *imports, uint64_t id);

// tob_imports_begin makes one; the oldest that is done or refused makes room. Errors: TOB_BUSY over TOB_REGISTRY_MAX_IMPORTS.
TOB_MUST_USE tob_error tob_imports_begin(tob_imports *imports, uint64_t id, uint64_t now_ms,
                                         tob_import **ret);

// tob_imports_expire drops those that nobody has used for TOB_REGISTRY_IMPORT_IDLE_MS; true while there are others.
bool tob_imports_expire(tob_imports *imports, uint64_t now_ms);

// tob_import_add copies clients, all or none. Errors: TOB_TOO_LARGE over TOB_REGISTRY_MAX_IMPORT clients or
// TOB_IMPORTS_MAX_TEXT_BYTES.
TOB_MUST_USE tob_error tob_import_add(tob_import *import, const tob_registry_client *clients, size_t count);

// tob_import_clear gives back the memory of the clients, once they are in the registry.
void tob_import_clear(tob_import *import);

// tob_import_drop forgets all of it.
void tob_import_drop(tob_import *import);

#endif
