#include <openssl/bn.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestd/ca_state.h"

#define CHANGE_SHIFT 40

static const struct reason {
    const char *name;
    long code; // RFC 5280 §5.3.1
} reasons[] = {{"unspecified", CRL_REASON_UNSPECIFIED},
               {"key_compromise", CRL_REASON_KEY_COMPROMISE},
               {"superseded", CRL_REASON_SUPERSEDED},
               {"cessation_of_operation", CRL_REASON_CESSATION_OF_OPERATION},
               {"privilege_withdrawn", CRL_REASON_PRIVILEGE_WITHDRAWN}};

static const struct reason *find_reason(const char *name) {
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (strcmp(reasons[i].name, *name ? name : "unspecified") == 0) {
            return &reasons[i];
        }
    }
    return NULL;
}

const char *tob_ca_reason(const char *reason) {
    const struct reason *r = find_reason(reason);
    return r ? r->name : NULL;
}

// "unspecified" is told by leaving the extension out (RFC 5280 §5.3.1).
static bool set_reason(X509_REVOKED *entry, const char *name) {
    const struct reason *r = find_reason(name);
    if (!r || r->code == CRL_REASON_UNSPECIFIED) {
        return true;
    }
    ASN1_ENUMERATED *code = ASN1_ENUMERATED_new();
    bool ok = code && ASN1_ENUMERATED_set(code, r->code) == 1 &&
              X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, code, 0, X509V3_ADD_DEFAULT) == 1;
    ASN1_ENUMERATED_free(code);
    return ok;
}

static bool add_entry(X509_CRL *list, const tob_ca_revoked *revoked) {
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *at = ASN1_TIME_set(NULL, (time_t)revoked->revoked_unix_s);
    BIGNUM *number = NULL;
    ASN1_INTEGER *serial = BN_hex2bn(&number, revoked->serial) > 0 ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
    bool ok = entry && at && serial && X509_REVOKED_set_serialNumber(entry, serial) == 1 &&
              X509_REVOKED_set_revocationDate(entry, at) == 1 && set_reason(entry, revoked->reason) &&
              X509_CRL_add0_revoked(list, entry) == 1;
    if (!ok) {
        X509_REVOKED_free(entry);
    }
    ASN1_INTEGER_free(serial);
    BN_free(number);
    ASN1_TIME_free(at);
    return ok;
}

static bool add_entries(X509_CRL *list, const tob_ca_revoked *revoked, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!add_entry(list, &revoked[i])) {
            return false;
        }
    }
    return X509_CRL_sort(list) == 1;
}

static bool set_number(X509_CRL *list, uint64_t change, uint64_t now_unix_s) {
    uint8_t bytes[16];
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(change >> (56 - 8 * i));
    }
    // change · 2^40 + seconds: 8 bytes of the one, then 5 of the other
    for (size_t i = 0; i < CHANGE_SHIFT / 8; i++) {
        bytes[8 + i] = (uint8_t)(now_unix_s >> (CHANGE_SHIFT - 8 - 8 * i));
    }
    BIGNUM *number = BN_bin2bn(bytes, 8 + CHANGE_SHIFT / 8, NULL);
    ASN1_INTEGER *integer = number ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
    bool ok = integer && X509_CRL_add1_ext_i2d(list, NID_crl_number, integer, 0, X509V3_ADD_DEFAULT) == 1;
    ASN1_INTEGER_free(integer);
    BN_free(number);
    return ok;
}

static bool set_issuer(X509_CRL *list, const tob_ca *ca) {
    if (X509_CRL_set_issuer_name(list, X509_get_subject_name(ca->certificate)) != 1) {
        return false;
    }
    if (!tob_ca_has_key_id(ca)) {
        return true;
    }
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, ca->certificate, NULL, NULL, list, 0);
    X509_EXTENSION *key_id = X509V3_EXT_conf_nid(NULL, &context, NID_authority_key_identifier, "keyid");
    bool ok = key_id && X509_CRL_add_ext(list, key_id, -1) == 1;
    X509_EXTENSION_free(key_id);
    return ok;
}

static bool set_times(X509_CRL *list, uint64_t now_unix_s, uint64_t next_unix_s) {
    ASN1_TIME *this_update = ASN1_TIME_set(NULL, (time_t)(now_unix_s - TOB_CA_CLOCK_SKEW_S));
    ASN1_TIME *next_update = ASN1_TIME_set(NULL, (time_t)next_unix_s);
    bool ok = this_update && next_update && X509_CRL_set1_lastUpdate(list, this_update) == 1 &&
              X509_CRL_set1_nextUpdate(list, next_update) == 1;
    ASN1_TIME_free(this_update);
    ASN1_TIME_free(next_update);
    return ok;
}

static bool render(X509_CRL *list, tob_ca_list *to) {
    BIO *der = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_mem());
    if (der && pem && i2d_X509_CRL_bio(der, list) == 1 && PEM_write_bio_X509_CRL(pem, list) == 1) {
        char *bytes = NULL;
        to->der_len = (size_t)BIO_get_mem_data(der, &bytes);
        to->der = (uint8_t *)tob_ca_text(der);
        to->pem = tob_ca_text(pem);
    }
    BIO_free(der);
    BIO_free(pem);
    return to->der && to->pem;
}

tob_error tob_ca_revocation_list(const tob_ca *ca, const tob_ca_revoked *revoked, size_t count,
                                 uint64_t change, uint64_t now_unix_s, tob_ca_list *ret,
                                 tob_ca_problem *ret_problem) {
    if (count > TOB_CA_MAX_REVOKED) {
        return tob_ca_say(ret_problem, TOB_TOO_LARGE, "over %d certificates are revoked and have not expired",
                          TOB_CA_MAX_REVOKED);
    }
    tob_error err = TOB_OK;
    tob_ca_list made = {.next_update_unix_s = now_unix_s + TOB_CA_CRL_HOURS * 3600};
    X509_CRL *list = X509_CRL_new();
    if (!list || X509_CRL_set_version(list, X509_CRL_VERSION_2) != 1 || !set_issuer(list, ca) ||
        !set_times(list, now_unix_s, made.next_update_unix_s) || !set_number(list, change, now_unix_s) ||
        !add_entries(list, revoked, count) || X509_CRL_sign(list, ca->key, tob_ca_digest(ca->key)) <= 0 ||
        !render(list, &made)) {
        err = tob_ca_openssl_failed(ret_problem, "revocation list");
        tob_ca_list_fini(&made);
    } else {
        *ret = made;
    }
    X509_CRL_free(list);
    return err;
}

void tob_ca_list_fini(tob_ca_list *list) {
    free(list->der);
    free(list->pem);
    *list = (tob_ca_list){.der = NULL};
}
