#include "committer_rig.h"
#include "ingestd/positions.h"

enum { ALICE = 11, BOB = 22, LEASE_MS = 60000 };

static tob_error try_commit(rig *r, const Tobogganing__V1__CommitRequest *request,
                            Tobogganing__V1__CommitResponse **ret, tob_rpc_failure *failure) {
    ProtobufCMessage *response = NULL;
    tob_error err = rig_call(r, "/tobogganing.v1.Bus/Commit", &request->base,
                             &tobogganing__v1__commit_response__descriptor, &response, failure);
    *ret = (Tobogganing__V1__CommitResponse *)response;
    return err;
}

// The position is {0, 0} for none.
static Tobogganing__V1__CommitRequest request_for(uint64_t holder, uint32_t lease_ms,
                                                  Tobogganing__V1__Position *to) {
    Tobogganing__V1__CommitRequest request = TOBOGGANING__V1__COMMIT_REQUEST__INIT;
    request.instance = RIG_INSTANCE;
    request.consumer = (char *)"sink";
    request.holder = holder;
    request.lease_ms = lease_ms;
    request.position = to->segment ? to : NULL;
    return request;
}

// Commits for consumer "sink"; the position is {0, 0} for none. Returns the position as committed.
static tob_position commit(rig *r, uint64_t holder, uint32_t lease_ms, tob_position to) {
    Tobogganing__V1__Position place = tob_position_message(to);
    Tobogganing__V1__CommitRequest request = request_for(holder, lease_ms, &place);
    Tobogganing__V1__CommitResponse *response = NULL;
    tob_rpc_failure failure = {.message = ""};
    tob_error err = try_commit(r, &request, &response, &failure);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), failure.message);
    }
    tob_position at = tob_position_of(response->position);
    assert_true(tob_position_compare(at, tob_position_of(response->end)) <= 0);
    assert_int_equal(response->oldest->segment, 1);
    tobogganing__v1__commit_response__free_unpacked(response, NULL);
    return at;
}

static uint32_t refused(rig *r, uint64_t holder, uint32_t lease_ms, tob_position to, tob_error error) {
    Tobogganing__V1__Position place = tob_position_message(to);
    Tobogganing__V1__CommitRequest request = request_for(holder, lease_ms, &place);
    Tobogganing__V1__CommitResponse *response = NULL;
    tob_rpc_failure failure = {.message = ""};
    assert_int_equal(try_commit(r, &request, &response, &failure), error);
    return failure.retry_after_ms;
}

static const tob_position none = {0, 0};

static tob_position oldest_of(rig *r) {
    tob_committer_stats stats;
    tob_committer_get_stats(r->committer, &stats);
    return stats.journal_oldest;
}

static void a_new_consumer_begins_with_the_oldest_record_and_its_position_survives(void **state) {
    rig *r = *state;
    tob_position first = rig_submit(r, "c-1", 1, 1);
    tob_position second = rig_submit(r, "c-1", 2, 2);
    tob_position oldest = commit(r, ALICE, LEASE_MS, none);
    assert_true(tob_position_compare(oldest, first) <= 0);
    assert_int_equal(tob_position_compare(oldest, oldest_of(r)), 0);
    assert_int_equal(tob_position_compare(commit(r, ALICE, LEASE_MS, second), second), 0);
    rig_stop(r);
    rig_start(r);
    // The lease did not survive, the position did.
    assert_int_equal(tob_position_compare(commit(r, BOB, LEASE_MS, none), second), 0);
}

