// Where a call comes from, and whose word for it is believed.
#include <arpa/inet.h>

#include "cluster.h"
#include "rpc/peer.h"
#include "util/secret.h"

#define FORWARDER "cluster-token-of-the-tests"

// What the last call was like, as its handler saw it.
typedef struct seen {
    pthread_mutex_t lock;
    char peer[TOB_PEER_BYTES];
    char again[TOB_PEER_BYTES];
    char bearer[64];
} seen;

static seen last = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef struct fixture {
    tob_secrets *secrets;
    tob_rpc_server *server;
    tob_rpc_client *client;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    tob_error error;
} fixture;

static void on_check(tob_rpc_call *call, const ProtobufCMessage *request, void *user) {
    Tobogganing__V1__HealthCheckResponse response = TOBOGGANING__V1__HEALTH_CHECK_RESPONSE__INIT;
    const char *bearer = tob_rpc_call_bearer(call);
    (void)request;
    (void)user;
    pthread_mutex_lock(&last.lock);
    snprintf(last.peer, sizeof(last.peer), "%s", tob_rpc_call_peer(call));
    snprintf(last.again, sizeof(last.again), "%s", tob_rpc_call_peer(call));
    snprintf(last.bearer, sizeof(last.bearer), "%s", bearer ? bearer : "none");
    pthread_mutex_unlock(&last.lock);
    tob_rpc_reply(call, &response.base);
}

