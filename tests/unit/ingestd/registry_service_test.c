#include <stdatomic.h>

#include "tobogganing/v1/certificates.pb-c.h"
#include "tobogganing/v1/signing_keys.pb-c.h"

#include "registry_service_rig.h"

// ---- what goes in

static void fields_out_of_their_ranges_are_refused_by_name(void **state) {
    fixture *f = *state;
    char id129[130], name257[258], url1025[1026];
    fill(id129, sizeof(id129));
    fill(name257, sizeof(name257));
    fill(url1025, sizeof(url1025));
    const struct {
        const char *client_id, *name, *type, *cluster_id, *public_key, *location, *field;
    } clients[] = {
        {id129, "", "", "", "", "", "client_id: "},    {"a b", "", "", "", "", "", "client_id: "},
        {"ä", "", "", "", "", "", "client_id: "},      {"a/b", "", "", "", "", "", "client_id: "},
        {"a%2Fb", "", "", "", "", "", "client_id: "},  {"' OR 1=1 --", "", "", "", "", "", "client_id: "},
        {"", name257, "", "", "", "", "name: "},       {"", "a\nb", "", "", "", "", "name: "},
        {"", "", "Native", "", "", "", "type: "},      {"", "", "windows", "", "", "", "type: "},
        {"", "", "", id129, "", "", "cluster_id: "},   {"", "", "", "k k", "", "", "cluster_id: "},
        {"", "", "", "", url1025, "", "public_key: "}, {"", "", "", "", "a\tb", "", "public_key: "},
        {"", "", "", "", "", name257, "location: "},   {"", "", "", "", "", "\x1b[2J", "location: "},
    };
    void *none = NULL;
    for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
        Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
        request.client_id = (char *)clients[i].client_id;
        request.name = (char *)clients[i].name;
        request.type = (char *)clients[i].type;
        request.cluster_id = (char *)clients[i].cluster_id;
        request.public_key = (char *)clients[i].public_key;
        request.location = (char *)clients[i].location;
        assert_int_equal(CALL(f, "AddClient", &request, add_client_response, &none), TOB_INVALID);
        assert_int_equal(strncmp(f->failure.message, clients[i].field, strlen(clients[i].field)), 0);
    }
    const struct {
        const char *id, *name, *region, *datacenter, *url, *field;
    } clusters[] = {
        {"a b", "", "", "", "", "cluster_id: "},    {"", name257, "", "", "", "name: "},
        {"", "", name257, "", "", "region: "},      {"", "", "", name257, "", "datacenter: "},
        {"", "", "", "", url1025, "headend_url: "}, {"", "", "", "", "https://a b", "headend_url: "},
    };
    for (size_t i = 0; i < sizeof(clusters) / sizeof(clusters[0]); i++) {
        Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
        request.cluster_id = (char *)clusters[i].id;
        request.name = (char *)clusters[i].name;
        request.region = (char *)clusters[i].region;
        request.datacenter = (char *)clusters[i].datacenter;
        request.headend_url = (char *)clusters[i].url;
        assert_int_equal(CALL(f, "AddCluster", &request, add_cluster_response, &none), TOB_INVALID);
        assert_int_equal(strncmp(f->failure.message, clusters[i].field, strlen(clusters[i].field)), 0);
    }
    assert_int_equal(tob_directory_clients(f->directory) + tob_directory_clusters(f->directory), 0);
    // At the edges, they are taken.
    id129[128] = name257[256] = url1025[1024] = 0;
    Tobogganing__V1__AddClusterRequest cluster = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    cluster.cluster_id = id129;
    cluster.name = cluster.region = cluster.datacenter = name257;
    cluster.headend_url = url1025;
    expect_ok(f, CALL(f, "AddCluster", &cluster, add_cluster_response, &none));
    drop(none);
    Tobogganing__V1__AddClientRequest client = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    client.client_id = client.cluster_id = id129;
    client.name = client.location = name257;
    client.public_key = url1025;
    client.type = (char *)"mobile";
    expect_ok(f, CALL(f, "AddClient", &client, add_client_response, &none));
    drop(none);
}

static void every_method_that_takes_an_id_refuses_129_bytes(void **state) {
    fixture *f = *state;
    static const char *const methods[] = {
        METHOD("GetClient"),     METHOD("RevokeClient"),      METHOD("DeleteClient"),
        METHOD("EraseClient"),   METHOD("RevokePreviousKey"), METHOD("RotateClientKey"),
        METHOD("UpdateClient"),  METHOD("GetCluster"),        METHOD("RevokeCluster"),
        METHOD("DeleteCluster"), METHOD("UpdateCluster"),     METHOD("HeartbeatCluster"),
        METHOD("GetHeadend"),    METHOD("RevokeHeadend"),     METHOD("DeleteHeadend"),
        METHOD("UpdateHeadend"), METHOD("IssueHeadendToken"), METHOD("RevokeHeadendTokens"),
    };
    char id129[130];
    fill(id129, sizeof(id129));
    const char *const ids[] = {id129, "", "a/b", "x'; DROP TABLE clients; --", "ä"};
    for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
            Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT; // field 1 of every one
            void *none = NULL;
            request.client_id = (char *)ids[i];
            assert_int_equal(call_as(f, f->client, methods[m], &request, &tobogganing__v1__client__descriptor,
                                     &none),
                             TOB_INVALID);
            assert_non_null(strstr(f->failure.message, "_id: must be 1 to 128 characters"));
        }
    }
}

