// A checkpoint is a file of checked records beside a journal's segments that replaces the journal up to a place: recovery
// reads the newest one, then the journal from there on.
//
// DIR/checkpoint-%016x-%016x.ckpt (segment and offset of the place) is laid out as a segment (journal.h) with the magic
// "TOBC", the place in the header, and one empty record at its end. It is written under another name, synced, and renamed,
// so a file under its name is whole: anything else about it is damage. The two newest are kept. It is written a little at
// a time, so that the journal's syncs beside it wait no longer than for a few MiB.
//
// Threads: one at a time for each writer; the journal may be written meanwhile.
#ifndef TOB_JOURNAL_CHECKPOINT_H
#define TOB_JOURNAL_CHECKPOINT_H

#include "journal/journal.h"

typedef struct tob_checkpoint_writer tob_checkpoint_writer;

// tob_checkpoint_create begins one for the place `at`. What an interrupted one left is removed.
// Errors: TOB_IO with the problem filled, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_checkpoint_create(const char *dir, tob_position at, tob_checkpoint_writer **ret,
                                             tob_journal_problem *ret_problem);

// Errors: TOB_TOO_LARGE over TOB_JOURNAL_MAX_RECORD_BYTES, TOB_INVALID for an empty record, TOB_IO, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_checkpoint_append(tob_checkpoint_writer *writer, const void *payload, size_t n,
                                             tob_journal_problem *ret_problem);

// tob_checkpoint_commit makes it durable and the newest, removes all but the newest two, and frees the writer, also on an
// error: then it is not known to be there, those before it are, and the process may go on.
TOB_MUST_USE tob_error tob_checkpoint_commit(tob_checkpoint_writer *writer, uint64_t *ret_bytes,
                                             tob_journal_problem *ret_problem);

// tob_checkpoint_abort gives up and frees. Accepts NULL.
void tob_checkpoint_abort(tob_checkpoint_writer *writer);

// tob_checkpoint_keep_newest removes all but the newest one. Not while one is being written.
//   ret_removed   how many; also set on an error
TOB_MUST_USE tob_error tob_checkpoint_keep_newest(const char *dir, uint32_t *ret_removed,
                                                  tob_journal_problem *ret_problem);

// The places of the newest and the one before; {0, 0} where there is none.
typedef struct tob_checkpoint_places {
    tob_position newest;
    tob_position before;
} tob_checkpoint_places;

// Errors: TOB_IO with the problem filled. A missing dir has none.
TOB_MUST_USE tob_error tob_checkpoint_find(const char *dir, tob_checkpoint_places *ret,
                                           tob_journal_problem *ret_problem);

// tob_checkpoint_read hands the records of the one at `at` to `fn`, with {0, offset in the file} for their positions. That
// all of them came is only known at its end.
//   ret_bytes   of the file
// Errors: TOB_DAMAGED, TOB_PRECONDITION a newer format, TOB_IO, TOB_NO_MEMORY, what `fn` returned; with the problem
//         filled: "FILE at offset N: reason".
TOB_MUST_USE tob_error tob_checkpoint_read(const char *dir, tob_position at, tob_journal_record_fn fn,
                                           void *user, uint64_t *ret_bytes, tob_journal_problem *ret_problem);

#endif
