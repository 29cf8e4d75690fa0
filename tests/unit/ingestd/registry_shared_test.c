#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "registry_rig.h"
#include "util/clock.h"

// Two processes on one PostgreSQL, as two registries.

#define DEADLINE_S 20

static void both_see_what_the_other_has_changed(void **state) {
    fixture *f = *state;
    fixture other = {.registry = open_registry(f->url), .now_unix_ms = T0};
    words changed = {.count = 0}, deleted = {.count = 0};
    client_copy copy;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    uint64_t since = f->change;
    assert_int_equal(CHANGE(&other, tob_registry_revoke_client(other.registry, "c")), TOB_OK);
    assert_int_equal(other.change, since + 1);
    assert_int_equal(get_client(f, "c", &copy).revoked_unix_ms, T0);
    assert_int_equal(tob_registry_changed_clients(f->registry, since, note_client, &changed), TOB_OK);
    assert_string_equal(changed.text, "c ");
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "c", false)), TOB_OK);
    assert_int_equal(tob_registry_deletions(other.registry, other.change, note_deletion, &deleted), TOB_OK);
    assert_string_equal(deleted.text, "client:c ");
    tob_registry_close(other.registry);
}

static void what_is_not_committed_is_seen_by_nobody_else(void **state) {
    fixture *f = *state;
    fixture other = {.registry = open_registry(f->url), .now_unix_ms = T0};
    words none = {.count = 0};
    uint64_t before = 0, during = 0, forgotten = 0;
    assert_int_equal(tob_registry_last_change(other.registry, &before, &forgotten), TOB_OK);
    begin(f);
    tob_registry_client c = a_client("c", "");
    assert_int_equal(tob_registry_add_client(f->registry, &c), TOB_OK);
    assert_int_equal(tob_registry_last_change(other.registry, &during, &forgotten), TOB_OK);
    assert_int_equal(during, before);
    assert_int_equal(tob_registry_get_client(other.registry, "c", note_client, &none), TOB_NOT_FOUND);
    assert_int_equal(end(f, TOB_OK), TOB_OK);
    assert_int_equal(tob_registry_get_client(other.registry, "c", note_client, &none), TOB_OK);
    tob_registry_close(other.registry);
}

enum { ROUNDS = 40 };

typedef struct racer {
    const char *url;
    const char *name;
    uint64_t changes[ROUNDS];
    tob_error failed;
} racer;

// Everybody wants the same ids: one of two gets each. Every third change is rolled back.
static tob_error race_once(tob_registry *registry, racer *r, int round) {
    tob_registry_actor actor = {.who = r->name, .peer = ""};
    char id[16];
    snprintf(id, sizeof(id), "c-%d", round);
    tob_registry_client client = a_client(id, "k");
    client.name = r->name;
    tob_error err = tob_registry_begin(registry, &actor, T0);
    if (err) {
        return err;
    }
    uint64_t change = tob_registry_change(registry);
    err = tob_registry_add_client(registry, &client);
    if (err || round % 3 == 2) {
        tob_registry_rollback(registry);
        return err == TOB_ALREADY_EXISTS ? TOB_OK : err;
    }
    err = tob_registry_commit(registry);
    r->changes[round] = err ? 0 : change;
    return err;
}

static void *race(void *user) {
    racer *r = user;
    tob_registry *registry = NULL;
    tob_sql_problem_text problem;
    r->failed = tob_registry_open(r->url, NULL, &registry, &problem);
    for (int i = 0; i < ROUNDS && !r->failed; i++) {
        r->failed = race_once(registry, r, i);
    }
    tob_registry_close(registry);
    return NULL;
}

static void changes_of_several_take_turns_and_have_numbers_of_their_own(void **state) {
    fixture *f = *state;
    racer racers[] = {{.url = f->url, .name = "one"}, {.url = f->url, .name = "two"}};
    pthread_t threads[2];
    cluster_copy cluster;
    uint64_t change = 0, forgotten = 0, committed = 0;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    uint64_t before = f->change;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(racers[i].failed, TOB_OK);
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t one = racers[0].changes[round], two = racers[1].changes[round];
        assert_true(round % 3 == 2 ? !one && !two : (one != 0) != (two != 0));
        committed += one || two ? 1 : 0;
    }
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(change, before + committed);
    assert_int_equal(get_cluster(f, "k", &cluster).registered_clients, committed);
}

typedef struct watching {
    sem_t calls;
    bool away;
} watching;

static void on_watch(void *user, bool away) {
    watching *w = user;
    w->away = away;
    sem_post(&w->calls);
}

// Ten changes, each waited for: polling alone would take a second for each.
static void a_watcher_is_woken_by_the_others_changes(void **state) {
    fixture *f = *state;
    fixture other = {.registry = open_registry(f->url), .now_unix_ms = T0};
    watching w = {.away = true};
    uint64_t change = 0, forgotten = 0, began_ms = tob_clock_monotonic_ms();
    struct timespec deadline;
    char id[16];
    sem_init(&w.calls, 0, 0);
    assert_int_equal(tob_registry_watch(other.registry, on_watch, &w), TOB_OK);
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        assert_int_equal(add_client(f, id, ""), TOB_OK);
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += DEADLINE_S;
        while (change != f->change) {
            assert_int_equal(sem_timedwait(&w.calls, &deadline), 0);
            assert_int_equal(tob_registry_last_change(other.registry, &change, &forgotten), TOB_OK);
        }
    }
    assert_true(tob_clock_monotonic_ms() - began_ms < 10 * TOB_SQL_POLL_MS / 2);
    tob_registry_unwatch(other.registry);
    tob_registry_unwatch(other.registry);
    assert_false(w.away);
    tob_registry_close(other.registry);
    sem_destroy(&w.calls);
}

