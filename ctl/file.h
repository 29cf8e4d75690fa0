// Files that commands read and write.
//
// Threads: main thread. Errors: printed on stderr, once, with the file's name; the return value is the exit status.
#ifndef TOB_CTL_FILE_H
#define TOB_CTL_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/buffer.h"
#include "util/error.h"

// tob_ctl_read_file reads a whole file, "-" being stdin. There is a NUL after the content.
//   ret   initialized with the most that it may have and one byte more
// Returns 1 for one that is longer.
TOB_MUST_USE int tob_ctl_read_file(const char *path, tob_buffer *ret);

// A file that is there as a whole or not at all. Zeroed it is none: then nothing is written.
typedef struct tob_ctl_outfile {
    const char *path; // borrowed; "-" is stdout
    int fd;
    bool replace;
    bool kept;
    char temporary[PATH_MAX]; // what `fd` is, until it replaces `path`
} tob_ctl_outfile;

// tob_ctl_outfile_open creates it.
//   path      NULL: none
//   mode      0600 for secrets
//   replace   one of that name is replaced, at _keep; else it is an error
TOB_MUST_USE int tob_ctl_outfile_open(tob_ctl_outfile *file, const char *path, mode_t mode, bool replace);

TOB_MUST_USE int tob_ctl_outfile_write(tob_ctl_outfile *file, const char *text, size_t len);

// tob_ctl_outfile_sync makes sure that what was written is on the disk, under the name `temporary`.
TOB_MUST_USE int tob_ctl_outfile_sync(tob_ctl_outfile *file);

// tob_ctl_outfile_keep: the same, under the name `path`.
TOB_MUST_USE int tob_ctl_outfile_keep(tob_ctl_outfile *file);

// tob_ctl_outfile_fini closes it, and removes it unless it was kept.
void tob_ctl_outfile_fini(tob_ctl_outfile *file);

#endif
