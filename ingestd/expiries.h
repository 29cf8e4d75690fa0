// tob_expiries: when the authority and the first certificate of each type will have expired, for Manager.certificate_expiries.
//
// Threads: any; under a mutex.
#ifndef TOB_INGESTD_EXPIRIES_H
#define TOB_INGESTD_EXPIRIES_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_EXPIRIES_MAX 4 // ca, client, headend, server

typedef struct tob_expiries tob_expiries;

typedef struct tob_expiry {
    const char *type; // static text
    uint64_t not_after_unix_s;
} tob_expiry;

// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_expiries_new(tob_expiries **ret);
void tob_expiries_free(tob_expiries *expiries);

// tob_expiries_set replaces all but the authority's; tob_expiries_set_authority that.
void tob_expiries_set(tob_expiries *expiries, const tob_expiry *given, size_t count);
void tob_expiries_set_authority(tob_expiries *expiries, uint64_t not_after_unix_s);

size_t tob_expiries_get(tob_expiries *expiries, tob_expiry ret[TOB_EXPIRIES_MAX]);

#endif
