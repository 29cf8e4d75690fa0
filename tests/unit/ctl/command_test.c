// The commands, run as main runs them, against a real RPC server on loopback.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "tobogganing/v1/bus.pb-c.h"
#include "tobogganing/v1/health.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"

#include "rig.h"

enum { CLIENTS = 5, PAGE = 2 };

static tob_rpc_server *server;
static Tobogganing__V1__HealthCheckResponse__Status health_status;

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    (void)request;
    (void)user;
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = health_status;
    response.reason = (char *)"the disk is full";
    response.version = (char *)"9.9";
    response.clients = 12;
    Tobogganing__V1__Position place = TOBOGGANING__V1__POSITION__INIT;
    place.segment = 4;
    place.offset = 56;
    response.checkpoint = &place;
    response.checkpoint_unix_ms = 1700000000000;
    response.repeated_batches = 31;
    response.request_memory_max_bytes = 1u << 30;
    tob_rpc_reply(call, &response.base);
}

static void on_add_client(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__AddClientRequest *request = (const Tobogganing__V1__AddClientRequest *)message;
    if (!is_admin(call)) {
        return;
    }
    if (strcmp(request->type, "toaster") == 0) {
        tob_rpc_fail(call, TOB_INVALID, 0, "type: must be docker, native or mobile");
        return;
    }
    Tobogganing__V1__Client client = TOBOGGANING__V1__CLIENT__INIT;
    Tobogganing__V1__AddClientResponse response = TOBOGGANING__V1__ADD_CLIENT_RESPONSE__INIT;
    client.client_id = *request->client_id ? request->client_id : (char *)"made-1";
    client.name = request->name;
    client.type = request->type;
    client.cluster_id = request->cluster_id;
    response.client = &client;
    response.api_key = (char *)"tobk_xyz";
    tob_rpc_reply(call, &response.base);
}

// CLIENTS clients in pages of PAGE; `page` is the number of the first.
static void on_list_clients(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__ListRequest *request = (const Tobogganing__V1__ListRequest *)message;
    Tobogganing__V1__Client clients[PAGE];
    Tobogganing__V1__Client *pointers[PAGE];
    char ids[PAGE][16];
    char next[16] = "";
    Tobogganing__V1__ListClientsResponse response = TOBOGGANING__V1__LIST_CLIENTS_RESPONSE__INIT;
    int first = atoi(request->page);
    if (!is_admin(call)) {
        return;
    }
    for (int i = 0; i < PAGE && first + i < CLIENTS; i++) {
        tobogganing__v1__client__init(&clients[i]);
        snprintf(ids[i], sizeof(ids[i]), "c%d", first + i);
        clients[i].client_id = ids[i];
        clients[i].type = (char *)"native";
        clients[i].created_unix_ms = 1700000000000;
        clients[i].key_generation = 1;
        pointers[i] = &clients[i];
        response.n_clients++;
    }
    response.clients = pointers;
    if (first + PAGE < CLIENTS) {
        snprintf(next, sizeof(next), "%d", first + PAGE);
        response.next_page = next;
    }
    tob_rpc_reply(call, &response.base);
}

static void on_revoke(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    (void)message;
    if (is_admin(call)) {
        tob_rpc_fail(call, TOB_NOT_FOUND, 0, "client_id: no such client");
    }
}

static void on_delete(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__ClientId *request = (const Tobogganing__V1__ClientId *)message;
    Tobogganing__V1__DeleteResponse response = TOBOGGANING__V1__DELETE_RESPONSE__INIT;
    if (!is_admin(call)) {
        return;
    }
    if (strcmp(request->client_id, "laptop-7") != 0) {
        tob_rpc_fail(call, TOB_NOT_FOUND, 0, "client_id: no such client");
        return;
    }
    tob_rpc_reply(call, &response.base);
}

static int is_process(tob_rpc_call *call) {
    const char *bearer = tob_rpc_call_bearer(call);
    if (bearer && strcmp(bearer, "cluster") == 0) {
        return 1;
    }
    tob_rpc_fail(call, TOB_UNAUTHENTICATED, 0, "needs the cluster token");
    return 0;
}

static void on_list_consumers(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)message;
    (void)user;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__Consumer consumer = TOBOGGANING__V1__CONSUMER__INIT;
    Tobogganing__V1__Consumer *consumers[] = {&consumer};
    Tobogganing__V1__ListConsumersResponse response = TOBOGGANING__V1__LIST_CONSUMERS_RESPONSE__INIT;
    position.segment = 3;
    position.offset = 40;
    consumer.name = (char *)"remote-write";
    consumer.position = &position;
    consumer.holder = 0xabc;
    consumer.lease_ms = 1500;
    consumer.lag_bytes = 4096;
    response.consumers = consumers;
    response.n_consumers = 1;
    if (is_process(call)) {
        tob_rpc_reply(call, &response.base);
    }
}

