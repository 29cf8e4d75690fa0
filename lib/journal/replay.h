// Reading a journal back: every record of every segment, and the judgement of what does not pass its check.
// Inside lib/journal only.
//
// What a crash can leave. A group of records (those that lie between two syncs of the file) is written only after the
// sync of the group before it, and a segment only after the one before it is synced. So only the last group of the last
// segment may be torn, and
// a disk keeps of it any of its sectors: those it did not keep read as zeros, or lie past the end of the
// file. Everything else is damage:
//   - in a segment that is not the last, or before a record of a later group;
//   - a record whose sectors are all there and which still does not pass: its bytes changed after they were
//   written.
// Damage is refused: what was acknowledged may be in it.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_REPLAY_H
#define TOB_JOURNAL_REPLAY_H

#include "journal/journal.h"
#include "journal/segment.h"
#include "util/error.h"

typedef struct tob_replay_segment {
    tob_segment_header header;
    uint64_t file_bytes;
    const char *path; // for messages
    int fd;
} tob_replay_segment;

// tob_replay_header reads a segment's header.
//   ret_torn   the file was made, but a crash came before its header was durable: it holds nothing
// Errors: TOB_DAMAGED, TOB_PRECONDITION, TOB_IO, TOB_NO_MEMORY, with the problem filled.
TOB_MUST_USE tob_error tob_replay_header(tob_replay_segment *segment, uint64_t number, bool *ret_torn,
                                         tob_journal_problem *ret_problem);

// tob_replay_segment_records hands every record to fn.
//   expected_end    where a segment that is not the last must end; 0 for the last one
//   ret_end         the end of the last whole record
//   ret_torn_bytes  what lies after it and is not zero, up to the last such byte
// Errors: TOB_DAMAGED, TOB_IO, TOB_NO_MEMORY, with the problem filled; what fn returned.
TOB_MUST_USE tob_error tob_replay_segment_records(const tob_replay_segment *segment, uint64_t expected_end,
                                                  tob_journal_record_fn fn, void *user, uint64_t *ret_end,
                                                  uint64_t *ret_torn_bytes, tob_journal_problem *ret_problem);

// tob_replay_segment_from is the same from offset `from` on, which must be where a record begins or the last one ends.
// What lies before it is not looked at, unless nothing whole lies at `from`.
// Errors: also TOB_DAMAGED when `from` is no such place.
TOB_MUST_USE tob_error tob_replay_segment_from(const tob_replay_segment *segment, uint64_t from,
                                               uint64_t expected_end, tob_journal_record_fn fn, void *user,
                                               uint64_t *ret_end, uint64_t *ret_torn_bytes,
                                               tob_journal_problem *ret_problem);

#endif