// trusted: the one token that is believed; NULL: nobody's.
static void start(fixture *f, const char *url, const char *bearer, const char *trusted) {
    *f = (fixture){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tob_rpc_server_options options = {.url = url,
                                      .contexts = 4,
                                      .max_connections = 8,
                                      .max_message_bytes = 1 << 20,
                                      .max_inflated_bytes = 1 << 20,
                                      .max_arena_bytes = 8 << 20};
    char to[64];
    assert_int_equal(tob_secrets_new(trusted, NULL, &f->secrets), TOB_OK);
    options.forwarder_secrets = trusted ? f->secrets : NULL;
    assert_int_equal(tob_rpc_server_new(&options, &f->server), TOB_OK);
    assert_int_equal(tob_rpc_server_add(f->server, &tobogganing__v1__health__descriptor, "Check", on_check,
                                        NULL),
                     TOB_OK);
    assert_int_equal(tob_rpc_server_start(f->server), TOB_OK);
    snprintf(to, sizeof(to), "tcp://%s:%u", strstr(url, "[::1]") ? "[::1]" : "127.0.0.1",
             tob_rpc_server_port(f->server));
    assert_int_equal(tob_rpc_client_new(&(tob_rpc_client_options){.urls = to, .bearer = bearer}, &f->client),
                     TOB_OK);
}

static void stop(fixture *f) {
    tob_rpc_client_free(f->client);
    tob_rpc_server_stop(f->server);
    tob_rpc_server_free(f->server);
    tob_secrets_free(f->secrets);
}

static void on_done(void *user, const tob_rpc_result *result) {
    fixture *f = user;
    pthread_mutex_lock(&f->lock);
    f->error = result->error;
    f->done = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void await(fixture *f, tob_error error) {
    pthread_mutex_lock(&f->lock);
    while (!f->done) {
        pthread_cond_wait(&f->changed, &f->lock);
    }
    f->done = false;
    pthread_mutex_unlock(&f->lock);
    assert_int_equal(f->error, error);
}

static void call_for(fixture *f, const tob_rpc_caller *caller) {
    if (caller) {
        assert_int_equal(tob_rpc_client_call_for(f->client, caller, CHECK, NULL, 0, PATIENCE_MS, on_done, f),
                         TOB_OK);
    } else {
        assert_int_equal(tob_rpc_client_call(f->client, CHECK, NULL, 0, PATIENCE_MS, on_done, f), TOB_OK);
    }
    await(f, TOB_OK);
}

static void the_peer_of_a_call_is_the_address_that_it_came_from(void **state) {
    fixture f;
    (void)state;
    start(&f, "tcp://127.0.0.1:0", NULL, NULL);
    call_for(&f, NULL);
    assert_string_equal(last.peer, "127.0.0.1");
    assert_string_equal(last.again, "127.0.0.1");
    assert_string_equal(last.bearer, "none");
    stop(&f);
}

static void over_ipv6_it_is_an_ipv6_address(void **state) {
    fixture f;
    (void)state;
    start(&f, "tcp://[::1]:0", NULL, NULL);
    call_for(&f, NULL);
    assert_string_equal(last.peer, "::1");
    stop(&f);
}

static void a_call_for_a_caller_has_his_credential_and_his_address(void **state) {
    fixture f;
    (void)state;
    start(&f, "tcp://127.0.0.1:0", FORWARDER, FORWARDER);
    call_for(&f, &(tob_rpc_caller){.bearer = "his-own", .address = "192.0.2.7"});
    assert_string_equal(last.peer, "192.0.2.7");
    assert_string_equal(last.bearer, "his-own");
    call_for(&f, &(tob_rpc_caller){.address = "::ffff:192.0.2.8"});
    assert_string_equal(last.peer, "192.0.2.8");
    assert_string_equal(last.bearer, "none");
    call_for(&f, &(tob_rpc_caller){.bearer = "", .address = "2001:DB8:0:0::1", .repeatable = true});
    assert_string_equal(last.peer, "2001:db8::1");
    assert_string_equal(last.bearer, "none");
    call_for(&f, NULL); // and ours is ours again
    assert_string_equal(last.peer, "127.0.0.1");
    assert_string_equal(last.bearer, FORWARDER);
    stop(&f);
}

static void a_new_token_of_ours_vouches_for_the_next_caller(void **state) {
    fixture f;
    (void)state;
    start(&f, "tcp://127.0.0.1:0", "an-old-token", FORWARDER);
    call_for(&f, &(tob_rpc_caller){.bearer = "his-own", .address = "192.0.2.7"});
    assert_string_equal(last.peer, "127.0.0.1");
    assert_int_equal(tob_rpc_client_set_bearer(f.client, FORWARDER), TOB_OK);
    call_for(&f, &(tob_rpc_caller){.bearer = "his-own", .address = "192.0.2.7"});
    assert_string_equal(last.peer, "192.0.2.7");
    stop(&f);
}

static void a_stranger_is_not_believed(void **state) {
    static const char *const bearers[] = {NULL, "wrong", FORWARDER "x", " "};
    fixture f;
    (void)state;
    for (size_t i = 0; i < sizeof(bearers) / sizeof(*bearers); i++) {
        start(&f, "tcp://127.0.0.1:0", bearers[i], FORWARDER);
        call_for(&f, &(tob_rpc_caller){.bearer = "his-own", .address = "192.0.2.7"});
        assert_string_equal(last.peer, "127.0.0.1");
        assert_string_equal(last.bearer, "his-own");
        stop(&f);
    }
}

static void a_server_that_trusts_nobody_believes_nobody(void **state) {
    fixture f;
    (void)state;
    start(&f, "tcp://127.0.0.1:0", FORWARDER, NULL);
    call_for(&f, &(tob_rpc_caller){.bearer = FORWARDER, .address = "192.0.2.7"});
    assert_string_equal(last.peer, "127.0.0.1");
    stop(&f);
}

static void what_is_no_address_is_not_believed(void **state) {
    static const char *const texts[] = {
        "localhost",
        "192.0.2.7:80",
        "[::1]",
        "fe80::1%eth0",
        "192.0.2.256",
        "192.0.2",
        " 192.0.2.7",
        "",
        "0000:0000:0000:0000:0000:ffff:255.255.255.2555", // one byte over the longest
    };
    fixture f;
    (void)state;
    start(&f, "tcp://127.0.0.1:0", FORWARDER, FORWARDER);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        call_for(&f, &(tob_rpc_caller){.bearer = "his-own", .address = texts[i]});
        assert_string_equal(last.peer, "127.0.0.1");
    }
    stop(&f);
}

static void who_vouches_with_too_long_a_token_is_not_believed(void **state) {
    char *token = calloc(1, TOB_SECRET_MAX_BYTES + 2);
    fixture f;
    (void)state;
    assert_non_null(token);
    memset(token, 'a', TOB_SECRET_MAX_BYTES);
    start(&f, "tcp://127.0.0.1:0", token, token);
    call_for(&f, &(tob_rpc_caller){.address = "192.0.2.7"});
    assert_string_equal(last.peer, "192.0.2.7");
    stop(&f);
    token[TOB_SECRET_MAX_BYTES] = 'a';
    start(&f, "tcp://127.0.0.1:0", token, FORWARDER);
    call_for(&f, &(tob_rpc_caller){.address = "192.0.2.7"});
    assert_string_equal(last.peer, "127.0.0.1");
    stop(&f);
    free(token);
}

// However willing the client's own calls are to be repeated.
static void a_call_for_a_caller_is_repeated_only_if_it_may_be(void **state) {
    fixture f = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    tob_rpc_client *client = client_of(2, (tob_rpc_client_options){.repeatable = true});
    (void)state;
    f.client = client;
    wait_connections(client, 2);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&nodes[i].refuse, TOB_BUSY);
    }
    tob_rpc_caller caller = {.address = "192.0.2.7", .repeatable = true};
    assert_int_equal(tob_rpc_client_call_for(client, &caller, CHECK, NULL, 0, PATIENCE_MS, on_done, &f),
                     TOB_OK);
    await(&f, TOB_BUSY);
    assert_int_equal(atomic_load(&nodes[0].calls) + atomic_load(&nodes[1].calls), 2);
    caller.repeatable = false;
    assert_int_equal(tob_rpc_client_call_for(client, &caller, CHECK, NULL, 0, PATIENCE_MS, on_done, &f),
                     TOB_OK);
    await(&f, TOB_BUSY);
    assert_int_equal(atomic_load(&nodes[0].calls) + atomic_load(&nodes[1].calls), 3);
    tob_rpc_client_free(client);
}

