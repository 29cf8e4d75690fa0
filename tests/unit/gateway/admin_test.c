#include <poll.h>

#include "tobogganing/v1/registry.pb-c.h"
#include "tobogganing/v1/signing_keys.pb-c.h"

#include "tests/unit/gateway/admin_fixture.h"

#define ID_128                                                                                               \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"       \
    "0123456789abcdef0123456789abcdef"

static Tobogganing__V1__Cluster cluster = TOBOGGANING__V1__CLUSTER__INIT;
static Tobogganing__V1__Client client = TOBOGGANING__V1__CLIENT__INIT;
static Tobogganing__V1__Headend headend = TOBOGGANING__V1__HEADEND__INIT;
static Tobogganing__V1__Certificate certificate = TOBOGGANING__V1__CERTIFICATE__INIT;
static Tobogganing__V1__IssuedCertificate issued = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;

static char eu[] = "eu-1";
static char laptop[] = "laptop-1";
static char url[] = "https://eu";
static char active[] = "active";
static char native[] = "native";
static char kind[] = "client";
static char h1[] = "h1";
static char serial[] = "0a1b";
static char cert[] = "CERT";
static char key[] = "KEY";
static char ca[] = "CA";

static int make_rows(void **state) {
    (void)state;
    cluster.cluster_id = eu;
    cluster.headend_url = url;
    cluster.status = active;
    cluster.created_unix_ms = 1732269600000; // 2024-11-22T10:00:00Z
    client.client_id = laptop;
    client.type = native;
    client.created_unix_ms = 1732269600123;
    client.previous_key_expires_unix_ms = 1732356000000;
    headend.headend_id = h1;
    headend.cluster_id = eu;
    headend.tokens_not_before_unix_s = 1732269600;
    certificate.serial = serial;
    certificate.type = kind;
    certificate.subject = laptop;
    certificate.pem = cert;
    certificate.not_after_unix_s = 1732269600;
    issued.certificate = &certificate;
    issued.key = key;
    issued.ca = ca;
    return 0;
}

// Asks, and compares what ingestd saw and what was answered.
static void assert_call(admin_fixture *a, const char *method, const char *path, const char *body,
                        const ProtobufCMessage *response, const char *saw, const char *answer) {
    a->response = response;
    const char *text = admin_ask(a, method, path, ADMIN_JSON, body);
    assert_has(text, "HTTP/1.1 200");
    assert_has(text, "content-type: application/json");
    assert_has(text, "cache-control: no-store");
    assert_string_equal(a->saw, saw);
    assert_string_equal(body_of(text), answer);
    assert_string_equal(a->bearer, "admin-1");
    assert_string_equal(a->peer, "127.0.0.1");
}

static void clusters_are_registered_as_tobogganings_clients_do_it(void **state) {
    admin_fixture *a = admin_start();
    Tobogganing__V1__AddClusterResponse added = TOBOGGANING__V1__ADD_CLUSTER_RESPONSE__INIT;
    (void)state;
    added.cluster = &cluster;
    added.certificate = &issued;
    assert_call(a, "POST", "/api/v1/clusters/register",
                "{\"name\":\"EU\",\"region\":\"eu\",\"datacenter\":\"fra\",\"headend_url\":\"https://eu\","
                "\"unknown\":[1]}",
                &added.base,
                "AddClusterRequest {\"certificate\":{\"csr\":\"\",\"validity_days\":0},\"cluster_id\":\"\","
                "\"datacenter\":\"fra\",\"headend_url\":\"https://eu\",\"name\":\"EU\",\"region\":\"eu\"}",
                "{\"cluster_id\":\"eu-1\",\"status\":\"active\","
                "\"certificates\":{\"key\":\"KEY\",\"cert\":\"CERT\",\"ca\":\"CA\"}}");
    assert_call(a, "POST", "/api/v1/clusters/eu-1/heartbeat", "{\"client_count\":7}", &cluster.base,
                "HeartbeatClusterRequest {\"client_count\":7,\"cluster_id\":\"eu-1\"}",
                "{\"cluster_id\":\"eu-1\",\"status\":\"active\"}");
    admin_stop(a);
}

