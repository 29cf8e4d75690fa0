// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/committer.h"
#include "ingestd/registry_service.h"
#include "rpc/client.h"
#include "util/clock.h"

#define METHOD(name) "/tobogganing.v1.Registry/" name
#define TIMEOUT_MS   10000

typedef struct fixture {
    char dir[64];
    tob_registry *registry;
    tob_directory *directory;
    tob_jwt *jwt;
    tob_secrets *secrets;
    tob_process *process;
    tob_committer *committer;
    tob_registry_service *service;
    tob_rpc_server *server;
    tob_rpc_client *client;
    tob_rpc_failure failure;
    char url[64];
} fixture;

static tob_rpc_client *client_with(const fixture *f, const char *bearer) {
    tob_rpc_client *client = NULL;
    tob_rpc_client_options options = {.urls = f->url, .bearer = bearer, .max_in_flight = 256};
    assert_int_equal(tob_rpc_client_new(&options, &client), TOB_OK);
    return client;
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    *state = f;
    snprintf(f->dir, sizeof(f->dir), "%s/tob-service-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    char path[128], url[144], problem[TOB_JWT_PROBLEM_BYTES];
    tob_registry_problem why = {""};
    snprintf(path, sizeof(path), "%s/issuer-key.jwk", f->dir);
    snprintf(url, sizeof(url), "sqlite:%s/registry.db", f->dir);
    assert_int_equal(tob_registry_open(url, &f->registry, &why), TOB_OK);
    assert_int_equal(tob_directory_new(&f->directory), TOB_OK);
    assert_int_equal(tob_jwt_new(&(tob_jwt_options){.issuer_key_path = path}, problem, &f->jwt), TOB_OK);
    assert_int_equal(tob_secrets_new("admin-token,another-one", NULL, &f->secrets), TOB_OK);
    assert_int_equal(tob_process_new("ingestd", &f->process), TOB_OK);
    char journal[128];
    tob_store_recovery recovery;
    tob_journal_problem journal_problem;
    bool bus_failed = false;
    snprintf(journal, sizeof(journal), "%s/journal", f->dir);
    tob_committer_options committer = {.store = {.journal = {.dir = journal,
                                                             .segment_bytes = TOB_JOURNAL_MIN_SEGMENT}},
                                       .bus_url = "tcp://127.0.0.1:0",
                                       .instance = 1,
                                       .report_interval_ms = 60000,
                                       .directory = f->directory,
                                       .process = f->process};
    assert_int_equal(tob_committer_new(&committer, &f->committer, &recovery, &journal_problem, &bus_failed),
                     TOB_OK);
    assert_int_equal(tob_committer_start(f->committer), TOB_OK);
    tob_registry_service_options options = {.committer = f->committer,
                                            .registry = f->registry,
                                            .directory = f->directory,
                                            .jwt = f->jwt,
                                            .admin_secrets = f->secrets,
                                            .process = f->process};
    assert_int_equal(tob_registry_service_new(&options, &f->service), TOB_OK);
    tob_rpc_server_options server = {.url = "tcp://127.0.0.1:0",
                                     .contexts = 128,
                                     .max_connections = 16,
                                     .max_message_bytes = 4u << 20,
                                     .max_inflated_bytes = 16u << 20,
                                     .max_arena_bytes = 64u << 20};
    assert_int_equal(tob_rpc_server_new(&server, &f->server), TOB_OK);
    assert_int_equal(tob_registry_service_register(f->service, f->server), TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->server), TOB_OK);
    snprintf(f->url, sizeof(f->url), "tcp://127.0.0.1:%u", tob_rpc_server_port(f->server));
    f->client = client_with(f, "another-one");
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_rpc_client_stop(f->client);
    tob_rpc_client_free(f->client);
    tob_rpc_server_stop(f->server);
    tob_registry_service_stop(f->service);
    tob_committer_stop(f->committer);
    tob_rpc_server_free(f->server);
    tob_registry_service_free(f->service);
    tob_committer_free(f->committer);
    tob_registry_close(f->registry);
    tob_directory_free(f->directory);
    tob_jwt_free(f->jwt);
    tob_secrets_free(f->secrets);
    tob_process_free(f->process);
    int failed = nftw(f->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return failed;
}

// Calls as the fixture's client; the answer in *ret is freed by the next statement of the test.
static tob_error call(fixture *f, const char *method, const void *request,
                      const ProtobufCMessageDescriptor *type, void *ret) {
    ProtobufCMessage *answer = NULL;
    memset(&f->failure, 0, sizeof(f->failure));
    tob_error err =
        tob_rpc_client_call_wait(f->client, method, request, type, TIMEOUT_MS, &answer, &f->failure);
    memcpy(ret, &answer, sizeof(answer));
    return err;
}

static void drop(void *message) {
    protobuf_c_message_free_unpacked(message, NULL);
}

static Tobogganing__V1__AddClientResponse *add_client_ok(fixture *f, const char *id, const char *cluster_id) {
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *response = NULL;
    request.client_id = (char *)id;
    request.cluster_id = (char *)cluster_id;
    tob_error err =
        call(f, METHOD("AddClient"), &request, &tobogganing__v1__add_client_response__descriptor, &response);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), f->failure.message);
    }
    return response;
}

