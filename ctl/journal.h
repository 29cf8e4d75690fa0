// What the journal commands share: they work on files, without a server.
//
// Threads: main thread. Errors: printed on stderr, once; the return value is the exit status.
#ifndef TOB_CTL_JOURNAL_H
#define TOB_CTL_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/command.h"
#include "ctl/journal_records.h"
#include "util/options.h"

#define TOB_CTL_JOURNAL_RANGE_BYTES 96

#define TOB_CTL_JOURNAL_ARGUMENT    "DIR"

// tob_ctl_journal_failed prints what went wrong and returns 1.
int tob_ctl_journal_failed(tob_error err, const tob_journal_problem *problem);

// What a journal command does once its options are read: `settings` are its own. Returns the exit status.
typedef int (*tob_ctl_journal_fn)(const void *settings, const char *dir, tob_ctl_journal_records *records);

// tob_ctl_journal_run parses the options, finds the journal and calls `fn`. Returns the exit status.
TOB_MUST_USE int tob_ctl_journal_run(const tob_command *command, int argc, char **argv, tob_ctl_journal_fn fn,
                                     const void *settings);

// tob_ctl_journal_read reads everything.
//   ret   free with tob_verify_fini
// Returns the exit status.
TOB_MUST_USE int tob_ctl_journal_read(const char *dir, tob_ctl_journal_records *records, tob_verify *ret);

// ", received between TIME and TIME" as far as it is known of a hole; "" if nothing is.
const char *tob_ctl_journal_range(const tob_verify_hole *hole, char to[TOB_CTL_JOURNAL_RANGE_BYTES]);

// A place as {segment, offset}. NULL without memory.
json_t *tob_ctl_journal_place(tob_position at);

// How many records and torn bytes all segments have.
uint64_t tob_ctl_journal_record_count(const tob_verify *verify);
uint64_t tob_ctl_journal_torn_bytes(const tob_verify *verify);

#endif
