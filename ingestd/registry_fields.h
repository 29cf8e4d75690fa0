// What the fields of registry requests may hold, and what is made when they are empty. Inside the service only.
//
// Threads: any. A check that fails answers the call INVALID_ARGUMENT with the field and returns false.
#ifndef TOB_INGESTD_REGISTRY_FIELDS_H
#define TOB_INGESTD_REGISTRY_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/server.h"
#include "util/error.h"
#include "util/text.h"

// 1–128 bytes of [A-Za-z0-9._:-].
TOB_MUST_USE bool tob_field_id(tob_rpc_call *call, const char *field, const char *id);

// The same, or empty.
TOB_MUST_USE bool tob_field_optional_id(tob_rpc_call *call, const char *field, const char *id);

// At most 256 bytes of UTF-8 without control characters.
TOB_MUST_USE bool tob_field_name(tob_rpc_call *call, const char *field, const char *name);

// At most TOB_REGISTRY_MAX_URL_BYTES printable ASCII characters, without spaces.
TOB_MUST_USE bool tob_field_url(tob_rpc_call *call, const char *field, const char *url);

// "docker", "native" or "mobile".
TOB_MUST_USE bool tob_field_client_type(tob_rpc_call *call, const char *field, const char *type);

// 0…max.
TOB_MUST_USE bool tob_field_at_most(tob_rpc_call *call, const char *field, uint64_t value, uint64_t max);

// tob_field_mask reads an update_mask: the names of fields to change, at most TOB_REGISTRY_MAX_MASK, at least one.
//   known      the fields that can be changed; NULL ends them
//   ret_mask   bit i: known[i]
#define TOB_REGISTRY_MAX_MASK 32
TOB_MUST_USE bool tob_field_mask(tob_rpc_call *call, char *const *names, size_t count,
                                 const char *const *known, uint32_t *ret_mask);

// The predicates of two above, for those who say themselves what is wrong.
bool tob_url_valid(const char *url);
bool tob_client_type_valid(const char *type);

// tob_make_id: the prefix and 16 random hexadecimal digits.
void tob_make_id(const char *prefix, char ret[TOB_MAX_ID_BYTES + 1]);

#endif
