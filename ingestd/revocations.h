// tob_revocations keeps the fleet's newest revocation list. It is signed anew when certificates have changed, and when half of
// its day has passed, so that who fetches it has at least half a day until the next.
//
// Threads: the registry worker's.
#ifndef TOB_INGESTD_REVOCATIONS_H
#define TOB_INGESTD_REVOCATIONS_H

#include <stdint.h>

#include "ingestd/ca.h"
#include "ingestd/registry.h"
#include "util/error.h"

typedef struct tob_revocations tob_revocations;

// Both borrowed. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_revocations_new(tob_registry *registry, const tob_ca *ca, tob_revocations **ret);
void tob_revocations_free(tob_revocations *revocations); // NULL is fine

// tob_revocations_get gives the list, borrowed until the next call. While the database is away the last one is given as long as
// it is good: a certificate that can't be checked is refused by many.
//   ret_problem   filled on an error of the authority; "" on one of the registry
// Errors: those of the registry and of tob_ca_revocation_list.
TOB_MUST_USE tob_error tob_revocations_get(tob_revocations *revocations, uint64_t now_unix_s,
                                           const tob_ca_list **ret, tob_ca_problem *ret_problem);

#endif
