// tob_rewrite writes one complete segment of a journal anew with the payloads of some records replaced: each record stays at
// its place and as long as it was, so that all places stay good. For what has to leave the journal before its time.
//
// The new file is written beside the old one, made durable, and put in its place by a rename: a crash leaves the one or the
// other. Who is reading the old one finishes it.
//
// Threads: one at a time for each journal, beside the writer and readers; tob_rewrite_commit where nobody deletes segments
// (tob_journal_retain) meanwhile.
// Errors:  TOB_NOT_FOUND the segment is not there any more; TOB_DAMAGED; TOB_IO; TOB_NO_MEMORY; with the problem filled.
#ifndef TOB_JOURNAL_REWRITE_H
#define TOB_JOURNAL_REWRITE_H

#include <stdbool.h>

#include "journal/journal.h"

typedef struct tob_rewrite tob_rewrite;

// Called for each record. To replace it, fill in `replacement`, which has room for n bytes, and set *ret_replace. The payload is
// borrowed. An error ends the rewriting.
typedef tob_error (*tob_rewrite_fn)(void *user, tob_position at, const void *payload, size_t n,
                                    void *replacement, bool *ret_replace);

// tob_rewrite_segment reads a segment and, when a record is to be replaced, makes the new file. What an interrupted one left is
// overwritten.
//   segment   a complete one: the journal goes on in a later one
//   ret       owned by the caller: tob_rewrite_commit or tob_rewrite_abort; NULL when nothing is to be replaced
TOB_MUST_USE tob_error tob_rewrite_segment(const char *dir, uint64_t segment, tob_rewrite_fn fn, void *user,
                                           tob_rewrite **ret, tob_journal_problem *ret_problem);

// tob_rewrite_commit puts the new file in the old one's place, durably, and frees the rewrite, also on an error: then the old
// one is still there, or, when only the directory's sync failed, that is not known.
TOB_MUST_USE tob_error tob_rewrite_commit(tob_rewrite *rewrite, tob_journal_problem *ret_problem);

// tob_rewrite_abort gives up and frees. Accepts NULL.
void tob_rewrite_abort(tob_rewrite *rewrite);

// tob_rewrite_drop_unfinished removes what a crash left of one, at the start.
TOB_MUST_USE tob_error tob_rewrite_drop_unfinished(const char *dir, tob_journal_problem *ret_problem);

#endif
