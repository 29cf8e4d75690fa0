#include <libpq-fe.h>
#include <semaphore.h>
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

// ---- waiting

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

static void add_some(fixture *f, int n, uint32_t timeout_ms, tally *t) {
    for (int i = 0; i < n; i++) {
        assert_int_equal(tob_rpc_client_call(f->client, METHOD("AddClient"), "", 0, timeout_ms, count_result,
                                             t),
                         TOB_OK);
    }
}

static void calls_beyond_the_queue_are_answered_busy_and_the_others_are_carried_out(void **state) {
    fixture *f = *state;
    enum { CALLS = TOB_REGISTRY_QUEUE_MAX + 30 };
    tally t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    drop(add_client_ok(f, "first", "")); // connected
    // A writer of the directory waits for its readers: so does the worker.
    tob_directory_read_lock(f->directory);
    add_some(f, CALLS, TIMEOUT_MS, &t);
    wait_for(&t, CALLS - TOB_REGISTRY_QUEUE_MAX - 1); // one is being carried out
    tob_directory_read_unlock(f->directory);
    wait_for(&t, CALLS);
    assert_in_range(t.busy, CALLS - TOB_REGISTRY_QUEUE_MAX - 1, CALLS - TOB_REGISTRY_QUEUE_MAX);
    assert_int_equal(t.busy + t.ok, CALLS);
    assert_int_equal(t.retry_said, t.busy);
    assert_int_equal(tob_directory_clients(f->directory), 1 + t.ok);
}

static void who_has_no_credential_gets_half_of_the_queue(void **state) {
    fixture *f = *state;
    enum { HALF = TOB_REGISTRY_QUEUE_MAX / 2, CALLS = HALF + 20 };
    tally anybody = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tally admin = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    drop(add_client_ok(f, "first", ""));
    tob_directory_read_lock(f->directory);
    add_some(f, 2, TIMEOUT_MS, &admin); // one holds the worker up
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(tob_rpc_client_call(f->client, "/tobogganing.v1.Certificates/GetAuthority", "", 0,
                                             TIMEOUT_MS, count_result, &anybody),
                         TOB_OK);
    }
    wait_for(&anybody, CALLS - HALF);
    add_some(f, HALF / 2, TIMEOUT_MS, &admin);
    tob_directory_read_unlock(f->directory);
    wait_for(&anybody, CALLS);
    wait_for(&admin, 2 + HALF / 2);
    assert_in_range(anybody.ok, HALF - 2, HALF);
    assert_int_equal(admin.ok, 2 + HALF / 2);
}

// Keeps the committer from working, and so the worker that waits for it.
typedef struct held {
    tob_committer *committer;
    sem_t go_on;
} held;

static void hold(const tob_committer_view *view, void *user) {
    held *h = user;
    (void)view;
    sem_wait(&h->go_on);
}

static void *hold_committer(void *user) {
    held *h = user;
    tob_committer_run(h->committer, hold, h);
    return NULL;
}

static void call_some(tob_rpc_client *client, const char *method, const ProtobufCMessage *request, int n,
                      tally *t) {
    uint8_t body[256];
    size_t len = protobuf_c_message_pack(request, body);
    for (int i = 0; i < n; i++) {
        assert_int_equal(tob_rpc_client_call(client, method, body, len, TIMEOUT_MS, count_result, t), TOB_OK);
    }
}

