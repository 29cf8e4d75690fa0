// Submit and Reports.Last as callers see them: the services behind a real RPC server, with a real committer.
#include <stdlib.h>
#include <unistd.h>

#include "tobogganing/v1/ingest.pb-c.h"
#include "tobogganing/v1/reports.pb-c.h"

#include "credentials_rig.h"
#include "ingestd/ingest_service.h"
#include "ingestd/reports_service.h"
#include "rpc/client.h"
#include "wire/batch.h"

#define SUBMIT        "/tobogganing.v1.Ingest/Submit"
#define LAST          "/tobogganing.v1.Reports/Last"
#define CLUSTER_TOKEN "cluster-token-of-the-tests"

enum { TIMEOUT_MS = 10000 };

typedef struct fixture {
    judges judges;
    char dir[64];
    tob_arena_budget budget;
    tob_committer *committer;
    tob_secrets *cluster_secrets;
    tob_ingest_service *ingest;
    tob_reports_service reports;
    tob_rpc_server *server;
    tob_rpc_client *stranger; // comes without a token
    tob_rpc_client *gateway;  // with the cluster's
    uint64_t number;          // of the last batch
} fixture;

static void open_committer(fixture *f) {
    tob_committer_options options = {.store = {.journal = {.dir = f->dir,
                                                           .segment_bytes = TOB_JOURNAL_MIN_SEGMENT},
                                               .retain_ms = DAY_MS,
                                               .retain_bytes = 1u << 30},
                                     .bus_url = "tcp://127.0.0.1:0",
                                     .instance = 1,
                                     .report_interval_ms = 60000,
                                     .directory = f->judges.directory,
                                     .process = f->judges.process};
    tob_store_recovery recovery;
    tob_journal_problem problem;
    bool bus_failed = false;
    assert_int_equal(tob_committer_new(&options, &f->committer, &recovery, &problem, &bus_failed), TOB_OK);
    assert_int_equal(tob_committer_start(f->committer), TOB_OK);
}

