// tob_journal is an append-only row of segment files of checked records: ingestd's journal and the agent's
// spool.
//
// A segment is DIR/journal-%016x.seg: a header of 40 bytes {magic "TOBJ", format version u32 1, segment
// number u64, salt u64, end of the segment before it u64, CRC-32C u32 of all that, 0 u32}, then records
// {payload length u32, CRC-32C u32 of the payload, distance u32 in units of 8 bytes to the first record of
// the same group, CRC-32C u32 of salt, offset and these three, payload}, little-endian, padded to 8 bytes;
// space that is allocated but not yet written is zero. A record's position is (segment, offset of its
// header).
//
// The random salt is in every record header's check, so that no payload can pass for a record. A group is what was
// written between two settlings (fdatasync) of the segment. A crash may leave any part of the last group; those before
// it were durable: what a torn tail is and what is damage follows from it (replay.h).
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
#ifndef TOB_JOURNAL_MIN_SEGMENT // tests of many rotations compile it smaller
#define TOB_JOURNAL_MIN_SEGMENT (1u << 20)
#endif
#define TOB_JOURNAL_MAX_SEGMENT       (UINT64_C(16) << 30)
// Of what one call of tob_journal_retain deletes, unless it is one segment.
#define TOB_JOURNAL_MAX_REMOVED_BYTES (128u << 20)
#define TOB_JOURNAL_MAX_QUEUED_BYTES  (256u << 20) // appended and not yet synced

typedef struct tob_journal tob_journal;

typedef struct tob_position {
    uint64_t segment; // from 1
    uint64_t offset;  // bytes
} tob_position;

// In every mode a segment is made durable when it is complete and the next one when it is made, so that a power loss
// touches only the last group of the last segment, and never damages the journal.
typedef enum tob_journal_sync_mode {
    TOB_JOURNAL_SYNC_ALWAYS, // tob_journal_sync returns when the records are on stable storage
    // … when the operating system has them: they survive kill -9. What was written since the last settling may be lost
    // with the power: at most sync_interval_ms, if tob_journal_settle is called when it is due.
    TOB_JOURNAL_SYNC_INTERVAL,
    // … likewise, and they are only settled when a segment is complete or tob_journal_settle is called. A power loss may
    // lose what the last segment has since then.
    TOB_JOURNAL_SYNC_NEVER,
} tob_journal_sync_mode;

typedef struct tob_journal_options {
    const char *dir;        // made if missing, mode 0700; locked while open
    uint64_t segment_bytes; // a record that would end past this begins a new segment
    tob_journal_sync_mode sync;
    uint64_t sync_interval_ms; // TOB_JOURNAL_SYNC_INTERVAL
    // Where reading begins: where a record begins, the end of a segment, or the journal's end, and durable; {0, 0}: the
    // oldest record.
    tob_position from;
} tob_journal_options;

// What was wrong, for a person: "FILE at offset N: reason".
typedef struct tob_journal_problem {
    char text[512];
} tob_journal_problem;

// Called for each record, oldest first; the payload is borrowed. An error ends the reading.
typedef tob_error (*tob_journal_record_fn)(void *user, tob_position at, const void *payload, size_t n);

// tob_journal_open reads the records from options->from on through `fn`, cuts a torn tail (and says so in
// ret_cut_bytes), and goes on after them in a new or the last segment. Segments before options->from are not read, and
// some of them may be missing. What an unfinished checkpoint left is removed.
//   ret           owned by the caller; free with tob_journal_close
//   ret_problem   filled on an error
// Errors: TOB_BUSY another process has the journal; TOB_DAMAGED a record before the tail fails its check, or
//         options->from lies before the oldest segment or behind the end, or is no record's place;
//         TOB_PRECONDITION a newer format; TOB_INVALID segment_bytes; TOB_IO; TOB_NO_MEMORY; what `fn`
//         returned.
TOB_MUST_USE tob_error tob_journal_open(const tob_journal_options *options, tob_journal_record_fn fn,
                                        void *user, tob_journal **ret, uint64_t *ret_cut_bytes,
                                        tob_journal_problem *ret_problem);

// tob_journal_probe: TOB_BUSY, with the problem filled, when another process has the journal open. For those who read beside
// it before they open it. A directory that can't be opened is for tob_journal_open to tell.
TOB_MUST_USE tob_error tob_journal_probe(const char *dir, tob_journal_problem *ret_problem);

// tob_journal_close drops what was not synced, and settles nothing: who stops in an orderly way settles before. Accepts
// NULL.
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

// tob_journal_settle makes durable what was written (what is only queued it leaves alone), in every mode. Errors as those
// of a failed fdatasync above.
TOB_MUST_USE tob_error tob_journal_settle(tob_journal *journal, bool *ret_fatal,
                                          tob_journal_problem *ret_problem);

// tob_journal_rotate completes the segment that is appended to and begins the next one, unless nothing is in it. Nothing may be
// queued. Errors as those of tob_journal_sync.
TOB_MUST_USE tob_error tob_journal_rotate(tob_journal *journal, bool *ret_fatal,
                                          tob_journal_problem *ret_problem);

// tob_journal_settle_ahead has most of what a settling would write to the segment of `at` written beforehand, where nobody waits
// for it. It promises nothing: whether that was a success the writer's own settling finds out.
// Threads: any, beside the writer.
void tob_journal_settle_ahead(const char *dir, tob_position at);

// tob_journal_settle_due: monotonic milliseconds at which TOB_JOURNAL_SYNC_INTERVAL wants to be settled; UINT64_MAX when
// nothing waits for it or in another mode.
uint64_t tob_journal_settle_due(const tob_journal *journal);

// tob_journal_retain deletes segments, the oldest first, while the oldest one's newest record is older than retain_ms or
// more than retain_bytes are there; never the last one, nor one that has `needed` or something behind it. A file system
// takes some 10 ms for 64 MiB: so it stops at TOB_JOURNAL_MAX_REMOVED_BYTES, and the next call goes on.
//   now_unix_ms   against the time when a segment was last written; one that lies before it makes nothing old
//   ret_removed   how many; also set on an error
// Errors: TOB_IO with the problem filled; the journal works on.
TOB_MUST_USE tob_error tob_journal_retain(tob_journal *journal, tob_position needed, uint64_t retain_ms,
                                          uint64_t retain_bytes, uint64_t now_unix_ms, uint64_t *ret_removed,
                                          tob_journal_problem *ret_problem);

// The oldest place from which everything is there, the end of what was written by a successful sync, and the bytes of
// all segments on disk.
tob_position tob_journal_oldest(const tob_journal *journal);
tob_position tob_journal_end(const tob_journal *journal);
uint64_t tob_journal_bytes(const tob_journal *journal);

// The end of what was appended: tob_journal_end when nothing waits for a sync.
tob_position tob_journal_queue_end(const tob_journal *journal);

// <0, 0, >0 as a is before, at or after b.
int tob_position_compare(tob_position a, tob_position b);

#endif
