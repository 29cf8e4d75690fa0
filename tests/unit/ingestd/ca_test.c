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

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    *state = f;
    assert_int_equal(tob_ca_make(NOW, &f->certificate_pem, &f->key_pem, &f->problem), TOB_OK);
    assert_int_equal(tob_ca_new(f->certificate_pem, f->key_pem, &f->ca, &f->problem), TOB_OK);
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_ca_free(f->ca);
    tob_ca_free_key(f->key_pem);
    free(f->certificate_pem);
    free(f);
    assert_int_equal(ERR_peek_error(), 0); // nothing is left in OpenSSL's queue for somebody else to find
    return 0;
}

static X509 *parse(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(certificate);
    return certificate;
}

static EVP_PKEY *parse_key(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}

static char *text_of(BIO *bio) {
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = strndup(bytes, (size_t)len);
    BIO_free(bio);
    return text;
}

// A request as somebody else would make it.
static char *request_of(EVP_PKEY *key, const char *extension) {
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

static tob_error issue(fixture *f, const tob_ca_order *order, tob_ca_issued *ret) {
    memset(&f->problem, 0, sizeof(f->problem));
    return tob_ca_issue(f->ca, order, NOW, ret, &f->problem);
}

static tob_error issue_for(fixture *f, const char *csr, tob_ca_issued *ret) {
    return issue(f, &(tob_ca_order){.type = "client", .subject = "laptop-1", .csr = csr}, ret);
}

static void assert_refused(fixture *f, const char *csr, const char *why) {
    tob_ca_issued issued = {.pem = NULL};
    assert_int_equal(issue_for(f, csr, &issued), TOB_INVALID);
    assert_string_equal(f->problem.text, why);
    assert_null(issued.pem);
}

// OpenSSL's own words for one extension; "" when it is not there.
static char *extension(const X509 *certificate, int nid) {
    int at = X509_get_ext_by_NID(certificate, nid, -1);
    BIO *bio = BIO_new(BIO_s_mem());
    if (at >= 0) {
        X509_EXTENSION *found = X509_get_ext(certificate, at);
        BIO_puts(bio, X509_EXTENSION_get_critical(found) ? "critical " : "");
        X509V3_EXT_print(bio, found, 0, 0);
    }
    return text_of(bio);
}

static void assert_extension(const X509 *certificate, int nid, const char *expected) {
    char *text = extension(certificate, nid);
    assert_string_equal(text, expected);
    free(text);
}

// Would a TLS peer take it, for this purpose, at this time?
static bool verifies(const fixture *f, X509 *certificate, int purpose, uint64_t at) {
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

static uint64_t seconds(const ASN1_TIME *at) {
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(at, &tm), 1);
    return (uint64_t)timegm(&tm);
}

static void an_own_authority_signs_leaves_only_and_for_ten_years(void **state) {
    fixture *f = *state;
    X509 *authority = parse(tob_ca_pem(f->ca));
    EVP_PKEY *key = X509_get_pubkey(authority);
    char group[32];
    size_t len = 0;
    assert_int_equal(EVP_PKEY_get_group_name(key, group, sizeof(group), &len), 1);
    assert_string_equal(group, "prime256v1");
    assert_int_equal(X509_verify(authority, key), 1);
    assert_extension(authority, NID_basic_constraints, "critical CA:TRUE, pathlen:0");
    assert_extension(authority, NID_key_usage, "critical Certificate Sign, CRL Sign");
    assert_non_null(X509_get0_subject_key_id(authority));
    assert_string_equal(tob_ca_subject(f->ca), "CN=Tobogganing fleet CA");
    assert_int_equal(tob_ca_not_after_unix_s(f->ca), NOW + 3650 * DAY_S);
    assert_int_equal(seconds(X509_get0_notBefore(authority)), NOW - 300);
    assert_int_equal(strlen(tob_ca_fingerprint(f->ca)), 64);
    assert_non_null(strstr(f->key_pem, "-----BEGIN PRIVATE KEY-----"));
    assert_string_equal(tob_ca_pem(f->ca), f->certificate_pem);
    EVP_PKEY_free(key);
    X509_free(authority);
}

static void two_authorities_have_nothing_in_common(void **state) {
    fixture *f = *state;
    char *certificate = NULL, *key = NULL;
    tob_ca *ca = NULL;
    assert_int_equal(tob_ca_make(NOW, &certificate, &key, &f->problem), TOB_OK);
    assert_string_not_equal(key, f->key_pem);
    assert_int_equal(tob_ca_new(certificate, f->key_pem, &ca, &f->problem), TOB_INVALID);
    assert_string_equal(f->problem.text, "ca: the key is not this certificate's");
    free(certificate);
    tob_ca_free_key(key);
}

static void an_authority_is_good_in_its_time_only(void **state) {
    fixture *f = *state;
    uint64_t end = NOW + 3650 * DAY_S;
    assert_string_equal(tob_ca_invalid_at(f->ca, end), "has expired");
    assert_null(tob_ca_invalid_at(f->ca, end - 1));
    assert_string_equal(tob_ca_invalid_at(f->ca, NOW - 301), "is not valid yet");
    assert_null(tob_ca_invalid_at(f->ca, NOW - 300));
    tob_ca_issued issued;
    tob_ca_order order = {.type = "client", .subject = "c", .csr = ""};
    assert_int_equal(tob_ca_issue(f->ca, &order, end, &issued, &f->problem), TOB_PRECONDITION);
}

static void what_is_no_authority_is_refused(void **state) {
    fixture *f = *state;
    tob_ca_issued leaf;
    tob_ca *ca = NULL;
    assert_int_equal(issue(f, &(tob_ca_order){.type = "server", .subject = "gw", .csr = ""}, &leaf), TOB_OK);
    assert_int_equal(tob_ca_new(leaf.pem, leaf.key_pem, &ca, &f->problem), TOB_INVALID);
    assert_string_equal(f->problem.text, "ca: not an authority's certificate (basicConstraints CA:TRUE)");
    assert_int_equal(tob_ca_new("", f->key_pem, &ca, &f->problem), TOB_INVALID);
    assert_string_equal(f->problem.text, "ca: not a certificate in PEM");
    assert_int_equal(tob_ca_new(f->certificate_pem, "", &ca, &f->problem), TOB_INVALID);
    assert_string_equal(f->problem.text, "ca: the key is not a private key in PEM without a password");
    tob_ca_issued_fini(&leaf);
}

// A self-signed certificate whose extensions are the test's.
static char *authority_with(EVP_PKEY *key, const char *constraints, const char *usage, const char *key_id) {
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)NOW);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(NOW + 30 * DAY_S));
    X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8,
                               (const unsigned char *)"Given", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    const struct {
        int nid;
        const char *value;
    } wanted[] = {{NID_basic_constraints, constraints},
                  {NID_key_usage, usage},
                  {NID_subject_key_identifier, key_id}};
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    for (size_t i = 0; i < 3; i++) {
        X509_EXTENSION *e =
            wanted[i].value ? X509V3_EXT_conf_nid(NULL, &context, wanted[i].nid, wanted[i].value) : NULL;
        if (e) {
            X509_add_ext(x, e, -1);
        }
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, key, EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x);
    X509_free(x);
    return text_of(bio);
}