static void on_forget(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)message;
    (void)user;
    Tobogganing__V1__ForgetConsumerResponse response = TOBOGGANING__V1__FORGET_CONSUMER_RESPONSE__INIT;
    if (is_process(call)) {
        tob_rpc_reply(call, &response.base);
    }
}

static void on_add_cluster(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    (void)message;
    if (is_admin(call)) {
        tob_rpc_fail(call, TOB_ALREADY_EXISTS, 0, "cluster_id: is taken");
    }
}

static void on_token(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__IssueHeadendTokenRequest *request =
        (const Tobogganing__V1__IssueHeadendTokenRequest *)message;
    char token[64];
    Tobogganing__V1__IssueHeadendTokenResponse response = TOBOGGANING__V1__ISSUE_HEADEND_TOKEN_RESPONSE__INIT;
    if (!is_admin(call)) {
        return;
    }
    snprintf(token, sizeof(token), "jwt.%s.%llu", request->headend_id, (unsigned long long)request->ttl_s);
    response.token = token;
    response.expires_unix_s = 1700000000;
    tob_rpc_reply(call, &response.base);
}

static int start(void **state) {
    (void)state;
    static const rig_method methods[] = {
        {&tobogganing__v1__health__descriptor, "Check", on_check},
        {&tobogganing__v1__registry__descriptor, "AddClient", on_add_client},
        {&tobogganing__v1__registry__descriptor, "ListClients", on_list_clients},
        {&tobogganing__v1__registry__descriptor, "RevokeClient", on_revoke},
        {&tobogganing__v1__registry__descriptor, "DeleteClient", on_delete},
        {&tobogganing__v1__registry__descriptor, "AddCluster", on_add_cluster},
        {&tobogganing__v1__bus__descriptor, "ListConsumers", on_list_consumers},
        {&tobogganing__v1__bus__descriptor, "ForgetConsumer", on_forget},
        {&tobogganing__v1__registry__descriptor, "IssueHeadendToken", on_token},
    };
    server = rig_start(methods, sizeof(methods) / sizeof(methods[0]));
    return 0;
}

static int stop(void **state) {
    (void)state;
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    return 0;
}

static int allow(void **state) {
    (void)state;
    rig_use(server);
    health_status = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_SERVING;
    return 0;
}

static void usage_lists_every_command_and_a_group_lists_its_own(void **state) {
    (void)state;
    assert_int_equal(run("--help"), 0);
    for (size_t i = 0; i < tob_ctl_all_command_count; i++) {
        for (size_t j = 0; j < tob_ctl_all_commands[i]->count; j++) {
            assert_contains(out, tob_ctl_all_commands[i]->list[j].help);
        }
    }
    assert_int_equal(run(""), 2);
    assert_contains(err, "headend token");
    assert_int_equal(run("client"), 2);
    assert_contains(err, "client revoke");
    assert_null(strstr(err, "cluster add"));
    assert_int_equal(run("client --help"), 0);
    assert_contains(out, "client revoke");
}

static void unknown_commands_options_and_arguments_exit_2(void **state) {
    (void)state;
    assert_int_equal(run("klient"), 2);
    assert_contains(err, "no command 'klient'");
    assert_int_equal(run("client ad"), 2);
    assert_contains(err, "no command 'client ad'");
    assert_int_equal(run("client add --nom x"), 2);
    assert_int_equal(run("client revoke"), 2);
    assert_int_equal(run("client revoke a b"), 2);
    assert_int_equal(run("headend token h --ttl never"), 2);
    assert_int_equal(run("cluster add --if-missing"), 2);
    assert_contains(err, "option --if-missing: needs --id");
}

static void every_command_has_help(void **state) {
    (void)state;
    for (size_t i = 0; i < tob_ctl_all_command_count; i++) {
        for (size_t j = 0; j < tob_ctl_all_commands[i]->count; j++) {
            char words[64];
            const char *name = tob_ctl_all_commands[i]->list[j].name;
            snprintf(words, sizeof(words), "%s --help", name);
            assert_int_equal(run(words), 0);
            assert_contains(out, name);
            assert_contains(out, "EXIT STATUS");
            assert_contains(out, strncmp(name, "journal ", 8) == 0 ? "DIR" : "INGEST_URL");
        }
    }
}

