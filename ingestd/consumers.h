// tob_consumers are the named readers of the journal: their committed positions, which the store keeps, and who holds
// the lease of each, which is in memory only.
//
// Threads: one at a time (the committer's).
#ifndef TOB_INGESTD_CONSUMERS_H
#define TOB_INGESTD_CONSUMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "util/error.h"
#include "util/text.h"

#define TOB_CONSUMERS_MAX         64
#define TOB_CONSUMER_MIN_LEASE_MS 1000
#define TOB_CONSUMER_MAX_LEASE_MS 600000

typedef struct tob_consumer {
    char name[TOB_MAX_ID_BYTES + 1];
    tob_position position;
    uint64_t holder;         // 0: none
    uint64_t lease_until_ms; // monotonic
} tob_consumer;

typedef struct tob_consumers tob_consumers;

TOB_MUST_USE tob_error tob_consumers_new(tob_consumers **ret);
void tob_consumers_free(tob_consumers *consumers);

// All of them, by name; borrowed until the next change.
const tob_consumer *tob_consumers_all(const tob_consumers *consumers, size_t *ret_count);

// NULL: there is none of that name.
const tob_consumer *tob_consumers_find(const tob_consumers *consumers, const char *name);

// tob_consumers_put sets a position, making the consumer if there is none. Errors: TOB_INVALID for the name; TOB_BUSY over
// TOB_CONSUMERS_MAX; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_consumers_put(tob_consumers *consumers, const char *name, tob_position position);
void tob_consumers_forget(tob_consumers *consumers, const char *name);

// tob_consumers_lease gives an existing consumer's lease to `holder`, or renews it; until_ms 0 gives it up.
//   ret_wait_ms   TOB_ABORTED: how long another holder still has it
// Errors: TOB_NOT_FOUND; TOB_ABORTED another holder's lease has not ended at now_ms.
TOB_MUST_USE tob_error tob_consumers_lease(tob_consumers *consumers, const char *name, uint64_t holder,
                                           uint64_t now_ms, uint64_t until_ms, uint64_t *ret_wait_ms);

#endif