static char *key_text(EVP_PKEY *key, const char *password) {
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(bio, key, password ? EVP_aes_256_cbc() : NULL, password,
                                  password ? (int)strlen(password) : 0, NULL, NULL);
    return text_of(bio);
}

static void a_given_authority_may_sign_certificates_and_lists_or_is_refused(void **state) {
    fixture *f = *state;
    const struct {
        const char *constraints, *usage;
        tob_error expected;
    } rows[] = {
        {"critical,CA:TRUE", "critical,keyCertSign,cRLSign", TOB_OK},
        {"critical,CA:TRUE", NULL, TOB_OK}, // without keyUsage all is allowed (RFC 5280 §4.2.1.3)
        {"critical,CA:TRUE", "critical,keyCertSign", TOB_INVALID},
        {"critical,CA:TRUE", "critical,cRLSign", TOB_INVALID},
        {"critical,CA:FALSE", "critical,keyCertSign,cRLSign", TOB_INVALID},
        {NULL, NULL, TOB_INVALID},
    };
    EVP_PKEY *key = EVP_EC_gen("P-384");
    char *key_pem = key_text(key, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *pem = authority_with(key, rows[i].constraints, rows[i].usage, "hash");
        tob_ca *ca = NULL;
        assert_int_equal(tob_ca_new(pem, key_pem, &ca, &f->problem), rows[i].expected);
        tob_ca_free(ca);
        free(pem);
    }
    free(key_pem);
    EVP_PKEY_free(key);
}

static void a_given_authority_may_have_any_key_that_is_strong(void **state) {
    fixture *f = *state;
    EVP_PKEY *keys[] = {EVP_RSA_gen(2048), EVP_EC_gen("P-521"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
                        EVP_RSA_gen(1024)};
    for (size_t i = 0; i < 4; i++) {
        char *pem = authority_with(keys[i], "critical,CA:TRUE", "critical,keyCertSign,cRLSign", "hash");
        char *key_pem = key_text(keys[i], NULL);
        tob_ca *ca = NULL, *own = f->ca;
        tob_error err = tob_ca_new(pem, key_pem, &ca, &f->problem);
        assert_int_equal(err, i < 3 ? TOB_OK : TOB_INVALID);
        if (!err) {
            tob_ca_issued leaf;
            tob_ca_list list;
            f->ca = ca;
            assert_int_equal(issue_for(f, "", &leaf), TOB_OK);
            assert_int_equal(leaf.not_after_unix_s, NOW + 30 * DAY_S); // not after its authority's end
            assert_int_equal(leaf.not_before_unix_s, NOW);             // nor before its begin
            X509 *certificate = parse(leaf.pem);
            assert_true(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, NOW));
            X509_free(certificate);
            tob_ca_issued_fini(&leaf);
            assert_int_equal(tob_ca_revocation_list(ca, NULL, 0, 1, NOW, &list, &f->problem), TOB_OK);
            tob_ca_list_fini(&list);
            f->ca = own;
        }
        tob_ca_free(ca);
        free(key_pem);
        free(pem);
        EVP_PKEY_free(keys[i]);
    }
}

