// tob_mirror is the exporter's copy of the fleet: rows of clients and headends as columns, in chunks that are
// only ever added. A source's label block is rendered when it changes, so a scrape copies it.
//
// Threads: one writer (the follower) calls _put, _remove, _begin_…, _end_…, _expire; it alone touches the
//          index. Any number of readers walk the chunks. A chunk's lock is held while one row is written or one
//          piece is rendered, never longer, so neither side waits for the other's work as a whole.
#ifndef TOB_EXPORTER_MIRROR_H
#define TOB_EXPORTER_MIRROR_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "wire/metrics.h"

#define TOB_MIRROR_CHUNK_ROWS      4096u
#define TOB_MIRROR_VALUES          5
#define TOB_MIRROR_LABELS          3
#define TOB_MIRROR_MAX_BLOCK_BYTES 2048 // 128 of id, three labels of 256 that all need escapes, their names
#define TOB_MIRROR_MAX_SOURCES     200000000u // of each kind

typedef struct tob_mirror tob_mirror;

// Clients' values are integers, headends' doubles; the order is wire/metrics.h's.
typedef union tob_value {
    uint64_t integer;
    double real;
} tob_value;

// One source's state as it arrives.
typedef struct tob_mirror_row {
    const char *id;
    const char *labels[TOB_MIRROR_LABELS]; // name, type, headless | name, region, datacenter
    uint64_t version;                      // of two rows of one epoch the greater wins
    uint64_t last_check_in_unix_ms;
    uint32_t present; // bit i: values[i] was reported
    tob_value values[TOB_MIRROR_VALUES];
} tob_mirror_row;

typedef struct tob_mirror_options {
    uint64_t max_sources;     // of each kind; at most TOB_MIRROR_MAX_SOURCES
    uint64_t expire_after_ms; // a source that was silent for longer is hidden
} tob_mirror_options;

// Columns of 4 096 rows. Readers use them between tob_mirror_read_lock and _unlock.
typedef struct tob_mirror_chunk {
    pthread_rwlock_t lock;
    tob_value values[TOB_MIRROR_VALUES][TOB_MIRROR_CHUNK_ROWS];
    uint64_t last_check_in_unix_ms[TOB_MIRROR_CHUNK_ROWS];
    uint64_t version[TOB_MIRROR_CHUNK_ROWS]; // of a free row: the next free one
    uint64_t born[TOB_MIRROR_CHUNK_ROWS];    // see tob_mirror_births
    char *block[TOB_MIRROR_CHUNK_ROWS];      // client_id="…",name="…",… without braces or NUL
    uint32_t epoch[TOB_MIRROR_CHUNK_ROWS];
    uint32_t round[TOB_MIRROR_CHUNK_ROWS]; // the last snapshot that had this row
    uint16_t block_len[TOB_MIRROR_CHUNK_ROWS];
    uint8_t id_len[TOB_MIRROR_CHUNK_ROWS];
    uint8_t present[TOB_MIRROR_CHUNK_ROWS];
    uint8_t state[TOB_MIRROR_CHUNK_ROWS];
} tob_mirror_chunk;

enum { TOB_ROW_FREE, TOB_ROW_SHOWN, TOB_ROW_HIDDEN };

TOB_MUST_USE tob_error tob_mirror_new(const tob_mirror_options *options, tob_mirror **ret);
void tob_mirror_free(tob_mirror *mirror);

// tob_mirror_put adds a source or replaces its state, unless the mirror's is as new.
//   in_snapshot   the row came in a page of the snapshot under way
// Errors: TOB_INVALID for an id, a label or a value outside its range; TOB_TOO_LARGE over max_sources;
//         TOB_NO_MEMORY. The mirror is as before then.
TOB_MUST_USE tob_error tob_mirror_put(tob_mirror *mirror, tob_source_kind kind, const tob_mirror_row *row,
                                      bool in_snapshot, uint64_t now_unix_ms);

// tob_mirror_remove: an unknown id is no error.
void tob_mirror_remove(tob_mirror *mirror, tob_source_kind kind, const char *id);

// tob_mirror_begin_epoch: versions start again. Rows of the epoch before stay until they are replaced, or
// until a snapshot ends without them.
void tob_mirror_begin_epoch(tob_mirror *mirror);

// tob_mirror_end_snapshot removes the rows that no page had since tob_mirror_begin_snapshot and that are not
// newer than its start, and returns how many.
void tob_mirror_begin_snapshot(tob_mirror *mirror);
uint64_t tob_mirror_end_snapshot(tob_mirror *mirror, uint64_t start_version);

// tob_mirror_expire hides the rows that were not heard of for expire_after_ms, and returns how many are
// hidden.
uint64_t tob_mirror_expire(tob_mirror *mirror, uint64_t now_unix_ms);

uint64_t tob_mirror_expire_after_ms(const tob_mirror *mirror);

// Any thread: how many sources there are, hidden ones too.
uint64_t tob_mirror_count(const tob_mirror *mirror, tob_source_kind kind);

// Any thread: counts rows as they are added. A reader that takes it first and leaves out rows born later
// never sees one source twice, nor a new one in some families only.
uint64_t tob_mirror_births(const tob_mirror *mirror);

// tob_mirror_chunks: how many there are now. Any thread.
uint32_t tob_mirror_chunks(const tob_mirror *mirror, tob_source_kind kind);
const tob_mirror_chunk *tob_mirror_read_lock(tob_mirror *mirror, tob_source_kind kind, uint32_t chunk);
void tob_mirror_read_unlock(tob_mirror *mirror, tob_source_kind kind, uint32_t chunk);

// tob_escape_label writes a label value with \, " and newline escaped (exposition 0.0.4): at most 2 * len
// bytes.
char *tob_escape_label(char *to, const char *value, size_t len);

#endif