// ---- who may

static void every_method_needs_the_admin_token_and_attempts_are_counted(void **state) {
    fixture *f = *state;
    const ProtobufCServiceDescriptor *registry = &tobogganing__v1__registry__descriptor;
    static const char *const tokens[] = {NULL, "wrong"};
    tob_rpc_client *admin = f->client;
    uint64_t refused = 0;
    Tobogganing__V1__ListRequest empty = TOBOGGANING__V1__LIST_REQUEST__INIT; // fits every method
    for (size_t i = 0; i < 2; i++) {
        f->client = client_with(f, tokens[i]);
        for (size_t m = 0; m < registry->n_methods && refused < TOB_LIMITER_BURST; m++, refused++) {
            char method[128];
            void *none = NULL;
            snprintf(method, sizeof(method), "/%s/%s", registry->name, registry->methods[m].name);
            assert_int_equal(call_as(f, f->client, method, &empty, &tobogganing__v1__client__descriptor,
                                     &none),
                             TOB_UNAUTHENTICATED);
            assert_non_null(strstr(f->failure.message, "ADMIN_TOKEN"));
            assert_int_equal(f->failure.retry_after_ms, 0);
        }
        tob_rpc_client_free(f->client);
    }
    f->client = admin;
    assert_true(refused > registry->n_methods);
    assert_int_equal(attempts(f, "admin", "failure"), refused);
    assert_int_equal(attempts(f, "admin", "success"), 0);
    drop(add_client_ok(f, "x", ""));
    assert_int_equal(attempts(f, "admin", "success"), 1);
}

static void wrong_tokens_are_slowed_down_and_right_ones_are_not(void **state) {
    fixture *f = *state;
    tob_rpc_client *admin = f->client, *wrong = client_with(f, "wrong");
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    void *none = NULL;
    uint64_t limited = 0;
    for (int i = 0; i < TOB_LIMITER_BURST + 10; i++) {
        f->client = wrong;
        assert_int_equal(CALL(f, "ListClients", &request, list_clients_response, &none), TOB_UNAUTHENTICATED);
        limited += f->failure.retry_after_ms > 0;
        f->client = admin;
    }
    assert_in_range(limited, 5, 10); // some of it may have filled up again
    assert_int_equal(attempts(f, "admin", "limited"), limited);
    assert_int_equal(attempts(f, "admin", "failure"), TOB_LIMITER_BURST + 10 - limited);
    drop(add_client_ok(f, "x", "")); // from the same address
    tob_rpc_client_free(wrong);
}

static void the_authority_and_the_public_keys_are_for_everybody(void **state) {
    fixture *f = *state;
    tob_rpc_client *nobody = client_with(f, NULL);
    Tobogganing__V1__GetAuthorityRequest ca_request = TOBOGGANING__V1__GET_AUTHORITY_REQUEST__INIT;
    Tobogganing__V1__Authority *authority = NULL;
    expect_ok(f, call_as(f, nobody, "/tobogganing.v1.Certificates/GetAuthority", &ca_request,
                         &tobogganing__v1__authority__descriptor, &authority));
    assert_non_null(strstr(authority->pem, "BEGIN CERTIFICATE"));
    drop(authority);
    Tobogganing__V1__GetJwksRequest jwks_request = TOBOGGANING__V1__GET_JWKS_REQUEST__INIT;
    Tobogganing__V1__Jwks *jwks = NULL;
    expect_ok(f, call_as(f, nobody, "/tobogganing.v1.SigningKeys/GetJwks", &jwks_request,
                         &tobogganing__v1__jwks__descriptor, &jwks));
    assert_non_null(strstr(jwks->json, "ES256"));
    drop(jwks);
    tob_rpc_client_free(nobody);
}

// The results of calls that are passed on.
static void note_error(void *user, const tob_rpc_result *result) {
    atomic_store((_Atomic int *)user, 1 + (int)result->error);
}

static tob_error add_for(fixture *f, tob_rpc_client *through, const char *address) {
    static const tob_rpc_caller caller = {.bearer = "another-one"};
    tob_rpc_caller from = caller;
    _Atomic int error = 0;
    from.address = address;
    assert_int_equal(tob_rpc_client_call_for(through, &from, METHOD("AddClient"), "", 0, TIMEOUT_MS,
                                             note_error, &error),
                     TOB_OK);
    (void)f;
    while (atomic_load(&error) == 0) { // ends with the call's own deadline
        sched_yield();
    }
    return (tob_error)(atomic_load(&error) - 1);
}

