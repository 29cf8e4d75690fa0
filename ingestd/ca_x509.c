#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ingestd/ca_state.h"
#include "util/random.h"

#define SERIAL_BYTES 16

bool tob_ca_has_key_id(const tob_ca *ca) {
    return X509_get0_subject_key_id(ca->certificate) != NULL;
}

tob_error tob_ca_say(tob_ca_problem *problem, tob_error err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
    return err;
}

tob_error tob_ca_openssl_failed(tob_ca_problem *problem, const char *what) {
    unsigned long code = ERR_peek_last_error();
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    bool memory = code && ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
    ERR_clear_error();
    return tob_ca_say(problem, memory ? TOB_NO_MEMORY : TOB_INTERNAL, "%s: %s", what,
                      why ? why : "OpenSSL failed");
}

char *tob_ca_text(BIO *bio) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = len >= 0 ? malloc((size_t)len + 1) : NULL;
    if (text) {
        memcpy(text, bytes, (size_t)len);
        text[len] = '\0';
    }
    return text;
}

char *tob_ca_certificate_text(X509 *certificate) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = bio && PEM_write_bio_X509(bio, certificate) == 1 ? tob_ca_text(bio) : NULL;
    BIO_free(bio);
    return text;
}

char *tob_ca_key_text(EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_secmem()); // cleansed when it is freed
    char *text = bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1
                     ? tob_ca_text(bio)
                     : NULL;
    BIO_free(bio);
    return text;
}

const EVP_MD *tob_ca_digest(const EVP_PKEY *key) {
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
        return NULL;
    }
    // As strong as the curve (RFC 5480 §4).
    int bits = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC ? EVP_PKEY_get_bits(key) : 0;
    return bits > 384 ? EVP_sha512() : bits > 256 ? EVP_sha384() : EVP_sha256();
}

static const char *curve_usable(const EVP_PKEY *key) {
    static const char *const known[] = {"prime256v1", "secp384r1", "secp521r1"};
    char name[64] = "", encoding[64] = "";
    size_t len = 0;
    if (EVP_PKEY_get_group_name(key, name, sizeof(name), &len) != 1 ||
        EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, encoding, sizeof(encoding), &len) !=
            1 ||
        strcmp(encoding, OSSL_PKEY_EC_ENCODING_GROUP) != 0) {
        return "the curve is not given by its name";
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(name, known[i]) == 0) {
            return NULL;
        }
    }
    return "the curve is not P-256, P-384 or P-521";
}

const char *tob_ca_key_usable(const EVP_PKEY *key) {
    int bits = EVP_PKEY_get_bits(key);
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC: return curve_usable(key);
    case EVP_PKEY_ED25519: return NULL;
    case EVP_PKEY_RSA:
        return bits < TOB_CA_MIN_RSA_BITS || bits > TOB_CA_MAX_RSA_BITS
                   ? "an RSA key must have 2048 to 8192 bits"
                   : NULL;
    default: return "the key must be P-256, P-384, P-521, Ed25519 or RSA";
    }
}

bool tob_ca_fingerprint_of(const X509 *certificate, char ret[TOB_CA_FINGERPRINT_BYTES]) {
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (X509_digest(certificate, EVP_sha256(), hash, &len) != 1 || 2 * len + 1 != TOB_CA_FINGERPRINT_BYTES) {
        return false;
    }
    for (unsigned i = 0; i < len; i++) {
        snprintf(ret + 2 * (size_t)i, 3, "%02x", hash[i]);
    }
    return true;
}

uint64_t tob_ca_unix_s(const ASN1_TIME *at) {
    struct tm tm;
    if (!at || ASN1_TIME_to_tm(at, &tm) != 1) {
        return 0;
    }
    time_t seconds = timegm(&tm);
    return seconds > 0 ? (uint64_t)seconds : 0;
}

bool tob_ca_set_serial(X509 *certificate, char ret[TOB_CA_SERIAL_BYTES]) {
    uint8_t bytes[SERIAL_BYTES];
    tob_random_bytes(bytes, sizeof(bytes));
    bytes[0] = (bytes[0] & 0x3f) | 0x40; // positive, and always as long
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
    }
    return ok;
}

bool tob_ca_extend(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

bool tob_ca_set_name(X509 *certificate, const char *common_name) {
    X509_NAME *name = X509_get_subject_name(certificate);
    return name && X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                              (const unsigned char *)common_name, -1, -1, 0) == 1;
}

int tob_ca_no_password(char *buffer, int size, int writing, void *user) {
    (void)buffer, (void)size, (void)writing, (void)user;
    return -1;
}
