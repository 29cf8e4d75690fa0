// tob_mirror is the exporter's copy of the fleet: rows of clients and headends as columns, in chunks that are
// only ever added. A source's label block is rendered when it changes, so a scrape copies it.
//
// A source has one row, which belongs to one owner: the ingestd (a slot of instances.h) that it comes from. Of two
// states from one owner the version decides; between owners the later check-in, as the client reported last to that
// one. What an owner removes, or a snapshot of it does not have, are its own rows only.
//
// Threads: one writer (the follower) calls _put, _remove, _begin_…, _end_…, _drop_owner, _expire; it alone touches the
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
#define TOB_MIRROR_MAX_OWNERS      256u
#define TOB_MIRROR_MAX_AHEAD_MS    300000u // a check-in further in the future is a wrong clock's

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
    uint16_t owner;                        // below TOB_MIRROR_MAX_OWNERS
    uint64_t version;                      // of two rows of one owner's epoch the greater wins
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
    uint32_t epoch[TOB_MIRROR_CHUNK_ROWS];   // the owner's
    uint32_t round[TOB_MIRROR_CHUNK_ROWS];   // the owner's last snapshot that had this row
    uint16_t owner[TOB_MIRROR_CHUNK_ROWS];
    uint16_t block_len[TOB_MIRROR_CHUNK_ROWS];
    uint8_t id_len[TOB_MIRROR_CHUNK_ROWS];
    uint8_t present[TOB_MIRROR_CHUNK_ROWS];
    uint8_t state[TOB_MIRROR_CHUNK_ROWS];
} tob_mirror_chunk;

enum { TOB_ROW_FREE, TOB_ROW_SHOWN, TOB_ROW_HIDDEN };

TOB_MUST_USE tob_error tob_mirror_new(const tob_mirror_options *options, tob_mirror **ret);
void tob_mirror_free(tob_mirror *mirror);

// tob_mirror_put adds a source or replaces its state, unless the mirror's is as new.
//   in_snapshot   the row came in a page of its owner's snapshot that is under way
// Errors: TOB_INVALID for an id, a label or a value outside its range; TOB_TOO_LARGE over max_sources;
//         TOB_NO_MEMORY. The mirror is as before then.
TOB_MUST_USE tob_error tob_mirror_put(tob_mirror *mirror, tob_source_kind kind, const tob_mirror_row *row,
                                      bool in_snapshot, uint64_t now_unix_ms);

// tob_mirror_remove removes a row of this owner, unless it is of the present epoch and newer than max_version. An
// unknown id is no error.
void tob_mirror_remove(tob_mirror *mirror, unsigned owner, tob_source_kind kind, const char *id,
                       uint64_t max_version);

// tob_mirror_begin_owner gives the slot to an instance. Of two states that were heard of in the same millisecond, that
// of the instance with the greater number is shown: by every exporter.
void tob_mirror_begin_owner(tob_mirror *mirror, unsigned owner, uint64_t instance);

// tob_mirror_drop_owner removes all rows of the owner, and returns how many.
uint64_t tob_mirror_drop_owner(tob_mirror *mirror, unsigned owner);

// tob_mirror_owned: how many rows the owner has, of both kinds.
uint64_t tob_mirror_owned(const tob_mirror *mirror, unsigned owner);

// tob_mirror_begin_epoch: the owner's versions start again. Its rows of the epoch before stay until they are replaced,
// or until a snapshot ends without them.
void tob_mirror_begin_epoch(tob_mirror *mirror, unsigned owner);

// tob_mirror_end_snapshot removes the owner's rows that no page had since tob_mirror_begin_snapshot and that are not
// newer than its start, and returns how many.
void tob_mirror_begin_snapshot(tob_mirror *mirror, unsigned owner);
uint64_t tob_mirror_end_snapshot(tob_mirror *mirror, unsigned owner, uint64_t start_version);

// tob_mirror_expire hides the rows that were not heard of for expire_after_ms, shows the others, and returns how many
// are hidden. Nothing is lost when the clock is wrong for a while.
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

#endif