static void a_client_gets_half_of_the_queue_too(void **state) {
    fixture *f = *state;
    enum { HALF = TOB_REGISTRY_QUEUE_MAX / 2, CALLS = HALF + 20 };
    tally own = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tally admin = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    held h = {.committer = f->committer};
    pthread_t thread;
    Tobogganing__V1__AddClientResponse *ann = add_client_ok(f, "ann", ""), *ben = add_client_ok(f, "ben", "");
    Tobogganing__V1__RotateClientKeyRequest rotate = TOBOGGANING__V1__ROTATE_CLIENT_KEY_REQUEST__INIT;
    Tobogganing__V1__ClientId erase = TOBOGGANING__V1__CLIENT_ID__INIT;
    rotate.client_id = (char *)"ann";
    erase.client_id = (char *)"ben";
    tob_rpc_client *client = client_with(f, ann->api_key);
    sem_init(&h.go_on, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, hold_committer, &h), 0);
    call_some(f->client, METHOD("EraseClient"), &erase.base, 1, &admin); // holds the worker up
    call_some(client, METHOD("RotateClientKey"), &rotate.base, CALLS, &own);
    wait_for(&own, CALLS - HALF - 1);
    add_some(f, HALF / 2, TIMEOUT_MS, &admin);
    sem_post(&h.go_on);
    wait_for(&own, CALLS);
    wait_for(&admin, 1 + HALF / 2);
    assert_int_equal(admin.ok, 1 + HALF / 2);
    assert_int_equal(own.ok, 1); // and then its key was another
    pthread_join(thread, NULL);
    sem_destroy(&h.go_on);
    tob_rpc_client_free(client);
    drop(ann);
    drop(ben);
}

static void wait_for_attempts(fixture *f, uint64_t n) {
    uint64_t deadline = tob_clock_monotonic_ms() + TIMEOUT_MS;
    while (attempts(f, "admin", "success") < n && tob_clock_monotonic_ms() < deadline) {
        sched_yield();
    }
    assert_int_equal(attempts(f, "admin", "success"), n);
}

static void a_call_whose_time_is_over_before_its_turn_changes_nothing(void **state) {
    fixture *f = *state;
    enum { SLOW = 4, LATE_MS = 50 };
    tally slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tally late = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    drop(add_client_ok(f, "first", ""));
    tob_directory_read_lock(f->directory);
    add_some(f, SLOW, TIMEOUT_MS, &slow);
    wait_for_attempts(f, 1 + SLOW); // so the late one comes behind them
    add_some(f, 1, LATE_MS, &late);
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

static void a_service_that_has_stopped_still_answers(void **state) {
    fixture *f = *state;
    tob_registry_service_stop(f->service);
    Tobogganing__V1__ListRequest request = TOBOGGANING__V1__LIST_REQUEST__INIT;
    FAILS(f, "ListClients", &request, TOB_UNAVAILABLE, "the server is stopping");
    tob_registry_service_stop(f->service);
}

// ---- the database

static void what_another_process_changes_is_known_within_a_second_or_two(void **state) {
    fixture *f = *state;
    if (strncmp(f->database, "sqlite:", 7) == 0) {
        return; // the file is ours alone
    }
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    tob_test_postgresql_execute(
        f->database, "BEGIN; UPDATE registry_state SET change = change + 1;"
                     "UPDATE clients SET revoked_unix_ms = 1, change = (SELECT change FROM registry_state);"
                     "NOTIFY tobogganing_registry; COMMIT");
    uint64_t deadline = tob_clock_monotonic_ms() + TIMEOUT_MS, begun = tob_clock_monotonic_ms();
    while (key_opens(f, "x", a->api_key) && tob_clock_monotonic_ms() < deadline) {
        sched_yield();
    }
    assert_false(key_opens(f, "x", a->api_key));
    assert_true(tob_clock_monotonic_ms() - begun < 2000);
    drop(a);
}

static void while_the_database_is_away_changes_wait_and_keys_are_good(void **state) {
    fixture *f = *state;
    if (strncmp(f->database, "sqlite:", 7) == 0) {
        return; // it can't be away
    }
    Tobogganing__V1__AddClientResponse *a = add_client_ok(f, "x", "");
    Tobogganing__V1__ListRequest list = TOBOGGANING__V1__LIST_REQUEST__INIT;
    Tobogganing__V1__AddClientRequest add = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    void *none = NULL;
    tob_test_postgresql_control("stop");
    for (int i = 0; i < 5; i++) {
        uint64_t begun = tob_clock_monotonic_ms();
        assert_int_equal(CALL(f, "AddClient", &add, add_client_response, &none), TOB_UNAVAILABLE);
        assert_int_equal(f->failure.retry_after_ms, TOB_REGISTRY_RETRY_MS);
        assert_int_equal(CALL(f, "ListClients", &list, list_clients_response, &none), TOB_UNAVAILABLE);
        assert_true(tob_clock_monotonic_ms() - begun < 2000);
        assert_true(key_opens(f, "x", a->api_key));
    }
    assert_true(tob_registry_sync_away(f->sync));
    tob_test_postgresql_control("restart");
    uint64_t deadline = tob_clock_monotonic_ms() + TIMEOUT_MS;
    tob_error err = TOB_UNAVAILABLE;
    while (err == TOB_UNAVAILABLE && tob_clock_monotonic_ms() < deadline) {
        err = CALL(f, "ListClients", &list, list_clients_response, &none);
    }
    expect_ok(f, err);
    assert_int_equal(((Tobogganing__V1__ListClientsResponse *)none)->n_clients, 1);
    drop(none);
    assert_false(tob_registry_sync_away(f->sync));
    drop(add_client_ok(f, "y", ""));
    drop(a);
}

static void sql(PGconn *connection, const char *statement) {
    PGresult *result = PQexec(connection, statement);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail_msg("%s: %s", statement, PQerrorMessage(connection));
    }
    PQclear(result);
}