static void an_authority_without_a_key_identifier_signs_too(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *pem = authority_with(key, "critical,CA:TRUE", "critical,keyCertSign,cRLSign", NULL);
    char *key_pem = key_text(key, NULL);
    tob_ca *ca = NULL;
    tob_ca_issued leaf;
    tob_ca_list list;
    tob_ca_order order = {.type = "client", .subject = "c", .csr = ""};
    assert_int_equal(tob_ca_new(pem, key_pem, &ca, &f->problem), TOB_OK);
    assert_int_equal(tob_ca_issue(ca, &order, NOW, &leaf, &f->problem), TOB_OK);
    X509 *certificate = parse(leaf.pem);
    assert_int_equal(X509_verify(certificate, key), 1);
    X509_free(certificate);
    assert_int_equal(tob_ca_revocation_list(ca, NULL, 0, 1, NOW, &list, &f->problem), TOB_OK);
    tob_ca_list_fini(&list);
    tob_ca_issued_fini(&leaf);
    tob_ca_free(ca);
    free(pem);
    free(key_pem);
    EVP_PKEY_free(key);
}

static void a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = parse_key(f->key_pem);
    char *locked = key_text(key, "secret");
    tob_ca *ca = NULL;
    assert_int_equal(tob_ca_new(f->certificate_pem, locked, &ca, &f->problem), TOB_INVALID);
    free(locked);
    EVP_PKEY_free(key);
}

static void a_chain_is_kept_and_a_key_beside_it_is_not(void **state) {
    fixture *f = *state;
    char text[TOB_CA_MAX_PEM_BYTES];
    tob_ca *ca = NULL;
    char *root = NULL, *root_key = NULL;
    assert_int_equal(tob_ca_make(NOW, &root, &root_key, &f->problem), TOB_OK);
    snprintf(text, sizeof(text), "# ours\n%s%s%s", f->certificate_pem, f->key_pem, root);
    assert_int_equal(tob_ca_new(text, f->key_pem, &ca, &f->problem), TOB_OK);
    snprintf(text, sizeof(text), "%s%s", f->certificate_pem, root);
    assert_string_equal(tob_ca_pem(ca), text);
    assert_null(strstr(tob_ca_pem(ca), "PRIVATE"));
    tob_ca_free(ca);
    snprintf(text, sizeof(text), "%s%s%s%s%s", f->certificate_pem, root, root, root, root);
    assert_int_equal(tob_ca_new(text, f->key_pem, &ca, &f->problem), TOB_INVALID);
    assert_string_equal(f->problem.text, "ca: more than 4 certificates");
    snprintf(text, sizeof(text), "%s%.*s", f->certificate_pem, (int)strlen(root) / 2, root);
    assert_int_equal(tob_ca_new(text, f->key_pem, &ca, &f->problem), TOB_INVALID);
    free(root);
    tob_ca_free_key(root_key);
}

static void write_file(const char *path, const char *text, mode_t mode) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void files_are_read_when_others_can_not_read_the_key(void **state) {
    fixture *f = *state;
    char dir[] = "/tmp/tob-ca-XXXXXX", certificate[64], key[64], *big = malloc(TOB_CA_MAX_PEM_BYTES + 2);
    tob_ca *ca = NULL;
    assert_non_null(mkdtemp(dir));
    snprintf(certificate, sizeof(certificate), "%s/ca.pem", dir);
    snprintf(key, sizeof(key), "%s/ca-key.pem", dir);
    assert_int_equal(tob_ca_load(certificate, key, &ca, &f->problem), TOB_NOT_FOUND);
    assert_non_null(strstr(f->problem.text, certificate));
    write_file(certificate, f->certificate_pem, 0644);
    write_file(key, f->key_pem, 0604);
    assert_int_equal(tob_ca_load(certificate, key, &ca, &f->problem), TOB_PRECONDITION);
    assert_non_null(strstr(f->problem.text, key));
    const mode_t fine[] = {0600, 0400, 0440};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(chmod(key, fine[i]), 0);
        assert_int_equal(tob_ca_load(certificate, key, &ca, &f->problem), TOB_OK);
        assert_string_equal(tob_ca_pem(ca), f->certificate_pem);
        tob_ca_free(ca);
    }
    memset(big, '\n', TOB_CA_MAX_PEM_BYTES + 1);
    big[TOB_CA_MAX_PEM_BYTES + 1] = '\0';
    assert_int_equal(unlink(key), 0);
    write_file(key, big, 0600);
    assert_int_equal(tob_ca_load(certificate, key, &ca, &f->problem), TOB_TOO_LARGE);
    assert_int_equal(unlink(key), 0);
    assert_int_equal(unlink(certificate), 0);
    assert_int_equal(rmdir(dir), 0);
    free(big);
}

