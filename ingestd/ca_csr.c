#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include "ingestd/ca_state.h"

#define BLANKS " \t\r\n"

static tob_error refuse(tob_ca_problem *problem, const char *why) {
    ERR_clear_error();
    return tob_ca_say(problem, TOB_INVALID, "csr: %s", why);
}

// The PEM block that is all of the text.
static bool read_block(const char *csr, uint8_t **ret, long *ret_len) {
    static const char *const names[] = {PEM_STRING_X509_REQ, PEM_STRING_X509_REQ_OLD};
    char *name = NULL, *header = NULL;
    uint8_t *bytes = NULL;
    long len = 0;
    bool ok = false;
    csr += strspn(csr, BLANKS);
    BIO *bio = BIO_new_mem_buf(csr, -1);
    if (strncmp(csr, "-----BEGIN ", 11) == 0 && bio && PEM_read_bio(bio, &name, &header, &bytes, &len) == 1 &&
        !*header && (strcmp(name, names[0]) == 0 || strcmp(name, names[1]) == 0)) {
        char *rest = NULL;
        long rest_len = BIO_get_mem_data(bio, &rest);
        ok = rest_len == 0 || strspn(rest, BLANKS) >= (size_t)rest_len;
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    if (!ok) {
        OPENSSL_free(bytes);
        return false;
    }
    *ret = bytes;
    *ret_len = len;
    return true;
}

// The key's numbers have to be those of a key: a point on the curve, a modulus that can be one.
static bool key_sound(EVP_PKEY *key) {
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
        return true; // any 32 bytes are
    }
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    bool sound = context && EVP_PKEY_public_check(context) == 1;
    EVP_PKEY_CTX_free(context);
    return sound;
}

tob_error tob_ca_csr_key(const char *csr, EVP_PKEY **ret, tob_ca_problem *ret_problem) {
    tob_error err = TOB_OK;
    uint8_t *bytes = NULL;
    long len = 0;
    X509_REQ *request = NULL;
    EVP_PKEY *key = NULL;
    const char *unusable = NULL;
    if (strlen(csr) > TOB_CA_MAX_PEM_BYTES) {
        return refuse(ret_problem, "over 16 KiB");
    }
    if (!read_block(csr, &bytes, &len)) {
        return refuse(ret_problem, "not one CERTIFICATE REQUEST in PEM");
    }
    const uint8_t *at = bytes;
    request = d2i_X509_REQ(NULL, &at, len);
    if (!request || at != bytes + len) {
        err = refuse(ret_problem, "not a certificate request (PKCS #10)");
        goto out;
    }
    key = X509_REQ_get_pubkey(request);
    unusable = key ? tob_ca_key_usable(key) : "the key can't be read";
    if (unusable) {
        err = refuse(ret_problem, unusable);
        goto out;
    }
    if (!key_sound(key)) {
        err = refuse(ret_problem, "the key is not sound");
        goto out;
    }
    if (X509_REQ_verify(request, key) != 1) {
        err = refuse(ret_problem, "not signed by its own key");
        goto out;
    }
    *ret = key;
    key = NULL;
out:
    EVP_PKEY_free(key);
    X509_REQ_free(request);
    OPENSSL_free(bytes);
    return err;
}