static void another_holder_waits_for_the_lease_and_a_zombie_moves_nothing(void **state) {
    rig *r = *state;
    tob_position first = rig_submit(r, "c-1", 1, 1);
    tob_position second = rig_submit(r, "c-1", 2, 2);
    commit(r, ALICE, LEASE_MS, first);
    assert_in_range(refused(r, BOB, LEASE_MS, none, TOB_ABORTED), 1, LEASE_MS);
    assert_in_range(refused(r, BOB, LEASE_MS, second, TOB_ABORTED), 1, LEASE_MS);
    commit(r, ALICE, 0, none); // gives it up
    assert_int_equal(tob_position_compare(commit(r, BOB, LEASE_MS, second), second), 0);
    assert_in_range(refused(r, ALICE, LEASE_MS, first, TOB_ABORTED), 1, LEASE_MS);
    commit(r, BOB, 0, none);
    // Nobody has it now, and Alice still knows the old place only.
    refused(r, ALICE, LEASE_MS, first, TOB_ABORTED);
    refused(r, ALICE, 0, first, TOB_ABORTED);
    assert_int_equal(tob_position_compare(commit(r, ALICE, LEASE_MS, none), second), 0);
}

static void a_lease_that_ran_out_is_free(void **state) {
    rig *r = *state;
    rig_submit(r, "c-1", 1, 1);
    commit(r, ALICE, TOB_CONSUMER_MIN_LEASE_MS, none);
    uint64_t until = tob_clock_monotonic_ms() + RIG_TIMEOUT_MS;
    uint32_t wait_ms = refused(r, BOB, LEASE_MS, none, TOB_ABORTED);
    assert_in_range(wait_ms, 1, TOB_CONSUMER_MIN_LEASE_MS);
    Tobogganing__V1__CommitRequest request = TOBOGGANING__V1__COMMIT_REQUEST__INIT;
    Tobogganing__V1__CommitResponse *response = NULL;
    request.instance = RIG_INSTANCE;
    request.consumer = (char *)"sink";
    request.holder = BOB;
    request.lease_ms = LEASE_MS;
    while (try_commit(r, &request, &response, NULL) == TOB_ABORTED) {
        assert_true(tob_clock_monotonic_ms() < until);
    }
    assert_non_null(response);
    tobogganing__v1__commit_response__free_unpacked(response, NULL);
}

static void commits_that_break_a_rule_are_refused(void **state) {
    rig *r = *state;
    tob_position at = rig_submit(r, "c-1", 1, 1);
    refused(r, 0, LEASE_MS, none, TOB_INVALID);
    refused(r, ALICE, TOB_CONSUMER_MIN_LEASE_MS - 1, none, TOB_INVALID);
    refused(r, ALICE, TOB_CONSUMER_MAX_LEASE_MS + 1, none, TOB_INVALID);
    refused(r, ALICE, LEASE_MS, (tob_position){at.segment, 1u << 30}, TOB_OUT_OF_RANGE);
    Tobogganing__V1__CommitRequest request = TOBOGGANING__V1__COMMIT_REQUEST__INIT;
    Tobogganing__V1__CommitResponse *response = NULL;
    request.instance = RIG_INSTANCE + 1;
    request.consumer = (char *)"sink";
    request.holder = ALICE;
    assert_int_equal(try_commit(r, &request, &response, NULL), TOB_PRECONDITION);
    request.instance = RIG_INSTANCE;
    request.consumer = (char *)"no spaces";
    assert_int_equal(try_commit(r, &request, &response, NULL), TOB_INVALID);
}

static Tobogganing__V1__ListConsumersResponse *list(rig *r) {
    Tobogganing__V1__ListConsumersRequest request = TOBOGGANING__V1__LIST_CONSUMERS_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    assert_int_equal(rig_call(r, "/tobogganing.v1.Bus/ListConsumers", &request.base,
                              &tobogganing__v1__list_consumers_response__descriptor, &response, NULL),
                     TOB_OK);
    return (Tobogganing__V1__ListConsumersResponse *)response;
}

static tob_error forget(rig *r, const char *name) {
    Tobogganing__V1__ForgetConsumerRequest request = TOBOGGANING__V1__FORGET_CONSUMER_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    request.consumer = (char *)name;
    tob_error err = rig_call(r, "/tobogganing.v1.Bus/ForgetConsumer", &request.base,
                             &tobogganing__v1__forget_consumer_response__descriptor, &response, NULL);
    if (!err) {
        protobuf_c_message_free_unpacked(response, NULL);
    }
    return err;
}