static void each_type_has_its_usage_and_its_names(void **state) {
    fixture *f = *state;
    const char *const names[] = {"gw.example.com", "192.0.2.7", "2001:db8::7", "A-b.example"};
    const struct {
        tob_ca_order order;
        const char *usage, *names;
        bool client, server;
    } rows[] = {
        {{.type = "client", .subject = "laptop-1", .csr = ""},
         "TLS Web Client Authentication",
         "URI:tobogganing:client:laptop-1",
         true,
         false},
        {{.type = "headend", .subject = "h-1", .csr = ""},
         "TLS Web Server Authentication, TLS Web Client Authentication",
         "URI:tobogganing:headend:h-1, DNS:h-1",
         true,
         true},
        {{.type = "server", .subject = "10.1.2.3", .csr = ""},
         "TLS Web Server Authentication",
         "URI:tobogganing:server:10.1.2.3, IP Address:10.1.2.3",
         false,
         true},
        {{.type = "headend", .subject = "edge_1:a", .csr = ""}, // no name of a host
         "TLS Web Server Authentication, TLS Web Client Authentication",
         "URI:tobogganing:headend:edge_1:a",
         true,
         true},
        {{.type = "server", .subject = "gw", .csr = "", .names = names, .name_count = 4},
         "TLS Web Server Authentication",
         "URI:tobogganing:server:gw, DNS:gw.example.com, IP Address:192.0.2.7, "
         "IP Address:2001:DB8:0:0:0:0:0:7, DNS:A-b.example",
         false,
         true},
        {{.type = "client", .subject = "c", .csr = "", .names = names, .name_count = 1},
         "TLS Web Client Authentication",
         "URI:tobogganing:client:c, DNS:gw.example.com",
         true,
         false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tob_ca_issued issued;
        assert_int_equal(issue(f, &rows[i].order, &issued), TOB_OK);
        X509 *certificate = parse(issued.pem);
        assert_int_equal(X509_get_version(certificate), X509_VERSION_3);
        assert_extension(certificate, NID_ext_key_usage, rows[i].usage);
        assert_extension(certificate, NID_subject_alt_name, rows[i].names);
        assert_extension(certificate, NID_basic_constraints, "critical CA:FALSE");
        assert_extension(certificate, NID_key_usage, "critical Digital Signature");
        assert_non_null(X509_get0_authority_key_id(certificate));
        assert_int_equal(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, NOW), rows[i].client);
        assert_int_equal(verifies(f, certificate, X509_PURPOSE_SSL_SERVER, NOW), rows[i].server);
        X509_free(certificate);
        tob_ca_issued_fini(&issued);
    }
}

static void a_fresh_key_is_the_certificates_and_serials_are_positive_and_differ(void **state) {
    fixture *f = *state;
    char before[TOB_CA_SERIAL_BYTES] = "";
    for (int i = 0; i < 32; i++) {
        tob_ca_issued issued;
        assert_int_equal(issue_for(f, "", &issued), TOB_OK);
        X509 *certificate = parse(issued.pem);
        EVP_PKEY *key = parse_key(issued.key_pem);
        assert_int_equal(X509_check_private_key(certificate, key), 1);
        BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
        char *hex = BN_bn2hex(number);
        assert_int_equal(BN_is_negative(number), 0);
        assert_int_equal(strlen(issued.serial), 32);
        assert_int_equal(strcasecmp(hex, issued.serial), 0);
        assert_string_not_equal(issued.serial, before);
        memcpy(before, issued.serial, sizeof(before));
        OPENSSL_free(hex);
        BN_free(number);
        EVP_PKEY_free(key);
        X509_free(certificate);
        tob_ca_issued_fini(&issued);
    }
}

