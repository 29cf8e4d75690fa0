#include "registry_service_rig.h"

static tob_error heartbeat(fixture *f, const char *id, uint64_t clients, Tobogganing__V1__Cluster **ret) {
    Tobogganing__V1__HeartbeatClusterRequest request = TOBOGGANING__V1__HEARTBEAT_CLUSTER_REQUEST__INIT;
    request.cluster_id = (char *)id;
    request.client_count = clients;
    return CALL(f, "HeartbeatCluster", &request, cluster, ret);
}

static void every_field_of_a_cluster_comes_back(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    Tobogganing__V1__AddClusterResponse *added = NULL;
    Tobogganing__V1__Cluster *got = NULL;
    request.cluster_id = (char *)"k";
    request.name = (char *)"Robert'); DROP TABLE clusters;--";
    request.region = (char *)"eü";
    request.datacenter = (char *)"fra1";
    request.headend_url = (char *)"https://vpn.example.com:51820";
    expect_ok(f, CALL(f, "AddCluster", &request, add_cluster_response, &added));
    assert_null(added->certificate);
    Tobogganing__V1__ClusterId id = cluster_id("k");
    expect_ok(f, CALL(f, "GetCluster", &id, cluster, &got));
    assert_string_equal(got->name, request.name);
    assert_string_equal(got->region, "eü");
    assert_string_equal(got->datacenter, "fra1");
    assert_string_equal(got->headend_url, request.headend_url);
    assert_string_equal(got->status, "active");
    assert_int_equal(got->created_unix_ms, added->cluster->created_unix_ms);
    assert_int_equal(got->registered_clients, 0);
    drop(got);
    drop(added);
    assert_int_equal(tob_directory_clusters(f->directory), 1);
    FAILS(f, "AddCluster", &request, TOB_ALREADY_EXISTS, "cluster_id: is taken");
    request.cluster_id = request.name = (char *)""; // one is made
    expect_ok(f, CALL(f, "AddCluster", &request, add_cluster_response, &added));
    assert_int_equal(strncmp(added->cluster->cluster_id, "cl-", 3), 0);
    assert_string_equal(added->cluster->name, added->cluster->cluster_id);
    drop(added);
    id = cluster_id("nowhere");
    FAILS(f, "GetCluster", &id, TOB_NOT_FOUND, "cluster_id: no such cluster");
    FAILS(f, "RevokeCluster", &id, TOB_NOT_FOUND, "cluster_id: no such cluster");
    FAILS(f, "DeleteCluster", &id, TOB_NOT_FOUND, "cluster_id: no such cluster");
    FAILS(f, "HeartbeatCluster", &id, TOB_NOT_FOUND, "cluster_id: no such cluster");
    expect_audit(f, "k", "admin token b20ec6b0", "cluster.add");
}

static void a_clusters_certificate_is_for_its_id_and_its_urls_host(void **state) {
    fixture *f = *state;
    static const struct {
        const char *url, *error;
    } urls[] = {{"https://vpn.example.com:51820/path?q", NULL},
                {"vpn.example.com:443", NULL},
                {"https://user:pw@[2001:db8::1]:443", NULL},
                {"192.0.2.1", NULL},
                {"", NULL},
                {"https://:443", NULL},
                {"https://no_name:1", "names"}};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        Tobogganing__V1__CertificateOrder order = TOBOGGANING__V1__CERTIFICATE_ORDER__INIT;
        Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
        Tobogganing__V1__AddClusterResponse *added = NULL;
        char id[8];
        snprintf(id, sizeof(id), "k%zu", i);
        request.cluster_id = id;
        request.headend_url = (char *)urls[i].url;
        request.certificate = &order;
        tob_error err = CALL(f, "AddCluster", &request, add_cluster_response, &added);
        if (urls[i].error) {
            assert_int_equal(err, TOB_INVALID);
            assert_non_null(strstr(f->failure.message, urls[i].error));
            Tobogganing__V1__ClusterId same = cluster_id(id);
            FAILS(f, "GetCluster", &same, TOB_NOT_FOUND, "cluster_id: no such cluster");
            continue;
        }
        expect_ok(f, err);
        assert_string_equal(added->certificate->certificate->subject, id);
        assert_string_equal(added->certificate->certificate->type, "headend");
        drop(added);
    }
}