// In which "a" comes before "B", and "Ü" has a small letter.
static void ids_and_places_are_bytes_in_a_database_with_the_order_of_a_language_too(void **state) {
    fixture *f = *state;
    static const char *const names[] = {"b", "a", "B", "c-10", "c-9", "_", "z"};
    fixture english = {.now_unix_ms = T0};
    words clients = {.count = 0}, after = {.count = 0}, headends = {.count = 0}, near = {.count = 0};
    tob_test_postgresql_execute(f->url, "CREATE DATABASE english TEMPLATE template0 "
                                        "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    snprintf(english.url, sizeof(english.url), "%.*s/english", (int)(strrchr(f->url, '/') - f->url), f->url);
    english.registry = open_registry(english.url);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(add_client(&english, names[i], ""), TOB_OK);
        assert_int_equal(add_headend(&english, names[i], ""), TOB_OK);
    }
    assert_int_equal(tob_registry_list_clients(english.registry, "", 10, note_client, &clients), TOB_OK);
    assert_string_equal(clients.text, "B _ a b c-10 c-9 z ");
    assert_int_equal(tob_registry_list_clients(english.registry, "_", 2, note_client, &after), TOB_OK);
    assert_string_equal(after.text, "a b ");
    assert_int_equal(tob_registry_list_headends(english.registry, "B", 2, note_headend, &headends), TOB_OK);
    assert_string_equal(headends.text, "_ a ");
    tob_registry_cluster far = a_cluster("far"), west = a_cluster("west");
    west.region = "\xc3\x9c-WEST"; // Ü
    assert_int_equal(CHANGE(&english, tob_registry_add_cluster(english.registry, &far)), TOB_OK);
    assert_int_equal(CHANGE(&english, tob_registry_add_cluster(english.registry, &west)), TOB_OK);
    assert_int_equal(tob_registry_place_client(english.registry, "\xc3\x9c-west", T0, note_cluster, &near),
                     TOB_OK);
    assert_string_equal(near.text, "west ");
    tob_registry_close(english.registry);
}

static void while_the_server_is_away_changes_fail_and_then_go_on(void **state) {
    fixture *f = *state;
    static const tob_registry_actor actor = {.who = "admin ann", .peer = ""};
    words clients = {.count = 0}, none = {.count = 0};
    assert_int_equal(add_client(f, "before", ""), TOB_OK);
    begin(f);
    tob_registry_client lost = a_client("lost", "");
    assert_int_equal(tob_registry_add_client(f->registry, &lost), TOB_OK);
    tob_test_postgresql_control("stop");
    assert_int_equal(tob_registry_commit(f->registry), TOB_UNAVAILABLE);
    assert_int_equal(tob_registry_begin(f->registry, &actor, T0), TOB_UNAVAILABLE);
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &none), TOB_UNAVAILABLE);
    assert_int_equal(none.count, 0);
    tob_test_postgresql_control("restart");
    struct timespec pause = {.tv_nsec = 50000000};
    tob_error err = TOB_UNAVAILABLE;
    for (int i = 0; i < DEADLINE_S * 20 && err == TOB_UNAVAILABLE; i++) {
        err = tob_registry_begin(f->registry, &actor, T0);
        if (err) {
            nanosleep(&pause, NULL);
        }
    }
    assert_int_equal(err, TOB_OK);
    tob_registry_client after = a_client("after", "");
    assert_int_equal(end(f, tob_registry_add_client(f->registry, &after)), TOB_OK);
    assert_int_equal(tob_registry_list_clients(f->registry, "", 10, note_client, &clients), TOB_OK);
    assert_string_equal(clients.text, "after before ");
}

#define ON_POSTGRESQL(function)                                                                              \
    {                                                                                                        \
        .name = #function, .test_func = (function), .setup_func = set_up, .teardown_func = tear_down,        \
        .initial_state = engine                                                                              \
    }

int main(void) {
    static char engine[] = "postgresql";
    const struct CMUnitTest tests[] = {
        ON_POSTGRESQL(both_see_what_the_other_has_changed),
        ON_POSTGRESQL(what_is_not_committed_is_seen_by_nobody_else),
        ON_POSTGRESQL(changes_of_several_take_turns_and_have_numbers_of_their_own),
        ON_POSTGRESQL(a_watcher_is_woken_by_the_others_changes),
        ON_POSTGRESQL(ids_and_places_are_bytes_in_a_database_with_the_order_of_a_language_too),
        ON_POSTGRESQL(while_the_server_is_away_changes_fail_and_then_go_on),
    };
    if (!tob_test_postgresql()) {
        print_message("PostgreSQL is not installed: not tested\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