static void it_is_valid_from_five_minutes_ago_for_the_days_ordered(void **state) {
    fixture *f = *state;
    const uint32_t days[] = {0, 1, 365, 3650};
    const uint64_t lives[] = {365, 1, 365, 3650};
    for (size_t i = 0; i < 4; i++) {
        tob_ca_issued issued;
        tob_ca_order order = {.type = "client", .subject = "c", .csr = "", .days = days[i]};
        assert_int_equal(issue(f, &order, &issued), TOB_OK);
        X509 *certificate = parse(issued.pem);
        assert_int_equal(issued.not_before_unix_s, NOW - 300);
        assert_int_equal(issued.not_after_unix_s, NOW + lives[i] * DAY_S);
        assert_int_equal(seconds(X509_get0_notBefore(certificate)), issued.not_before_unix_s);
        assert_int_equal(seconds(X509_get0_notAfter(certificate)), issued.not_after_unix_s);
        assert_false(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, NOW - 301));
        assert_true(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, NOW - 299));
        assert_true(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, issued.not_after_unix_s - 1));
        assert_false(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, issued.not_after_unix_s + 1));
        X509_free(certificate);
        tob_ca_issued_fini(&issued);
    }
    tob_ca_issued issued;
    tob_ca_order order = {.type = "client", .subject = "c", .csr = "", .days = 3651};
    assert_int_equal(issue(f, &order, &issued), TOB_INVALID);
    assert_string_equal(f->problem.text, "validity_days: over 3650");
}

static void requests_with_strong_keys_are_signed_and_only_their_key_counts(void **state) {
    fixture *f = *state;
    EVP_PKEY *keys[] = {EVP_EC_gen("P-256"), EVP_EC_gen("P-384"), EVP_EC_gen("P-521"),
                        EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), EVP_RSA_gen(2048)};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char *csr = request_of(keys[i], "critical,CA:TRUE");
        tob_ca_issued issued;
        assert_int_equal(issue_for(f, csr, &issued), TOB_OK);
        assert_string_equal(issued.key_pem, "");
        X509 *certificate = parse(issued.pem);
        char name[64];
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
        assert_string_equal(name, "laptop-1");
        assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(certificate)), 1);
        assert_extension(certificate, NID_basic_constraints, "critical CA:FALSE");
        assert_extension(certificate, NID_key_usage,
                         i == 4 ? "critical Digital Signature, Key Encipherment"
                                : "critical Digital Signature");
        assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(certificate), keys[i]), 1);
        assert_true(verifies(f, certificate, X509_PURPOSE_SSL_CLIENT, NOW));
        X509_free(certificate);
        tob_ca_issued_fini(&issued);
        free(csr);
        EVP_PKEY_free(keys[i]);
    }
}

static void requests_with_weak_or_foreign_keys_are_refused(void **state) {
    fixture *f = *state;
    const struct {
        EVP_PKEY *key;
        const char *why;
    } rows[] = {
        {EVP_RSA_gen(1024), "csr: an RSA key must have 2048 to 8192 bits"},
        {EVP_RSA_gen(2040), "csr: an RSA key must have 2048 to 8192 bits"},
        {EVP_EC_gen("P-224"), "csr: the curve is not P-256, P-384 or P-521"},
        {EVP_EC_gen("secp256k1"), "csr: the curve is not P-256, P-384 or P-521"},
        {EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "csr: the key must be P-256, P-384, P-521, Ed25519 or RSA"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *csr = request_of(rows[i].key, NULL);
        assert_refused(f, csr, rows[i].why);
        free(csr);
        EVP_PKEY_free(rows[i].key);
    }
}

// The same curve, told by its numbers: who does not look at all of them can be fooled (CVE-2020-0601).
static void a_curve_that_is_not_named_is_refused(void **state) {
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("group", (char *)"P-256", 0),
                           OSSL_PARAM_construct_utf8_string("encoding", (char *)"explicit", 0),
                           OSSL_PARAM_construct_end()};
    EVP_PKEY_keygen_init(context);
    EVP_PKEY_CTX_set_params(context, params);
    assert_int_equal(EVP_PKEY_generate(context, &key), 1);
    char *csr = request_of(key, NULL);
    assert_refused(*state, csr, "csr: the curve is not given by its name");
    free(csr);
    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(context);
}

static void a_request_that_is_cut_anywhere_is_refused(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *csr = request_of(key, NULL);
    size_t whole = strlen(csr), end = whole - 1; // the last newline may be missing
    for (size_t n = 1; n < end; n++) {
        char *cut = strndup(csr, n);
        tob_ca_issued issued;
        assert_int_equal(issue_for(f, cut, &issued), TOB_INVALID);
        assert_non_null(strstr(f->problem.text, "csr: "));
        free(cut);
    }
    free(csr);
    EVP_PKEY_free(key);
}

// The request's bytes, changed by the test, in PEM again.
static char *pem_of(const uint8_t *der, size_t len) {
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio(bio, PEM_STRING_X509_REQ, "", der, (long)len);
    return text_of(bio);
}

