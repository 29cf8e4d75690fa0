// tob_journal is an append-only row of segment files of checked records: ingestd's journal and the agent's
// spool.
//
// A segment is DIR/journal-%016x.seg: a header of 40 bytes {magic "TOBJ", format version u32 1, segment
// number u64, salt u64, end of the segment before it u64, CRC-32C u32 of all that, 0 u32}, then records
// {payload length u32, CRC-32C u32 of the payload, distance u32 in units of 8 bytes to the first record of
// the same sync, CRC-32C u32 of salt, offset and these three, payload}, little-endian, padded to 8 bytes;
// space that is allocated but not yet written is zero. A record's position is (segment, offset of its
// header).
//
// The random salt is in every record header's check, so that no payload can pass for a record. The distance
// tells records that one sync wrote together, of which a crash may leave any part, from those of an earlier
// sync, which were durable: what a torn tail is and what is damage follows from it (replay.h).
//
// Threads: one at a time.
// Errors:  TOB_IO and tob_journal_problem for what the operating system refused; after a failed sync the
//          journal refuses everything: the page cache can't be trusted any more (see fsync(2), Linux since 4.13).
#ifndef TOB_JOURNAL_JOURNAL_H
#define TOB_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_JOURNAL_MAX_RECORD_BYTES (32u << 20)
#define TOB_JOURNAL_MIN_SEGMENT      (1u << 20)
#define TOB_JOURNAL_MAX_SEGMENT      (UINT64_C(16) << 30)
#define TOB_JOURNAL_MAX_QUEUED_BYTES (256u << 20) // appended and not yet synced

typedef struct tob_journal tob_journal;

typedef struct tob_position {
    uint64_t segment; // from 1
    uint64_t offset;  // bytes
} tob_position;

typedef enum tob_journal_sync_mode {
    TOB_JOURNAL_SYNC_ALWAYS, // tob_journal_sync returns when the records are on stable storage
    // … when the operating system has them: they survive kill -9. A power loss may lose them, or damage the
    // journal.
    TOB_JOURNAL_SYNC_NEVER,
} tob_journal_sync_mode;

typedef struct tob_journal_options {
    const char *dir;        // made if missing, mode 0700; locked while open
    uint64_t segment_bytes; // a record that would end past this begins a new segment
    tob_journal_sync_mode sync;
} tob_journal_options;

// What was wrong, for a person: "FILE at offset N: reason".
typedef struct tob_journal_problem {
    char text[512];
} tob_journal_problem;

// Called for each record, oldest first; the payload is borrowed. An error ends the reading.
typedef tob_error (*tob_journal_record_fn)(void *user, tob_position at, const void *payload, size_t n);

// tob_journal_open reads all records through `fn`, cuts a torn tail (and says so in ret_cut_bytes), and goes
// on after them in a new or the last segment.
//   ret           owned by the caller; free with tob_journal_close
//   ret_problem   filled on an error
// Errors: TOB_BUSY another process has the journal; TOB_DAMAGED a record before the tail fails its check;
//         TOB_PRECONDITION a newer format; TOB_INVALID segment_bytes; TOB_IO; TOB_NO_MEMORY; what `fn`
//         returned.
TOB_MUST_USE tob_error tob_journal_open(const tob_journal_options *options, tob_journal_record_fn fn,
                                        void *user, tob_journal **ret, uint64_t *ret_cut_bytes,
                                        tob_journal_problem *ret_problem);

// tob_journal_close drops what was not synced. Accepts NULL.
void tob_journal_close(tob_journal *journal);

// tob_journal_append queues one record made of `count` parts; it is written by the next sync.
//   ret   where it will be
// Errors: TOB_TOO_LARGE over TOB_JOURNAL_MAX_RECORD_BYTES; TOB_BUSY when TOB_JOURNAL_MAX_QUEUED_BYTES would
//         be queued: sync first; TOB_NO_MEMORY; TOB_IO after a failed fdatasync.
typedef struct tob_journal_part {
    const void *bytes;
    size_t n;
} tob_journal_part;
TOB_MUST_USE tob_error tob_journal_append(tob_journal *journal, const tob_journal_part *parts, size_t count,
                                          tob_position *ret);

// tob_journal_sync writes what was appended and makes it durable. On TOB_IO from a write (disk full, say)
// nothing of it counts: the queued records are dropped, the file is cut back, and the next sync may succeed.
// On a failed fdatasync `ret_fatal` is set and the process should end.
TOB_MUST_USE tob_error tob_journal_sync(tob_journal *journal, bool *ret_fatal,
                                        tob_journal_problem *ret_problem);

// The end of what is durable, and the bytes of all segments on disk.
tob_position tob_journal_end(const tob_journal *journal);
uint64_t tob_journal_bytes(const tob_journal *journal);

// <0, 0, >0 as a is before, at or after b.
int tob_position_compare(tob_position a, tob_position b);

#endif
