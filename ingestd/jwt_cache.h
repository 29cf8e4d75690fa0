// Verified tokens, remembered by the SHA-256 of their bytes until they expire: a fixed table of sets of four, the
// soonest to expire gives way. Inside jwt*.c only.
//
// Threads: any.
#ifndef TOB_INGESTD_JWT_CACHE_H
#define TOB_INGESTD_JWT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingestd/jwt.h"
#include "util/error.h"
#include "util/secret.h"

typedef struct tob_jwt_cache tob_jwt_cache;

// entries: a power of two, at least 4. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_jwt_cache_new(size_t entries, tob_jwt_cache **ret);
void tob_jwt_cache_free(tob_jwt_cache *cache);

// False when unknown or expired at now_unix_s.
bool tob_jwt_cache_find(tob_jwt_cache *cache, const uint8_t hash[TOB_SHA256_BYTES], uint64_t now_unix_s,
                        tob_jwt_claims *ret);

// The token is good while now < until_unix_s.
void tob_jwt_cache_put(tob_jwt_cache *cache, const uint8_t hash[TOB_SHA256_BYTES], uint64_t until_unix_s,
                       const tob_jwt_claims *claims);

void tob_jwt_cache_clear(tob_jwt_cache *cache);

#endif