static void a_request_with_any_byte_missing_or_changed_is_refused(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *csr = request_of(key, NULL), *name = NULL, *header = NULL;
    uint8_t *der = NULL;
    long len = 0;
    BIO *bio = BIO_new_mem_buf(csr, -1);
    assert_int_equal(PEM_read_bio(bio, &name, &header, &der, &len), 1);
    for (long n = 0; n < len; n++) {
        tob_ca_issued issued;
        char *cut = pem_of(der, (size_t)n);
        assert_int_equal(issue_for(f, cut, &issued), TOB_INVALID);
        free(cut);
        der[n] ^= 0x01;
        char *changed = pem_of(der, (size_t)len);
        assert_int_equal(issue_for(f, changed, &issued), TOB_INVALID);
        der[n] ^= 0x01;
        free(changed);
    }
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    free(csr);
    EVP_PKEY_free(key);
}

static void a_request_that_another_key_signed_is_refused(void **state) {
    EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    X509_REQ *request = X509_REQ_new();
    X509_REQ_set_pubkey(request, key);
    X509_REQ_sign(request, other, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(bio, request);
    char *csr = text_of(bio);
    assert_refused(*state, csr, "csr: not signed by its own key");
    free(csr);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void what_surrounds_a_request_is_blank_or_it_is_refused(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *csr = request_of(key, NULL), text[4096];
    tob_ca_issued issued;
    snprintf(text, sizeof(text), "\n \t%s \r\n\n", csr);
    assert_int_equal(issue_for(f, text, &issued), TOB_OK);
    tob_ca_issued_fini(&issued);
    const char *const around[][2] = {{"x", ""}, {"", "x"}, {"", "-----BEGIN X-----\n"}, {"text\n", ""}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof(text), "%s%s%s", around[i][0], csr, around[i][1]);
        assert_refused(f, text, "csr: not one CERTIFICATE REQUEST in PEM");
    }
    snprintf(text, sizeof(text), "%s%s", csr, csr);
    assert_refused(f, text, "csr: not one CERTIFICATE REQUEST in PEM");
    assert_refused(f, f->certificate_pem, "csr: not one CERTIFICATE REQUEST in PEM");
    assert_refused(f, f->key_pem, "csr: not one CERTIFICATE REQUEST in PEM");
    assert_refused(f, " ", "csr: not one CERTIFICATE REQUEST in PEM");
    free(csr);
    EVP_PKEY_free(key);
}

static void a_request_of_16_kib_is_read_and_one_byte_more_is_not(void **state) {
    fixture *f = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *csr = request_of(key, NULL), *text = malloc(TOB_CA_MAX_PEM_BYTES + 2);
    size_t len = strlen(csr);
    tob_ca_issued issued;
    memset(text, '\n', TOB_CA_MAX_PEM_BYTES + 1);
    memcpy(text, csr, len);
    text[TOB_CA_MAX_PEM_BYTES] = '\0';
    assert_int_equal(issue_for(f, text, &issued), TOB_OK);
    tob_ca_issued_fini(&issued);
    text[TOB_CA_MAX_PEM_BYTES] = '\n';
    text[TOB_CA_MAX_PEM_BYTES + 1] = '\0';
    assert_refused(f, text, "csr: over 16 KiB");
    free(text);
    free(csr);
    EVP_PKEY_free(key);
}

static void names_that_are_no_hosts_are_refused(void **state) {
    fixture *f = *state;
    char label64[65 + 4], long_name[300];
    memset(label64, 'a', 64);
    memcpy(label64 + 64, ".com", 5);
    memset(long_name, 0, sizeof(long_name));
    for (int i = 0; i < 127; i++) {
        strcat(long_name, "a.");
    }
    const char *const hostile[] = {"",
                                   "*.example.com",
                                   "*",
                                   "-a.example",
                                   "a-.example",
                                   "a..b",
                                   ".a",
                                   "a.",
                                   "a b",
                                   "a_b.example",
                                   "exa\nmple.com",
                                   "münchen.example",
                                   "1.2.3",
                                   "1.2.3.4.5",
                                   "300.1.1.1",
                                   "::g",
                                   "[::1]",
                                   "10.0.0.0/8",
                                   "a,DNS:b",
                                   "a:443",
                                   "user@example.com",
                                   "https://example.com",
                                   label64,
                                   long_name};
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        const char *const names[] = {"good.example", hostile[i]};
        tob_ca_order order = {.type = "server", .subject = "gw", .csr = "", .names = names, .name_count = 2};
        tob_ca_issued issued;
        assert_int_equal(issue(f, &order, &issued), TOB_INVALID);
        assert_string_equal(f->problem.text, "names: number 2 is neither a DNS name nor an IP address");
    }
    long_name[252] = 'a'; // 253 bytes: 126 labels and a last one
    long_name[253] = '\0';
    const char *const longest[] = {long_name};
    tob_ca_issued issued;
    tob_ca_order order = {.type = "server", .subject = "gw", .csr = "", .names = longest, .name_count = 1};
    assert_int_equal(issue(f, &order, &issued), TOB_OK);
    tob_ca_issued_fini(&issued);
}

