#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "tobogganing/v1/certificates.pb-c.h"

#include "registry_service_rig.h"

#define CERTIFICATES(name) "/tobogganing.v1.Certificates/" name

// ASK(f, "Get", &request, certificate, &response)
#define ASK(f, method, request, type, ret)                                                                   \
    call_as((f), (f)->client, CERTIFICATES(method), (request), &tobogganing__v1__##type##__descriptor, (ret))

// The same for a call that fails: its error, and what the message is.
#define REFUSED(f, method, request, error, text)                                                             \
    do {                                                                                                     \
        void *none_ = NULL;                                                                                  \
        assert_int_equal(ASK(f, method, request, certificate, &none_), error);                               \
        assert_string_equal((f)->failure.message, text);                                                     \
    } while (0)

static Tobogganing__V1__IssueCertificateRequest order_of(const char *type, const char *subject) {
    Tobogganing__V1__IssueCertificateRequest request = TOBOGGANING__V1__ISSUE_CERTIFICATE_REQUEST__INIT;
    request.type = (char *)type;
    request.subject = (char *)subject;
    return request;
}

static Tobogganing__V1__IssuedCertificate *issue_ok(fixture *f, const char *type, const char *subject) {
    Tobogganing__V1__IssueCertificateRequest request = order_of(type, subject);
    Tobogganing__V1__IssuedCertificate *issued = NULL;
    expect_ok(f, ASK(f, "Issue", &request, issued_certificate, &issued));
    return issued;
}

// The serial of a fresh one.
static void serial_ok(fixture *f, const char *type, const char *subject, char ret[TOB_CA_SERIAL_BYTES]) {
    Tobogganing__V1__IssuedCertificate *issued = issue_ok(f, type, subject);
    snprintf(ret, TOB_CA_SERIAL_BYTES, "%s", issued->certificate->serial);
    drop(issued);
}

static Tobogganing__V1__Certificate *get_ok(fixture *f, const char *serial) {
    Tobogganing__V1__CertificateSerial request = TOBOGGANING__V1__CERTIFICATE_SERIAL__INIT;
    Tobogganing__V1__Certificate *certificate = NULL;
    request.serial = (char *)serial;
    expect_ok(f, ASK(f, "Get", &request, certificate, &certificate));
    return certificate;
}

static Tobogganing__V1__Certificate *revoke_ok(fixture *f, const char *serial, const char *reason) {
    Tobogganing__V1__RevokeCertificateRequest request = TOBOGGANING__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
    Tobogganing__V1__Certificate *certificate = NULL;
    request.serial = (char *)serial;
    request.reason = (char *)reason;
    expect_ok(f, ASK(f, "Revoke", &request, certificate, &certificate));
    return certificate;
}

// How many certificates are on a list that `client` asks for.
static int revoked_count(fixture *f, tob_rpc_client *client) {
    Tobogganing__V1__GetRevocationListRequest request = TOBOGGANING__V1__GET_REVOCATION_LIST_REQUEST__INIT;
    Tobogganing__V1__RevocationList *found = NULL;
    expect_ok(f, call_as(f, client, CERTIFICATES("GetRevocationList"), &request,
                         &tobogganing__v1__revocation_list__descriptor, &found));
    const uint8_t *at = found->der.data;
    X509_CRL *list = d2i_X509_CRL(NULL, &at, (long)found->der.len);
    assert_non_null(list);
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);
    int count = revoked ? sk_X509_REVOKED_num(revoked) : 0;
    uint64_t now = tob_clock_unix_ms() / 1000;
    assert_true(found->next_update_unix_s > now + 43000 && found->next_update_unix_s <= now + 86400);
    X509_CRL_free(list);
    drop(found);
    return count;
}

static uint64_t issued_count(fixture *f, const char *type) {
    return tob_counter_value(
        tob_process_counter(f->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED,
                            type, NULL, NULL));
}

