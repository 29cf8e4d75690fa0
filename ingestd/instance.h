// The identity of one ingestd: a random number that is kept beside its journal.
#ifndef TOB_INGESTD_INSTANCE_H
#define TOB_INGESTD_INSTANCE_H

#include <stdint.h>

#include "util/error.h"

// tob_instance_load reads STATE_DIR/instance, or makes it (durably, mode 0600).
// Errors: TOB_MALFORMED, TOB_IO and what errno says.
TOB_MUST_USE tob_error tob_instance_load(const char *state_dir, uint64_t *ret);

#endif
