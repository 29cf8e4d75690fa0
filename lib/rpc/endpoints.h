// tob_endpoints keeps the addresses behind a list of URLs: names are resolved to all of their addresses, and again every
// few seconds, as those behind a headless service come and go.
//
// Threads: _new, _stop and _free from one; `fn` is called on a thread of its own, one call at a time.
#ifndef TOB_RPC_ENDPOINTS_H
#define TOB_RPC_ENDPOINTS_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_ENDPOINTS_MAX_URLS      64
#define TOB_ENDPOINTS_MAX_ADDRESSES 256   // behind all URLs; further ones are left out
#define TOB_ENDPOINTS_RESOLVE_MS    10000 // how often
#define TOB_ENDPOINTS_RETRY_MS                                                                               \
    1000 // after a name could not be resolved; doubles up to TOB_ENDPOINTS_RESOLVE_MS

typedef struct tob_endpoints tob_endpoints;

// All addresses, "tcp://192.0.2.1:8010" or "tcp://[2001:db8::1]:8010", each once, in a stable order. Called at the start
// and whenever they changed. A name that can't be resolved (now) keeps the addresses that it had. Borrowed for the call.
typedef void (*tob_endpoints_fn)(void *user, const char *const *addresses, size_t count);

// tob_endpoints_new copies what it needs.
//   urls   comma-separated tcp://HOST:PORT
// Errors: TOB_INVALID for a URL; TOB_TOO_LARGE over TOB_ENDPOINTS_MAX_URLS; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_endpoints_new(const char *urls, tob_endpoints_fn fn, void *user,
                                         tob_endpoints **ret);

// tob_endpoints_start: the first call of `fn` comes from here, with the addresses that are written as numbers; names
// follow from the thread.
TOB_MUST_USE tob_error tob_endpoints_start(tob_endpoints *endpoints);

// tob_endpoints_hurry: resolve again soon (a server went away: another may have come in its place), at most every
// TOB_ENDPOINTS_RETRY_MS. Any thread, between _start and _stop; does not block.
void tob_endpoints_hurry(tob_endpoints *endpoints);

// tob_endpoints_stop: `fn` is not called any more. Does not wait for a resolver that hangs.
void tob_endpoints_stop(tob_endpoints *endpoints);
void tob_endpoints_free(tob_endpoints *endpoints); // NULL is fine; stops

#endif
