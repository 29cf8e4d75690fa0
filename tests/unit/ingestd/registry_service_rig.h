// What the tests of the registry's services share: the services behind an RPC server, over SQLite and over PostgreSQL.
#ifndef TOB_TESTS_REGISTRY_SERVICE_RIG_H
#define TOB_TESTS_REGISTRY_SERVICE_RIG_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/certificates.h"
#include "ingestd/committer.h"
#include "ingestd/registry_service.h"
#include "ingestd/signing_keys.h"
#include "rpc/client.h"
#include "tests/unit/ingestd/both_engines.h"
#include "tests/unit/remove.h"
#include "util/clock.h"

#define TIMEOUT_MS 20000

typedef struct fixture {
    char dir[64];
    char database[320];
    tob_registry *registry;
    tob_directory *directory;
    tob_registry_sync *sync;
    tob_jwt *jwt;
    tob_ca *ca;
    tob_revocations *revocations;
    tob_limiter *limiter;
    tob_credentials *credentials;
    tob_secrets *admin_secrets;
    tob_secrets *cluster_secrets;
    tob_process *process;
    tob_committer *committer;
    tob_registry_service *service;
    tob_rpc_server *server;
    tob_rpc_client *client;
    tob_rpc_failure failure;
    char url[64];
} fixture;

static inline tob_rpc_client *client_with(const fixture *f, const char *bearer) {
    tob_rpc_client *client = NULL;
    tob_rpc_client_options options = {.urls = f->url, .bearer = bearer, .max_in_flight = 256};
    assert_int_equal(tob_rpc_client_new(&options, &client), TOB_OK);
    return client;
}

static inline void rig_source_changed(void *committer, tob_source_kind kind, const char *id) {
    tob_committer_source_changed(committer, kind, id);
}

static inline void open_committer(fixture *f) {
    char journal[128];
    tob_store_recovery recovery;
    tob_journal_problem problem;
    bool bus_failed = false;
    snprintf(journal, sizeof(journal), "%s/journal", f->dir);
    tob_committer_options options = {.store = {.journal = {.dir = journal,
                                                           .segment_bytes = TOB_JOURNAL_MIN_SEGMENT}},
                                     .bus_url = "tcp://127.0.0.1:0",
                                     .instance = 1,
                                     .report_interval_ms = 60000,
                                     .directory = f->directory,
                                     .process = f->process};
    assert_int_equal(tob_committer_new(&options, &f->committer, &recovery, &problem, &bus_failed), TOB_OK);
    assert_int_equal(tob_committer_start(f->committer), TOB_OK);
}

static inline void open_identity(fixture *f) {
    char problem[TOB_JWT_PROBLEM_BYTES] = "";
    tob_ca_problem ca_problem = {""};
    uint64_t now_unix_ms = tob_clock_unix_ms();
    f->registry = open_registry(f->database);
    assert_int_equal(tob_directory_new(&f->directory), TOB_OK);
    assert_int_equal(tob_registry_sync_new(f->registry, f->directory, &f->sync), TOB_OK);
    assert_int_equal(tob_jwt_new(&(tob_jwt_options){.jwks_path = NULL}, problem, &f->jwt), TOB_OK);
    assert_int_equal(tob_signing_keys_open(f->registry, f->jwt, f->dir, now_unix_ms, problem), TOB_OK);
    assert_int_equal(tob_certificates_open(f->registry, "", "", now_unix_ms / 1000, &f->ca, &ca_problem),
                     TOB_OK);
    assert_int_equal(tob_revocations_new(f->registry, f->ca, &f->revocations), TOB_OK);
}

static inline void open_service(fixture *f) {
    tob_credentials_options credentials = {.directory = f->directory,
                                           .jwt = f->jwt,
                                           .limiter = f->limiter,
                                           .token_limiter = f->limiter,
                                           .process = f->process};
    assert_int_equal(tob_credentials_new(&credentials, &f->credentials), TOB_OK);
    tob_registry_sync_listen(f->sync, &(tob_registry_sync_listener){.source_changed = rig_source_changed,
                                                                    .user = f->committer});
    tob_registry_sync_listen(f->sync,
                             &(tob_registry_sync_listener){.signing_keys_changed = tob_signing_keys_changed,
                                                           .user = f->jwt});
    assert_int_equal(tob_registry_sync_run(f->sync), TOB_OK);
    tob_registry_service_options options = {.registry = f->registry,
                                            .sync = f->sync,
                                            .directory = f->directory,
                                            .committer = f->committer,
                                            .jwt = f->jwt,
                                            .ca = f->ca,
                                            .revocations = f->revocations,
                                            .limiter = f->limiter,
                                            .credentials = f->credentials,
                                            .admin_secrets = f->admin_secrets,
                                            .process = f->process};
    assert_int_equal(tob_registry_service_new(&options, &f->service), TOB_OK);
    tob_rpc_server_options server = {.url = "tcp://127.0.0.1:0",
                                     .contexts = 128,
                                     .max_connections = 16,
                                     .max_message_bytes = 4u << 20,
                                     .max_inflated_bytes = 16u << 20,
                                     .max_arena_bytes = 64u << 20,
                                     .forwarder_secrets = f->cluster_secrets};
    assert_int_equal(tob_rpc_server_new(&server, &f->server), TOB_OK);
    assert_int_equal(tob_registry_service_register(f->service, f->server), TOB_OK);
    assert_int_equal(tob_registry_service_start(f->service), TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->server), TOB_OK);
    snprintf(f->url, sizeof(f->url), "tcp://127.0.0.1:%u", tob_rpc_server_port(f->server));
}

