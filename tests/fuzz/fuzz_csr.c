// Certificate requests (PKCS #10) as strangers send them. The first byte of the input chooses:
//   0  the rest is the PEM text
//   1  the rest is the DER, which is put into PEM
//
// Promises: a request is refused with a reason that names its field, or its key gets a certificate that says what was ordered
// and nothing of what the request says.
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "ingestd/ca.h"

#define NOW_UNIX_S UINT64_C(1800000000)

enum { MAX_INPUT_BYTES = 32 << 10, KINDS = 2 };

static tob_ca *ca;

static void stop(void) {
    tob_ca_free(ca);
}

static void start(void) {
    tob_ca_problem problem;
    char *certificate = NULL, *key = NULL;
    FUZZ_CHECK(tob_ca_make(NOW_UNIX_S, &certificate, &key, &problem) == TOB_OK);
    FUZZ_CHECK(tob_ca_new(certificate, key, &ca, &problem) == TOB_OK);
    free(certificate);
    tob_ca_free_key(key);
    atexit(stop);
}

static void check_certificate(const tob_ca_issued *issued) {
    BIO *bio = BIO_new_mem_buf(issued->pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    FUZZ_CHECK(certificate);
    X509_NAME *subject = X509_get_subject_name(certificate);
    char name[64];
    FUZZ_CHECK(X509_NAME_entry_count(subject) == 1);
    FUZZ_CHECK(X509_NAME_get_text_by_NID(subject, NID_commonName, name, sizeof(name)) == 6);
    FUZZ_CHECK(strcmp(name, "client") == 0);
    FUZZ_CHECK(X509_check_ca(certificate) == 0);
    FUZZ_CHECK(X509_get_extended_key_usage(certificate) == XKU_SSL_CLIENT);
    FUZZ_CHECK(X509_get_ext_count(certificate) == 6);
    FUZZ_CHECK(strlen(issued->key_pem) == 0);
    X509_free(certificate);
    BIO_free(bio);
}

static void check(const char *csr) {
    const tob_ca_order order = {.type = "client", .subject = "client", .csr = csr};
    tob_ca_issued issued;
    tob_ca_problem problem = {""};
    tob_error err = tob_ca_issue(ca, &order, NOW_UNIX_S, &issued, &problem);
    if (!*csr) {
        FUZZ_CHECK(err == TOB_OK); // a fresh key
        tob_ca_issued_fini(&issued);
    } else if (!err) {
        check_certificate(&issued);
        tob_ca_issued_fini(&issued);
    } else {
        FUZZ_CHECK(err == TOB_INVALID && strncmp(problem.text, "csr: ", 5) == 0);
    }
}

// An exact copy, so that a sanitizer sees a read past its end.
static void check_text(const uint8_t *data, size_t n) {
    char *copy = malloc(n + 1);
    FUZZ_CHECK(copy);
    memcpy(copy, data, n);
    copy[n] = '\0';
    check(copy);
    free(copy);
}

static void check_der(const uint8_t *data, size_t n) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    FUZZ_CHECK(bio && PEM_write_bio(bio, PEM_STRING_X509_REQ, "", data, (long)n) > 0);
    long len = BIO_get_mem_data(bio, &text);
    check_text((const uint8_t *)text, (size_t)len);
    BIO_free(bio);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n > MAX_INPUT_BYTES) {
        return -1;
    }
    if (!ca) {
        start();
    }
    if (fuzz_take_byte(&data, &n) % KINDS == 0) {
        check_text(data, n);
    } else if (n) { // OpenSSL writes no PEM of nothing
        check_der(data, n);
    }
    return 0;
}