static void clients_are_registered_and_placed(void **state) {
    admin_fixture *a = admin_start();
    Tobogganing__V1__AddClientResponse added = TOBOGGANING__V1__ADD_CLIENT_RESPONSE__INIT;
    Tobogganing__V1__IssuedCertificate without_key = issued;
    (void)state;
    added.client = &client;
    added.cluster = &cluster;
    added.api_key = (char[]){"tobk_x"};
    added.certificate = &issued;
    assert_call(a, "POST", "/api/v1/clients/register",
                "{\"name\":\"n\",\"type\":\"mobile\",\"public_key\":\"pk\",\"location\":{\"region\":\"eu\"}}",
                &added.base,
                "AddClientRequest {\"certificate\":{\"csr\":\"\",\"validity_days\":0},\"client_id\":\"\","
                "\"cluster_id\":\"\",\"location\":\"eu\",\"name\":\"n\",\"place\":true,\"public_key\":\"pk\","
                "\"type\":\"mobile\"}",
                "{\"client_id\":\"laptop-1\",\"api_key\":\"tobk_x\",\"cluster\":{\"id\":\"eu-1\","
                "\"headend_url\":\"https://eu\"},\"certificates\":{\"key\":\"KEY\",\"cert\":\"CERT\","
                "\"ca\":\"CA\"}}");
    without_key.key = (char[]){""};
    added.certificate = &without_key;
    assert_call(
        a, "POST", "/api/v1/clients/register",
        "{\"name\":\"n\",\"type\":\"native\",\"public_key\":\"pk\",\"location\":\"fra\",\"client_id\":\"c\","
        "\"cluster_id\":null,\"csr\":\"CSR\",\"validity_days\":30}",
        &added.base,
        "AddClientRequest {\"certificate\":{\"csr\":\"CSR\",\"validity_days\":30},\"client_id\":\"c\","
        "\"cluster_id\":\"\",\"location\":\"fra\",\"name\":\"n\",\"place\":true,\"public_key\":\"pk\","
        "\"type\":\"native\"}",
        "{\"client_id\":\"laptop-1\",\"api_key\":\"tobk_x\",\"cluster\":{\"id\":\"eu-1\","
        "\"headend_url\":\"https://eu\"},\"certificates\":{\"cert\":\"CERT\",\"ca\":\"CA\"}}");
    admin_stop(a);
}

static void keys_are_rotated_with_a_day_of_grace_unless_told_otherwise(void **state) {
    static const char path[] = "/api/v1/clients/laptop-1/rotate-key";
    static const char answer[] = "{\"client_id\":\"laptop-1\",\"new_api_key\":\"tobk_new\","
                                 "\"previous_key_expires\":\"2024-11-23T10:00:00Z\"}";
    static const char day[] = "RotateClientKeyRequest {\"client_id\":\"laptop-1\",\"grace_s\":86400}";
    admin_fixture *a = admin_start();
    Tobogganing__V1__RotateClientKeyResponse rotated = TOBOGGANING__V1__ROTATE_CLIENT_KEY_RESPONSE__INIT;
    (void)state;
    rotated.client = &client;
    rotated.api_key = (char[]){"tobk_new"};
    assert_call(a, "POST", path, NULL, &rotated.base, day, answer);
    assert_call(a, "POST", path, "", &rotated.base, day, answer);
    assert_call(a, "POST", path, "{}", &rotated.base, day, answer);
    assert_call(a, "POST", path, "{\"grace_seconds\":0}", &rotated.base,
                "RotateClientKeyRequest {\"client_id\":\"laptop-1\",\"grace_s\":0}", answer);
    admin_stop(a);
}

static void rows_are_listed_with_times_that_people_can_read(void **state) {
    admin_fixture *a = admin_start();
    Tobogganing__V1__ListClientsResponse list = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    Tobogganing__V1__Client *rows[] = {&client};
    (void)state;
    list.clients = rows;
    list.n_clients = 1;
    list.next_page = (char[]){"laptop-1"};
    assert_call(
        a, "GET", "/api/v1/clients?page=a%2Fb%20c&page_size=10", NULL, &list.base,
        "ListRequest {\"page\":\"a/b c\",\"page_size\":10,\"with_key_hashes\":false}",
        "{\"clients\":[{\"client_id\":\"laptop-1\",\"name\":\"\",\"type\":\"native\",\"cluster_id\":\"\","
        "\"created\":\"2024-11-22T10:00:00.123Z\",\"revoked\":null,\"public_key\":\"\",\"location\":\"\","
        "\"key_generation\":0,\"key_created\":null,\"previous_key_expires\":\"2024-11-23T10:00:00Z\"}],"
        "\"next_page\":\"laptop-1\"}");
    assert_call(
        a, "GET", "/api/v1/headends/h1", NULL, &headend.base, "HeadendId {\"headend_id\":\"h1\"}",
        "{\"headend_id\":\"h1\",\"name\":\"\",\"cluster_id\":\"eu-1\",\"created\":null,\"revoked\":null,"
        "\"tokens_not_before\":\"2024-11-22T10:00:00Z\"}");
    admin_stop(a);
}