static void open_server(fixture *f) {
    tob_rpc_server_options rpc = {.url = "tcp://127.0.0.1:0",
                                  .contexts = 8,
                                  .max_connections = 16,
                                  .max_message_bytes = 5 << 20,
                                  .max_inflated_bytes = 16 << 20,
                                  .max_arena_bytes = 64 << 20,
                                  .budget = &f->budget,
                                  .forwarder_secrets = f->cluster_secrets};
    tob_ingest_service_options ingest = {.committer = f->committer,
                                         .credentials = f->judges.credentials,
                                         .forwarder_secrets = f->cluster_secrets};
    f->reports = (tob_reports_service){.committer = f->committer, .credentials = f->judges.credentials};
    assert_int_equal(tob_rpc_server_new(&rpc, &f->server), TOB_OK);
    assert_int_equal(tob_ingest_service_new(&ingest, &f->ingest), TOB_OK);
    assert_int_equal(tob_ingest_service_register(f->ingest, f->server), TOB_OK);
    assert_int_equal(tob_reports_service_register(&f->reports, f->server), TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->server), TOB_OK);
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    char url[64];
    assert_non_null(f);
    *state = f;
    strcpy(f->dir, "/tmp/tob-ingest-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    judges_open(&f->judges);
    tob_arena_budget_init(&f->budget, 256u << 20);
    assert_int_equal(tob_secrets_new(CLUSTER_TOKEN, NULL, &f->cluster_secrets), TOB_OK);
    open_committer(f);
    open_server(f);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", tob_rpc_server_port(f->server));
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = url}, &f->stranger), TOB_OK);
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = url, .bearer = CLUSTER_TOKEN},
                                        &f->gateway),
                     TOB_OK);
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    char command[128];
    tob_rpc_client_free(f->stranger);
    tob_rpc_client_free(f->gateway);
    tob_rpc_server_stop(f->server);
    tob_committer_stop(f->committer);
    tob_rpc_server_free(f->server);
    tob_ingest_service_free(f->ingest);
    tob_committer_free(f->committer);
    tob_secrets_free(f->cluster_secrets);
    judges_close(&f->judges);
    snprintf(command, sizeof(command), "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

// ---- submitting

static tob_batch_builder *batch(void) {
    tob_batch_builder *builder = NULL;
    assert_int_equal(tob_batch_builder_new("agent", 1, 8 << 20, &builder), TOB_OK);
    return builder;
}

static void add_client(tob_batch_builder *builder, const char *id, const char *key, const char *peer) {
    tob_client_sample sample = {.time_unix_ms = 1000, .present = 1, .values = {42}};
    tob_batch_set_peer(builder, peer);
    assert_int_equal(tob_batch_add_client(builder, id, key, false, &sample, 1), TOB_OK);
}

static void add_headend(tob_batch_builder *builder, const char *id, const char *token, const char *peer) {
    tob_headend_sample sample = {.time_unix_ms = 1000, .present = 1, .values = {42}};
    tob_batch_set_peer(builder, peer);
    assert_int_equal(tob_batch_add_headend(builder, id, "edge", token, &sample, 1), TOB_OK);
}

static tob_error try_submit(tob_rpc_client *client, const Tobogganing__V1__SubmitRequest *request,
                            Tobogganing__V1__SubmitResponse **ret, tob_rpc_failure *failure) {
    return tob_rpc_client_call_wait(client, SUBMIT, &request->base,
                                    &tobogganing__v1__submit_response__descriptor, TIMEOUT_MS,
                                    (ProtobufCMessage **)ret, failure);
}

static Tobogganing__V1__SubmitRequest *pack(fixture *f, tob_batch_builder *builder) {
    tob_buffer packed;
    tob_buffer_init(&packed, 8u << 20);
    assert_int_equal(tob_batch_pack(builder, ++f->number, &packed), TOB_OK);
    Tobogganing__V1__SubmitRequest *request =
        tobogganing__v1__submit_request__unpack(NULL, packed.len, packed.data);
    assert_non_null(request);
    tob_buffer_fini(&packed);
    tob_batch_builder_free(builder);
    return request;
}

// Submits and frees the builder.
static Tobogganing__V1__SubmitResponse *submit(fixture *f, tob_rpc_client *client,
                                               tob_batch_builder *builder) {
    Tobogganing__V1__SubmitRequest *request = pack(f, builder);
    Tobogganing__V1__SubmitResponse *response = NULL;
    assert_int_equal(try_submit(client, request, &response, NULL), TOB_OK);
    tobogganing__v1__submit_request__free_unpacked(request, NULL);
    return response;
}

static void assert_rejected(const Tobogganing__V1__Rejection *rejection, uint32_t series,
                            Tobogganing__V1__Code code, bool limited) {
    assert_int_equal(rejection->series, series);
    assert_int_equal(rejection->code, code);
    assert_int_equal(rejection->retry_after_ms > 0, limited);
    assert_true(strlen(rejection->reason) > 0);
}

static void each_series_is_stored_or_refused_with_its_reason(void **state) {
    fixture *f = *state;
    tob_batch_builder *builder = batch();
    add_client(builder, "c-1", KEY, NULL);
    add_client(builder, "c-1", OLD_KEY, NULL);
    add_client(builder, "c-1", "wrong", NULL);
    add_client(builder, "c-revoked", KEY, NULL);
    add_headend(builder, "h-1", f->judges.token, NULL);
    add_headend(builder, "h-9", f->judges.token, NULL);
    Tobogganing__V1__SubmitResponse *response = submit(f, f->stranger, builder);
    assert_int_equal(response->stored_series, 3);
    assert_int_equal(response->n_rejected, 3);
    assert_rejected(response->rejected[0], 2, TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED, false);
    assert_rejected(response->rejected[1], 3, TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED, false);
    assert_rejected(response->rejected[2], 5, TOBOGGANING__V1__CODE__CODE_PERMISSION_DENIED, false);
    assert_int_equal(tob_ingest_service_rejected(f->ingest), 3);
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
}

static void a_revoked_key_is_refused_on_the_next_report(void **state) {
    fixture *f = *state;
    tob_batch_builder *builder = batch();
    add_client(builder, "c-1", KEY, NULL);
    Tobogganing__V1__SubmitResponse *response = submit(f, f->stranger, builder);
    assert_int_equal(response->stored_series, 1);
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
    judges_put_client(&f->judges, "c-1", KEY, NULL, 0, true);
    builder = batch();
    add_client(builder, "c-1", KEY, NULL);
    response = submit(f, f->stranger, builder);
    assert_int_equal(response->n_rejected, 1);
    assert_string_equal(response->rejected[0]->reason, "credential: this client's API key is revoked");
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
}

// How many of a batch of wrong keys from `peer` are answered that there were too many.
static size_t limited_of(fixture *f, tob_rpc_client *client, const char *peer, size_t series) {
    tob_batch_builder *builder = batch();
    size_t limited = 0;
    for (size_t i = 0; i < series; i++) {
        add_client(builder, "c-1", "wrong", peer);
    }
    Tobogganing__V1__SubmitResponse *response = submit(f, client, builder);
    assert_int_equal(response->n_rejected, series);
    for (size_t i = 0; i < series; i++) {
        assert_int_equal(response->rejected[i]->code, TOBOGGANING__V1__CODE__CODE_UNAUTHENTICATED);
        limited += response->rejected[i]->retry_after_ms > 0;
    }
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
    return limited;
}

static bool is_full(fixture *f, const char *address) {
    uint64_t retry_ms = 0;
    return tob_limiter_full(f->judges.limiter, address, tob_clock_monotonic_ms(), &retry_ms);
}

static void wrong_keys_slow_the_address_of_their_call(void **state) {
    fixture *f = *state;
    assert_in_range(limited_of(f, f->stranger, NULL, 4 * BURST), 2 * BURST, 3 * BURST);
    assert_true(is_full(f, "127.0.0.1"));
    tob_batch_builder *builder = batch(); // and still a right one is let in from there
    add_client(builder, "c-1", KEY, NULL);
    add_client(builder, "c-1", "wrong", NULL);
    Tobogganing__V1__SubmitResponse *response = submit(f, f->stranger, builder);
    assert_int_equal(response->stored_series, 1);
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
}

static void a_gateway_is_believed_where_each_series_came_from(void **state) {
    fixture *f = *state;
    assert_in_range(limited_of(f, f->gateway, "192.0.2.7", 4 * BURST), 2 * BURST, 3 * BURST);
    assert_true(is_full(f, "192.0.2.7"));
    assert_false(is_full(f, "127.0.0.1"));
    assert_int_equal(limited_of(f, f->gateway, "192.0.2.8", BURST / 2), 0);
}

static void a_stranger_is_not_believed_where_a_series_came_from(void **state) {
    fixture *f = *state;
    assert_in_range(limited_of(f, f->stranger, "192.0.2.7", 4 * BURST), 2 * BURST, 3 * BURST);
    assert_true(is_full(f, "127.0.0.1"));
    assert_false(is_full(f, "192.0.2.7"));
}

static void peers_have_to_be_one_for_each_series(void **state) {
    fixture *f = *state;
    tob_rpc_failure failure;
    Tobogganing__V1__SubmitResponse *response = NULL;
    tob_batch_builder *builder = batch();
    add_client(builder, "c-1", KEY, "192.0.2.7");
    add_client(builder, "c-1", KEY, "192.0.2.7");
    add_headend(builder, "h-1", f->judges.token, "192.0.2.7");
    Tobogganing__V1__SubmitRequest *request = pack(f, builder);
    assert_int_equal(request->n_peers, 3);
    assert_int_equal(request->n_credentials, 3);
    request->n_peers = 2;
    assert_int_equal(try_submit(f->gateway, request, &response, &failure), TOB_INVALID);
    assert_string_equal(failure.message, "peers: must be none, or one for each series");
    char *four[4] = {request->peers[0], request->peers[0], request->peers[0], request->peers[0]};
    char **peers = request->peers;
    request->peers = four;
    request->n_peers = 4;
    assert_int_equal(try_submit(f->gateway, request, &response, &failure), TOB_INVALID);
    assert_int_equal(try_submit(f->stranger, request, &response, &failure),
                     TOB_OK); // his are not even counted
    assert_int_equal(response->stored_series, 3);
    tobogganing__v1__submit_response__free_unpacked(response, NULL);
    request->peers = peers;
    request->n_peers = 3;
    tobogganing__v1__submit_request__free_unpacked(request, NULL);
}

// ---- reading back

static tob_error last_of(fixture *f, const char *client_id, const char *headend_id, const char *credential,
                         Tobogganing__V1__LastReport **ret, tob_rpc_failure *failure) {
    Tobogganing__V1__LastRequest request = TOBOGGANING__V1__LAST_REQUEST__INIT;
    request.client_id = (char *)client_id;
    request.headend_id = (char *)headend_id;
    request.credential = (char *)credential;
    return tob_rpc_client_call_wait(f->stranger, LAST, &request.base,
                                    &tobogganing__v1__last_report__descriptor, TIMEOUT_MS,
                                    (ProtobufCMessage **)ret, failure);
}

static void who_reports_reads_back_what_it_reported(void **state) {
    fixture *f = *state;
    Tobogganing__V1__LastReport *report = NULL;
    tob_rpc_failure failure;
    assert_int_equal(last_of(f, "c-1", "", KEY, &report, &failure), TOB_NOT_FOUND);
    tob_batch_builder *builder = batch();
    add_client(builder, "c-1", KEY, NULL);
    add_headend(builder, "h-1", f->judges.token, NULL);
    tobogganing__v1__submit_response__free_unpacked(submit(f, f->stranger, builder), NULL);
    assert_int_equal(last_of(f, "c-1", "", OLD_KEY, &report, &failure), TOB_OK);
    assert_int_equal(report->client->bytes_sent, 42);
    tobogganing__v1__last_report__free_unpacked(report, NULL);
    assert_int_equal(last_of(f, "", "h-1", f->judges.token, &report, &failure), TOB_OK);
    assert_string_equal(report->headend->name, "edge");
    tobogganing__v1__last_report__free_unpacked(report, NULL);
    assert_int_equal(judges_counted(&f->judges, "api_key", "success"), 3);
    assert_int_equal(judges_counted(&f->judges, "jwt", "success"), 2);
}

static void nobody_else_reads_it(void **state) {
    fixture *f = *state;
    Tobogganing__V1__LastReport *report = NULL;
    tob_rpc_failure failure;
    tob_batch_builder *builder = batch();
    add_client(builder, "c-1", KEY, NULL);
    tobogganing__v1__submit_response__free_unpacked(submit(f, f->stranger, builder), NULL);
    judges_put_headend(&f->judges, "h-2", 0, false);
    assert_int_equal(last_of(f, "c-1", "", "wrong", &report, &failure), TOB_UNAUTHENTICATED);
    assert_int_equal(failure.retry_after_ms, 0);
    assert_int_equal(last_of(f, "nobody", "", KEY, &report, &failure), TOB_UNAUTHENTICATED);
    assert_int_equal(last_of(f, "", "h-2", f->judges.token, &report, &failure), TOB_PERMISSION_DENIED);
    assert_int_equal(last_of(f, "", "h-1", KEY, &report, &failure), TOB_UNAUTHENTICATED);
    assert_int_equal(judges_counted(&f->judges, "api_key", "failure"), 2);
    assert_int_equal(judges_counted(&f->judges, "jwt", "failure"), 2);
    for (unsigned i = 0; i < BURST + 10; i++) {
        assert_int_equal(last_of(f, "c-1", "", "wrong", &report, &failure), TOB_UNAUTHENTICATED);
    }
    assert_true(failure.retry_after_ms > 0);
    assert_int_equal(last_of(f, "c-1", "", KEY, &report, &failure), TOB_OK);
    tobogganing__v1__last_report__free_unpacked(report, NULL);
}

static void one_source_is_asked_for_by_a_valid_id(void **state) {
    static const struct {
        const char *client_id, *headend_id, *message;
    } rows[] = {
        {"", "", "client_id, headend_id: must be one of the two"},
        {"c-1", "h-1", "client_id, headend_id: must be one of the two"},
        {"c/1", "", "client_id: must be 1-128 bytes of [A-Za-z0-9._:-]"},
        {"", "h 1", "headend_id: must be 1-128 bytes of [A-Za-z0-9._:-]"},
    };
    fixture *f = *state;
    Tobogganing__V1__LastReport *report = NULL;
    tob_rpc_failure failure;
    char id[130];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(last_of(f, rows[i].client_id, rows[i].headend_id, KEY, &report, &failure),
                         TOB_INVALID);
        assert_string_equal(failure.message, rows[i].message);
    }
    memset(id, 'x', 129);
    id[129] = 0;
    assert_int_equal(last_of(f, id, "", KEY, &report, &failure), TOB_INVALID);
    id[128] = 0;
    assert_int_equal(last_of(f, id, "", KEY, &report, &failure), TOB_UNAUTHENTICATED);
    assert_int_equal(judges_counted(&f->judges, "api_key", "failure"),
                     1); // ids are checked before anything else
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_series_is_stored_or_refused_with_its_reason),
        TEST(a_revoked_key_is_refused_on_the_next_report),
        TEST(wrong_keys_slow_the_address_of_their_call),
        TEST(a_gateway_is_believed_where_each_series_came_from),
        TEST(a_stranger_is_not_believed_where_a_series_came_from),
        TEST(peers_have_to_be_one_for_each_series),
        TEST(who_reports_reads_back_what_it_reported),
        TEST(nobody_else_reads_it),
        TEST(one_source_is_asked_for_by_a_valid_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
