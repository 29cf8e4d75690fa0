// What the tests of the authority share: one that was made just now, and a look at what it signs.
#ifndef TOB_TESTS_CA_RIG_H
#define TOB_TESTS_CA_RIG_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ingestd/ca.h"

#define NOW   UINT64_C(1800000000)
#define DAY_S UINT64_C(86400)

typedef struct fixture {
    tob_ca *ca;
    char *certificate_pem;
    char *key_pem;
    tob_ca_problem problem;
} fixture;

static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    *state = f;
    assert_int_equal(tob_ca_make(NOW, &f->certificate_pem, &f->key_pem, &f->problem), TOB_OK);
    assert_int_equal(tob_ca_new(f->certificate_pem, f->key_pem, &f->ca, &f->problem), TOB_OK);
    return 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    tob_ca_free(f->ca);
    tob_ca_free_key(f->key_pem);
    free(f->certificate_pem);
    free(f);
    assert_int_equal(ERR_peek_error(), 0); // nothing is left in OpenSSL's queue for somebody else to find
    return 0;
}

static inline X509 *parse(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(certificate);
    return certificate;
}

static inline EVP_PKEY *parse_key(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}

static inline char *text_of(BIO *bio) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = strndup(bytes, (size_t)len);
    BIO_free(bio);
    return text;
}

// A request as somebody else would make it.
static inline char *request_of(EVP_PKEY *key, const char *extension) {
    X509_REQ *request = X509_REQ_new();
    X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(request), NID_commonName, MBSTRING_UTF8,
                               (const unsigned char *)"somebody else", -1, -1, 0);
    if (extension) {
        STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
        sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, extension));
        X509_REQ_add_extensions(request, extensions);
        sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    }
    X509_REQ_set_pubkey(request, key);
    int type = EVP_PKEY_get_base_id(key);
    const EVP_MD *digest = type == EVP_PKEY_ED25519 || type == EVP_PKEY_ED448 ? NULL : EVP_sha256();
    assert_true(X509_REQ_sign(request, key, digest) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(bio, request);
    X509_REQ_free(request);
    return text_of(bio);
}

static inline tob_error issue(fixture *f, const tob_ca_order *order, tob_ca_issued *ret) {
    memset(&f->problem, 0, sizeof(f->problem));
    return tob_ca_issue(f->ca, order, NOW, ret, &f->problem);
}

static inline tob_error issue_for(fixture *f, const char *csr, tob_ca_issued *ret) {
    return issue(f, &(tob_ca_order){.type = "client", .subject = "laptop-1", .csr = csr}, ret);
}

static inline void assert_refused(fixture *f, const char *csr, const char *why) {
    tob_ca_issued issued = {.pem = NULL};
    assert_int_equal(issue_for(f, csr, &issued), TOB_INVALID);
    assert_string_equal(f->problem.text, why);
    assert_null(issued.pem);
}

// OpenSSL's own words for one extension; "" when it is not there.
static inline char *extension(const X509 *certificate, int nid) {
    int at = X509_get_ext_by_NID(certificate, nid, -1);
    BIO *bio = BIO_new(BIO_s_mem());
    if (at >= 0) {
        X509_EXTENSION *found = X509_get_ext(certificate, at);
        BIO_puts(bio, X509_EXTENSION_get_critical(found) ? "critical " : "");
        X509V3_EXT_print(bio, found, 0, 0);
    }
    return text_of(bio);
}

static inline void assert_extension(const X509 *certificate, int nid, const char *expected) {
    char *text = extension(certificate, nid);
    assert_string_equal(text, expected);
    free(text);
}

// Would a TLS peer take it, for this purpose, at this time?
static inline bool verifies(const fixture *f, X509 *certificate, int purpose, uint64_t at) {
    X509 *authority = parse(tob_ca_pem(f->ca));
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, authority);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_STORE_CTX_init(context, store, certificate, NULL);
    X509_STORE_CTX_set_purpose(context, purpose);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context), (time_t)at);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context), X509_V_FLAG_X509_STRICT);
    bool ok = X509_verify_cert(context) == 1;
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(authority);
    ERR_clear_error();
    return ok;
}

static inline uint64_t seconds(const ASN1_TIME *at) {
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(at, &tm), 1);
    return (uint64_t)timegm(&tm);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
