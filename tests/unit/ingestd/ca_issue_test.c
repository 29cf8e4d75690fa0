#include "ca_rig.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