static void consumers_are_listed_with_their_lag_and_forgotten(void **state) {
    rig *r = *state;
    rig_submit(r, "c-1", 1, 1);
    tob_position at = commit(r, ALICE, LEASE_MS, none);
    rig_submit(r, "c-1", 2, 2);
    Tobogganing__V1__ListConsumersResponse *all = list(r);
    assert_int_equal(all->n_consumers, 1);
    assert_string_equal(all->consumers[0]->name, "sink");
    assert_int_equal(all->consumers[0]->holder, ALICE);
    assert_in_range(all->consumers[0]->lease_ms, 1, LEASE_MS);
    assert_int_equal(all->consumers[0]->lag_bytes, all->end->offset - at.offset);
    tobogganing__v1__list_consumers_response__free_unpacked(all, NULL);
    assert_int_equal(forget(r, "sink"), TOB_OK);
    assert_int_equal(forget(r, "sink"), TOB_NOT_FOUND);
    all = list(r);
    assert_int_equal(all->n_consumers, 0);
    tobogganing__v1__list_consumers_response__free_unpacked(all, NULL);
}

static void one_consumer_too_many_is_busy(void **state) {
    rig *r = *state;
    Tobogganing__V1__CommitRequest request = TOBOGGANING__V1__COMMIT_REQUEST__INIT;
    Tobogganing__V1__CommitResponse *response = NULL;
    char name[16];
    request.instance = RIG_INSTANCE;
    request.holder = ALICE;
    request.consumer = name;
    for (int i = 0; i < TOB_CONSUMERS_MAX; i++) {
        snprintf(name, sizeof(name), "sink-%d", i);
        assert_int_equal(try_commit(r, &request, &response, NULL), TOB_OK);
        tobogganing__v1__commit_response__free_unpacked(response, NULL);
    }
    snprintf(name, sizeof(name), "sink-more");
    assert_int_equal(try_commit(r, &request, &response, NULL), TOB_BUSY);
}

// Of two that begin at once one gets the lease, and the other moves nothing.
typedef struct racer {
    rig *rig;
    pthread_t thread;
    uint64_t holder;
    tob_error error;
} racer;

static void *race(void *user) {
    racer *me = user;
    Tobogganing__V1__CommitRequest request = TOBOGGANING__V1__COMMIT_REQUEST__INIT;
    Tobogganing__V1__CommitResponse *response = NULL;
    request.instance = RIG_INSTANCE;
    request.consumer = (char *)"sink";
    request.holder = me->holder;
    request.lease_ms = LEASE_MS;
    me->error = try_commit(me->rig, &request, &response, NULL);
    if (!me->error) {
        tobogganing__v1__commit_response__free_unpacked(response, NULL);
    }
    return NULL;
}

static void of_two_new_holders_one_gets_the_lease(void **state) {
    rig *r = *state;
    rig_hang hang;
    racer racers[2] = {{.rig = r, .holder = ALICE}, {.rig = r, .holder = BOB}};
    rig_hang_begin(&hang, r); // so that both are in one group
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    uint64_t until = tob_clock_monotonic_ms() + RIG_TIMEOUT_MS;
    while (tob_arena_budget_used(&r->budget) <
           2 * 16000) { // what two requests take, when nothing was kept before
        assert_true(tob_clock_monotonic_ms() < until);
        usleep(1000);
    }
    rig_hang_end(&hang);
    for (int i = 0; i < 2; i++) {
        pthread_join(racers[i].thread, NULL);
    }
    assert_true((racers[0].error == TOB_OK) != (racers[1].error == TOB_OK));
    assert_int_equal(racers[racers[0].error == TOB_OK].error, TOB_ABORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_new_consumer_begins_with_the_oldest_record_and_its_position_survives),
        RIG_TEST(another_holder_waits_for_the_lease_and_a_zombie_moves_nothing),
        RIG_TEST(a_lease_that_ran_out_is_free),
        RIG_TEST(commits_that_break_a_rule_are_refused),
        RIG_TEST(consumers_are_listed_with_their_lag_and_forgotten),
        RIG_TEST(one_consumer_too_many_is_busy),
        RIG_TEST(of_two_new_holders_one_gets_the_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
