// The small text files in which the kernel tells about itself (/proc, /sys), below a root folder: "/" on the
// machine itself, "/host" in a container that has the host's /proc and /sys there.
//
// Threads: any.
#ifndef TOB_AGENT_SYSTEM_FILE_H
#define TOB_AGENT_SYSTEM_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/problem.h"

#define TOB_MAX_ROOT_BYTES 512

// tob_system_path joins root and path. TOB_TOO_LARGE when the result has no room.
TOB_MUST_USE tob_error tob_system_path(const char *root, const char *path, char *to, size_t size,
                                       tob_problem *ret_problem);

// tob_system_open opens for reading. ret is owned by the caller, fclose.
// Errors: TOB_NOT_FOUND, TOB_PERMISSION_DENIED, TOB_IO, with the path in ret_problem.
TOB_MUST_USE tob_error tob_system_open(const char *root, const char *path, FILE **ret,
                                       tob_problem *ret_problem);

// tob_system_read_number reads a file that is one decimal number, 0…2^63-1.
// Errors: as open; TOB_MALFORMED for anything else.
TOB_MUST_USE tob_error tob_system_read_number(const char *root, const char *path, int64_t *ret,
                                              tob_problem *ret_problem);

#endif
