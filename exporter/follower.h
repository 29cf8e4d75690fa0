// tob_follower is the thread that drives a tob_follow: it receives the bus, asks ingestd for the snapshot's
// pages, and unpacks both.
//
// Threads: _start and _stop from one. The tob_follow belongs to the thread between them.
#ifndef TOB_EXPORTER_FOLLOWER_H
#define TOB_EXPORTER_FOLLOWER_H

#include "exporter/follow.h"
#include "rpc/client.h"
#include "util/error.h"

#define TOB_FOLLOWER_MAX_ARENA_BYTES (64u << 20) // of one unpacked message
#define TOB_FOLLOWER_PAGE_TIMEOUT_MS 10000u

typedef struct tob_follower tob_follower;

// tob_follower_new
//   follow     borrowed for its life
//   bus_urls   comma-separated
// Errors: TOB_INVALID for a URL; TOB_NO_MEMORY; TOB_INTERNAL.
TOB_MUST_USE tob_error tob_follower_new(tob_follow *follow, const char *bus_urls, tob_follower **ret);
void tob_follower_free(tob_follower *follower);

// tob_follower_start
//   client   to ingestd, with the cluster token; borrowed until _stop
// Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_follower_start(tob_follower *follower, tob_rpc_client *client);

// tob_follower_stop: after tob_rpc_client_stop, which ends the call in flight. It can be started again.
void tob_follower_stop(tob_follower *follower);

#endif
