// tob_journal_reader reads a journal that another thread, or nobody, is writing: what lies between a place and an end
// that the writer has told (tob_journal_end).
//
// Threads: one at a time; beside the writer's. Holds at most one segment open.
#ifndef TOB_JOURNAL_READER_H
#define TOB_JOURNAL_READER_H

#include "journal/journal.h"

typedef struct tob_journal_reader tob_journal_reader;

// dir: must exist. Errors: TOB_NOT_FOUND, TOB_IO, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_journal_reader_new(const char *dir, tob_journal_reader **ret);
void tob_journal_reader_free(tob_journal_reader *reader);

// tob_journal_read hands records to `fn`, oldest first, until `end` is reached, `max_bytes` of payload have been handed
// over, or `fn` returns an error; at least one record, if there is one.
//   from       where a record begins, or the end of a segment; {0, 0}: the oldest record
//   end        at most what the writer's tob_journal_end said
//   ret_next   the place behind the last record handed over, `from` (the oldest record's place for {0, 0}) when none was;
//              also set on an error
// Errors: TOB_NOT_FOUND `from` is not retained any more, lies behind `end`, or never was a record's place; also when what
//         follows `from` was deleted meanwhile; TOB_DAMAGED, TOB_IO,
//         TOB_NO_MEMORY; what `fn` returned (its record is not behind ret_next). The problem is filled.
TOB_MUST_USE tob_error tob_journal_read(tob_journal_reader *reader, tob_position from, tob_position end,
                                        uint64_t max_bytes, tob_journal_record_fn fn, void *user,
                                        tob_position *ret_next, tob_journal_problem *ret_problem);

#endif