static void an_update_changes_what_the_mask_names_and_its_headends_labels(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h", "k");
    Tobogganing__V1__UpdateClusterRequest request = TOBOGGANING__V1__UPDATE_CLUSTER_REQUEST__INIT;
    Tobogganing__V1__Cluster *cluster = NULL;
    char *mask[] = {(char *)"region", (char *)"headend_url"};
    request.cluster_id = (char *)"k";
    request.name = (char *)"not named";
    request.region = (char *)"us";
    request.headend_url = (char *)"https://other.example";
    request.update_mask = mask;
    request.n_update_mask = 2;
    expect_ok(f, CALL(f, "UpdateCluster", &request, cluster, &cluster));
    assert_string_equal(cluster->name, "k");
    assert_string_equal(cluster->region, "us");
    assert_string_equal(cluster->datacenter, "fra1");
    assert_string_equal(cluster->headend_url, "https://other.example");
    drop(cluster);
    tob_directory_read_lock(f->directory);
    assert_string_equal(tob_directory_find_headend(f->directory, "h", 1)->region, "us");
    tob_directory_read_unlock(f->directory);
    request.cluster_id = (char *)"nowhere";
    FAILS(f, "UpdateCluster", &request, TOB_NOT_FOUND, "cluster_id: no such cluster");
    request.cluster_id = (char *)"k";
    request.headend_url = (char *)"a b";
    FAILS(f, "UpdateCluster", &request, TOB_INVALID,
          "headend_url: must be at most 1024 ASCII characters without spaces");
    mask[0] = (char *)"cluster_id";
    FAILS(f, "UpdateCluster", &request, TOB_INVALID,
          "update_mask[0]: cluster_id is not a field that can be changed");
}

static void a_heartbeat_says_that_a_cluster_is_alive_and_how_large_it_is(void **state) {
    fixture *f = *state;
    Tobogganing__V1__Cluster *cluster = NULL;
    add_cluster_ok(f, "k");
    drop(add_client_ok(f, "c", "k"));
    uint64_t before = tob_clock_unix_ms();
    expect_ok(f, heartbeat(f, "k", 1234, &cluster));
    assert_int_equal(cluster->client_count, 1234);
    assert_int_equal(cluster->registered_clients, 1);
    assert_in_range(cluster->heartbeat_unix_ms, before, tob_clock_unix_ms());
    assert_string_equal(cluster->status, "active");
    drop(cluster);
    expect_ok(f, heartbeat(f, "k", INT64_MAX, &cluster));
    assert_true(cluster->client_count == INT64_MAX);
    drop(cluster);
    void *none = NULL;
    assert_int_equal(heartbeat(f, "k", (uint64_t)INT64_MAX + 1, (Tobogganing__V1__Cluster **)&none),
                     TOB_INVALID);
    expect_audit(f, "k", "admin token b20ec6b0", "cluster.add"); // beats are no acts
}

static void a_headend_beats_for_its_own_cluster_only(void **state) {
    fixture *f = *state;
    Tobogganing__V1__Cluster *cluster = NULL;
    add_cluster_ok(f, "k");
    add_cluster_ok(f, "other");
    add_headend_ok(f, "h", "k");
    add_headend_ok(f, "alone", "");
    char *tokens[] = {token_ok(f, "h"), token_ok(f, "alone")};
    tob_rpc_client *admin = f->client;
    f->client = client_with(f, tokens[0]);
    expect_ok(f, heartbeat(f, "k", 7, &cluster));
    assert_int_equal(cluster->client_count, 7);
    drop(cluster);
    Tobogganing__V1__ClusterId other = cluster_id("other"), empty = cluster_id("");
    FAILS(f, "HeartbeatCluster", &other, TOB_PERMISSION_DENIED,
          "cluster_id: the token is not of a headend of this cluster");
    assert_int_equal(attempts(f, "jwt", "success"), 2);
    void *none = NULL;
    assert_int_equal(CALL(f, "GetCluster", &other, cluster, &none), TOB_UNAUTHENTICATED);
    tob_rpc_client_free(f->client);
    f->client = client_with(f, tokens[1]);
    FAILS(f, "HeartbeatCluster", &empty, TOB_INVALID,
          "cluster_id: must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    FAILS(f, "HeartbeatCluster", &other, TOB_PERMISSION_DENIED,
          "cluster_id: the token is not of a headend of this cluster");
    tob_rpc_client_free(f->client);
    tokens[1][strlen(tokens[1]) - 2] ^= 1;
    f->client = client_with(f, tokens[1]);
    assert_int_equal(heartbeat(f, "k", 7, &cluster), TOB_UNAUTHENTICATED);
    assert_int_equal(attempts(f, "jwt", "failure"), 1);
    tob_rpc_client_free(f->client);
    f->client = admin;
    free(tokens[0]);
    free(tokens[1]);
}

