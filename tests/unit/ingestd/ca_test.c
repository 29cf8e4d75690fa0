#include "ca_rig.h"

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
