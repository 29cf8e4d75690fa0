// "client delete --erase", as main runs it, against two real RPC servers.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdatomic.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "rig.h"

enum { SERVERS = 2 };

static tob_rpc_server *servers[SERVERS];
static char both[160];

// What each server does: how often it says that it is not done, and whether it knows the client.
static atomic_int pending[SERVERS];
static atomic_int asked[SERVERS];
static atomic_bool knows[SERVERS];

static void answer(tob_rpc_call *call, const ProtobufCMessage *message, int which) {
    const Tobogganing__V1__ClientId *request = (const Tobogganing__V1__ClientId *)message;
    Tobogganing__V1__Erasure erasure = TOBOGGANING__V1__ERASURE__INIT;
    if (!is_admin(call)) {
        return;
    }
    atomic_fetch_add(&asked[which], 1);
    if (!atomic_load(&knows[which])) {
        tob_rpc_fail(call, TOB_NOT_FOUND, 0, "client_id: no such client");
        return;
    }
    erasure.client_id = request->client_id;
    erasure.clients = 1;
    erasure.certificates = 2;
    erasure.fleet_rows = 1;
    erasure.samples = 100 + (uint64_t)which;
    if (atomic_load(&pending[which]) > 0) {
        atomic_fetch_sub(&pending[which], 1);
        erasure.progress = (char *)"journal: 3 of 7 segments";
        erasure.problem = (char *)"segment 4: no space left on device";
    } else {
        erasure.done = true;
        erasure.finished_unix_ms = 1700000000000;
    }
    tob_rpc_reply(call, &erasure.base);
}

static void on_erase_0(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    answer(call, message, 0);
}

static void on_erase_1(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    answer(call, message, 1);
}

static int start(void **state) {
    (void)state;
    static const rig_method methods[SERVERS] = {
        {&tobogganing__v1__registry__descriptor, "EraseClient", on_erase_0},
        {&tobogganing__v1__registry__descriptor, "EraseClient", on_erase_1},
    };
    for (int i = 0; i < SERVERS; i++) {
        servers[i] = rig_start(&methods[i], 1);
    }
    return 0;
}

static int stop(void **state) {
    (void)state;
    for (int i = 0; i < SERVERS; i++) {
        tob_rpc_server_stop(servers[i]);
        tob_rpc_server_free(servers[i]);
    }
    return 0;
}

static int fresh(void **state) {
    (void)state;
    for (int i = 0; i < SERVERS; i++) {
        pending[i] = asked[i] = 0;
        knows[i] = true;
    }
    rig_use(servers[0]);
    snprintf(both, sizeof(both), "tcp://127.0.0.1:%u,tcp://127.0.0.1:%u", tob_rpc_server_port(servers[0]),
             tob_rpc_server_port(servers[1]));
    return 0;
}

static int erase(const char *options) {
    char words[512];
    snprintf(words, sizeof(words), "client delete laptop-7 --erase %s", options);
    return run(words);
}

static void it_asks_until_it_is_done_and_tells_a_problem_once(void **state) {
    (void)state;
    pending[0] = 3;
    assert_int_equal(erase(""), 0);
    assert_int_equal(asked[0], 4);
    assert_contains(out, "laptop-7 is erased\nINGESTD");
    assert_contains(out, "2023-11-14T22:13:20Z");
    char *problem = strstr(err, "segment 4: no space left on device (it is tried again)\n");
    assert_non_null(problem);
    assert_null(strstr(problem + 1, "segment 4"));
    assert_null(strstr(err, "3 of 7")); // stderr is no terminal
}

static void every_ingestd_is_asked_and_what_they_removed_is_added_up(void **state) {
    (void)state;
    char option[256];
    pending[1] = 1;
    snprintf(option, sizeof(option), "--json --server %s", both);
    assert_int_equal(erase(option), 0);
    assert_int_equal(asked[0], 1);
    assert_int_equal(asked[1], 2);
    json_t *json = json_loads(out, 0, NULL);
    assert_true(json_is_true(json_object_get(json, "done")));
    assert_int_equal(json_integer_value(json_object_get(json, "samples")), 201);
    assert_int_equal(json_integer_value(json_object_get(json, "clients")), 1); // the registry is one
    assert_int_equal(json_integer_value(json_object_get(json, "certificates")), 2);
    const json_t *ingestds = json_object_get(json, "ingestds");
    assert_int_equal(json_array_size(ingestds), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(ingestds, 1), "samples")), 101);
    assert_contains(json_string_value(json_object_get(json_array_get(ingestds, 0), "server")),
                    "tcp://127.0.0.1:");
    json_decref(json);
}

static void one_that_never_had_the_client_is_no_failure_but_all_of_them_are(void **state) {
    (void)state;
    char option[256];
    knows[0] = false;
    snprintf(option, sizeof(option), "--server %s", both);
    assert_int_equal(erase(option), 0);
    knows[1] = false;
    assert_int_equal(erase(option), 1);
    assert_string_equal(err, "tobogganctl: NOT_FOUND: client_id: no such client\n");
    assert_string_equal(out, "");
}

static void it_gives_up_waiting_with_the_progress_and_without_a_false_success(void **state) {
    (void)state;
    pending[0] = 1000000;
    assert_int_equal(erase("--wait 200ms"), 1);
    assert_contains(err, "not done yet at tcp://127.0.0.1:");
    assert_contains(err, "journal: 3 of 7 segments; it goes on without us");
    assert_string_equal(out, "");
    assert_true(asked[0] >= 2);
}

static void one_that_is_away_is_a_failure_before_anybody_is_asked(void **state) {
    (void)state;
    char option[256];
    snprintf(option, sizeof(option), "--timeout 300ms --server %s,tcp://127.0.0.1:1", both);
    assert_int_equal(erase(option), 1);
    assert_contains(err, "tobogganctl: UNAVAILABLE: no connection to tcp://127.0.0.1:1 ");
    assert_int_equal(asked[0] + asked[1], 0);
}

static void the_server_decides_who_may(void **state) {
    (void)state;
    setenv("ADMIN_TOKEN", "wrong", 1);
    assert_int_equal(erase(""), 1);
    assert_contains(err, "UNAUTHENTICATED");
    assert_int_equal(run("client delete laptop-7 --wait forever"), 2);
}

#define FRESH(name) cmocka_unit_test_setup(name, fresh)

int main(void) {
    const struct CMUnitTest tests[] = {
        FRESH(it_asks_until_it_is_done_and_tells_a_problem_once),
        FRESH(every_ingestd_is_asked_and_what_they_removed_is_added_up),
        FRESH(one_that_never_had_the_client_is_no_failure_but_all_of_them_are),
        FRESH(it_gives_up_waiting_with_the_progress_and_without_a_false_success),
        FRESH(one_that_is_away_is_a_failure_before_anybody_is_asked),
        FRESH(the_server_decides_who_may),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