static void a_revoked_cluster_takes_no_clients_beats_or_tokens_and_its_clients_stay(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h", "k");
    Tobogganing__V1__AddClientResponse *client = add_client_ok(f, "c", "k");
    char *token = token_ok(f, "h");
    Tobogganing__V1__ClusterId id = cluster_id("k");
    Tobogganing__V1__Cluster *cluster = NULL;
    uint64_t first = 0;
    for (int i = 0; i < 2; i++) {
        expect_ok(f, CALL(f, "RevokeCluster", &id, cluster, &cluster));
        assert_string_equal(cluster->status, "revoked");
        first = first ? first : cluster->revoked_unix_ms;
        assert_int_equal(cluster->revoked_unix_ms, first);
        drop(cluster);
    }
    assert_int_equal(tob_directory_clusters(f->directory), 0);
    assert_true(key_opens(f, "c", client->api_key));
    FAILS(f, "HeartbeatCluster", &id, TOB_PRECONDITION, "cluster_id: the cluster is revoked");
    Tobogganing__V1__IssueHeadendTokenRequest order = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    order.headend_id = (char *)"h";
    FAILS(f, "IssueHeadendToken", &order, TOB_PRECONDITION, "headend_id: its cluster is revoked");
    tob_rpc_client *admin = f->client;
    f->client = client_with(f, token);
    assert_int_equal(heartbeat(f, "k", 7, &cluster), TOB_UNAUTHENTICATED);
    tob_rpc_client_free(f->client);
    f->client = admin;
    free(token);
    drop(client);
}

static void a_cluster_is_deleted_when_it_is_empty(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    drop(add_client_ok(f, "c", "k"));
    Tobogganing__V1__ClusterId id = cluster_id("k");
    Tobogganing__V1__ClientId client = client_id("c");
    Tobogganing__V1__HeadendId headend = headend_id("h");
    void *none = NULL;
    FAILS(f, "DeleteCluster", &id, TOB_PRECONDITION, "cluster_id: clients or headends belong to it");
    expect_ok(f, CALL(f, "DeleteClient", &client, delete_response, &none));
    drop(none);
    add_headend_ok(f, "h", "k");
    FAILS(f, "DeleteCluster", &id, TOB_PRECONDITION, "cluster_id: clients or headends belong to it");
    expect_ok(f, CALL(f, "DeleteHeadend", &headend, delete_response, &none));
    drop(none);
    expect_ok(f, CALL(f, "DeleteCluster", &id, delete_response, &none));
    drop(none);
    assert_int_equal(tob_directory_clusters(f->directory), 0);
    FAILS(f, "GetCluster", &id, TOB_NOT_FOUND, "cluster_id: no such cluster");
}

static void clusters_are_listed_in_pages(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "b");
    add_cluster_ok(f, "a");
    add_cluster_ok(f, "c");
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    Tobogganing__V1__ListClustersResponse *page = NULL;
    request.page_size = 2;
    expect_ok(f, CALL(f, "ListClusters", &request, list_clusters_response, &page));
    assert_int_equal(page->n_clusters, 2);
    assert_string_equal(page->clusters[0]->cluster_id, "a");
    assert_string_equal(page->clusters[1]->datacenter, "fra1");
    assert_string_equal(page->next_page, "b");
    drop(page);
    request.page = (char *)"b";
    expect_ok(f, CALL(f, "ListClusters", &request, list_clusters_response, &page));
    assert_int_equal(page->n_clusters, 1);
    assert_string_equal(page->clusters[0]->cluster_id, "c");
    assert_string_equal(page->next_page, "");
    drop(page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_field_of_a_cluster_comes_back),
        TEST(a_clusters_certificate_is_for_its_id_and_its_urls_host),
        TEST(an_update_changes_what_the_mask_names_and_its_headends_labels),
        TEST(a_heartbeat_says_that_a_cluster_is_alive_and_how_large_it_is),
        TEST(a_headend_beats_for_its_own_cluster_only),
        TEST(a_revoked_cluster_takes_no_clients_beats_or_tokens_and_its_clients_stay),
        TEST(a_cluster_is_deleted_when_it_is_empty),
        TEST(clusters_are_listed_in_pages),
    };
    return RUN_ON_BOTH("cluster_methods", tests);
}
