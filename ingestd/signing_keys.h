// The keys that sign headends' tokens, on their way from the registry, where all ingestd that share it have them, into
// jwt.h.
//
// Threads: whoever uses the registry: the daemon before its threads start, then the registry's worker.
#ifndef TOB_INGESTD_SIGNING_KEYS_H
#define TOB_INGESTD_SIGNING_KEYS_H

#include <stdint.h>

#include "ingestd/jwt.h"
#include "ingestd/registry.h"
#include "util/error.h"

// Where earlier versions kept their only key.
#define TOB_SIGNING_KEYS_OLD_FILE "issuer-key.jwk"
#define TOB_SIGNING_KEYS_OVERLAP_MS                                                                          \
    (UINT64_C(30) * 24 * 3600 * 1000) // of an old file's key, beside one that signs

// tob_signing_keys_open sets the jwt's own keys. An old file in state_dir becomes a row of the registry first, as the key that
// signs if there is none yet, and is then removed; without any key that signs one is made.
//   ret_problem   TOB_JWT_PROBLEM_BYTES; filled on an error
// Errors: those of the registry; TOB_IO, TOB_MALFORMED, TOB_TOO_LARGE and, when everyone may read it, TOB_PRECONDITION for the
//         old file; TOB_NO_MEMORY, TOB_INTERNAL.
TOB_MUST_USE tob_error tob_signing_keys_open(tob_registry *registry, tob_jwt *jwt, const char *state_dir,
                                             uint64_t now_unix_ms, char *ret_problem);

// tob_signing_keys_changed reads the keys again, into the tob_jwt that `jwt` is: tob_registry_sync_listener's
// signing_keys_changed. On an error the old ones stay. Errors: as tob_jwt_set_own, and those of the registry.
TOB_MUST_USE tob_error tob_signing_keys_changed(void *jwt, tob_registry *registry);

// tob_signing_keys_count_live: how many are good now, in the registry.
TOB_MUST_USE tob_error tob_signing_keys_count_live(tob_registry *registry, uint64_t now_unix_ms, size_t *ret);

#endif
