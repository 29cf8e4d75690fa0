// What the bus sends, caught before it reaches a socket.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ingestd/bus.h"
#include "util/index.h"

enum { MAX_MESSAGES = 4096 };

typedef struct fixture {
    tob_fleet *fleet;
    tob_directory *directory;
    tob_bus *bus;
    Tobogganing__V1__BusMessage *messages[MAX_MESSAGES];
    size_t count;
} fixture;

static tob_error sink(void *user, const void *message, size_t n) {
    fixture *f = user;
    assert_true(f->count < MAX_MESSAGES);
    f->messages[f->count] = tobogganing__v1__bus_message__unpack(NULL, n, message);
    assert_non_null(f->messages[f->count++]);
    return TOB_OK;
}

static void forget(fixture *f) {
    for (size_t i = 0; i < f->count; i++) {
        tobogganing__v1__bus_message__free_unpacked(f->messages[i], NULL);
    }
    f->count = 0;
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(tob_fleet_new(&f->fleet), TOB_OK);
    assert_int_equal(tob_directory_new(&f->directory), TOB_OK);
    tob_bus_options options = {.sink = sink,
                               .sink_user = f,
                               .instance = 1,
                               .epoch = 2,
                               .fleet = f->fleet,
                               .directory = f->directory};
    assert_int_equal(tob_bus_new(&options, &f->bus), TOB_OK);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    forget(f);
    tob_bus_free(f->bus);
    tob_fleet_free(f->fleet);
    tob_directory_free(f->directory);
    free(f);
    return 0;
}

static void apply(fixture *f, const char *id) {
    Tobogganing__V1__ClientSeries series = TOBOGGANING__V1__CLIENT_SERIES__INIT;
    int64_t time = 1;
    series.client_id = (char *)id;
    series.time_unix_ms = &time;
    series.n_time_unix_ms = 1;
    assert_int_equal(tob_fleet_apply_client(f->fleet, &series, 1), TOB_OK);
}

static unsigned bucket_of(const char *id) {
    return (unsigned)(tob_id_hash(id, strlen(id)) % TOB_BUS_BUCKETS);
}

static void publish_all(fixture *f, uint64_t offset) {
    bool more = true;
    assert_int_equal(tob_bus_publish(f->bus, (tob_position){1, offset}, SIZE_MAX, &more), TOB_OK);
    assert_false(more);
}

// What is left for the next message is before the journal's end: only the last of a bucket may have it as its position.
static void only_the_last_message_of_a_bucket_has_the_journals_end(void **state) {
    fixture *f = *state;
    enum { IN_BUCKET = 2500 };
    unsigned bucket = bucket_of("c-0");
    char id[32];
    apply(f, "c-0");
    publish_all(f, 100);
    assert_int_equal(f->count, 1);
    assert_int_equal(f->messages[0]->position->offset, 100);
    forget(f);
    for (int i = 0, n = 0; n < IN_BUCKET; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        if (bucket_of(id) == bucket) {
            apply(f, id);
            n++;
        }
    }
    publish_all(f, 200);
    assert_int_equal(f->count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f->messages[i]->topic, bucket + 1);
        assert_int_equal(f->messages[i]->sequence, 2 + i);
        assert_int_equal(f->messages[i]->position->offset, i == 2 ? 200 : 100);
    }
}

static void a_bounded_publish_goes_on_where_it_left_off(void **state) {
    fixture *f = *state;
    enum { ROWS = 5000, AT_ONCE = 300 };
    char id[32];
    size_t rows = 0, calls = 0;
    for (int i = 0; i < ROWS; i++) {
        snprintf(id, sizeof(id), "c-%d", i);
        apply(f, id);
    }
    for (bool more = true; more; calls++) {
        assert_int_equal(tob_bus_publish(f->bus, (tob_position){1, 100}, AT_ONCE, &more), TOB_OK);
    }
    for (size_t i = 0; i < f->count; i++) {
        rows += f->messages[i]->n_clients;
    }
    assert_int_equal(rows, ROWS);
    assert_in_range(calls, 8, ROWS / AT_ONCE + 2);
}

static void removals_are_published_in_their_bucket_unless_the_source_came_back(void **state) {
    fixture *f = *state;
    apply(f, "gone");
    apply(f, "back");
    publish_all(f, 100);
    forget(f);
    assert_true(tob_fleet_remove(f->fleet, TOB_SOURCE_CLIENT, "gone"));
    assert_true(tob_fleet_remove(f->fleet, TOB_SOURCE_CLIENT, "back"));
    apply(f, "back");
    publish_all(f, 200);
    size_t removed = 0, rows = 0;
    for (size_t i = 0; i < f->count; i++) {
        const Tobogganing__V1__BusMessage *m = f->messages[i];
        removed += m->n_removed_clients;
        rows += m->n_clients;
        if (m->n_removed_clients) {
            assert_string_equal(m->removed_clients[0], "gone");
            assert_int_equal(m->topic, bucket_of("gone") + 1);
        }
    }
    assert_int_equal(removed, 1);
    assert_int_equal(rows, 1);
}

static void a_heartbeat_names_the_last_sequences(void **state) {
    fixture *f = *state;
    Tobogganing__V1__Manager manager = TOBOGGANING__V1__MANAGER__INIT;
    apply(f, "c-0");
    publish_all(f, 100);
    forget(f);
    manager.clients = 5;
    assert_int_equal(tob_bus_heartbeat(f->bus, &manager, (tob_position){1, 150}), TOB_OK);
    assert_int_equal(f->count, 1);
    const Tobogganing__V1__BusMessage *m = f->messages[0];
    assert_int_equal(m->topic, TOB_BUS_TOPIC_HEARTBEAT);
    assert_int_equal(m->sequence, 0);
    assert_int_equal(m->position->offset, 150);
    assert_int_equal(m->heartbeat->manager->clients, 5);
    assert_int_equal(m->heartbeat->last_sequences[bucket_of("c-0")], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_last_message_of_a_bucket_has_the_journals_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_bounded_publish_goes_on_where_it_left_off, setup, teardown),
        cmocka_unit_test_setup_teardown(removals_are_published_in_their_bucket_unless_the_source_came_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_heartbeat_names_the_last_sequences, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