static void every_route_reaches_its_call(void **state) {
    static const struct {
        const char *method;
        const char *path;
        const char *body;
        const char *saw;
    } table[] = {
        {"GET", "/api/v1/clusters", NULL, "ListRequest"},
        {"GET", "/api/v1/clusters/register", NULL, "ClusterId {\"cluster_id\":\"register\"}"},
        {"POST", "/api/v1/clusters/eu-1/revoke", NULL, "ClusterId {\"cluster_id\":\"eu-1\"}"},
        {"DELETE", "/api/v1/clusters/eu-1", NULL, "ClusterId {\"cluster_id\":\"eu-1\"}"},
        {"GET", "/api/v1/clients/c", NULL, "ClientId {\"client_id\":\"c\"}"},
        {"POST", "/api/v1/clients/c/revoke", "", "ClientId {\"client_id\":\"c\"}"},
        {"DELETE", "/api/v1/clients/c", NULL, "ClientId {\"client_id\":\"c\"}"},
        {"POST", "/api/v1/headends/register", "{\"name\":\"h\",\"cluster_id\":\"eu-1\"}",
         "AddHeadendRequest {\"certificate\":{\"csr\":\"\",\"validity_days\":0},\"cluster_id\":\"eu-1\","
         "\"headend_id\":\"\",\"name\":\"h\"}"},
        {"GET", "/api/v1/headends", NULL, "ListRequest"},
        {"POST", "/api/v1/headends/h1/revoke", NULL, "HeadendId {\"headend_id\":\"h1\"}"},
        {"DELETE", "/api/v1/headends/h1", NULL, "HeadendId {\"headend_id\":\"h1\"}"},
        {"POST", "/api/v1/headends/h1/token", "{\"ttl_seconds\":60}",
         "IssueHeadendTokenRequest {\"headend_id\":\"h1\",\"ttl_s\":60}"},
        {"POST", "/api/v1/certs/generate",
         "{\"type\":\"server\",\"subject\":\"s\",\"names\":[\"a\",\"b\"],\"validity_days\":3}",
         "IssueCertificateRequest {\"names\":[\"a\",\"b\"],\"order\":{\"csr\":\"\",\"validity_days\":3},"
         "\"subject\":\"s\",\"type\":\"server\"}"},
        {"GET", "/api/v1/certs?subject=c", NULL,
         "ListCertificatesRequest {\"page\":\"\",\"page_size\":0,\"subject\":\"c\"}"},
        {"GET", "/api/v1/certs/0a1b", NULL, "CertificateSerial {\"serial\":\"0a1b\"}"},
        {"POST", "/api/v1/certs/0a1b/revoke", "{\"reason\":\"superseded\"}",
         "RevokeCertificateRequest {\"reason\":\"superseded\",\"serial\":\"0a1b\"}"},
        {"GET", "/api/v1/audit?target=c&page=7", NULL,
         "ListAuditRequest {\"page\":\"7\",\"page_size\":0,\"since_unix_ms\":0,\"target\":\"c\"}"},
    };
    admin_fixture *a = admin_start();
    (void)state;
    a->fails = TOB_NOT_FOUND;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        assert_has(admin_ask(a, table[i].method, table[i].path, ADMIN_JSON, table[i].body), "HTTP/1.1 404");
        assert_has(a->saw, table[i].saw);
    }
    admin_stop(a);
}

