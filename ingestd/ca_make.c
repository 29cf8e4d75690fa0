#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestd/ca_state.h"

#define AUTHORITY_NAME "Tobogganing fleet CA"
#define DAY_S          86400

static bool fill(X509 *certificate, EVP_PKEY *key, uint64_t now_unix_s) {
    char serial[TOB_CA_SERIAL_BYTES];
    return X509_set_version(certificate, X509_VERSION_3) == 1 && tob_ca_set_serial(certificate, serial) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(now_unix_s - TOB_CA_CLOCK_SKEW_S)) &&
           ASN1_TIME_set(X509_getm_notAfter(certificate),
                         (time_t)(now_unix_s + (uint64_t)TOB_CA_AUTHORITY_DAYS * DAY_S)) &&
           tob_ca_set_name(certificate, AUTHORITY_NAME) &&
           X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
           X509_set_pubkey(certificate, key) == 1 &&
           tob_ca_extend(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           tob_ca_extend(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           tob_ca_extend(certificate, certificate, NID_subject_key_identifier, "hash") &&
           X509_sign(certificate, key, tob_ca_digest(key)) > 0;
}

tob_error tob_ca_make(uint64_t now_unix_s, char **ret_certificate_pem, char **ret_key_pem,
                      tob_ca_problem *ret_problem) {
    tob_error err = TOB_OK;
    char *certificate_pem = NULL, *key_pem = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    if (!key || !certificate || !fill(certificate, key, now_unix_s)) {
        err = tob_ca_openssl_failed(ret_problem, "ca");
        goto out;
    }
    certificate_pem = tob_ca_certificate_text(certificate);
    key_pem = tob_ca_key_text(key);
    if (!certificate_pem || !key_pem) {
        err = tob_ca_openssl_failed(ret_problem, "ca");
        goto out;
    }
    *ret_certificate_pem = certificate_pem;
    *ret_key_pem = key_pem;
    certificate_pem = key_pem = NULL;
out:
    free(certificate_pem);
    tob_ca_free_key(key_pem);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return err;
}

void tob_ca_free_key(char *key_pem) {
    if (key_pem) {
        OPENSSL_cleanse(key_pem, strlen(key_pem));
        free(key_pem);
    }
}