static void add_cluster_ok(fixture *f, const char *id) {
    Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    Tobogganing__V1__Cluster *response = NULL;
    request.cluster_id = (char *)id;
    request.region = (char *)"eu";
    request.datacenter = (char *)"fra1";
    request.headend_url = (char *)"https://vpn.example.com:51820";
    assert_int_equal(call(f, METHOD("AddCluster"), &request, &tobogganing__v1__cluster__descriptor,
                          &response),
                     TOB_OK);
    assert_string_equal(response->cluster_id, id);
    assert_string_equal(response->name, id);
    assert_string_equal(response->region, "eu");
    assert_string_equal(response->headend_url, request.headend_url);
    assert_true(response->created_unix_ms > UINT64_C(1600000000000));
    drop(response);
}

static void add_headend_ok(fixture *f, const char *id, const char *cluster_id) {
    Tobogganing__V1__AddHeadendRequest request = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    Tobogganing__V1__Headend *response = NULL;
    request.headend_id = (char *)id;
    request.cluster_id = (char *)cluster_id;
    assert_int_equal(call(f, METHOD("AddHeadend"), &request, &tobogganing__v1__headend__descriptor,
                          &response),
                     TOB_OK);
    assert_string_equal(response->headend_id, id);
    assert_string_equal(response->name, id);
    drop(response);
}

static bool key_opens(fixture *f, const char *id, const char *key) {
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(key, strlen(key), hash);
    tob_directory_read_lock(f->directory);
    const tob_directory_client *client = tob_directory_find_client(f->directory, id, strlen(id));
    bool opens = client && !client->revoked && tob_equal_constant_time(client->key_hash, hash, sizeof(hash));
    tob_directory_read_unlock(f->directory);
    return opens;
}

static void an_added_client_is_known_with_its_key_at_once(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "laptop-1", "");
    assert_string_equal(a->client->client_id, "laptop-1");
    assert_string_equal(a->client->name, "laptop-1");
    assert_string_equal(a->client->type, "native");
    assert_int_equal(a->client->revoked_unix_ms, 0);
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

static void the_key_itself_is_stored_nowhere(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    static const char *const names[] = {"registry.db", "registry.db-wal"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        static char bytes[4 << 20];
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t n = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        assert_null(memmem(bytes, n, a->api_key + 5, 20));
    }
    drop(a);
}