static void public_answers_need_no_credential_and_are_kept_for_a_moment(void **state) {
    static const char bytes[] = {0x30, 0x00, 0x01};
    admin_fixture *a = admin_start();
    Tobogganing__V1__Authority authority = TOBOGGANING__V1__AUTHORITY__INIT;
    Tobogganing__V1__RevocationList crl = TOBOGGANING__V1__REVOCATION_LIST__INIT;
    Tobogganing__V1__Jwks jwks = TOBOGGANING__V1__JWKS__INIT;
    (void)state;
    authority.pem = (char[]){"CA"};
    crl.der = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)bytes, .len = sizeof(bytes)};
    crl.pem = (char[]){"CRL"};
    jwks.json = (char[]){"{\"keys\":[]}"};
    const struct {
        const char *path;
        const ProtobufCMessage *response;
        const char *type;
        const char *body;
    } table[] = {{"/api/v1/certs/ca.pem", &authority.base, "application/x-pem-file", "CA"},
                 {"/api/v1/certs/crl", &crl.base, "application/pkix-crl", "0"},
                 {"/api/v1/certs/crl.pem", &crl.base, "application/x-pem-file", "CRL"},
                 {"/.well-known/jwks.json", &jwks.base, "application/json", "{\"keys\":[]}"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        unsigned before = a->calls;
        a->response = table[i].response;
        for (int again = 0; again < 2; again++) {
            const char *text = admin_ask(a, "GET", table[i].path, ADMIN, NULL);
            assert_has(text, "HTTP/1.1 200");
            assert_has(text, table[i].type);
            assert_has(text, "cache-control: max-age=300");
            assert_string_equal(body_of(text), table[i].body);
            a->response = NULL; // would crash if it was asked again
        }
        assert_int_equal(a->calls, before + 1);
        assert_string_equal(a->bearer, "none");
    }
    admin_stop(a);
}

