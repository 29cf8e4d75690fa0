// The files of a journal's directory: opening, locking, listing, writing. Inside lib/journal only.
//
// Threads: one at a time. Errors: TOB_IO with errno left as the system call set it, unless said otherwise.
#ifndef TOB_JOURNAL_FILES_H
#define TOB_JOURNAL_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "util/error.h"

// tob_journal_say fills a problem's text.
void tob_journal_say(tob_journal_problem *problem, const char *format, ...) TOB_PRINTF(2, 3);

// tob_journal_dir_open makes the directory if missing (mode 0700, made durable) and takes its lock file.
// Errors: TOB_BUSY when another process has it; TOB_IO; both with the problem filled.
TOB_MUST_USE tob_error tob_journal_dir_open(const char *dir, int *ret_dir_fd, int *ret_lock_fd,
                                            tob_journal_problem *ret_problem);

// Names of one kind, and what they say.
typedef struct tob_journal_names {
    size_t bytes;                              // of what a name says
    bool (*read)(const char *name, void *ret); // false, with nothing promised of *ret: of another kind
    int (*compare)(const void *a, const void *b);
} tob_journal_names;

// tob_journal_dir_names returns what the directory's names of one kind say, in order; free with free.
TOB_MUST_USE tob_error tob_journal_dir_names(int dir_fd, const tob_journal_names *names, void **ret,
                                             size_t *ret_count);

// tob_journal_dir_list returns the numbers of the segments, ascending; free with free.
TOB_MUST_USE tob_error tob_journal_dir_list(int dir_fd, uint64_t **ret, size_t *ret_count);

// A checkpoint has this name until it is whole.
#define TOB_CHECKPOINT_UNFINISHED "checkpoint.unfinished"

// tob_checkpoint_list returns the places of all checkpoints, the newest first; free with free.
TOB_MUST_USE tob_error tob_checkpoint_list(int dir_fd, tob_position **ret, size_t *ret_count);

// tob_checkpoint_drop_unfinished removes what an interrupted one left, if there is any.
TOB_MUST_USE tob_error tob_checkpoint_drop_unfinished(int dir_fd);

// tob_checkpoint_drop_old removes all but the newest two, and never `latest`.
TOB_MUST_USE tob_error tob_checkpoint_drop_old(int dir_fd, tob_position latest);

// Reads or writes all n bytes, whatever the system call makes of it. A read past the end is TOB_IO, errno 0.
TOB_MUST_USE tob_error tob_file_write(int fd, const void *bytes, size_t n, uint64_t offset);
TOB_MUST_USE tob_error tob_file_read(int fd, void *bytes, size_t n, uint64_t offset);

// tob_file_preallocate makes the file `bytes` long with zeros after `end`, if it can: without, writes are
// only slower and may meet a full disk later.
void tob_file_preallocate(int fd, uint64_t end, uint64_t bytes);

// tob_file_bytes: the file's size; 0 when it can't be known.
uint64_t tob_file_bytes(int fd);

// tob_file_written: the file's size and when it was last changed, Unix milliseconds; 0 when it can't be known.
void tob_file_written(int fd, uint64_t *ret_bytes, uint64_t *ret_unix_ms);

// tob_file_truncate, repeated after EINTR.
TOB_MUST_USE tob_error tob_file_truncate(int fd, uint64_t bytes);

#endif
