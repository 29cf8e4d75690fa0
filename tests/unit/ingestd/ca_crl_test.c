#include "ca_rig.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_list_names_what_is_revoked_when_and_why),
        TEST(the_numbers_of_lists_grow_with_changes_and_with_time),
        TEST(a_list_has_100000_entries_at_most),
        TEST(reasons_are_those_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