static void a_revoked_key_is_refused_as_soon_as_the_answer_is_there(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    assert_true(key_opens(f, "x", a->api_key));
    Tobogganing__V1__RevokeClientRequest request = TOBOGGANING__V1__REVOKE_CLIENT_REQUEST__INIT;
    request.client_id = (char *)"x";
    uint64_t first = 0;
    for (int i = 0; i < 2; i++) {
        Tobogganing__V1__Client *revoked = NULL;
        assert_int_equal(call(f, METHOD("RevokeClient"), &request, &tobogganing__v1__client__descriptor,
                              &revoked),
                         TOB_OK);
        assert_string_equal(revoked->client_id, "x");
        assert_true(revoked->revoked_unix_ms > 0);
        first = first ? first : revoked->revoked_unix_ms;
        assert_int_equal(revoked->revoked_unix_ms, first);
        drop(revoked);
        assert_false(key_opens(f, "x", a->api_key));
        assert_int_equal(tob_directory_clients(f->directory), 0);
    }
    drop(a);
    Tobogganing__V1__Client *none = NULL;
    request.client_id = (char *)"y";
    assert_int_equal(call(f, METHOD("RevokeClient"), &request, &tobogganing__v1__client__descriptor, &none),
                     TOB_NOT_FOUND);
    assert_string_equal(f->failure.message, "client_id: no such client");
}

static bool is_known(fixture *f, const char *id) {
    tob_directory_read_lock(f->directory);
    bool known = tob_directory_find_client(f->directory, id, strlen(id)) ||
                 tob_directory_find_headend(f->directory, id, strlen(id));
    tob_directory_read_unlock(f->directory);
    return known;
}

static void who_is_deleted_is_unknown_as_soon_as_the_answer_is_there_and_may_come_back(void **state) {
    fixture *f = *state;
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    Tobogganing__V1__DeleteClientRequest request = TOBOGGANING__V1__DELETE_CLIENT_REQUEST__INIT;
    Tobogganing__V1__DeleteClientResponse *none = NULL;
    request.client_id = (char *)"x";
    assert_int_equal(call(f, METHOD("DeleteClient"), &request,
                          &tobogganing__v1__delete_client_response__descriptor, &none),
                     TOB_OK);
    drop(none);
    assert_false(is_known(f, "x"));
    assert_int_equal(tob_directory_clients(f->directory), 0);
    assert_int_equal(call(f, METHOD("DeleteClient"), &request,
                          &tobogganing__v1__delete_client_response__descriptor, &none),
                     TOB_NOT_FOUND);
    assert_string_equal(f->failure.message, "client_id: no such client");
    Tobogganing__V1__AddClientResponse *b = add_client_ok(f, "x", "");
    assert_false(key_opens(f, "x", a->api_key));
    assert_true(key_opens(f, "x", b->api_key));
    drop(a);
    drop(b);

    Tobogganing__V1__DeleteHeadendRequest headend = TOBOGGANING__V1__DELETE_HEADEND_REQUEST__INIT;
    Tobogganing__V1__DeleteHeadendResponse *nothing = NULL;
    add_headend_ok(f, "h", "");
    headend.headend_id = (char *)"h";
    assert_int_equal(call(f, METHOD("DeleteHeadend"), &headend,
                          &tobogganing__v1__delete_headend_response__descriptor, &nothing),
                     TOB_OK);
    drop(nothing);
    assert_false(is_known(f, "h"));
    assert_int_equal(tob_directory_headends(f->directory), 0);
    assert_int_equal(call(f, METHOD("DeleteHeadend"), &headend,
                          &tobogganing__v1__delete_headend_response__descriptor, &nothing),
                     TOB_NOT_FOUND);
    assert_string_equal(f->failure.message, "headend_id: no such headend");
    headend.headend_id = (char *)"a b";
    assert_int_equal(call(f, METHOD("DeleteHeadend"), &headend,
                          &tobogganing__v1__delete_headend_response__descriptor, &nothing),
                     TOB_INVALID);
    add_headend_ok(f, "h", "");
}

