#include "ingestd/registry_fields.h"
#include "registry_service_rig.h"

static void an_added_client_is_known_with_its_key_at_once(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "laptop-1", "");
    assert_string_equal(a->client->client_id, "laptop-1");
    assert_string_equal(a->client->name, "laptop-1");
    assert_string_equal(a->client->type, "native");
    assert_int_equal(a->client->revoked_unix_ms, 0);
    assert_int_equal(a->client->key_generation, 1);
    assert_int_equal(a->client->key_sha256.len, 0);
    assert_true(a->client->key_created_unix_ms > UINT64_C(1600000000000));
    assert_null(a->cluster);
    assert_null(a->certificate);
    assert_int_equal(strncmp(a->api_key, "tobk_", 5), 0);
    assert_int_equal(strlen(a->api_key), 48);
    assert_true(key_opens(f, "laptop-1", a->api_key));
    Tobogganing__V1__AddClientResponse *b = add_client_ok(f, "", "");
    assert_int_equal(strncmp(b->client->client_id, "c-", 2), 0);
    assert_int_equal(strlen(b->client->client_id), 18);
    assert_string_not_equal(a->api_key, b->api_key);
    assert_true(key_opens(f, b->client->client_id, b->api_key));
    assert_false(key_opens(f, b->client->client_id, a->api_key));
    assert_int_equal(tob_directory_clients(f->directory), 2);
    drop(a);
    drop(b);
}

static void every_field_of_a_client_comes_back(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *added = NULL;
    Tobogganing__V1__Client *got = NULL;
    request.client_id = (char *)"c";
    request.name = (char *)"Ann's \"laptop\"; DROP TABLE clients; --";
    request.type = (char *)"mobile";
    request.cluster_id = (char *)"k";
    request.public_key = (char *)"cHVibGlj+/=";
    request.location = (char *)"Zürich";
    expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &added));
    assert_string_equal(added->cluster->cluster_id, "k");
    assert_string_equal(added->cluster->headend_url, "https://vpn.example.com:51820");
    assert_int_equal(added->cluster->registered_clients, 1);
    Tobogganing__V1__ClientId id = client_id("c");
    expect_ok(f, CALL(f, "GetClient", &id, client, &got));
    assert_string_equal(got->name, request.name);
    assert_string_equal(got->type, "mobile");
    assert_string_equal(got->cluster_id, "k");
    assert_string_equal(got->public_key, "cHVibGlj+/=");
    assert_string_equal(got->location, "Zürich");
    assert_int_equal(got->created_unix_ms, added->client->created_unix_ms);
    drop(got);
    drop(added);
    id = client_id("nobody");
    FAILS(f, "GetClient", &id, TOB_NOT_FOUND, "client_id: no such client");
    id = client_id("");
    FAILS(f, "GetClient", &id, TOB_INVALID, "client_id: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
}

static void taken_ids_and_missing_or_revoked_clusters_are_refused_with_the_field(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "x", ""));
    Tobogganing__V1__AddClientRequest client = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    client.client_id = (char *)"x";
    FAILS(f, "AddClient", &client, TOB_ALREADY_EXISTS, "client_id: is taken");
    client.client_id = (char *)"y";
    client.cluster_id = (char *)"nowhere";
    FAILS(f, "AddClient", &client, TOB_NOT_FOUND, "cluster_id: no such cluster");
    add_cluster_ok(f, "old");
    Tobogganing__V1__ClusterId old = cluster_id("old");
    Tobogganing__V1__Cluster *revoked = NULL;
    client.cluster_id = old.cluster_id;
    expect_ok(f, CALL(f, "RevokeCluster", &old, cluster, &revoked));
    drop(revoked);
    FAILS(f, "AddClient", &client, TOB_PRECONDITION, "cluster_id: the cluster is revoked");
    assert_int_equal(tob_directory_clients(f->directory), 1);
}

static void a_client_is_placed_into_the_cluster_that_fits_best(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *response = NULL;
    request.place = true;
    FAILS(f, "AddClient", &request, TOB_ABORTED, "cluster_id: no active cluster has a headend_url");
    add_cluster_ok(f, "a");
    add_cluster_ok(f, "b");
    Tobogganing__V1__AddClusterRequest far = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    Tobogganing__V1__AddClusterResponse *added = NULL;
    far.cluster_id = (char *)"far";
    far.region = (char *)"AP";
    far.headend_url = (char *)"https://far.example.com";
    expect_ok(f, CALL(f, "AddCluster", &far, add_cluster_response, &added));
    drop(added);
    static const struct {
        const char *location, *cluster;
    } places[] = {{"FRA1", "a"}, {"eu", "b"}, {"ap", "far"}, {"EU", "a"}, {"nowhere", "b"}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        request.location = (char *)places[i].location;
        expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &response));
        assert_string_equal(response->client->cluster_id, places[i].cluster);
        assert_string_equal(response->cluster->cluster_id, places[i].cluster);
        drop(response);
    }
    request.cluster_id = (char *)"far"; // named: nothing is chosen
    request.location = (char *)"eu";
    expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &response));
    assert_string_equal(response->client->cluster_id, "far");
    drop(response);
}

