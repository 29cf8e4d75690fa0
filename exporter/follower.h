// tob_follower is the thread that drives a tob_instances: it receives the bus, asks each ingestd for pages, and unpacks
// both. Names in its URLs are resolved again and again, to all of their addresses.
//
// Threads: all from one, _set_bearer from any. The tob_instances belongs to the thread between _start and _stop.
#ifndef TOB_EXPORTER_FOLLOWER_H
#define TOB_EXPORTER_FOLLOWER_H

#include "exporter/instances.h"
#include "util/error.h"

#define TOB_FOLLOWER_MAX_ARENA_BYTES (64u << 20) // of one unpacked message

typedef struct tob_follower tob_follower;

typedef struct tob_follower_options {
    tob_instances *instances; // borrowed for its life
    const char *ingest_urls;  // comma-separated
    const char *bus_urls;     // likewise; no order links the two
    const char *bearer;       // the cluster token; copied
    uint64_t buckets;         // bit b: bucket b is subscribed to; 0: all
} tob_follower_options;

// tob_follower_new
//   ret_at_fault   "ingest" or "bus" with TOB_INVALID and TOB_TOO_LARGE: which URLs; static text
// Errors: TOB_INVALID for a URL; TOB_TOO_LARGE for too many; TOB_NO_MEMORY; TOB_INTERNAL.
TOB_MUST_USE tob_error tob_follower_new(const tob_follower_options *options, tob_follower **ret,
                                        const char **ret_at_fault);
void tob_follower_free(tob_follower *follower);

// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_follower_start(tob_follower *follower);

// tob_follower_set_bearer: for the calls to come. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_follower_set_bearer(tob_follower *follower, const char *bearer);

// tob_follower_stop ends the thread, its calls and connections, for good.
void tob_follower_stop(tob_follower *follower);

#endif
