#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/ca_state.h"

// Only blanks may follow what was read.
static bool at_end(BIO *bio) {
    char c = 0;
    while (BIO_read(bio, &c, 1) == 1) {
        if (!strchr(" \t\r\n", c)) {
            return false;
        }
    }
    return true;
}

// The file's certificates: the authority's, and maybe those above it. `chain` gets the text of these and of nothing else: a key
// that somebody left in the same file goes nowhere.
static tob_error read_certificates(const char *pem, X509 **ret, BIO *chain, tob_ca_problem *problem) {
    size_t len = strlen(pem), count = 0;
    if (len > TOB_CA_MAX_PEM_BYTES) {
        return tob_ca_say(problem, TOB_INVALID, "ca: over %d bytes", TOB_CA_MAX_PEM_BYTES);
    }
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *next = NULL;
    bool written = bio && chain;
    while (written && count <= TOB_CA_MAX_CHAIN &&
           (next = PEM_read_bio_X509(bio, NULL, tob_ca_no_password, NULL))) {
        written = PEM_write_bio_X509(chain, next) == 1;
        if (count++ == 0) {
            *ret = next;
        } else {
            X509_free(next);
        }
    }
    BIO_free(bio);
    if (!written) {
        return tob_ca_openssl_failed(problem, "ca");
    }
    bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (count > TOB_CA_MAX_CHAIN) {
        return tob_ca_say(problem, TOB_INVALID, "ca: more than %d certificates", TOB_CA_MAX_CHAIN);
    }
    if (count == 0 || !ended) {
        return tob_ca_say(problem, TOB_INVALID, "ca: not a certificate in PEM");
    }
    return TOB_OK;
}

static tob_error read_key(const char *pem, EVP_PKEY **ret, tob_ca_problem *problem) {
    size_t len = strlen(pem);
    BIO *bio = len <= TOB_CA_MAX_PEM_BYTES ? BIO_new_mem_buf(pem, (int)len) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, tob_ca_no_password, NULL) : NULL;
    bool clean = key && at_end(bio);
    BIO_free(bio);
    ERR_clear_error(); // its text is not for anybody: it is about a key
    if (!clean) {
        EVP_PKEY_free(key);
        return tob_ca_say(problem, TOB_INVALID, "ca: the key is not a private key in PEM without a password");
    }
    *ret = key;
    return TOB_OK;
}

static tob_error check(tob_ca *ca, tob_ca_problem *problem) {
    const uint32_t needed = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    const char *unusable = tob_ca_key_usable(ca->key);
    if (X509_check_ca(ca->certificate) != 1) {
        return tob_ca_say(problem, TOB_INVALID,
                          "ca: not an authority's certificate (basicConstraints CA:TRUE)");
    }
    if ((X509_get_key_usage(ca->certificate) & needed) != needed) {
        return tob_ca_say(problem, TOB_INVALID, "ca: its keyUsage lacks keyCertSign or cRLSign");
    }
    if (X509_check_private_key(ca->certificate, ca->key) != 1) {
        ERR_clear_error();
        return tob_ca_say(problem, TOB_INVALID, "ca: the key is not this certificate's");
    }
    if (unusable) {
        return tob_ca_say(problem, TOB_INVALID, "ca: %s", unusable);
    }
    return TOB_OK;
}

const char *tob_ca_invalid_at(const tob_ca *ca, uint64_t now_unix_s) {
    return ca->not_after_unix_s <= now_unix_s   ? "has expired"
           : ca->not_before_unix_s > now_unix_s ? "is not valid yet"
                                                : NULL;
}

static tob_error fill(tob_ca *ca, BIO *chain, tob_ca_problem *problem) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *subject = NULL;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(ca->certificate), 0, XN_FLAG_RFC2253) >= 0) {
        subject = tob_ca_text(bio);
    }
    BIO_free(bio);
    ca->pem = tob_ca_text(chain);
    if (!subject || !ca->pem || !tob_ca_fingerprint_of(ca->certificate, ca->fingerprint)) {
        free(subject);
        return tob_ca_openssl_failed(problem, "ca");
    }
    snprintf(ca->subject, sizeof(ca->subject), "%s", subject);
    free(subject);
    ca->not_before_unix_s = tob_ca_unix_s(X509_get0_notBefore(ca->certificate));
    ca->not_after_unix_s = tob_ca_unix_s(X509_get0_notAfter(ca->certificate));
    return TOB_OK;
}

tob_error tob_ca_new(const char *certificate_pem, const char *key_pem, tob_ca **ret,
                     tob_ca_problem *ret_problem) {
    BIO *chain = BIO_new(BIO_s_mem());
    tob_ca *ca = calloc(1, sizeof(*ca));
    tob_error err = ca && chain
                        ? TOB_OK
                        : tob_ca_say(ret_problem, TOB_NO_MEMORY, "ca: %s", tob_error_string(TOB_NO_MEMORY));
    if (!err) {
        err = read_certificates(certificate_pem, &ca->certificate, chain, ret_problem);
    }
    if (!err) {
        err = read_key(key_pem, &ca->key, ret_problem);
    }
    if (!err) {
        err = fill(ca, chain, ret_problem);
    }
    if (!err) {
        err = check(ca, ret_problem);
    }
    BIO_free(chain);
    if (err) {
        tob_ca_free(ca);
        return err;
    }
    *ret = ca;
    return TOB_OK;
}

void tob_ca_free(tob_ca *ca) {
    if (!ca) {
        return;
    }
    X509_free(ca->certificate);
    EVP_PKEY_free(ca->key);
    free(ca->pem);
    free(ca);
}

const char *tob_ca_pem(const tob_ca *ca) {
    return ca->pem;
}

const char *tob_ca_subject(const tob_ca *ca) {
    return ca->subject;
}

const char *tob_ca_fingerprint(const tob_ca *ca) {
    return ca->fingerprint;
}

uint64_t tob_ca_not_after_unix_s(const tob_ca *ca) {
    return ca->not_after_unix_s;
}
