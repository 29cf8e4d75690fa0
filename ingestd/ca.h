// tob_ca is the fleet's certificate authority: it signs certificates (X.509 v3, RFC 5280) and revocation lists. The authority
// is made at the first start and kept in the registry (P-256, ten years, for leaves only), or given as two files: then with
// any key that a certificate may have here (below), as a root or as an intermediate whose chain follows it in the file.
//
// What a certificate says:
//   subject            the common name, nothing else
//   subjectAltName     URI "tobogganing:TYPE:SUBJECT", by which a program tells the types apart; and the names: those of the
//                      order, or, for types that serve, the subject when it is a DNS name or an IP address. A client's
//                      certificate has names only when they are ordered.
//   extendedKeyUsage   client: clientAuth; server: serverAuth; headend: both
//   keyUsage           digitalSignature; for RSA keyEncipherment too (TLS 1.2's key exchange). Critical
//   serial             16 bytes, 126 of their bits random (CA/Browser Forum BR §7.1 asks for 64)
// It does not say where the revocation list is (cRLDistributionPoints): addresses of gateways change, certificates stay.
//
// Threads: any; it is immutable.
// Errors:  TOB_INVALID with a problem that begins with the field; TOB_NO_MEMORY; TOB_INTERNAL from OpenSSL, with its text.
#ifndef TOB_INGESTD_CA_H
#define TOB_INGESTD_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_CA_MAX_PEM_BYTES     16384
#define TOB_CA_MAX_CHAIN         4 // certificates in the authority's file
#define TOB_CA_MAX_NAMES         32
#define TOB_CA_MAX_NAME_BYTES    253 // RFC 1035 §2.3.4, as text without the last dot
#define TOB_CA_MAX_SUBJECT_BYTES 64  // RFC 5280 appendix A.1: ub-common-name
#define TOB_CA_DEFAULT_DAYS      365
#define TOB_CA_MAX_DAYS          3650
#define TOB_CA_AUTHORITY_DAYS    3650
#define TOB_CA_CRL_HOURS         24
#define TOB_CA_CLOCK_SKEW_S      300 // not_before lies this long ago: clocks differ
#define TOB_CA_PROBLEM_BYTES     256
#define TOB_CA_SERIAL_BYTES      41 // hexadecimal, NUL
#define TOB_CA_FINGERPRINT_BYTES 65
#define TOB_CA_MIN_RSA_BITS      2048
#define TOB_CA_MAX_RSA_BITS      8192
#define TOB_CA_MAX_REVOKED       50000 // in one list: 2.4 MB of DER, and both forms still fit into one answer

typedef struct tob_ca tob_ca;

typedef struct tob_ca_problem {
    char text[TOB_CA_PROBLEM_BYTES];
} tob_ca_problem;

// tob_ca_make makes an authority: PEM of certificate and key, owned by the caller; free with tob_ca_free_key, which
// cleanses.
TOB_MUST_USE tob_error tob_ca_make(uint64_t now_unix_s, char **ret_certificate_pem, char **ret_key_pem,
                                   tob_ca_problem *ret_problem);
void tob_ca_free_key(char *key_pem); // NULL is fine

// tob_ca_new takes an authority. TOB_INVALID: it is none (basicConstraints, keyUsage), the key is not its or too weak.
// That it is not valid now is no error: clocks are stepped, and reports must not wait for a new authority.
//   ret   owned by the caller; free with tob_ca_free
TOB_MUST_USE tob_error tob_ca_new(const char *certificate_pem, const char *key_pem, tob_ca **ret,
                                  tob_ca_problem *ret_problem);
// tob_ca_load takes one from files; the problem begins with the file's path. TOB_NOT_FOUND, TOB_IO; TOB_PRECONDITION when
// everyone may read the key (its group may: that is how Kubernetes mounts secrets).
TOB_MUST_USE tob_error tob_ca_load(const char *certificate_path, const char *key_path, tob_ca **ret,
                                   tob_ca_problem *ret_problem);
void tob_ca_free(tob_ca *ca);

// tob_ca_invalid_at: NULL, or "has expired" or "is not valid yet": it can't issue then.
const char *tob_ca_invalid_at(const tob_ca *ca, uint64_t now_unix_s);

const char *tob_ca_pem(const tob_ca *ca); // with its chain, if it came with one
const char *tob_ca_subject(const tob_ca *ca);
const char *tob_ca_fingerprint(const tob_ca *ca);
uint64_t tob_ca_not_after_unix_s(const tob_ca *ca);

typedef struct tob_ca_order {
    const char *type;         // "client", "headend", "server"
    const char *subject;      // common name; a valid id of at most TOB_CA_MAX_SUBJECT_BYTES
    const char *const *names; // DNS names (RFC 1123, no wildcards) and IP addresses for subjectAltName
    size_t name_count;        // 0: see above
    bool name_subject;        // put the subject among the names though there are some
    const char *csr;          // PEM, or "" for a fresh P-256 key
    uint32_t days;            // 0: TOB_CA_DEFAULT_DAYS
} tob_ca_order;

// Strings are owned by the caller; free with tob_ca_issued_fini, which cleanses the key.
typedef struct tob_ca_issued {
    char *pem;
    char *key_pem; // "" for a CSR
    char serial[TOB_CA_SERIAL_BYTES];
    char fingerprint[TOB_CA_FINGERPRINT_BYTES];
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s; // never after the authority's
} tob_ca_issued;

// tob_ca_issue signs. Of a request (PKCS #10) only the key counts: it has to be P-256, P-384, P-521, Ed25519 or RSA of 2048
// to 8192 bits, and to have signed the request; its subject and its extensions are not looked at.
// Errors: TOB_PRECONDITION when the authority is not valid.
TOB_MUST_USE tob_error tob_ca_issue(const tob_ca *ca, const tob_ca_order *order, uint64_t now_unix_s,
                                    tob_ca_issued *ret, tob_ca_problem *ret_problem);
void tob_ca_issued_fini(tob_ca_issued *issued);

// A revocation list.
typedef struct tob_ca_revoked {
    char serial[TOB_CA_SERIAL_BYTES];
    uint64_t revoked_unix_s;
    const char *reason; // as in certificates.proto; static text
} tob_ca_revoked;

// tob_ca_reason finds the static text of a reason; "" is "unspecified". NULL for one that is unknown.
const char *tob_ca_reason(const char *reason);

typedef struct tob_ca_list {
    uint8_t *der;
    size_t der_len;
    char *pem;
    uint64_t next_update_unix_s;
} tob_ca_list;

// tob_ca_revocation_list signs a list (X.509 v2 CRL, RFC 5280 §5).
//   change   of the registry, that the list shows. With `now` it is the list's number, change · 2^40 + seconds: it grows
//            from list to list (RFC 5280 §5.2.3), also over several processes that share the registry
//   ret      free with tob_ca_list_fini
// Errors: TOB_TOO_LARGE over TOB_CA_MAX_REVOKED.
TOB_MUST_USE tob_error tob_ca_revocation_list(const tob_ca *ca, const tob_ca_revoked *revoked, size_t count,
                                              uint64_t change, uint64_t now_unix_s, tob_ca_list *ret,
                                              tob_ca_problem *ret_problem);
void tob_ca_list_fini(tob_ca_list *list);

#endif
