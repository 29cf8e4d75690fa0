// tob_shard is one exporter's part of the fleet when several share it: the buckets b with b mod count == index.
//
// Threads: any. Errors: TOB_INVALID.
#ifndef TOB_EXPORTER_SHARD_H
#define TOB_EXPORTER_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"
#include "wire/bus_topics.h"

#define TOB_SHARD_MAX_COUNT TOB_BUS_BUCKETS

typedef struct tob_shard {
    unsigned index;
    unsigned count;
} tob_shard;

// tob_shard_parse reads "I/N": I below N, N from 1 to TOB_SHARD_MAX_COUNT.
TOB_MUST_USE tob_error tob_shard_parse(const char *text, tob_shard *ret);

// tob_shard_buckets: bit b is set when bucket b is the shard's.
uint64_t tob_shard_buckets(tob_shard shard);

// The manager's families are no source's: one shard shows them.
bool tob_shard_has_manager(tob_shard shard);

#endif