static void every_command_and_group_is_found_by_its_words_alone(void **state) {
    (void)state;
    assert_int_equal(run("signing-key"), 2);
    assert_contains(err, "signing-key rotate");
    assert_null(strstr(err, "jwks"));
    assert_int_equal(run("jwks extra"), 2);
    assert_contains(err, "unexpected argument");
    assert_int_equal(run("client-add"), 2);
    assert_int_equal(run("clien add"), 2);
}

static void client_add_prints_assignments_or_json(void **state) {
    (void)state;
    assert_int_equal(run("client add --id laptop-7 --type docker"), 0);
    assert_string_equal(out, "CLIENT_ID=laptop-7\nAPI_KEY=tobk_xyz\n");
    assert_string_equal(err, "");
    assert_int_equal(run("client add --json --name n"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "client_id")), "made-1");
    assert_string_equal(json_string_value(json_object_get(json, "api_key")), "tobk_xyz");
    assert_string_equal(json_string_value(json_object_get(json, "name")), "n");
    json_decref(json);
}

static void the_servers_refusal_is_printed_with_its_code(void **state) {
    (void)state;
    assert_int_equal(run("client add --type toaster"), 1);
    assert_string_equal(err, "tobogganctl: INVALID_ARGUMENT: type: must be docker, native or mobile\n");
    assert_string_equal(out, "");
    assert_int_equal(run("client revoke nobody"), 1);
    assert_string_equal(err, "tobogganctl: NOT_FOUND: client_id: no such client\n");
    setenv("ADMIN_TOKEN", "wrong", 1);
    assert_int_equal(run("client list"), 1);
    assert_contains(err, "tobogganctl: UNAUTHENTICATED: needs an admin's token (is ADMIN_TOKEN one");
}

static void deleting_says_who_is_gone(void **state) {
    (void)state;
    assert_int_equal(run("client delete laptop-7"), 0);
    assert_string_equal(out, "laptop-7 is deleted\n");
    assert_int_equal(run("client delete laptop-7 --json"), 0);
    assert_contains(out, "\"client_id\": \"laptop-7\"");
    assert_int_equal(run("client delete nobody"), 1);
    assert_string_equal(err, "tobogganctl: NOT_FOUND: client_id: no such client\n");
    assert_int_equal(run("client delete"), 2);
    assert_int_equal(run("headend delete a b"), 2);
}

static void consumers_need_the_cluster_token_and_are_listed_with_their_places(void **state) {
    (void)state;
    unsetenv("CLUSTER_TOKEN");
    unsetenv("CLUSTER_TOKEN_FILE");
    assert_int_equal(run("consumer list"), 2);
    assert_contains(err, "CLUSTER_TOKEN");
    assert_contains(err, "--cluster-token-file");
    setenv("CLUSTER_TOKEN", "sesame", 1);
    assert_int_equal(run("consumer list"), 1);
    assert_contains(err, "UNAUTHENTICATED: needs the cluster token (is CLUSTER_TOKEN one");
    setenv("CLUSTER_TOKEN", "cluster", 1);
    assert_int_equal(run("consumer list"), 0);
    assert_string_equal(out, "CONSUMER      SEGMENT  OFFSET  BEHIND, BYTES  HOLDER            LEASE, MS\n"
                             "remote-write  3        40      4096           0000000000000abc  1500\n");
    assert_int_equal(run("consumer list --json"), 0);
    assert_contains(out, "\"name\": \"remote-write\"");
    assert_int_equal(run("consumer forget remote-write"), 0);
    assert_string_equal(out, "remote-write is forgotten\n");
    unsetenv("CLUSTER_TOKEN");
}

static void lists_go_through_all_pages(void **state) {
    (void)state;
    assert_int_equal(run("client list"), 0);
    assert_string_equal(out, "CLIENT  NAME  TYPE    CLUSTER  LOCATION  KEY  CREATED               REVOKED\n"
                             "c0      -     native  -        -         1    2023-11-14T22:13:20Z  -\n"
                             "c1      -     native  -        -         1    2023-11-14T22:13:20Z  -\n"
                             "c2      -     native  -        -         1    2023-11-14T22:13:20Z  -\n"
                             "c3      -     native  -        -         1    2023-11-14T22:13:20Z  -\n"
                             "c4      -     native  -        -         1    2023-11-14T22:13:20Z  -\n");
    assert_int_equal(run("client list --json"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json), CLIENTS);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json, 4), "client_id")), "c4");
    json_decref(json);
}