static void a_certificate_comes_with_a_client_or_neither_does(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CertificateOrder order = TOBOGGANING__V1__CERTIFICATE_ORDER__INIT;
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *response = NULL;
    void *none = NULL;
    request.client_id = (char *)"c";
    request.certificate = &order;
    order.csr = (char *)"not a request";
    assert_int_equal(CALL(f, "AddClient", &request, add_client_response, &none), TOB_INVALID);
    assert_false(is_known(f, "c"));
    order.csr = (char *)"";
    expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &response));
    assert_string_equal(response->certificate->certificate->subject, "c");
    assert_string_equal(response->certificate->certificate->type, "client");
    assert_non_null(strstr(response->certificate->key, "PRIVATE KEY"));
    assert_non_null(strstr(response->certificate->ca, "BEGIN CERTIFICATE"));
    assert_true(key_opens(f, "c", response->api_key));
    drop(response);
    assert_int_equal(tob_counter_value(tob_process_counter(
                         f->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_CERTIFICATES_ISSUED,
                         "client", NULL, NULL)),
                     1);
}

static void an_update_changes_what_the_mask_names(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    Tobogganing__V1__UpdateClientRequest request = TOBOGGANING__V1__UPDATE_CLIENT_REQUEST__INIT;
    Tobogganing__V1__Client *client = NULL;
    char *mask[] = {(char *)"name", (char *)"cluster_id"};
    request.client_id = (char *)"c";
    request.name = (char *)"New";
    request.cluster_id = (char *)"k";
    request.type = (char *)"no type at all"; // not named: not looked at
    request.update_mask = mask;
    request.n_update_mask = 2;
    expect_ok(f, CALL(f, "UpdateClient", &request, client, &client));
    assert_string_equal(client->name, "New");
    assert_string_equal(client->cluster_id, "k");
    assert_string_equal(client->type, "native");
    drop(client);
    tob_directory_read_lock(f->directory);
    assert_string_equal(tob_directory_find_client(f->directory, "c", 1)->name, "New");
    tob_directory_read_unlock(f->directory);
    assert_true(key_opens(f, "c", a->api_key));
    drop(a);
    request.name = (char *)""; // as when it is added
    request.n_update_mask = 1;
    expect_ok(f, CALL(f, "UpdateClient", &request, client, &client));
    assert_string_equal(client->name, "c");
    drop(client);
}

static void an_update_is_refused_for_what_can_not_be_changed(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "c", ""));
    Tobogganing__V1__UpdateClientRequest request = TOBOGGANING__V1__UPDATE_CLIENT_REQUEST__INIT;
    request.client_id = (char *)"c";
    FAILS(f, "UpdateClient", &request, TOB_INVALID, "update_mask: must name 1 to 32 fields");
    enum { TOO_MANY = TOB_REGISTRY_MAX_MASK + 1 };
    char *too_many[TOO_MANY];
    for (size_t i = 0; i < TOO_MANY; i++) {
        too_many[i] = (char *)"name";
    }
    request.update_mask = too_many;
    request.n_update_mask = TOO_MANY;
    FAILS(f, "UpdateClient", &request, TOB_INVALID, "update_mask: must name 1 to 32 fields");
    static const char *const fixed[] = {"client_id", "created_unix_ms", "api_key", "Name"};
    char *mask[2] = {(char *)"name", NULL};
    request.update_mask = mask;
    request.n_update_mask = 2;
    for (size_t i = 0; i < 4; i++) {
        char text[128];
        mask[1] = (char *)fixed[i];
        snprintf(text, sizeof(text), "update_mask[1]: %s is not a field that can be changed", fixed[i]);
        FAILS(f, "UpdateClient", &request, TOB_INVALID, text);
    }
    mask[1] = (char *)"na\nme";
    FAILS(f, "UpdateClient", &request, TOB_INVALID, "update_mask[1]: is not a field that can be changed");
    request.n_update_mask = 1;
    request.client_id = (char *)"nobody";
    FAILS(f, "UpdateClient", &request, TOB_NOT_FOUND, "client_id: no such client");
    request.client_id = (char *)"c";
    mask[0] = (char *)"cluster_id";
    request.cluster_id = (char *)"nowhere";
    FAILS(f, "UpdateClient", &request, TOB_NOT_FOUND, "cluster_id: no such cluster");
    mask[0] = (char *)"type";
    FAILS(f, "UpdateClient", &request, TOB_INVALID, "type: must be docker, native or mobile");
}

static void who_is_deleted_is_unknown_as_soon_as_the_answer_is_there_and_may_come_back(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    Tobogganing__V1__ClientId id = client_id("x");
    Tobogganing__V1__DeleteResponse *none = NULL;
    expect_ok(f, CALL(f, "DeleteClient", &id, delete_response, &none));
    drop(none);
    assert_false(is_known(f, "x"));
    assert_int_equal(tob_directory_clients(f->directory), 0);
    FAILS(f, "DeleteClient", &id, TOB_NOT_FOUND, "client_id: no such client");
    Tobogganing__V1__AddClientResponse *b = add_client_ok(f, "x", "");
    assert_false(key_opens(f, "x", a->api_key));
    assert_true(key_opens(f, "x", b->api_key));
    drop(a);
    drop(b);
}

