// Which files a journal's directory has. Inside lib/journal only.
//
// Threads: one at a time. Errors: TOB_IO, TOB_NO_MEMORY and what is said, with the problem filled.
#ifndef TOB_JOURNAL_VERIFY_LIST_H
#define TOB_JOURNAL_VERIFY_LIST_H

#include "journal/verify.h"

// tob_verify_list_checkpoints fills in names and places, the newest first.
TOB_MUST_USE tob_error tob_verify_list_checkpoints(int dir_fd, const char *dir, tob_verify *verify,
                                                   tob_journal_problem *ret_problem);

// tob_verify_list_segments fills in names and numbers, ascending, those that are missing included. Errors: TOB_TOO_LARGE
// over TOB_VERIFY_MAX_SEGMENTS.
TOB_MUST_USE tob_error tob_verify_list_segments(int dir_fd, const char *dir, tob_verify *verify,
                                                tob_journal_problem *ret_problem);

#endif
