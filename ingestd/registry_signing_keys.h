// The keys that sign headends' tokens, in the registry. Threads and errors: registry.h.
#ifndef TOB_INGESTD_REGISTRY_SIGNING_KEYS_H
#define TOB_INGESTD_REGISTRY_SIGNING_KEYS_H

#include "ingestd/registry.h"

// Keys that ended longer ago are not kept.
#define TOB_SIGNING_KEY_FORGET_MS (UINT64_C(90) * 24 * 3600 * 1000)

typedef struct tob_registry_signing_key {
    const char *kid;
    const char *private_jwk; // JSON (RFC 7517); a secret
    uint64_t created_unix_ms;
    uint64_t expires_unix_ms; // its tokens are good until then; 0: it signs
    uint64_t revoked_unix_ms; // 0: not revoked
} tob_registry_signing_key;

typedef tob_error (*tob_registry_signing_key_fn)(void *user, const tob_registry_signing_key *key);

// In a change: a key that signs from now on; those that signed expire at `others_expire_unix_ms`. One with `expires_unix_ms`
// does not sign, and the others stay as they are.
//   action   for the audit log: "signing_key.rotate"
// TOB_ALREADY_EXISTS.
TOB_MUST_USE tob_error tob_registry_add_signing_key(tob_registry *registry, const char *action,
                                                    const tob_registry_signing_key *key,
                                                    uint64_t others_expire_unix_ms);
// In a change; for one that is revoked nothing changes. TOB_NOT_FOUND; TOB_PRECONDITION for one that signs.
TOB_MUST_USE tob_error tob_registry_revoke_signing_key(tob_registry *registry, const char *kid);
// All, the newest first. Keep no copy of private_jwk that is not needed, and wipe it.
TOB_MUST_USE tob_error tob_registry_list_signing_keys(tob_registry *registry, tob_registry_signing_key_fn fn,
                                                      void *user);
// The number of the last change that touched a key; 0: there is none.
TOB_MUST_USE tob_error tob_registry_signing_keys_change(tob_registry *registry, uint64_t *ret);

#endif
