// tob_limiter slows down who tries wrong credentials, by address. It is asked only when a credential was wrong, or before
// checking one costs much: a right key is let in from any address, always, so that nobody can lock others out who share his
// address.
//
// Each address has a bucket of so many wrong attempts, which fills again at one in TOB_LIMITER_REFILL_MS. IPv6
// addresses count by their /64 (RFC 4941 §2: a host has as many of those as it likes), what is no address all together. The
// table has a fixed size: an address has a few places in it, and when others have them all the one of them that was quiet
// longest makes room.
//
// Threads: any; a lock of one of its parts is held for the update of one entry.
#ifndef TOB_INGESTD_LIMITER_H
#define TOB_INGESTD_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_LIMITER_BURST     50 // unless the operator says otherwise
#define TOB_LIMITER_MAX_BURST 1000000000
#define TOB_LIMITER_REFILL_MS 1000
#define TOB_LIMITER_ENTRIES   65536
#define TOB_LIMITER_LOG_MS    60000 // between two lines about one address

typedef struct tob_limiter tob_limiter;

// burst: 1…TOB_LIMITER_MAX_BURST. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_limiter_new(uint64_t burst, tob_limiter **ret);
void tob_limiter_free(tob_limiter *limiter);

// tob_limiter_failed counts a wrong attempt. True: the address has none left, and is to be told to come back after
// *ret_retry_ms (at least 1) instead of what was wrong.
//   now_ms   monotonic
bool tob_limiter_failed(tob_limiter *limiter, const char *address, uint64_t now_ms, uint64_t *ret_retry_ms);

// tob_limiter_full: would the next wrong attempt be over? Counts nothing.
bool tob_limiter_full(tob_limiter *limiter, const char *address, uint64_t now_ms, uint64_t *ret_retry_ms);

// tob_limiter_log logs event=credentials_limited for an address that one of the two above was true for, at most once in
// TOB_LIMITER_LOG_MS.
//   type   as in auth_attempts_total: "api_key", "jwt", "admin", "cluster"
void tob_limiter_log(tob_limiter *limiter, const char *address, const char *type, uint64_t now_ms);

#endif
