// Numbers that ingestd keeps beside its journal, one in a file: durably, mode 0600, as 16 hexadecimal digits.
//
// Threads: one at a time for each file.
// Errors:  TOB_MALFORMED, TOB_INVALID for a path that is too long, TOB_IO and what errno says.
#ifndef TOB_INGESTD_STATE_NUMBER_H
#define TOB_INGESTD_STATE_NUMBER_H

#include <stdint.h>

#include "util/error.h"

// tob_state_number_read reads STATE_DIR/name: 0 when there is none.
TOB_MUST_USE tob_error tob_state_number_read(const char *state_dir, const char *name, uint64_t *ret);

// tob_state_number_write replaces it: a crash leaves the old or the new one.
TOB_MUST_USE tob_error tob_state_number_write(const char *state_dir, const char *name, uint64_t value);

#endif