static void headends_take_region_and_datacenter_from_their_cluster(void **state) {
    fixture *f = *state;
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h1", "k");
    add_headend_ok(f, "h2", "");
    tob_directory_read_lock(f->directory);
    const tob_directory_headend *h1 = tob_directory_find_headend(f->directory, "h1", 2);
    assert_string_equal(h1->region, "eu");
    assert_string_equal(h1->datacenter, "fra1");
    assert_string_equal(tob_directory_find_headend(f->directory, "h2", 2)->region, "");
    tob_directory_read_unlock(f->directory);
    assert_int_equal(tob_directory_clusters(f->directory), 1);
    assert_int_equal(tob_directory_headends(f->directory), 2);
}

static void a_headends_token_verifies_as_its_own(void **state) {
    fixture *f = *state;
    add_headend_ok(f, "h1", "");
    Tobogganing__V1__IssueHeadendTokenRequest request = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    Tobogganing__V1__IssueHeadendTokenResponse *response = NULL;
    static const uint64_t asked[] = {0, 1, TOB_REGISTRY_MAX_TTL_S};
    static const uint64_t given[] = {UINT64_C(30) * 86400, 1, TOB_REGISTRY_MAX_TTL_S};
    request.headend_id = (char *)"h1";
    for (size_t i = 0; i < 3; i++) {
        uint64_t now = tob_clock_unix_ms() / 1000;
        request.ttl_s = asked[i];
        assert_int_equal(call(f, METHOD("IssueHeadendToken"), &request,
                              &tobogganing__v1__issue_headend_token_response__descriptor, &response),
                         TOB_OK);
        assert_in_range(response->expires_unix_s, now + given[i], now + given[i] + 10);
        char sub[TOB_MAX_ID_BYTES + 1] = "";
        const char *reason = NULL;
        assert_int_equal(tob_jwt_verify(f->jwt, response->token, strlen(response->token), now, sub, &reason),
                         TOB_OK);
        assert_string_equal(sub, "h1");
        drop(response);
    }
    request.ttl_s = TOB_REGISTRY_MAX_TTL_S + 1;
    assert_int_equal(call(f, METHOD("IssueHeadendToken"), &request,
                          &tobogganing__v1__issue_headend_token_response__descriptor, &response),
                     TOB_INVALID);
    assert_non_null(strstr(f->failure.message, "ttl_s: must be at most"));
    request.ttl_s = 0;
    request.headend_id = (char *)"h2";
    assert_int_equal(call(f, METHOD("IssueHeadendToken"), &request,
                          &tobogganing__v1__issue_headend_token_response__descriptor, &response),
                     TOB_NOT_FOUND);
    assert_string_equal(f->failure.message, "headend_id: no such headend");
}

static void taken_ids_and_missing_clusters_are_refused_with_the_field(void **state) {
    fixture *f = *state;
    drop(add_client_ok(f, "x", ""));
    void *none = NULL;
    Tobogganing__V1__AddClientRequest client = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    client.client_id = (char *)"x";
    assert_int_equal(call(f, METHOD("AddClient"), &client, &tobogganing__v1__add_client_response__descriptor,
                          &none),
                     TOB_ALREADY_EXISTS);
    assert_string_equal(f->failure.message, "client_id: is taken");
    client.client_id = (char *)"y";
    client.cluster_id = (char *)"nowhere";
    assert_int_equal(call(f, METHOD("AddClient"), &client, &tobogganing__v1__add_client_response__descriptor,
                          &none),
                     TOB_NOT_FOUND);
    assert_string_equal(f->failure.message, "cluster_id: no such cluster");
    Tobogganing__V1__AddHeadendRequest headend = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    headend.cluster_id = (char *)"nowhere";
    assert_int_equal(call(f, METHOD("AddHeadend"), &headend, &tobogganing__v1__headend__descriptor, &none),
                     TOB_NOT_FOUND);
    assert_int_equal(tob_directory_clients(f->directory), 1);
    assert_int_equal(tob_directory_headends(f->directory), 0);
}

