#include <libpq-fe.h>
#include <semaphore.h>

#include "registry_service_rig.h"

// Calls that come while the worker is held up.
typedef struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ok, busy, other, retry_said;
} tally;

#define TALLY                                                                                                \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER }

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
    tally t = TALLY;
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
    tally anybody = TALLY;
    tally admin = TALLY;
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
    tally own = TALLY;
    tally admin = TALLY;
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
    tally slow = TALLY;
    tally late = TALLY;
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
    tally t = TALLY;
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
        TEST(calls_beyond_the_queue_are_answered_busy_and_the_others_are_carried_out),
        TEST(who_has_no_credential_gets_half_of_the_queue),
        TEST(a_client_gets_half_of_the_queue_too),
        TEST(a_call_whose_time_is_over_before_its_turn_changes_nothing),
        TEST(a_service_that_has_stopped_still_answers),
        TEST(what_another_process_changes_is_known_within_a_second_or_two),
        TEST(a_change_that_another_one_aborts_is_repeated_as_a_whole),
        TEST(while_the_database_is_away_changes_wait_and_keys_are_good),
    };
    return RUN_ON_BOTH("registry_service_waiting", tests);
}