static void what_exists_is_an_error_unless_if_missing(void **state) {
    (void)state;
    assert_int_equal(run("cluster add --id us"), 1);
    assert_string_equal(err, "tobogganctl: ALREADY_EXISTS: cluster_id: is taken\n");
    assert_int_equal(run("cluster add --id us --if-missing"), 0);
    assert_string_equal(out, "CLUSTER_ID=us\n");
    assert_string_equal(err, "");
    assert_int_equal(run("cluster add --id us --if-missing --json"), 0);
    assert_contains(out, "\"cluster_id\": \"us\"");
}

static void headend_token_prints_the_token_alone(void **state) {
    (void)state;
    assert_int_equal(run("headend token gw-1 --ttl 90s"), 0);
    assert_string_equal(out, "jwt.gw-1.90\n");
    assert_int_equal(run("headend token gw-1"), 0);
    assert_string_equal(out, "jwt.gw-1.2592000\n"); // 720 h
    assert_int_equal(run("headend token gw-1 --json"), 0);
    assert_contains(out, "\"expires_unix_s\": 1700000000");
}

static void health_tells_by_its_exit_status(void **state) {
    (void)state;
    unsetenv("ADMIN_TOKEN"); // not needed
    assert_int_equal(run("health"), 0);
    assert_string_equal(out, "serving\n");
    assert_int_equal(run("status"), 0);
    assert_contains(out, "version              9.9");
    assert_contains(out, "repeated batches     31");
    assert_contains(out, "checkpoint           segment 4 offset 56");
    assert_contains(out, "made               2023-11-14T22:13:20Z");
    assert_contains(out, "oldest               none");
    assert_contains(out, "memory, bytes        0 of 1073741824");
    health_status = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__STATUS__STATUS_NOT_SERVING;
    assert_int_equal(run("health"), 1);
    assert_string_equal(out, "not serving: the disk is full\n");
    assert_int_equal(run("health --json"), 1);
    assert_contains(out, "\"STATUS_NOT_SERVING\"");
    assert_int_equal(run("status"), 0);
    assert_contains(out, "not serving: the disk is full");
}

static void a_server_that_is_away_or_a_missing_token_comes_with_a_hint(void **state) {
    (void)state;
    assert_int_equal(run("health --server tcp://127.0.0.1:1 --timeout 200ms"), 1);
    assert_contains(err, "tobogganctl: UNAVAILABLE: ");
    assert_contains(err, "is ingestd running at tcp://127.0.0.1:1?");
    assert_int_equal(run("health --server http://localhost"), 2);
    assert_contains(err, "--server");
    unsetenv("ADMIN_TOKEN");
    assert_int_equal(run("client list"), 2);
    assert_contains(err, "ADMIN_TOKEN");
    assert_contains(err, "--admin-token-file");
    assert_int_equal(run("client list --admin-token-file /nowhere/token"), 2);
    assert_contains(err, "/nowhere/token: not found");
}

static void the_token_may_come_from_a_file(void **state) {
    (void)state;
    char path[] = "/tmp/tob-token-XXXXXX";
    char words[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "# admin\nsesame\n", 15), 15);
    close(fd);
    unsetenv("ADMIN_TOKEN");
    snprintf(words, sizeof(words), "headend token h --ttl 1s --admin-token-file %s", path);
    int status = run(words);
    unlink(path);
    assert_int_equal(status, 0);
    assert_string_equal(out, "jwt.h.1\n");
}

#define ALLOWED(name) cmocka_unit_test_setup(name, allow)

int main(void) {
    const struct CMUnitTest tests[] = {
        ALLOWED(usage_lists_every_command_and_a_group_lists_its_own),
        ALLOWED(unknown_commands_options_and_arguments_exit_2),
        ALLOWED(every_command_and_group_is_found_by_its_words_alone),
        ALLOWED(every_command_has_help),
        ALLOWED(client_add_prints_assignments_or_json),
        ALLOWED(the_servers_refusal_is_printed_with_its_code),
        ALLOWED(deleting_says_who_is_gone),
        ALLOWED(consumers_need_the_cluster_token_and_are_listed_with_their_places),
        ALLOWED(lists_go_through_all_pages),
        ALLOWED(what_exists_is_an_error_unless_if_missing),
        ALLOWED(headend_token_prints_the_token_alone),
        ALLOWED(health_tells_by_its_exit_status),
        ALLOWED(a_server_that_is_away_or_a_missing_token_comes_with_a_hint),
        ALLOWED(the_token_may_come_from_a_file),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
