// The authority's insides, for its own files only: ca.c is its life, ca_make.c makes a new one, ca_load.c reads files, ca_csr.c
// takes requests apart, ca_names.c has the names, ca_issue.c signs certificates and ca_crl.c revocation lists, ca_x509.c what
// several of them need of OpenSSL.
#ifndef TOB_INGESTD_CA_STATE_H
#define TOB_INGESTD_CA_STATE_H

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

#include "ingestd/ca.h"
#include "util/text.h"

#define TOB_CA_SUBJECT_TEXT_BYTES 512

struct tob_ca {
    X509 *certificate;
    EVP_PKEY *key;
    char *pem;
    char subject[TOB_CA_SUBJECT_TEXT_BYTES]; // RFC 2253; a longer one is cut
    char fingerprint[TOB_CA_FINGERPRINT_BYTES];
    uint64_t not_before_unix_s;
    uint64_t not_after_unix_s;
};

// ---- ca_x509.c

// Has the authority a subjectKeyIdentifier, for authorityKeyIdentifiers to name? A given one may have none.
bool tob_ca_has_key_id(const tob_ca *ca);

// tob_ca_say fills in the problem and returns `err`.
tob_error tob_ca_say(tob_ca_problem *problem, tob_error err, const char *format, ...) TOB_PRINTF(3, 4);

// tob_ca_openssl_failed says what OpenSSL says, and empties its queue of errors. TOB_INTERNAL, or TOB_NO_MEMORY.
tob_error tob_ca_openssl_failed(tob_ca_problem *problem, const char *what);

// tob_ca_text copies what was written to a memory BIO. NULL without memory. Owned by the caller; free with free.
char *tob_ca_text(BIO *bio);

// PEM of a certificate, and of a key (PKCS #8). Likewise NULL, and owned.
char *tob_ca_certificate_text(X509 *certificate);
char *tob_ca_key_text(EVP_PKEY *key);

// The digest that a key signs with; NULL for Ed25519.
const EVP_MD *tob_ca_digest(const EVP_PKEY *key);

// tob_ca_key_usable: NULL for a key that a certificate may have, else why not. Static text.
const char *tob_ca_key_usable(const EVP_PKEY *key);

// SHA-256 of the DER. False on a failure.
bool tob_ca_fingerprint_of(const X509 *certificate, char ret[TOB_CA_FINGERPRINT_BYTES]);

// Unix seconds; 0 for what is before 1970 or no time.
uint64_t tob_ca_unix_s(const ASN1_TIME *time);

// A positive serial of 16 bytes, and its text. False on a failure.
bool tob_ca_set_serial(X509 *certificate, char ret[TOB_CA_SERIAL_BYTES]);

// An extension by OpenSSL's own notation; for fixed text only. False on a failure.
bool tob_ca_extend(X509 *certificate, X509 *issuer, int nid, const char *value);

// tob_ca_set_name: the common name, and nothing else.
bool tob_ca_set_name(X509 *certificate, const char *common_name);

// No password is ever asked for: for PEM_read_bio_…'s callback.
int tob_ca_no_password(char *buffer, int size, int writing, void *user);

// ---- ca_csr.c

// tob_ca_csr_key takes a PEM request's key, which has signed it.
//   ret   owned by the caller; free with EVP_PKEY_free
TOB_MUST_USE tob_error tob_ca_csr_key(const char *csr, EVP_PKEY **ret, tob_ca_problem *ret_problem);

// ---- ca_names.c

// tob_ca_names makes the subjectAltName of an order. Owned by the caller; free with GENERAL_NAMES_free.
TOB_MUST_USE tob_error tob_ca_names(const tob_ca_order *order, GENERAL_NAMES **ret,
                                    tob_ca_problem *ret_problem);

#endif