// *state is the engine.
static inline int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->database, sizeof(f->database), "%s", tob_test_database(*state));
    *state = f;
    snprintf(f->dir, sizeof(f->dir), "%s/tob-service-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    assert_int_equal(tob_secrets_new("admin-token,another-one", NULL, &f->admin_secrets), TOB_OK);
    assert_int_equal(tob_secrets_new("cluster-token", NULL, &f->cluster_secrets), TOB_OK);
    assert_int_equal(tob_process_new("ingestd", &f->process), TOB_OK);
    assert_int_equal(tob_limiter_new(TOB_LIMITER_BURST, &f->limiter), TOB_OK);
    open_identity(f);
    open_committer(f);
    open_service(f);
    f->client = client_with(f, "another-one");
    return 0;
}

static inline int tear_down(void **state) {
    fixture *f = *state;
    tob_rpc_client_free(f->client);
    tob_rpc_server_stop(f->server);
    tob_registry_service_stop(f->service);
    tob_committer_stop(f->committer);
    tob_rpc_server_free(f->server);
    tob_registry_service_free(f->service);
    tob_committer_free(f->committer);
    tob_credentials_free(f->credentials);
    tob_limiter_free(f->limiter);
    tob_revocations_free(f->revocations);
    tob_ca_free(f->ca);
    tob_jwt_free(f->jwt);
    tob_registry_sync_free(f->sync);
    tob_registry_close(f->registry);
    tob_directory_free(f->directory);
    tob_secrets_free(f->admin_secrets);
    tob_secrets_free(f->cluster_secrets);
    tob_process_free(f->process);
    int failed = remove_tree(f->dir);
    free(f);
    return failed;
}

// ---- calls

// Calls as `client`; the answer in *ret is to be dropped.
static inline tob_error call_as(fixture *f, tob_rpc_client *client, const char *method, const void *request,
                                const ProtobufCMessageDescriptor *type, void *ret) {
    ProtobufCMessage *answer = NULL;
    memset(&f->failure, 0, sizeof(f->failure));
    tob_error err = tob_rpc_client_call_wait(client, method, request, type, TIMEOUT_MS, &answer, &f->failure);
    memcpy(ret, &answer, sizeof(answer));
    return err;
}

#define METHOD(name) "/tobogganing.v1.Registry/" name

// CALL(f, "AddClient", &request, add_client_response, &response)
#define CALL(f, method, request, type, ret)                                                                  \
    call_as((f), (f)->client, METHOD(method), (request), &tobogganing__v1__##type##__descriptor, (ret))

// The same for a call that fails: its error, and what the message is.
#define FAILS(f, method, request, error, text)                                                               \
    do {                                                                                                     \
        void *none_ = NULL;                                                                                  \
        assert_int_equal(CALL(f, method, request, delete_response, &none_), error);                          \
        assert_string_equal((f)->failure.message, text);                                                     \
    } while (0)

static inline void drop(void *message) {
    protobuf_c_message_free_unpacked(message, NULL);
}

static inline void expect_ok(fixture *f, tob_error err) {
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), f->failure.message);
    }
}

static inline Tobogganing__V1__ClientId client_id(const char *id) {
    Tobogganing__V1__ClientId request = TOBOGGANING__V1__CLIENT_ID__INIT;
    request.client_id = (char *)id;
    return request;
}

static inline Tobogganing__V1__ClusterId cluster_id(const char *id) {
    Tobogganing__V1__ClusterId request = TOBOGGANING__V1__CLUSTER_ID__INIT;
    request.cluster_id = (char *)id;
    return request;
}

static inline Tobogganing__V1__HeadendId headend_id(const char *id) {
    Tobogganing__V1__HeadendId request = TOBOGGANING__V1__HEADEND_ID__INIT;
    request.headend_id = (char *)id;
    return request;
}