// Waits until somebody waits for a lock.
static void wait_for_waiting(PGconn *connection) {
    uint64_t deadline = tob_clock_monotonic_ms() + TIMEOUT_MS;
    bool waiting = false;
    while (!waiting && tob_clock_monotonic_ms() < deadline) {
        PGresult *result =
            PQexec(connection, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND "
                               "wait_event_type = 'Lock'");
        waiting = PQntuples(result) > 0;
        PQclear(result);
    }
    assert_true(waiting);
}

static void a_change_that_another_one_aborts_is_repeated_as_a_whole(void **state) {
    fixture *f = *state;
    if (strncmp(f->database, "sqlite:", 7) == 0) {
        return; // changes wait for each other
    }
    tally t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    uint8_t body[64];
    PGconn *other = PQconnectdb(f->database), *observer = PQconnectdb(f->database);
    add_cluster_ok(f, "k");
    request.client_id = (char *)"c";
    request.cluster_id = (char *)"k";
    size_t n = tobogganing__v1__add_client_request__pack(&request, body);
    sql(other, "BEGIN");
    sql(other, "UPDATE clusters SET client_count = 7 WHERE id = 'k'"); // as a heartbeat does
    assert_int_equal(tob_rpc_client_call(f->client, METHOD("AddClient"), body, n, TIMEOUT_MS, count_result,
                                         &t),
                     TOB_OK);
    wait_for_waiting(observer);
    sql(other,
        "UPDATE registry_state SET change = change"); // a deadlock: it ends the change, which has waited longer
    sql(other, "COMMIT");
    wait_for(&t, 1);
    assert_int_equal(t.ok, 1);
    assert_true(is_known(f, "c"));
    char *audit = audit_ok(f, "c");
    assert_string_equal(audit, "admin token b20ec6b0|127.0.0.1|client.add|c|k\n");
    free(audit);
    PQfinish(other);
    PQfinish(observer);
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
        TEST(calls_beyond_the_queue_are_answered_busy_and_the_others_are_carried_out),
        TEST(who_has_no_credential_gets_half_of_the_queue),
        TEST(a_client_gets_half_of_the_queue_too),
        TEST(a_call_whose_time_is_over_before_its_turn_changes_nothing),
        TEST(a_service_that_has_stopped_still_answers),
        TEST(what_another_process_changes_is_known_within_a_second_or_two),
        TEST(a_change_that_another_one_aborts_is_repeated_as_a_whole),
        TEST(while_the_database_is_away_changes_wait_and_keys_are_good),
    };
    return RUN_ON_BOTH("registry_service", tests);
}