static void what_is_wrong_with_a_request_is_said_before_ingestd_is_asked(void **state) {
    static const struct {
        const char *method;
        const char *path;
        const char *headers;
        const char *body;
        const char *status;
        const char *text;
    } table[] = {
        {"GET", "/api/v1/clients/" ID_128 "0", ADMIN, NULL, "400", "client_id: must be"},
        {"GET", "/api/v1/clients/a%00", ADMIN, NULL, "400", "client_id: must be"},
        {"GET", "/api/v1/clients/a%20b", "", NULL, "400", "client_id: must be"},
        {"GET", "/api/v1/certs/a'b", ADMIN, NULL, "400", "serial: must be"},
        {"GET", "/api/v1/clients", "", NULL, "401", "www-authenticate: Bearer"},
        {"GET", "/api/v1/clients", "Authorization: Basic eDp5\r\n", NULL, "401", "Authorization"},
        {"GET", "/api/v1/clients", "Authorization: Bearer \xc3\xa4\r\n", NULL, "401", "Authorization"},
        {"GET", "/api/v1/clients?page_size=x", ADMIN, NULL, "400", "page_size: must be a whole number"},
        {"GET", "/api/v1/clients?page_size=-1", ADMIN, NULL, "400", "page_size: must be"},
        {"GET", "/api/v1/clients?page_size=4294967296", ADMIN, NULL, "400", "page_size: must be"},
        {"GET", "/api/v1/clients?page=%ff", ADMIN, NULL, "400", "page: must be UTF-8"},
        {"GET", "/api/v1/clients?page=%00", ADMIN, NULL, "400", "page: must be UTF-8"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, NULL, "411", "Content-Length"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "", "400", "the body is empty"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{", "400", "line 1"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "[]", "400", "object"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{\"name\":\"a\",\"name\":\"b\"}", "400", "line 1"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{}", "400", "name: is required"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{\"name\":null}", "400", "name: is required"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{\"name\":7}", "400", "name: must be a text"},
        {"POST", "/api/v1/clusters/register", ADMIN_JSON, "{\"name\":\"a\\u0000b\"}", "400", "line 1"},
        {"POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, "{}", "400", "client_count: is required"},
        {"POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, "{\"client_count\":-1}", "400",
         "client_count: must"},
        {"POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, "{\"client_count\":1.5}", "400",
         "client_count: must"},
        {"POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, "{\"client_count\":\"1\"}", "400",
         "client_count"},
        {"POST", "/api/v1/certs/generate", ADMIN_JSON,
         "{\"type\":\"server\",\"subject\":\"s\",\"validity_days\":4294967296}", "400",
         "validity_days: is too large"},
        {"POST", "/api/v1/certs/generate", ADMIN_JSON,
         "{\"type\":\"server\",\"subject\":\"s\",\"names\":\"x\"}", "400", "names: must be a list of texts"},
        {"POST", "/api/v1/certs/generate", ADMIN_JSON,
         "{\"type\":\"server\",\"subject\":\"s\",\"names\":[1]}", "400", "names: must be a list of texts"},
        {"POST", "/api/v1/clients/register", ADMIN_JSON,
         "{\"name\":\"n\",\"type\":\"native\",\"public_key\":\"p\",\"location\":{}}", "400",
         "location: must be"},
        {"POST", "/api/v1/clients/register", ADMIN "Content-Type: text/plain\r\n", "{}", "415",
         "Content-Type"},
        {"POST", "/api/v1/clients/a%2Fb/revoke", ADMIN, "", "404", "nothing at this path"},
        {"POST", "/api/v1/clients/a/../b/revoke", ADMIN, "", "404", "nothing at this path"},
        {"PUT", "/api/v1/clients/a", ADMIN, "", "405", "allow: GET, HEAD, DELETE"},
    };
    admin_fixture *a = admin_start();
    char want[32];
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        const char *text = admin_ask(a, table[i].method, table[i].path, table[i].headers, table[i].body);
        snprintf(want, sizeof(want), "HTTP/1.1 %s", table[i].status);
        assert_has(text, want);
        assert_has(text, table[i].text);
        assert_has(text, "{\"error\":\"");
    }
    assert_int_equal(a->calls, 0);
    assert_has(admin_ask(a, "GET", "/api/v1/clients/" ID_128, "", NULL), "HTTP/1.1 401");
    admin_stop(a);
}

static void a_body_one_byte_over_the_limit_is_413(void **state) {
    admin_fixture *a = admin_start();
    char body[2003];
    (void)state;
    a->fails = TOB_NOT_FOUND;
    snprintf(body, sizeof(body), "{\"client_count\":1%*s}", 2000 - 18, "");
    assert_int_equal(strlen(body), 2000);
    assert_has(admin_ask(a, "POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, body), "HTTP/1.1 404");
    snprintf(body, sizeof(body), "{\"client_count\":1%*s}", 2001 - 18, "");
    assert_has(admin_ask(a, "POST", "/api/v1/clusters/c/heartbeat", ADMIN_JSON, body), "HTTP/1.1 413");
    admin_stop(a);
}

static void what_ingestd_says_becomes_the_status(void **state) {
    static const struct {
        tob_error error;
        uint32_t retry_ms;
        const char *status;
        const char *header;
    } table[] = {
        {TOB_INVALID, 0, "400", "content-type: application/json"},
        {TOB_UNAUTHENTICATED, 0, "401", "www-authenticate: Bearer"},
        {TOB_UNAUTHENTICATED, 1500, "429", "retry-after: 2\r\n"},
        {TOB_PERMISSION_DENIED, 0, "403", "cache-control: no-store"},
        {TOB_NOT_FOUND, 0, "404", "cache-control: no-store"},
        {TOB_ALREADY_EXISTS, 0, "409", ""},
        {TOB_ABORTED, 0, "409", ""},
        {TOB_PRECONDITION, 0, "409", ""},
        {TOB_UNIMPLEMENTED, 0, "502", ""},
        {TOB_INTERNAL, 0, "500", ""},
        {TOB_UNAVAILABLE, 3000, "503", "retry-after: 3\r\n"},
        {TOB_BUSY, 1000, "503", "retry-after: 1\r\n"},
        {TOB_DEADLINE, 0, "504", "retry-after: 1\r\n"},
    };
    admin_fixture *a = admin_start();
    char want[32];
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        a->fails = table[i].error;
        a->retry_ms = table[i].retry_ms;
        const char *text = admin_ask(a, "DELETE", "/api/v1/clients/c", ADMIN, NULL);
        snprintf(want, sizeof(want), "HTTP/1.1 %s", table[i].status);
        assert_has(text, want);
        assert_has(text, table[i].header);
        assert_has(text, "{\"error\":\"ingestd says no\"}");
    }
    admin_stop(a);
}

static void a_call_that_nobody_answers_is_504_at_its_deadline(void **state) {
    admin_fixture *a = admin_start_with(200);
    (void)state;
    a->silent = true;
    assert_has(admin_ask(a, "DELETE", "/api/v1/clients/c", ADMIN, NULL), "HTTP/1.1 504");
    pthread_mutex_lock(&a->mutex);
    assert_int_equal(a->calls, 1); // a change is asked for once
    pthread_mutex_unlock(&a->mutex);
    admin_stop(a);
}

static void one_request_more_than_may_wait_is_503(void **state) {
    enum { SENDERS = TOB_WORKER_MAX_CALLS + 1 };
    struct pollfd polled[SENDERS];
    size_t refused = 0;
    admin_fixture *a = admin_start_with(2000);
    (void)state;
    tob_rpc_server_stop(a->ingestd); // calls wait for a connection
    for (size_t i = 0; i < SENDERS; i++) {
        polled[i] = (struct pollfd){.fd = peer_dial(tob_gateway_port(a->gateway)), .events = POLLIN};
        peer_put(polled[i].fd, "GET /api/v1/clients/c HTTP/1.1\r\nHost: x\r\n" ADMIN "\r\n");
    }
    assert_true(poll(polled, SENDERS, PEER_DEADLINE_MS) > 0); // whoever was read last
    while (!polled[refused].revents) {
        refused++;
    }
    const char *text = peer_get(polled[refused].fd);
    assert_has(text, "HTTP/1.1 503");
    assert_has(text, "too many requests wait for ingestd");
    for (size_t i = 0; i < SENDERS; i++) {
        if (i != refused) {
            text = peer_get(polled[i].fd);
            assert_has(text, "HTTP/1.1 503"); // and not 504: nobody was asked
            assert_has(text, "not connected");
        }
        close(polled[i].fd);
    }
    admin_stop(a);
}

static void head_is_get_without_a_body(void **state) {
    admin_fixture *a = admin_start();
    (void)state;
    a->response = &headend.base;
    const char *text = admin_ask(a, "HEAD", "/api/v1/headends/h1", ADMIN, NULL);
    assert_has(text, "HTTP/1.1 200");
    assert_string_equal(body_of(text), "");
    admin_stop(a);
}

// Or what it says of addresses would be believed.
static void a_batch_of_protobuf_goes_without_our_token_and_with_its_senders_address(void **state) {
    admin_fixture *a = admin_start();
    Tobogganing__V1__SubmitResponse response = TOBOGGANING__V1__SUBMIT_RESPONSE__INIT;
    (void)state;
    a->response = &response.base;
    const char *text = admin_ask(a, "POST", "/tobogganing.v1.Ingest/Submit",
                                 ADMIN "Content-Type: application/x-protobuf\r\n",
                                 "\x1a\x09"
                                 "192.0.2.1");
    assert_has(text, "HTTP/1.1 200");
    assert_has(a->saw, "\"peers\":[\"192.0.2.1\"]");
    assert_string_equal(a->bearer, "none");
    assert_string_equal(a->peer, "127.0.0.1");
    admin_stop(a);
}

// http_requests_total has to have room for every status that a route may answer.
static void all_routes_and_statuses_fit_into_the_counters(void **state) {
    enum { STATUSES = 14, METHODS = 8, UNMATCHED_STATUSES = 8 };
    const char *method = NULL;
    const char *pattern = NULL;
    size_t count = METHODS * UNMATCHED_STATUSES + 1;
    (void)state;
    for (size_t i = 0; tob_gateway_route(i, &method, &pattern); i++) {
        count += strcmp(method, "GET") == 0 ? 2 * (STATUSES - 4) : STATUSES; // HEAD; no 409, 411, 413, 415
        assert_true(strlen(pattern) < TOB_COUNTER_MAX_LABEL_BYTES);
    }
    assert_true(count < TOB_PROCESS_MAX_COUNTERS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_are_registered_as_tobogganings_clients_do_it),
        cmocka_unit_test(clients_are_registered_and_placed),
        cmocka_unit_test(keys_are_rotated_with_a_day_of_grace_unless_told_otherwise),
        cmocka_unit_test(rows_are_listed_with_times_that_people_can_read),
        cmocka_unit_test(every_route_reaches_its_call),
        cmocka_unit_test(public_answers_need_no_credential_and_are_kept_for_a_moment),
        cmocka_unit_test(what_is_wrong_with_a_request_is_said_before_ingestd_is_asked),
        cmocka_unit_test(a_body_one_byte_over_the_limit_is_413),
        cmocka_unit_test(what_ingestd_says_becomes_the_status),
        cmocka_unit_test(a_call_that_nobody_answers_is_504_at_its_deadline),
        cmocka_unit_test(one_request_more_than_may_wait_is_503),
        cmocka_unit_test(head_is_get_without_a_body),
        cmocka_unit_test(a_batch_of_protobuf_goes_without_our_token_and_with_its_senders_address),
        cmocka_unit_test(all_routes_and_statuses_fit_into_the_counters),
    };
    return cmocka_run_group_tests(tests, make_rows, NULL);
}
