// tob_tombstones remembers which sources the bus removed while a snapshot is paged, so that a page which was
// made before the removal does not bring one back.
//
// Threads: one at a time.
#ifndef TOB_EXPORTER_TOMBSTONES_H
#define TOB_EXPORTER_TOMBSTONES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exporter/mirror.h"
#include "util/error.h"
#include "util/index.h"

#define TOB_TOMBSTONES_MAX 100000

typedef struct tob_tombstones {
    struct tob_tombstone {
        char *key; // one byte of kind, then the id
        size_t key_len;
        uint64_t sequence; // of the bucket's message that removed it
    } * stones;
    size_t count;
    size_t capacity;
    tob_index index;
} tob_tombstones;

void tob_tombstones_init(tob_tombstones *tombstones);
void tob_tombstones_fini(tob_tombstones *tombstones);

// tob_tombstones_clear forgets all.
void tob_tombstones_clear(tob_tombstones *tombstones);

// Errors: TOB_INVALID for an id, TOB_TOO_LARGE over TOB_TOMBSTONES_MAX, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_tombstones_add(tob_tombstones *tombstones, tob_source_kind kind, const char *id,
                                          uint64_t sequence);

// tob_tombstones_newer: was the source removed by a message after `sequence`?
bool tob_tombstones_newer(const tob_tombstones *tombstones, tob_source_kind kind, const char *id,
                          uint64_t sequence);

#endif