static void thirty_two_names_are_signed_and_thirty_three_are_not(void **state) {
    fixture *f = *state;
    const char *names[TOB_CA_MAX_NAMES + 1];
    for (size_t i = 0; i <= TOB_CA_MAX_NAMES; i++) {
        names[i] = "a.example";
    }
    tob_ca_order order = {.type = "server", .subject = "gw", .csr = "", .names = names, .name_count = 32};
    tob_ca_issued issued;
    assert_int_equal(issue(f, &order, &issued), TOB_OK);
    tob_ca_issued_fini(&issued);
    order.name_count = 33;
    assert_int_equal(issue(f, &order, &issued), TOB_INVALID);
    assert_string_equal(f->problem.text, "names: over 32");
}

static void subjects_are_ids_of_64_bytes_at_most_and_types_are_three(void **state) {
    fixture *f = *state;
    char longest[66];
    memset(longest, 'a', sizeof(longest));
    longest[65] = '\0';
    const char *const hostile[] = {"", "a b", "a/b", "a\"", "a,CN=b", "ä", longest};
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        tob_ca_order order = {.type = "client", .subject = hostile[i], .csr = ""};
        tob_ca_issued issued;
        assert_int_equal(issue(f, &order, &issued), TOB_INVALID);
        assert_string_equal(f->problem.text, "subject: must be 1 to 64 bytes of [A-Za-z0-9._:-]");
    }
    longest[64] = '\0';
    tob_ca_issued issued;
    assert_int_equal(issue(f, &(tob_ca_order){.type = "server", .subject = longest, .csr = ""}, &issued),
                     TOB_OK);
    tob_ca_issued_fini(&issued);
    const char *const types[] = {"", "ca", "Client", "client "};
    for (size_t i = 0; i < 4; i++) {
        tob_ca_order order = {.type = types[i], .subject = "c", .csr = ""};
        assert_int_equal(issue(f, &order, &issued), TOB_INVALID);
        assert_string_equal(f->problem.text, "type: must be client, headend or server");
    }
}

static X509_CRL *parse_list(const tob_ca_list *list) {
    BIO *bio = BIO_new_mem_buf(list->pem, -1);
    X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    BIO_free(bio);
    const uint8_t *at = list->der;
    X509_CRL *same = d2i_X509_CRL(NULL, &at, (long)list->der_len);
    assert_non_null(crl);
    assert_non_null(same);
    assert_ptr_equal(at, list->der + list->der_len);
    assert_int_equal(X509_CRL_cmp(crl, same), 0);
    X509_CRL_free(same);
    return crl;
}

static void a_list_names_what_is_revoked_when_and_why(void **state) {
    fixture *f = *state;
    tob_ca_revoked revoked[] = {{"7f0000000000000000000000000000aa", NOW - 100, "key_compromise"},
                                {"4100000000000000000000000000bb", NOW - 50, "unspecified"},
                                {"42", NOW - 10, "privilege_withdrawn"}};
    const long codes[] = {CRL_REASON_KEY_COMPROMISE, -1, CRL_REASON_PRIVILEGE_WITHDRAWN};
    tob_ca_list list;
    assert_int_equal(tob_ca_revocation_list(f->ca, revoked, 3, 9, NOW, &list, &f->problem), TOB_OK);
    assert_int_equal(list.next_update_unix_s, NOW + DAY_S);
    X509_CRL *crl = parse_list(&list);
    X509 *authority = parse(tob_ca_pem(f->ca));
    assert_int_equal(X509_CRL_verify(crl, X509_get0_pubkey(authority)), 1);
    assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
    assert_int_equal(seconds(X509_CRL_get0_nextUpdate(crl)), NOW + DAY_S);
    assert_int_equal(seconds(X509_CRL_get0_lastUpdate(crl)), NOW - 300);
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), 3);
    for (size_t i = 0; i < 3; i++) {
        BIGNUM *number = NULL;
        BN_hex2bn(&number, revoked[i].serial);
        ASN1_INTEGER *serial = BN_to_ASN1_INTEGER(number, NULL);
        X509_REVOKED *entry = NULL;
        assert_int_equal(X509_CRL_get0_by_serial(crl, &entry, serial), 1);
        assert_int_equal(seconds(X509_REVOKED_get0_revocationDate(entry)), revoked[i].revoked_unix_s);
        ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
        assert_int_equal(reason ? ASN1_ENUMERATED_get(reason) : -1, codes[i]);
        ASN1_ENUMERATED_free(reason);
        ASN1_INTEGER_free(serial);
        BN_free(number);
    }
    X509_free(authority);
    X509_CRL_free(crl);
    tob_ca_list_fini(&list);
}