static void an_issued_certificate_comes_back_without_its_key(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "laptop-1", ""));
    Tobogganing__V1__IssuedCertificate *issued = issue_ok(f, "client", "laptop-1");
    Tobogganing__V1__Certificate *got = get_ok(f, issued->certificate->serial);
    assert_string_equal(got->type, "client");
    assert_string_equal(got->subject, "laptop-1");
    assert_string_equal(got->pem, issued->certificate->pem);
    assert_string_equal(got->fingerprint, issued->certificate->fingerprint);
    assert_int_equal(got->not_after_unix_s, issued->certificate->not_after_unix_s);
    assert_int_equal(got->not_after_unix_s - got->not_before_unix_s, 365 * 86400 + 300);
    assert_int_equal(got->revoked_unix_ms, 0);
    assert_string_equal(got->reason, "");
    assert_non_null(strstr(issued->key, "-----BEGIN PRIVATE KEY-----"));
    assert_string_equal(issued->ca, tob_ca_pem(f->ca));
    expect_audit(f, got->serial, ADMIN "b20ec6b0", "certificate.issue");
    drop(got);
    drop(issued);
}

static void who_is_not_registered_or_revoked_gets_none(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h", "k");
    drop(add_client_ok(f, "c", ""));
    Tobogganing__V1__IssueCertificateRequest request = order_of("client", "nobody");
    REFUSED(f, "Issue", &request, TOB_PRECONDITION, "subject: no client nobody is registered");
    request = order_of("headend", "c");
    REFUSED(f, "Issue", &request, TOB_PRECONDITION, "subject: no headend c is registered");
    drop(issue_ok(f, "headend", "k"));
    drop(issue_ok(f, "headend", "h"));
    Tobogganing__V1__ClusterId cluster = cluster_id("k");
    Tobogganing__V1__ClientId client = client_id("c");
    void *revoked = NULL;
    expect_ok(f, CALL(f, "RevokeCluster", &cluster, cluster, &revoked));
    drop(revoked);
    expect_ok(f, CALL(f, "RevokeClient", &client, client, &revoked));
    drop(revoked);
    request = order_of("headend", "k");
    REFUSED(f, "Issue", &request, TOB_PRECONDITION, "subject: headend k is revoked");
    request = order_of("headend", "h");
    REFUSED(f, "Issue", &request, TOB_PRECONDITION, "subject: headend h is revoked");
    request = order_of("client", "c");
    REFUSED(f, "Issue", &request, TOB_PRECONDITION, "subject: client c is revoked");
    drop(issue_ok(f, "server", "c"));
}

static void what_is_wrong_in_an_order_is_named(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CertificateOrder details = TOBOGGANING__V1__CERTIFICATE_ORDER__INIT;
    Tobogganing__V1__IssueCertificateRequest request = order_of("robot", "gw");
    REFUSED(f, "Issue", &request, TOB_INVALID, "type: must be client, headend or server");
    request = order_of("server", "'; DROP TABLE certificates; --");
    REFUSED(f, "Issue", &request, TOB_INVALID, "subject: must be 1 to 64 bytes of [A-Za-z0-9._:-]");
    request = order_of("server", "gw");
    request.order = &details;
    details.validity_days = 3651;
    REFUSED(f, "Issue", &request, TOB_INVALID, "validity_days: over 3650");
    details.validity_days = 0;
    details.csr = (char *)"hello";
    REFUSED(f, "Issue", &request, TOB_INVALID, "csr: not one CERTIFICATE REQUEST in PEM");
    char *names[33];
    for (size_t i = 0; i < 33; i++) {
        names[i] = (char *)"a.example";
    }
    request = order_of("server", "gw");
    request.names = names;
    request.n_names = 33;
    REFUSED(f, "Issue", &request, TOB_INVALID, "names: over 32");
    assert_int_equal(issued_count(f, "server"), 0);
}

static void only_what_is_committed_is_counted(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CertificateOrder order = TOBOGGANING__V1__CERTIFICATE_ORDER__INIT;
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *added = NULL;
    request.client_id = (char *)"c";
    request.certificate = &order;
    order.csr = (char *)"hello";
    FAILS(f, "AddClient", &request, TOB_INVALID, "csr: not one CERTIFICATE REQUEST in PEM");
    assert_false(is_known(f, "c"));
    assert_int_equal(issued_count(f, "client"), 0);
    order.csr = (char *)"";
    expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &added));
    assert_string_equal(added->certificate->certificate->subject, "c");
    drop(added);
    assert_int_equal(issued_count(f, "client"), 1);
    FAILS(f, "AddClient", &request, TOB_ALREADY_EXISTS, "client_id: is taken");
    assert_int_equal(issued_count(f, "client"), 1);
    drop(issue_ok(f, "client", "c"));
    assert_int_equal(issued_count(f, "client"), 2);
}