static void the_audit_log_has_the_address_that_a_gateway_vouches_for(void **state) {
    fixture *f = *state;
    tob_rpc_client *gateway = client_with(f, "cluster-token"), *liar = client_with(f, "no-cluster-token");
    assert_int_equal(add_for(f, gateway, "2001:db8::7"), TOB_OK);
    char *text = audit_ok(f, "");
    assert_non_null(strstr(text, "admin token b20ec6b0|2001:db8::7|client.add|"));
    free(text);
    assert_int_equal(add_for(f, liar, "192.0.2.66"), TOB_OK); // the admin's token is right
    text = audit_ok(f, "");
    assert_null(strstr(text, "192.0.2.66"));
    assert_non_null(strstr(text, "admin token b20ec6b0|127.0.0.1|client.add|"));
    free(text);
    tob_rpc_client_free(gateway);
    tob_rpc_client_free(liar);
}

// ---- the audit log

static void the_audit_log_comes_in_pages_and_by_target(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        char id[8];
        snprintf(id, sizeof(id), "c%d", i);
        drop(add_client_ok(f, id, ""));
    }
    Tobogganing__V1__ListAuditRequest request = TOBOGGANING__V1__LIST_AUDIT_REQUEST__INIT;
    Tobogganing__V1__ListAuditResponse *page = NULL;
    char next[32] = "", all[256] = "";
    uint64_t last = UINT64_MAX;
    request.page_size = 2;
    do {
        request.page = next;
        expect_ok(f, CALL(f, "ListAudit", &request, list_audit_response, &page));
        assert_in_range(page->n_entries, 1, 2);
        for (size_t i = 0; i < page->n_entries; i++) {
            assert_true(page->entries[i]->number < last);
            last = page->entries[i]->number;
            if (strcmp(page->entries[i]->action, "client.add") == 0) {
                strcat(all, page->entries[i]->target);
            }
        }
        snprintf(next, sizeof(next), "%s", page->next_page);
        drop(page);
    } while (*next);
    assert_string_equal(all, "c4c3c2c1c0");
    request.page = (char *)"";
    request.page_size = 0;
    request.target = (char *)"c3";
    expect_ok(f, CALL(f, "ListAudit", &request, list_audit_response, &page));
    assert_int_equal(page->n_entries, 1);
    request.since_unix_ms = page->entries[0]->at_unix_ms + 1;
    drop(page);
    expect_ok(f, CALL(f, "ListAudit", &request, list_audit_response, &page));
    assert_int_equal(page->n_entries, 0);
    drop(page);
    static const char *const wrong[] = {"x", "-1", "9223372036854775808", "1 "};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        request.page = (char *)wrong[i];
        FAILS(f, "ListAudit", &request, TOB_INVALID, "page: must be next_page of the page before");
    }
    request.page = (char *)"";
    request.target = (char *)"' OR '1'='1";
    FAILS(f, "ListAudit", &request, TOB_INVALID,
          "target: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
}

static bool file_has(const char *path, const char *text) {
    static char bytes[8 << 20];
    FILE *file = fopen(path, "r");
    if (!file) {
        return false;
    }
    size_t n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return memmem(bytes, n, text, strlen(text)) != NULL;
}

static void keys_and_tokens_are_stored_nowhere(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "unmistakable", "");
    add_headend_ok(f, "h", "");
    char *token = token_ok(f, "h");
    char *audit = audit_ok(f, "");
    const char *const secrets[] = {a->api_key + 5, strrchr(token, '.') + 1, "another-one"};
    for (size_t i = 0; i < 3; i++) {
        assert_null(strstr(audit, secrets[i]));
    }
    free(audit);
    if (strncmp(f->database, "sqlite:", 7) == 0) {
        char wal[330];
        snprintf(wal, sizeof(wal), "%s-wal", f->database + 7);
        assert_true(file_has(wal, "unmistakable") || file_has(f->database + 7, "unmistakable"));
        for (size_t i = 0; i < 3; i++) {
            assert_false(file_has(wal, secrets[i]));
            assert_false(file_has(f->database + 7, secrets[i]));
        }
    }
    free(token);
    drop(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(fields_out_of_their_ranges_are_refused_by_name),
        TEST(every_method_that_takes_an_id_refuses_129_bytes),
        TEST(every_method_needs_the_admin_token_and_attempts_are_counted),
        TEST(wrong_tokens_are_slowed_down_and_right_ones_are_not),
        TEST(the_authority_and_the_public_keys_are_for_everybody),
        TEST(the_audit_log_has_the_address_that_a_gateway_vouches_for),
        TEST(the_audit_log_comes_in_pages_and_by_target),
        TEST(keys_and_tokens_are_stored_nowhere),
    };
    return RUN_ON_BOTH("registry_service", tests);
}
