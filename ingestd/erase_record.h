// tob_erase_record takes a client out of one record of the journal.
//
// Threads: one at a time for each arena.
#ifndef TOB_INGESTD_ERASE_RECORD_H
#define TOB_INGESTD_ERASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "wire/arena.h"

// tob_erase_record
//   arena         cleared first
//   payload       n bytes: a serialized Record (journal.proto); borrowed
//   replacement   n bytes; when *ret_erased is set the same Record without the client's series. May be `payload`.
//   ret_samples   how many samples of the client's it had
// Errors: TOB_MALFORMED, TOB_TOO_LARGE, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_erase_record(tob_arena *arena, const char *client_id, const void *payload,
                                        size_t n, uint8_t *replacement, bool *ret_erased,
                                        uint64_t *ret_samples);

#endif