static void fields_out_of_their_ranges_are_refused_by_name(void **state) {
    fixture *f = *state;
    char id129[130], name257[258], url1025[1026];
    memset(id129, 'a', 129);
    memset(name257, 'a', 257);
    memset(url1025, 'a', 1025);
    id129[129] = name257[257] = url1025[1025] = 0;
    const struct {
        const char *client_id, *name, *type, *cluster_id, *field;
    } clients[] = {
        {id129, "", "", "", "client_id: "},  {"a b", "", "", "", "client_id: "},
        {"ä", "", "", "", "client_id: "},    {"a/b", "", "", "", "client_id: "},
        {"", name257, "", "", "name: "},     {"", "a\nb", "", "", "name: "},
        {"", "", "Native", "", "type: "},    {"", "", "windows", "", "type: "},
        {"", "", "", id129, "cluster_id: "}, {"", "", "", "k k", "cluster_id: "},
    };
    void *none = NULL;
    for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
        Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
        request.client_id = (char *)clients[i].client_id;
        request.name = (char *)clients[i].name;
        request.type = (char *)clients[i].type;
        request.cluster_id = (char *)clients[i].cluster_id;
        assert_int_equal(call(f, METHOD("AddClient"), &request,
                              &tobogganing__v1__add_client_response__descriptor, &none),
                         TOB_INVALID);
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
        assert_int_equal(call(f, METHOD("AddCluster"), &request, &tobogganing__v1__cluster__descriptor,
                              &none),
                         TOB_INVALID);
        assert_int_equal(strncmp(f->failure.message, clusters[i].field, strlen(clusters[i].field)), 0);
    }
    Tobogganing__V1__AddHeadendRequest headend = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    headend.headend_id = id129;
    assert_int_equal(call(f, METHOD("AddHeadend"), &headend, &tobogganing__v1__headend__descriptor, &none),
                     TOB_INVALID);
    Tobogganing__V1__RevokeClientRequest revoke = TOBOGGANING__V1__REVOKE_CLIENT_REQUEST__INIT;
    assert_int_equal(call(f, METHOD("RevokeClient"), &revoke, &tobogganing__v1__client__descriptor, &none),
                     TOB_INVALID);
    Tobogganing__V1__ListRequest list = TOBOGGANING__V1__LIST_REQUEST__INIT;
    list.page_size = TOB_REGISTRY_MAX_PAGE_ROWS + 1;
    assert_int_equal(call(f, METHOD("ListClients"), &list,
                          &tobogganing__v1__list_clients_response__descriptor, &none),
                     TOB_INVALID);
    assert_string_equal(f->failure.message, "page_size: must be at most 10000");
    // At the edges, they are taken.
    id129[128] = name257[256] = url1025[1024] = 0;
    Tobogganing__V1__AddClusterRequest cluster = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    cluster.cluster_id = id129;
    cluster.name = cluster.region = cluster.datacenter = name257;
    cluster.headend_url = url1025;
    assert_int_equal(call(f, METHOD("AddCluster"), &cluster, &tobogganing__v1__cluster__descriptor, &none),
                     TOB_OK);
    drop(none);
    Tobogganing__V1__AddClientRequest client = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    client.client_id = client.cluster_id = id129;
    client.name = name257;
    client.type = (char *)"mobile";
    assert_int_equal(call(f, METHOD("AddClient"), &client, &tobogganing__v1__add_client_response__descriptor,
                          &none),
                     TOB_OK);
    drop(none);
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
            assert_int_equal(call(f, METHOD("ListClients"), &request,
                                  &tobogganing__v1__list_clients_response__descriptor, &response),
                             TOB_OK);
            for (size_t row = 0; row < response->n_clients; row++, rows++) {
                char id[16];
                snprintf(id, sizeof(id), "c%02d", rows);
                assert_string_equal(response->clients[row]->client_id, id);
                assert_string_equal(response->clients[row]->type, "native");
            }
            snprintf(next, sizeof(next), "%s", response->next_page);
            drop(response);
            seen_pages++;
        } while (*next);
        assert_int_equal(rows, COUNT);
        assert_int_equal(seen_pages, pages[i]);
    }
    add_cluster_ok(f, "k");
    add_headend_ok(f, "h", "k");
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    Tobogganing__V1__ListClustersResponse *clusters = NULL;
    assert_int_equal(call(f, METHOD("ListClusters"), &request,
                          &tobogganing__v1__list_clusters_response__descriptor, &clusters),
                     TOB_OK);
    assert_int_equal(clusters->n_clusters, 1);
    assert_string_equal(clusters->clusters[0]->datacenter, "fra1");
    drop(clusters);
    Tobogganing__V1__ListHeadendsResponse *headends = NULL;
    assert_int_equal(call(f, METHOD("ListHeadends"), &request,
                          &tobogganing__v1__list_headends_response__descriptor, &headends),
                     TOB_OK);
    assert_int_equal(headends->n_headends, 1);
    assert_string_equal(headends->headends[0]->cluster_id, "k");
    drop(headends);
}

