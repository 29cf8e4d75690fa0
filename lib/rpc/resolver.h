// How tob_endpoints asks for the addresses of a name: the C library, or what a test puts in its place. Internal to lib/rpc
// and its tests.
//
// Threads: `lookup` is called on the endpoints' own thread and may block for as long as it likes.
#ifndef TOB_RPC_RESOLVER_H
#define TOB_RPC_RESOLVER_H

#include <stdbool.h>

#include "rpc/client.h"
#include "rpc/endpoints.h"

#define TOB_RESOLVER_MAX_ADDRESSES TOB_ENDPOINTS_MAX_ADDRESSES
#define TOB_RESOLVER_ADDRESS_BYTES 64 // "[address]" or "address", numeric

typedef char tob_resolver_address[TOB_RESOLVER_ADDRESS_BYTES];

typedef struct tob_resolver {
    // Fills in up to TOB_RESOLVER_MAX_ADDRESSES numeric addresses, IPv6 in brackets, and says how many. TOB_UNAVAILABLE
    // when there is no answer, or an empty one.
    tob_error (*lookup)(void *user, const char *host, tob_resolver_address *ret, size_t *ret_count);
    void *user;
    uint64_t resolve_ms; // TOB_ENDPOINTS_RESOLVE_MS
    uint64_t retry_ms;   // TOB_ENDPOINTS_RETRY_MS
} tob_resolver;

extern const tob_resolver tob_resolver_system; // getaddrinfo

// tob_endpoints_is_url: tcp://HOST:PORT, with a name, an IPv4 address or an IPv6 address in brackets.
bool tob_endpoints_is_url(const char *url);

// tob_endpoints_new_with: as tob_endpoints_new, with another resolver (copied).
TOB_MUST_USE tob_error tob_endpoints_new_with(const tob_resolver *resolver, const char *urls,
                                              tob_endpoints_fn fn, void *user, tob_endpoints **ret);

// tob_rpc_client_new_with: as tob_rpc_client_new, with another resolver (copied).
TOB_MUST_USE tob_error tob_rpc_client_new_with(const tob_resolver *resolver,
                                               const tob_rpc_client_options *options, tob_rpc_client **ret);

#endif