static void addresses_have_one_form(void **state) {
    static const struct {
        const char *text, *form;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::FFFF:c000:0201", "192.0.2.1"},
        {"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
        {"0000:0000:0000:0000:0000:ffff:255.255.255.255", "255.255.255.255"},
        {"::", "::"},
    };
    char got[TOB_PEER_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_true(tob_peer_parse(rows[i].text, got));
        assert_string_equal(got, rows[i].form);
    }
    nng_sockaddr address = {.s_in6 = {.sa_family = NNG_AF_INET6}};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:198.51.100.9", address.s_in6.sa_addr), 1);
    tob_peer_of_address(&address, got);
    assert_string_equal(got, "198.51.100.9");
    address = (nng_sockaddr){.s_inproc = {.sa_family = NNG_AF_INPROC}};
    tob_peer_of_address(&address, got);
    assert_string_equal(got, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_peer_of_a_call_is_the_address_that_it_came_from),
        cmocka_unit_test(over_ipv6_it_is_an_ipv6_address),
        cmocka_unit_test(a_call_for_a_caller_has_his_credential_and_his_address),
        cmocka_unit_test(a_new_token_of_ours_vouches_for_the_next_caller),
        cmocka_unit_test(a_stranger_is_not_believed),
        cmocka_unit_test(a_server_that_trusts_nobody_believes_nobody),
        cmocka_unit_test(what_is_no_address_is_not_believed),
        cmocka_unit_test(who_vouches_with_too_long_a_token_is_not_believed),
        cmocka_unit_test_setup_teardown(a_call_for_a_caller_is_repeated_only_if_it_may_be, start_nodes,
                                        stop_nodes),
        cmocka_unit_test(addresses_have_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