static uint64_t attempts(fixture *f, const char *result) {
    return tob_counter_value(
        tob_process_counter(f->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS,
                            "admin", result, NULL));
}

static void every_method_needs_the_admin_token_and_attempts_are_counted(void **state) {
    fixture *f = *state;
    static const char *const methods[] = {METHOD("AddCluster"),   METHOD("ListClusters"),
                                          METHOD("AddClient"),    METHOD("ListClients"),
                                          METHOD("RevokeClient"), METHOD("AddHeadend"),
                                          METHOD("ListHeadends"), METHOD("IssueHeadendToken"),
                                          METHOD("DeleteClient"), METHOD("DeleteHeadend")};
    enum { METHODS = sizeof(methods) / sizeof(methods[0]) };
    static const char *const tokens[] = {NULL, "wrong", "admin-token,another-one", "admin-toke"};
    Tobogganing__V1__ListRequest empty =
        TOBOGGANING__V1__LIST_REQUEST__INIT; // all fields empty: fits every method
    tob_rpc_client *admin = f->client;
    for (size_t i = 0; i < 4; i++) {
        f->client = client_with(f, tokens[i]);
        for (size_t m = 0; m < METHODS; m++) {
            void *none = NULL;
            assert_int_equal(call(f, methods[m], &empty, &tobogganing__v1__list_clients_response__descriptor,
                                  &none),
                             TOB_UNAUTHENTICATED);
            assert_non_null(strstr(f->failure.message, "ADMIN_TOKEN"));
        }
        tob_rpc_client_stop(f->client);
        tob_rpc_client_free(f->client);
    }
    f->client = admin;
    assert_int_equal(attempts(f, "failure"), 4 * METHODS);
    assert_int_equal(attempts(f, "success"), 0);
    assert_int_equal(tob_directory_clients(f->directory) + tob_directory_clusters(f->directory), 0);
    drop(add_client_ok(f, "x", ""));
    assert_int_equal(attempts(f, "success"), 1);
}

// Calls that come while the worker is held up.
typedef struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ok, busy, other, retry_said;
} tally;

static void count_result(void *user, const tob_rpc_result *result) {
    tally *t = user;
    pthread_mutex_lock(&t->lock);
    t->ok += result->error == TOB_OK;
    t->busy += result->error == TOB_BUSY;
    t->other += result->error != TOB_OK && result->error != TOB_BUSY;
    t->retry_said += result->error == TOB_BUSY && result->retry_after_ms == TOB_REGISTRY_RETRY_MS;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void wait_for(tally *t, int results) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += TIMEOUT_MS / 1000;
    pthread_mutex_lock(&t->lock);
    while (t->ok + t->busy + t->other < results) {
        if (pthread_cond_timedwait(&t->changed, &t->lock, &deadline)) {
            fail_msg("%d ok, %d busy, %d other of %d", t->ok, t->busy, t->other, results);
        }
    }
    pthread_mutex_unlock(&t->lock);
}