static void certificates_are_listed_in_pages_without_pem(void **state) {
    fixture *f = *state;
    char serials[5][TOB_CA_SERIAL_BYTES];
    for (size_t i = 0; i < 5; i++) {
        serial_ok(f, "server", i < 4 ? "a" : "b", serials[i]);
    }
    Tobogganing__V1__ListCertificatesRequest request = TOBOGGANING__V1__LIST_CERTIFICATES_REQUEST__INIT;
    Tobogganing__V1__ListCertificatesResponse *page = NULL;
    char last[TOB_CA_SERIAL_BYTES] = "", next[TOB_CA_SERIAL_BYTES] = "";
    size_t seen = 0, pages = 0;
    request.page_size = 2;
    do {
        request.page = next;
        expect_ok(f, ASK(f, "List", &request, list_certificates_response, &page));
        for (size_t i = 0; i < page->n_certificates; i++, seen++) {
            assert_true(strcmp(page->certificates[i]->serial, last) > 0);
            assert_string_equal(page->certificates[i]->pem, "");
            snprintf(last, sizeof(last), "%s", page->certificates[i]->serial);
        }
        snprintf(next, sizeof(next), "%s", page->next_page);
        drop(page);
        pages++;
    } while (*next);
    assert_int_equal(seen, 5);
    assert_int_equal(pages, 3);
    request.page = (char *)"";
    request.page_size = 4;
    request.subject = (char *)"a";
    expect_ok(f, ASK(f, "List", &request, list_certificates_response, &page));
    assert_int_equal(page->n_certificates, 4);
    assert_string_equal(page->next_page, ""); // it was exactly full
    drop(page);
    request.subject = (char *)"'";
    REFUSED(f, "List", &request, TOB_INVALID, "subject: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    request.subject = (char *)"";
    request.page = (char *)"no serial";
    REFUSED(f, "List", &request, TOB_INVALID, "page: must be 1 to 40 hexadecimal digits");
    request.page = (char *)"";
    request.page_size = 10001;
    REFUSED(f, "List", &request, TOB_INVALID, "page_size: must be at most 10000");
}

static void a_serial_is_found_in_any_case_and_checked_before_anything_else(void **state) {
    fixture *f = *state;
    char serial[TOB_CA_SERIAL_BYTES], upper[TOB_CA_SERIAL_BYTES];
    serial_ok(f, "server", "gw", serial);
    for (size_t i = 0; i < sizeof(serial); i++) {
        upper[i] = (char)(serial[i] >= 'a' && serial[i] <= 'f' ? serial[i] - 'a' + 'A' : serial[i]);
    }
    Tobogganing__V1__Certificate *got = get_ok(f, upper);
    assert_string_equal(got->serial, serial);
    drop(got);
    const char *const bad[] = {"", "4g", "4a' OR '1'='1", "00000000000000000000000000000000000000000"};
    for (size_t i = 0; i < 4; i++) {
        Tobogganing__V1__CertificateSerial request = TOBOGGANING__V1__CERTIFICATE_SERIAL__INIT;
        Tobogganing__V1__RevokeCertificateRequest revoke = TOBOGGANING__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
        request.serial = revoke.serial = (char *)bad[i];
        REFUSED(f, "Get", &request, TOB_INVALID, "serial: must be 1 to 40 hexadecimal digits");
        REFUSED(f, "Revoke", &revoke, TOB_INVALID, "serial: must be 1 to 40 hexadecimal digits");
    }
    Tobogganing__V1__CertificateSerial request = TOBOGGANING__V1__CERTIFICATE_SERIAL__INIT;
    request.serial = (char *)"4a";
    REFUSED(f, "Get", &request, TOB_NOT_FOUND, "serial: no such certificate");
    Tobogganing__V1__RevokeCertificateRequest revoke = TOBOGGANING__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
    revoke.serial = (char *)"4a";
    REFUSED(f, "Revoke", &revoke, TOB_NOT_FOUND, "serial: no such certificate");
}

static void a_revocation_is_on_the_list_at_once_and_stays_as_it_was_first(void **state) {
    fixture *f = *state;
    char serial[TOB_CA_SERIAL_BYTES];
    serial_ok(f, "server", "gw", serial);
    assert_int_equal(revoked_count(f, f->client), 0);
    Tobogganing__V1__Certificate *first = revoke_ok(f, serial, "key_compromise");
    assert_true(first->revoked_unix_ms > 0);
    assert_string_equal(first->reason, "key_compromise");
    assert_int_equal(revoked_count(f, f->client), 1);
    Tobogganing__V1__Certificate *second = revoke_ok(f, serial, "");
    assert_int_equal(second->revoked_unix_ms, first->revoked_unix_ms);
    assert_string_equal(second->reason, "key_compromise");
    drop(first);
    drop(second);
    expect_audit(f, serial, ADMIN "b20ec6b0", "certificate.revoke");
    Tobogganing__V1__RevokeCertificateRequest request = TOBOGGANING__V1__REVOKE_CERTIFICATE_REQUEST__INIT;
    request.serial = serial;
    request.reason = (char *)"because";
    REFUSED(f, "Revoke", &request, TOB_INVALID,
            "reason: must be unspecified, key_compromise, superseded, cessation_of_operation or "
            "privilege_withdrawn");
}

static void anybody_may_have_the_authority_and_the_list_and_nothing_else(void **state) {
    fixture *f = *state;
    tob_rpc_client *nobody = client_with(f, NULL);
    Tobogganing__V1__GetAuthorityRequest request = TOBOGGANING__V1__GET_AUTHORITY_REQUEST__INIT;
    Tobogganing__V1__Authority *authority = NULL;
    expect_ok(f, call_as(f, nobody, CERTIFICATES("GetAuthority"), &request,
                         &tobogganing__v1__authority__descriptor, &authority));
    assert_string_equal(authority->pem, tob_ca_pem(f->ca));
    assert_string_equal(authority->subject, "CN=Tobogganing fleet CA");
    assert_string_equal(authority->fingerprint, tob_ca_fingerprint(f->ca));
    assert_int_equal(authority->not_after_unix_s, tob_ca_not_after_unix_s(f->ca));
    drop(authority);
    assert_int_equal(revoked_count(f, nobody), 0);
    static const char *const methods[] = {CERTIFICATES("Issue"), CERTIFICATES("Get"), CERTIFICATES("List"),
                                          CERTIFICATES("Revoke")};
    for (size_t i = 0; i < 4; i++) {
        void *none = NULL;
        assert_int_equal(call_as(f, nobody, methods[i], &request, &tobogganing__v1__certificate__descriptor,
                                 &none),
                         TOB_UNAUTHENTICATED);
    }
    tob_rpc_client_free(nobody);
}

static void while_the_database_is_away_the_last_list_is_given_and_nothing_issued(void **state) {
    fixture *f = *state;
    if (strcmp(tob_registry_engine(f->registry), "postgresql") != 0) {
        skip();
    }
    char serial[TOB_CA_SERIAL_BYTES];
    serial_ok(f, "server", "gw", serial);
    drop(revoke_ok(f, serial, "superseded"));
    assert_int_equal(revoked_count(f, f->client), 1);
    tob_test_postgresql_control("stop");
    assert_int_equal(revoked_count(f, f->client), 1);
    Tobogganing__V1__IssueCertificateRequest request = order_of("server", "gw");
    void *none = NULL;
    assert_int_equal(ASK(f, "Issue", &request, certificate, &none), TOB_UNAVAILABLE);
    assert_true(f->failure.retry_after_ms > 0);
    assert_int_equal(issued_count(f, "server"), 1);
    tob_test_postgresql_control("restart");
    uint64_t end = tob_clock_monotonic_ms() + TIMEOUT_MS;
    Tobogganing__V1__IssuedCertificate *issued = NULL;
    while (ASK(f, "Issue", &request, issued_certificate, &issued) != TOB_OK) {
        assert_true(tob_clock_monotonic_ms() < end);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    drop(issued);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_issued_certificate_comes_back_without_its_key),
        TEST(who_is_not_registered_or_revoked_gets_none),
        TEST(what_is_wrong_in_an_order_is_named),
        TEST(only_what_is_committed_is_counted),
        TEST(certificates_are_listed_in_pages_without_pem),
        TEST(a_serial_is_found_in_any_case_and_checked_before_anything_else),
        TEST(a_revocation_is_on_the_list_at_once_and_stays_as_it_was_first),
        TEST(anybody_may_have_the_authority_and_the_list_and_nothing_else),
        TEST(while_the_database_is_away_the_last_list_is_given_and_nothing_issued),
    };
    return RUN_ON_BOTH("certificate_methods", tests);
}