static BIGNUM *number_of(fixture *f, uint64_t change, uint64_t now) {
    tob_ca_list list;
    assert_int_equal(tob_ca_revocation_list(f->ca, NULL, 0, change, now, &list, &f->problem), TOB_OK);
    X509_CRL *crl = parse_list(&list);
    ASN1_INTEGER *integer = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    assert_non_null(integer);
    BIGNUM *number = ASN1_INTEGER_to_BN(integer, NULL);
    assert_int_equal(BN_is_negative(number), 0);
    assert_true(BN_num_bytes(number) < 20); // RFC 5280 §5.2.3: at most 20 octets, of which one may be a sign
    ASN1_INTEGER_free(integer);
    X509_CRL_free(crl);
    tob_ca_list_fini(&list);
    return number;
}

static void the_numbers_of_lists_grow_with_changes_and_with_time(void **state) {
    fixture *f = *state;
    const uint64_t steps[][2] = {{0, NOW},   {0, NOW + 1},    {1, NOW - 1000},  {1, NOW},
                                 {255, NOW}, {256, NOW - 99}, {INT64_MAX, NOW}, {INT64_MAX, NOW + 1}};
    BIGNUM *before = NULL;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        BIGNUM *number = number_of(f, steps[i][0], steps[i][1]);
        assert_true(!before || BN_cmp(number, before) > 0);
        BN_free(before);
        before = number;
    }
    BN_free(before);
}

static void a_list_has_100000_entries_at_most(void **state) {
    fixture *f = *state;
    tob_ca_revoked *revoked = calloc(TOB_CA_MAX_REVOKED + 1, sizeof(*revoked));
    tob_ca_list list;
    for (size_t i = 0; i <= TOB_CA_MAX_REVOKED; i++) {
        snprintf(revoked[i].serial, sizeof(revoked[i].serial), "7f00000000000000000000000%07zx", i);
        revoked[i].revoked_unix_s = NOW;
        revoked[i].reason = "cessation_of_operation";
    }
    assert_int_equal(tob_ca_revocation_list(f->ca, revoked, TOB_CA_MAX_REVOKED + 1, 1, NOW, &list,
                                            &f->problem),
                     TOB_TOO_LARGE);
    assert_int_equal(tob_ca_revocation_list(f->ca, revoked, TOB_CA_MAX_REVOKED, 1, NOW, &list, &f->problem),
                     TOB_OK);
    assert_true(list.der_len + strlen(list.pem) < 15u << 20); // an answer's limit is 16 MiB
    tob_ca_list_fini(&list);
    free(revoked);
}

static void reasons_are_those_of_the_contract(void **state) {
    (void)state;
    assert_string_equal(tob_ca_reason(""), "unspecified");
    assert_string_equal(tob_ca_reason("superseded"), "superseded");
    assert_null(tob_ca_reason("Superseded"));
    assert_null(tob_ca_reason("because"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_own_authority_signs_leaves_only_and_for_ten_years),
        TEST(two_authorities_have_nothing_in_common),
        TEST(an_authority_is_good_in_its_time_only),
        TEST(what_is_no_authority_is_refused),
        TEST(a_given_authority_may_sign_certificates_and_lists_or_is_refused),
        TEST(a_given_authority_may_have_any_key_that_is_strong),
        TEST(an_authority_without_a_key_identifier_signs_too),
        TEST(a_key_with_a_password_is_refused_and_nobody_is_asked_for_it),
        TEST(a_chain_is_kept_and_a_key_beside_it_is_not),
        TEST(files_are_read_when_others_can_not_read_the_key),
        TEST(each_type_has_its_usage_and_its_names),
        TEST(a_fresh_key_is_the_certificates_and_serials_are_positive_and_differ),
        TEST(it_is_valid_from_five_minutes_ago_for_the_days_ordered),
        TEST(requests_with_strong_keys_are_signed_and_only_their_key_counts),
        TEST(requests_with_weak_or_foreign_keys_are_refused),
        TEST(a_curve_that_is_not_named_is_refused),
        TEST(a_request_that_is_cut_anywhere_is_refused),
        TEST(a_request_with_any_byte_missing_or_changed_is_refused),
        TEST(a_request_that_another_key_signed_is_refused),
        TEST(what_surrounds_a_request_is_blank_or_it_is_refused),
        TEST(a_request_of_16_kib_is_read_and_one_byte_more_is_not),
        TEST(names_that_are_no_hosts_are_refused),
        TEST(thirty_two_names_are_signed_and_thirty_three_are_not),
        TEST(subjects_are_ids_of_64_bytes_at_most_and_types_are_three),
        TEST(a_list_names_what_is_revoked_when_and_why),
        TEST(the_numbers_of_lists_grow_with_changes_and_with_time),
        TEST(a_list_has_100000_entries_at_most),
        TEST(reasons_are_those_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
