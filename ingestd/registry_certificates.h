// Certificates and the fleet's own authority in the registry. Threads and errors: registry.h.
#ifndef TOB_INGESTD_REGISTRY_CERTIFICATES_H
#define TOB_INGESTD_REGISTRY_CERTIFICATES_H

#include "ingestd/registry.h"

// Strings are never NULL. Borrowed, for the call.
typedef struct tob_registry_certificate {
    const char *serial;
    const char *type;
    const char *subject;
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s;
    uint64_t revoked_unix_ms; // 0: not revoked
    const char *reason;
    const char *fingerprint;
    const char *pem;
} tob_registry_certificate;

typedef tob_error (*tob_registry_certificate_fn)(void *user, const tob_registry_certificate *certificate);

// In a change; it is the newest of its type and subject. revoked_unix_ms and reason are not read. TOB_ALREADY_EXISTS.
TOB_MUST_USE tob_error tob_registry_add_certificate(tob_registry *registry,
                                                    const tob_registry_certificate *certificate);
// In a change. One that is revoked keeps its time and reason. TOB_NOT_FOUND.
TOB_MUST_USE tob_error tob_registry_revoke_certificate(tob_registry *registry, const char *serial,
                                                       const char *reason);
// In a change: all of a subject and type that are not revoked; with a line in the audit log for each.
TOB_MUST_USE tob_error tob_registry_revoke_certificates_of(tob_registry *registry, const char *type,
                                                           const char *subject, const char *reason,
                                                           uint32_t *ret_count);
// In a change: those of an erased source go. All that stays of each is its serial, its times and that it is revoked, with
// nothing that tells whose it was: who has it still could use it else, since only the revocation list says that it is not good.
TOB_MUST_USE tob_error tob_registry_erase_certificates_of(tob_registry *registry, const char *type,
                                                          const char *subject, uint32_t *ret_count);

// In the order of serials, after the serial `after`;  subject: "" for all.
TOB_MUST_USE tob_error tob_registry_list_certificates(tob_registry *registry, const char *subject,
                                                      const char *after, uint32_t max,
                                                      tob_registry_certificate_fn fn, void *user);
TOB_MUST_USE tob_error tob_registry_get_certificate(tob_registry *registry, const char *serial,
                                                    tob_registry_certificate_fn fn,
                                                    void *user); // TOB_NOT_FOUND
// Those that are revoked and end at `until_unix_s` or later: what a revocation list holds.
TOB_MUST_USE tob_error tob_registry_revoked_certificates(tob_registry *registry, uint64_t until_unix_s,
                                                         tob_registry_certificate_fn fn, void *user);
// The number of the last change that touched a certificate; 0: none did.
TOB_MUST_USE tob_error tob_registry_certificates_change(tob_registry *registry, uint64_t *ret);

// For each type with a certificate: the soonest end among the newest certificates of subjects that are registered (those of
// type "server": all subjects), without revoked ones.
typedef tob_error (*tob_registry_expiry_fn)(void *user, const char *type, uint64_t not_after_unix_s);
TOB_MUST_USE tob_error tob_registry_certificate_expiries(tob_registry *registry, tob_registry_expiry_fn fn,
                                                         void *user);

// The fleet's own authority: PEM of its certificate and its key. TOB_NOT_FOUND when there is none.
typedef tob_error (*tob_registry_authority_fn)(void *user, const char *certificate_pem, const char *key_pem);
TOB_MUST_USE tob_error tob_registry_get_authority(tob_registry *registry, tob_registry_authority_fn fn,
                                                  void *user);
// In a change. TOB_ALREADY_EXISTS: another process was first; read it.
TOB_MUST_USE tob_error tob_registry_set_authority(tob_registry *registry, const char *certificate_pem,
                                                  const char *key_pem);

#endif