static inline Tobogganing__V1__AddClientResponse *add_client_ok(fixture *f, const char *id,
                                                                const char *cluster_id) {
    Tobogganing__V1__AddClientRequest request = TOBOGGANING__V1__ADD_CLIENT_REQUEST__INIT;
    Tobogganing__V1__AddClientResponse *response = NULL;
    request.client_id = (char *)id;
    request.cluster_id = (char *)cluster_id;
    expect_ok(f, CALL(f, "AddClient", &request, add_client_response, &response));
    return response;
}

static inline void add_cluster_ok(fixture *f, const char *id) {
    Tobogganing__V1__AddClusterRequest request = TOBOGGANING__V1__ADD_CLUSTER_REQUEST__INIT;
    Tobogganing__V1__AddClusterResponse *response = NULL;
    request.cluster_id = (char *)id;
    request.region = (char *)"eu";
    request.datacenter = (char *)"fra1";
    request.headend_url = (char *)"https://vpn.example.com:51820";
    expect_ok(f, CALL(f, "AddCluster", &request, add_cluster_response, &response));
    assert_string_equal(response->cluster->cluster_id, id);
    drop(response);
}

static inline void add_headend_ok(fixture *f, const char *id, const char *cluster_id) {
    Tobogganing__V1__AddHeadendRequest request = TOBOGGANING__V1__ADD_HEADEND_REQUEST__INIT;
    Tobogganing__V1__AddHeadendResponse *response = NULL;
    request.headend_id = (char *)id;
    request.cluster_id = (char *)cluster_id;
    expect_ok(f, CALL(f, "AddHeadend", &request, add_headend_response, &response));
    assert_string_equal(response->headend->headend_id, id);
    drop(response);
}

static inline char *token_ok(fixture *f, const char *headend_id) {
    Tobogganing__V1__IssueHeadendTokenRequest request = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_REQUEST__INIT;
    Tobogganing__V1__IssueHeadendTokenResponse *response = NULL;
    request.headend_id = (char *)headend_id;
    expect_ok(f, CALL(f, "IssueHeadendToken", &request, issue_headend_token_response, &response));
    char *token = strdup(response->token);
    drop(response);
    return token;
}

// A text of size - 1 bytes that is fine but for its length.
static inline void fill(char *text, size_t size) {
    memset(text, 'a', size - 1);
    text[size - 1] = 0;
}

// ---- what the hot path sees

static inline tob_key_match key_match(fixture *f, const char *id, const char *key, uint64_t now_unix_ms) {
    uint8_t hash[TOB_SHA256_BYTES];
    tob_sha256(key, strlen(key), hash);
    tob_directory_read_lock(f->directory);
    const tob_directory_client *client = tob_directory_find_client(f->directory, id, strlen(id));
    tob_key_match match = tob_directory_match_key(client, hash, now_unix_ms);
    if (client && client->revoked) {
        match = TOB_KEY_WRONG;
    }
    tob_directory_read_unlock(f->directory);
    return match;
}

static inline bool key_opens(fixture *f, const char *id, const char *key) {
    return key_match(f, id, key, tob_clock_unix_ms()) != TOB_KEY_WRONG;
}

static inline bool is_known(fixture *f, const char *id) {
    tob_directory_read_lock(f->directory);
    bool known = tob_directory_find_client(f->directory, id, strlen(id)) ||
                 tob_directory_find_headend(f->directory, id, strlen(id));
    tob_directory_read_unlock(f->directory);
    return known;
}

static inline uint64_t attempts(fixture *f, const char *type, const char *result) {
    return tob_counter_value(
        tob_process_counter(f->process, TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_AUTH_ATTEMPTS, type,
                            result, NULL));
}

// ---- the audit log

// All of it as lines "WHO|PEER|ACTION|TARGET|DETAIL", the newest first.
__attribute__((noinline, unused)) // else GCC 12 warns of a dangling pointer to `text` in the callers
static char *
audit_ok(fixture *f, const char *target) {
    Tobogganing__V1__ListAuditRequest request = TOBOGGANING__V1__LIST_AUDIT_REQUEST__INIT;
    Tobogganing__V1__ListAuditResponse *response = NULL;
    request.target = (char *)target;
    expect_ok(f, CALL(f, "ListAudit", &request, list_audit_response, &response));
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; i < response->n_entries; i++) {
        const Tobogganing__V1__AuditEntry *e = response->entries[i];
        fprintf(out, "%s|%s|%s|%s|%s\n", e->who, e->peer, e->action, e->target, e->detail);
    }
    fclose(out);
    drop(response);
    return text;
}

// The last thing that was done to a target.
static inline void expect_audit(fixture *f, const char *target, const char *who, const char *action) {
    char start[256];
    char *text = audit_ok(f, target);
    snprintf(start, sizeof(start), "%s|127.0.0.1|%s|%s|", who, action, target);
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("not %s but %s", start, text);
    }
    free(text);
}

#define ADMIN "admin token "

#endif