static void calls_beyond_the_queue_are_answered_busy_and_the_others_are_carried_out(void **state) {
    fixture *f = *state;
    enum { CALLS = TOB_REGISTRY_QUEUE_MAX + 30 };
    tally t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    drop(add_client_ok(f, "first", "")); // connected
    // A writer of the directory waits for its readers: so does the worker.
    tob_directory_read_lock(f->directory);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(tob_rpc_client_call(f->client, METHOD("AddClient"), "", 0, TIMEOUT_MS, count_result,
                                             &t),
                         TOB_OK);
    }
    wait_for(&t, CALLS - TOB_REGISTRY_QUEUE_MAX - 1); // one is being carried out
    tob_directory_read_unlock(f->directory);
    wait_for(&t, CALLS);
    assert_in_range(t.busy, CALLS - TOB_REGISTRY_QUEUE_MAX - 1, CALLS - TOB_REGISTRY_QUEUE_MAX);
    assert_int_equal(t.busy + t.ok, CALLS);
    assert_int_equal(t.retry_said, t.busy);
    assert_int_equal(tob_directory_clients(f->directory), 1 + t.ok);
}

static void wait_for_attempts(fixture *f, uint64_t n) {
    uint64_t deadline = tob_clock_monotonic_ms() + TIMEOUT_MS;
    while (attempts(f, "success") < n && tob_clock_monotonic_ms() < deadline) {
        sched_yield();
    }
    assert_int_equal(attempts(f, "success"), n);
}

static void a_call_whose_time_is_over_before_its_turn_changes_nothing(void **state) {
    fixture *f = *state;
    enum { SLOW = 4 };
    tally slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tally late = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    drop(add_client_ok(f, "first", ""));
    tob_directory_read_lock(f->directory);
    for (int i = 0; i < SLOW; i++) {
        assert_int_equal(tob_rpc_client_call(f->client, METHOD("AddClient"), "", 0, TIMEOUT_MS, count_result,
                                             &slow),
                         TOB_OK);
    }
    wait_for_attempts(f, 1 + SLOW); // so the late one comes behind them
    enum { LATE_MS = 50 };
    assert_int_equal(tob_rpc_client_call(f->client, METHOD("AddClient"), "", 0, LATE_MS, count_result, &late),
                     TOB_OK);
    wait_for_attempts(f, 2 + SLOW);
    uint64_t over = tob_clock_monotonic_ms() + LATE_MS; // at the server too
    wait_for(&late, 1);
    assert_int_equal(late.other, 1);
    while (tob_clock_monotonic_ms() <= over) {
        sched_yield();
    }
    tob_directory_read_unlock(f->directory);
    wait_for(&slow, SLOW);
    drop(add_client_ok(f, "last", "")); // behind the late one
    assert_int_equal(tob_directory_clients(f->directory), 2 + SLOW);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_added_client_is_known_with_its_key_at_once),
        TEST(the_key_itself_is_stored_nowhere),
        TEST(a_revoked_key_is_refused_as_soon_as_the_answer_is_there),
        TEST(who_is_deleted_is_unknown_as_soon_as_the_answer_is_there_and_may_come_back),
        TEST(headends_take_region_and_datacenter_from_their_cluster),
        TEST(a_headends_token_verifies_as_its_own),
        TEST(taken_ids_and_missing_clusters_are_refused_with_the_field),
        TEST(fields_out_of_their_ranges_are_refused_by_name),
        TEST(pages_list_everything_once_in_order),
        TEST(every_method_needs_the_admin_token_and_attempts_are_counted),
        TEST(calls_beyond_the_queue_are_answered_busy_and_the_others_are_carried_out),
        TEST(a_call_whose_time_is_over_before_its_turn_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