static void an_erasure_deletes_first_and_can_be_asked_for_again(void **state) {
    fixture *f = *state;
    Tobogganing__V1__ClientId id = client_id("x");
    FAILS(f, "EraseClient", &id, TOB_NOT_FOUND, "client_id: no such client");
    drop(add_client_ok(f, "x", ""));
    Tobogganing__V1__Erasure *erasure = NULL;
    for (int i = 0; i < 2; i++) {
        expect_ok(f, CALL(f, "EraseClient", &id, erasure, &erasure));
        assert_string_equal(erasure->client_id, "x");
        assert_int_equal(erasure->clients, 1);
        assert_int_equal(erasure->certificates, 0);
        assert_int_equal(erasure->fleet_rows, 0);
        assert_false(erasure->done); // nobody erases in this test
        assert_string_not_equal(erasure->progress, "");
        drop(erasure);
        assert_false(is_known(f, "x"));
    }
    char *audit = audit_ok(f, "x");
    const char *act = strstr(audit, "|client.erase|x|");
    assert_non_null(act);
    assert_null(strstr(act + 1, "|client.erase|x|")); // asking is no act
    free(audit);
    // Deleted before.
    drop(add_client_ok(f, "y", ""));
    id = client_id("y");
    Tobogganing__V1__DeleteResponse *none = NULL;
    expect_ok(f, CALL(f, "DeleteClient", &id, delete_response, &none));
    drop(none);
    expect_ok(f, CALL(f, "EraseClient", &id, erasure, &erasure));
    drop(erasure);
    expect_audit(f, "y", "admin token b20ec6b0", "client.erase");
}

static void pages_list_everything_once_in_order(void **state) {
    fixture *f = *state;
    enum { COUNT = 25 };
    for (int i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof(id), "c%02d", (i * 7) % COUNT);
        drop(add_client_ok(f, id, ""));
    }
    static const uint32_t sizes[] = {1, 10, 24, 25, 26, 0};
    static const int pages[] = {25, 3, 2, 1, 1, 1};
    for (size_t i = 0; i < 6; i++) {
        Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
        char next[TOB_MAX_ID_BYTES + 1] = "";
        int rows = 0, seen_pages = 0;
        do {
            Tobogganing__V1__ListClientsResponse *response = NULL;
            request.page = next;
            request.page_size = sizes[i];
            expect_ok(f, CALL(f, "ListClients", &request, list_clients_response, &response));
            for (size_t row = 0; row < response->n_clients; row++, rows++) {
                char id[16];
                snprintf(id, sizeof(id), "c%02d", rows);
                assert_string_equal(response->clients[row]->client_id, id);
                assert_int_equal(response->clients[row]->key_sha256.len, 0);
            }
            snprintf(next, sizeof(next), "%s", response->next_page);
            drop(response);
            seen_pages++;
        } while (*next);
        assert_int_equal(rows, COUNT);
        assert_int_equal(seen_pages, pages[i]);
    }
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    request.page_size = TOB_REGISTRY_MAX_PAGE_ROWS + 1;
    FAILS(f, "ListClients", &request, TOB_INVALID, "page_size: must be at most 10000");
    request.page_size = 0;
    request.page = (char *)"no id";
    FAILS(f, "ListClients", &request, TOB_INVALID,
          "page: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
}

static void hashes_of_keys_are_in_lists_that_ask_for_them(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "c", "");
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    Tobogganing__V1__ListClientsResponse *response = NULL;
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(a->api_key, strlen(a->api_key), hash);
    request.with_key_hashes = true;
    expect_ok(f, CALL(f, "ListClients", &request, list_clients_response, &response));
    assert_int_equal(response->clients[0]->key_sha256.len, sizeof(hash));
    assert_memory_equal(response->clients[0]->key_sha256.data, hash, sizeof(hash));
    drop(response);
    drop(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_added_client_is_known_with_its_key_at_once),
        TEST(every_field_of_a_client_comes_back),
        TEST(taken_ids_and_missing_or_revoked_clusters_are_refused_with_the_field),
        TEST(a_client_is_placed_into_the_cluster_that_fits_best),
        TEST(a_certificate_comes_with_a_client_or_neither_does),
        TEST(an_update_changes_what_the_mask_names),
        TEST(an_update_is_refused_for_what_can_not_be_changed),
        TEST(who_is_deleted_is_unknown_as_soon_as_the_answer_is_there_and_may_come_back),
        TEST(an_erasure_deletes_first_and_can_be_asked_for_again),
        TEST(pages_list_everything_once_in_order),
        TEST(hashes_of_keys_are_in_lists_that_ask_for_them),
    };
    return RUN_ON_BOTH("client_methods", tests);
}
