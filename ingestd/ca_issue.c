#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestd/ca_state.h"

#define DAY_S 86400

static const struct type {
    const char *name;
    const char *usage;
} types[] = {{"client", "clientAuth"}, {"headend", "serverAuth,clientAuth"}, {"server", "serverAuth"}};

static const char *extended_usage(const char *type) {
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(types[i].name, type) == 0) {
            return types[i].usage;
        }
    }
    return NULL;
}

static tob_error check(const tob_ca *ca, const tob_ca_order *order, uint64_t now_unix_s,
                       tob_ca_problem *problem) {
    size_t len = strlen(order->subject);
    if (!extended_usage(order->type)) {
        return tob_ca_say(problem, TOB_INVALID, "type: must be client, headend or server");
    }
    if (len > TOB_CA_MAX_SUBJECT_BYTES || !tob_id_valid(order->subject, len)) {
        return tob_ca_say(problem, TOB_INVALID, "subject: must be 1 to %d bytes of [A-Za-z0-9._:-]",
                          TOB_CA_MAX_SUBJECT_BYTES);
    }
    if (order->days > TOB_CA_MAX_DAYS) {
        return tob_ca_say(problem, TOB_INVALID, "validity_days: over %d", TOB_CA_MAX_DAYS);
    }
    const char *invalid = tob_ca_invalid_at(ca, now_unix_s);
    if (invalid) {
        return tob_ca_say(problem, TOB_PRECONDITION, "the authority's certificate %s", invalid);
    }
    return TOB_OK;
}

static void set_times(const tob_ca *ca, const tob_ca_order *order, uint64_t now_unix_s, tob_ca_issued *to) {
    uint64_t days = order->days ? order->days : TOB_CA_DEFAULT_DAYS;
    to->not_before_unix_s = now_unix_s - TOB_CA_CLOCK_SKEW_S;
    to->not_after_unix_s = now_unix_s + days * DAY_S;
    if (to->not_before_unix_s < ca->not_before_unix_s) {
        to->not_before_unix_s = ca->not_before_unix_s;
    }
    if (to->not_after_unix_s > ca->not_after_unix_s) {
        to->not_after_unix_s = ca->not_after_unix_s;
    }
}

static bool fill(const tob_ca *ca, const tob_ca_order *order, GENERAL_NAMES *names, EVP_PKEY *key,
                 X509 *certificate, tob_ca_issued *to) {
    bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    return X509_set_version(certificate, X509_VERSION_3) == 1 && tob_ca_set_serial(certificate, to->serial) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)to->not_before_unix_s) &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)to->not_after_unix_s) &&
           tob_ca_set_name(certificate, order->subject) &&
           X509_set_issuer_name(certificate, X509_get_subject_name(ca->certificate)) == 1 &&
           X509_set_pubkey(certificate, key) == 1 &&
           tob_ca_extend(certificate, ca->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           tob_ca_extend(certificate, ca->certificate, NID_key_usage,
                         rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature") &&
           tob_ca_extend(certificate, ca->certificate, NID_ext_key_usage, extended_usage(order->type)) &&
           tob_ca_extend(certificate, ca->certificate, NID_subject_key_identifier, "hash") &&
           (!tob_ca_has_key_id(ca) ||
            tob_ca_extend(certificate, ca->certificate, NID_authority_key_identifier, "keyid")) &&
           X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1 &&
           X509_sign(certificate, ca->key, tob_ca_digest(ca->key)) > 0 &&
           tob_ca_fingerprint_of(certificate, to->fingerprint);
}

// The key that the certificate is for: a request's, or a fresh one, whose text goes into the answer.
static tob_error find_key(const tob_ca_order *order, EVP_PKEY **ret, tob_ca_issued *to,
                          tob_ca_problem *problem) {
    if (*order->csr) {
        to->key_pem = strdup("");
        return to->key_pem ? tob_ca_csr_key(order->csr, ret, problem)
                           : tob_ca_say(problem, TOB_NO_MEMORY, "%s", tob_error_string(TOB_NO_MEMORY));
    }
    *ret = EVP_EC_gen("P-256");
    to->key_pem = *ret ? tob_ca_key_text(*ret) : NULL;
    return to->key_pem ? TOB_OK : tob_ca_openssl_failed(problem, "key");
}

tob_error tob_ca_issue(const tob_ca *ca, const tob_ca_order *order, uint64_t now_unix_s, tob_ca_issued *ret,
                       tob_ca_problem *ret_problem) {
    tob_ca_issued issued = {.pem = NULL};
    GENERAL_NAMES *names = NULL;
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;
    tob_error err = check(ca, order, now_unix_s, ret_problem);
    if (!err) {
        err = tob_ca_names(order, &names, ret_problem);
    }
    if (!err) {
        err = find_key(order, &key, &issued, ret_problem);
    }
    if (err) {
        goto out;
    }
    set_times(ca, order, now_unix_s, &issued);
    certificate = X509_new();
    if (certificate && fill(ca, order, names, key, certificate, &issued)) {
        issued.pem = tob_ca_certificate_text(certificate);
    }
    if (!issued.pem) {
        err = tob_ca_openssl_failed(ret_problem, "certificate");
        goto out;
    }
    *ret = issued;
    issued = (tob_ca_issued){.pem = NULL};
out:
    tob_ca_issued_fini(&issued);
    X509_free(certificate);
    EVP_PKEY_free(key);
    GENERAL_NAMES_free(names);
    return err;
}

void tob_ca_issued_fini(tob_ca_issued *issued) {
    free(issued->pem);
    tob_ca_free_key(issued->key_pem);
    *issued = (tob_ca_issued){.pem = NULL};
}
