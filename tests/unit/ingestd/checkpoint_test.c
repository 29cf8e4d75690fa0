// Checkpoints are taken while changes go on: what is recovered must be what there was, whatever happened between the pages.
#include "tobogganing/v1/journal.pb-c.h"

#include "ingestd/checkpoint_pages.h"
#include "store_rig.h"

enum { FLEET = 3 * TOB_CHECKPOINT_PAGE_ROWS / 2, HEADENDS = 60, SEEDS = 12 };

static rig r;
static uint64_t seed;

static uint64_t below(uint64_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % n;
}

static int setup(void **state) {
    (void)state;
    rig_init(&r);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    rig_fini(&r);
    return 0;
}

// Some sources have much to say, in all pages.
static uint64_t some_source(tob_source_kind kind) {
    uint64_t all = kind == TOB_SOURCE_CLIENT ? FLEET + 40 : HEADENDS + 10;
    return below(2) ? below(all) : below(12) * all / 12;
}

static void name_of(tob_source_kind kind, uint64_t i, char ret[32]) {
    snprintf(ret, 32, "%s-%llu", kind == TOB_SOURCE_CLIENT ? "client" : "headend", (unsigned long long)i);
}

static void random_batch(void) {
    static uint64_t number;
    char ids[8][32];
    sample samples[8];
    bool repeated = false;
    tob_position at;
    size_t n = 1 + below(8);
    for (size_t i = 0; i < n; i++) {
        tob_source_kind kind = below(4) ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND;
        name_of(kind, some_source(kind), ids[i]);
        // Up to the five minutes that are allowed, down to two hours late.
        int64_t time = (int64_t)r.now + 300000 - (int64_t)below(7500000);
        samples[i] = (sample){kind, ids[i], time, (uint32_t)below(32), (int64_t)below(1000000)};
    }
    assert_int_equal(rig_add(&r, samples, n, below(2) ? "a" : "b", below(2), ++number, &repeated, &at),
                     TOB_OK);
}

static void random_removal(void) {
    char id[32];
    tob_source_kind kind = below(3) ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND;
    name_of(kind, some_source(kind), id);
    assert_int_equal(tob_store_add_removal(r.store, kind, id, r.now), TOB_OK);
}

static void put_process(uint64_t id, uint64_t value) {
    rig_put_process(&r, id, value);
    assert_int_equal(tob_store_add_counters(r.store, r.now), TOB_OK);
}

// Hands out what was removed, as the bus does, so that slots are used again.
static void take_removed(void) {
    char *ids[100];
    size_t n = 0;
    for (int kind = 0; kind < TOB_SOURCE_KINDS; kind++) {
        for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
            tob_fleet_take_removed(tob_store_fleet(r.store), (tob_source_kind)kind, bucket, 100, ids, &n);
            for (size_t i = 0; i < n; i++) {
                free(ids[i]);
            }
        }
    }
}

static void change_something(void) {
    for (uint64_t ops = below(60); ops > 0; ops--) {
        switch (below(12)) {
        case 0:
        case 1: random_removal(); break;
        case 2: take_removed(); break;
        case 3: put_process(10 + below(3), below(1000)); break;
        case 4: {
            tob_position to = {1, below(1000)};
            assert_int_equal(tob_store_add_consumer(r.store, below(2) ? "x" : "y", below(4) ? &to : NULL,
                                                    r.now),
                             TOB_OK);
            break;
        }
        case 5: r.now += below(400000); break;
        case 6: r.now = below(4) ? r.now : r.now - below(900000); break; // the clock is stepped back
        default: random_batch(); break;
        }
        if (below(3) == 0) {
            rig_sync(&r);
        }
    }
    rig_sync(&r);
}

static void fill(void) {
    static sample samples[FLEET + HEADENDS];
    static char ids[FLEET + HEADENDS][32];
    bool repeated = false;
    tob_position at;
    for (size_t i = 0; i < FLEET + HEADENDS; i++) {
        tob_source_kind kind = i < FLEET ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND;
        name_of(kind, i < FLEET ? i : i - FLEET, ids[i]);
        samples[i] = (sample){kind, ids[i], (int64_t)r.now - 1, 31, (int64_t)i};
    }
    assert_int_equal(rig_add(&r, samples, FLEET + HEADENDS, "first", 1, 1, &repeated, &at), TOB_OK);
    rig_sync(&r);
}

static void recovery_is_exact_whatever_happened_between_the_pages(void **state) {
    (void)state;
    fill();
    for (uint64_t round = 0; round < SEEDS; round++) {
        seed = 20260000 + round;
        change_something();
        rig_checkpoint(&r, change_something);
        change_something();
        rig_crash_and_compare(&r);
        assert_true(r.recovery.checkpoint.segment > 0);
        assert_true(tob_position_compare(r.recovery.checkpoint, rig_stats(&r).end) <= 0);
    }
    // The journal alone says the same.
    rig_lines with = rig_state(&r);
    rig_crash(&r);
    rig_delete(r.dir, "checkpoint-");
    rig_open(&r);
    assert_int_equal(r.recovery.checkpoint.segment, 0);
    rig_lines without = rig_state(&r);
    rig_same(&with, &without);
    rig_lines_free(&with);
    rig_lines_free(&without);
}

static void only_what_follows_the_checkpoint_is_read(void **state) {
    (void)state;
    fill();
    rig_checkpoint(&r, NULL);
    rig_reopen(&r);
    assert_int_equal(r.recovery.records, 0);
    assert_true(r.recovery.checkpoint_bytes > 0);
    rig_report(&r, "client-1", "a", 1, 5);
    rig_sync(&r);
    rig_crash_and_compare(&r);
    assert_int_equal(r.recovery.records, 1);
}

static void repeats_are_told_after_a_checkpoint_alone(void **state) {
    (void)state;
    for (uint64_t number = 1; number <= 5; number++) {
        assert_false(rig_report(&r, "c", "agent", number, (int64_t)number));
    }
    rig_sync(&r);
    uint64_t received = r.now;
    rig_checkpoint(&r, NULL);
    r.now += 60000;
    rig_reopen(&r);
    assert_int_equal(r.recovery.records, 0);
    uint64_t now = r.now;
    r.now = received; // the sample's time is in the batch
    for (uint64_t number = 2; number <= 5; number++) {
        assert_true(rig_report(&r, "c", "agent", number, (int64_t)number));
    }
    assert_false(rig_report(&r, "c", "agent", 1, 1)); // the fifth last
    r.now = now;
    rig_sync(&r);
    assert_int_equal(rig_stats(&r).stored_batches, 6);
    assert_int_equal(rig_stats(&r).repeated_batches, 4);
}

static void removed_rows_leave_no_page_empty(void **state) {
    (void)state;
    fill();
    for (uint64_t i = 0; i < FLEET; i++) {
        char id[32];
        name_of(TOB_SOURCE_CLIENT, i, id);
        if (i % 4000 != 3999) {
            assert_int_equal(tob_store_add_removal(r.store, TOB_SOURCE_CLIENT, id, r.now), TOB_OK);
        }
    }
    rig_sync(&r);
    take_removed();
    assert_int_equal(tob_fleet_clients(tob_store_fleet(r.store)), FLEET / 4000);
    rig_checkpoint(&r, NULL);
    rig_crash_and_compare(&r);
}

// ---- what passes the checksums and is none of ours

typedef struct forgery {
    Tobogganing__V1__CheckpointRecord record;
    Tobogganing__V1__CheckpointHead head;
    Tobogganing__V1__Position position;
    Tobogganing__V1__ClientStates clients;
    Tobogganing__V1__HeadendStates headends;
    Tobogganing__V1__BatchDigests digests;
    char *id, *name;
    protobuf_c_boolean headless[2];
    uint64_t counts[2];
    int64_t times[2];
    uint32_t present[2];
    double gauges[2];
    uint8_t senders[32];
} forgery;

// A page of one row or sender that is right.
static void forge(forgery *f, tob_position at) {
    *f = (forgery){.id = (char *)"x", .name = (char *)"y"};
    tobogganing__v1__checkpoint_record__init(&f->record);
    tobogganing__v1__checkpoint_head__init(&f->head);
    tobogganing__v1__position__init(&f->position);
    tobogganing__v1__client_states__init(&f->clients);
    tobogganing__v1__headend_states__init(&f->headends);
    tobogganing__v1__batch_digests__init(&f->digests);
    f->position.segment = at.segment;
    f->position.offset = at.offset;
    f->head.position = &f->position;
    f->record.head = &f->head;
    Tobogganing__V1__ClientStates *c = &f->clients;
    c->client_ids = &f->id;
    c->headless = f->headless;
    c->last_check_in_unix_ms = c->bytes_sent = c->bytes_received = f->counts;
    c->packets_sent = c->packets_received = c->connection_uptime_ms = f->counts;
    c->sample_time_unix_ms = f->times;
    c->present = f->present;
    c->n_client_ids = c->n_headless = c->n_last_check_in_unix_ms = c->n_sample_time_unix_ms = c->n_present =
        1;
    c->n_bytes_sent = c->n_bytes_received = c->n_packets_sent = c->n_packets_received = 1;
    c->n_connection_uptime_ms = 1;
    Tobogganing__V1__HeadendStates *h = &f->headends;
    h->headend_ids = &f->id;
    h->names = &f->name;
    h->last_check_in_unix_ms = f->counts;
    h->sample_time_unix_ms = f->times;
    h->present = f->present;
    h->active_connections = h->bandwidth_in = h->bandwidth_out = h->cpu_usage = h->memory_usage = f->gauges;
    h->n_headend_ids = h->n_names = h->n_last_check_in_unix_ms = h->n_sample_time_unix_ms = h->n_present = 1;
    h->n_active_connections = h->n_bandwidth_in = h->n_bandwidth_out = h->n_cpu_usage = h->n_memory_usage = 1;
    f->digests.senders = (ProtobufCBinaryData){.len = 16, .data = f->senders};
    f->digests.digests = f->counts;
    f->digests.heard_unix_s = f->present;
    f->digests.n_heard_unix_s = 1;
}

// Opens a store whose checkpoint has a right head and this record; what was wrong is in r.problem.
static tob_error open_forged(const void *payload, size_t n) {
    tob_checkpoint_writer *writer = NULL;
    tob_store_cursor cursor;
    tob_buffer page;
    uint64_t bytes = 0;
    tob_buffer_init(&page, TOB_JOURNAL_MAX_RECORD_BYTES);
    if (!r.store) {
        rig_delete(r.dir, "checkpoint-");
        rig_open(&r);
    }
    assert_int_equal(tob_store_checkpoint_begin(r.store, r.now, &page, &cursor), TOB_OK);
    assert_int_equal(tob_checkpoint_create(r.dir, cursor.at, &writer, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_append(writer, page.data, page.len, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_append(writer, payload, n, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_commit(writer, &bytes, &r.problem), TOB_OK);
    tob_buffer_fini(&page);
    rig_crash(&r);
    return rig_try_open(&r);
}

static tob_error open_record(const forgery *f) {
    static uint8_t packed[4096];
    return open_forged(packed, tobogganing__v1__checkpoint_record__pack(&f->record, packed));
}

static void refused(const forgery *f, const char *reason) {
    assert_int_equal(open_record(f), TOB_DAMAGED);
    assert_non_null(strstr(r.problem.text, reason));
    assert_non_null(strstr(r.problem.text, "/checkpoint-"));
    assert_non_null(strstr(r.problem.text, ".ckpt at offset "));
}

static void clients_that_can_not_be_are_refused(void **state) {
    (void)state;
    forgery f;
    tob_position at = rig_stats(&r).end;
    forge(&f, at);
    f.record.clients = &f.clients;
    assert_int_equal(open_record(&f), TOB_OK);
    f.clients.n_bytes_sent = 2;
    refused(&f, "length");
    f.clients.n_bytes_sent = 0;
    refused(&f, "length");
    f.clients.n_bytes_sent = 1;
    f.id = (char *)"a b";
    refused(&f, "id:");
    f.id = (char *)"x";
    f.counts[0] = (uint64_t)INT64_MAX + 1;
    refused(&f, "2^63-1");
    f.counts[0] = 0;
    f.present[0] = 32;
    refused(&f, "present");
    f.present[0] = 31;
    f.times[0] = -2;
    refused(&f, "sample_time");
    f.times[0] = -1;
    f.position.segment = 0;
    refused(&f, "position");
    f.head.position = NULL;
    refused(&f, "position");
}

static void headends_that_can_not_be_are_refused(void **state) {
    (void)state;
    forgery f;
    forge(&f, rig_stats(&r).end);
    f.record.headends = &f.headends;
    assert_int_equal(open_record(&f), TOB_OK);
    f.headends.n_names = 0;
    refused(&f, "length");
    f.headends.n_names = 1;
    f.name = (char *)"a\nb";
    refused(&f, "names");
    f.name = (char *)"";
    f.gauges[0] = -1;
    refused(&f, "2^63-1");
    f.gauges[0] = 0.0 / 0.0;
    refused(&f, "2^63-1");
}

static void digests_that_can_not_be_are_refused(void **state) {
    (void)state;
    forgery f;
    uint64_t four[4] = {1, 2, 3, 4};
    forge(&f, rig_stats(&r).end);
    f.record.digests = &f.digests;
    refused(&f, "digests");
    f.digests.digests = four;
    f.digests.n_digests = 4;
    assert_int_equal(open_record(&f), TOB_OK);
    f.digests.senders.len = 17;
    refused(&f, "digests");
    f.record.digests = NULL;
    refused(&f, "neither");
}

static void bytes_that_are_no_record_are_refused(void **state) {
    (void)state;
    assert_int_equal(open_forged("\xff\xff\xff", 3), TOB_DAMAGED);
    assert_non_null(strstr(r.problem.text, "CheckpointRecord"));
    // A head for another place than the file's name says.
    tob_checkpoint_writer *writer = NULL;
    uint64_t bytes = 0;
    uint8_t packed[100];
    forgery f;
    rig_delete(r.dir, "checkpoint-");
    rig_open(&r);
    forge(&f, (tob_position){9, 9});
    size_t n = tobogganing__v1__checkpoint_record__pack(&f.record, packed);
    assert_int_equal(tob_checkpoint_create(r.dir, rig_stats(&r).end, &writer, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_append(writer, packed, n, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_commit(writer, &bytes, &r.problem), TOB_OK);
    rig_crash(&r);
    assert_int_equal(rig_try_open(&r), TOB_DAMAGED);
    assert_non_null(strstr(r.problem.text, "position"));
}

static void an_empty_checkpoint_is_refused(void **state) {
    (void)state;
    tob_checkpoint_writer *writer = NULL;
    uint64_t bytes = 0;
    assert_int_equal(tob_checkpoint_create(r.dir, rig_stats(&r).end, &writer, &r.problem), TOB_OK);
    assert_int_equal(tob_checkpoint_commit(writer, &bytes, &r.problem), TOB_OK);
    rig_crash(&r);
    assert_int_equal(rig_try_open(&r), TOB_DAMAGED);
    assert_non_null(strstr(r.problem.text, "at offset "));
}

static void report_something(void) {
    rig_report(&r, "between", "b", r.now, 5);
    rig_sync(&r);
}

static void a_journal_that_ends_before_a_page_is_refused(void **state) {
    (void)state;
    char path[200];
    fill();
    tob_position head = rig_stats(&r).end;
    rig_checkpoint(&r, report_something);
    assert_true(tob_position_compare(rig_stats(&r).end, head) > 0);
    rig_crash(&r);
    snprintf(path, sizeof(path), "%s/journal-%016llx.seg", r.dir, (unsigned long long)head.segment);
    assert_int_equal(truncate(path, (off_t)head.offset),
                     0); // the checkpoint's place is there, its pages' are not
    assert_int_equal(rig_try_open(&r), TOB_DAMAGED);
    assert_non_null(strstr(r.problem.text, "the journal ends here"));
}

static void mutated_pages_are_refused_or_harmless(void **state) {
    (void)state;
    enum { PAGES = 6, ROUNDS = 3000 };
    static uint8_t mutated[65536];
    tob_buffer pages[PAGES];
    tob_store_cursor cursor;
    size_t loaded = 0;
    for (uint64_t i = 0; i < 20; i++) {
        random_batch();
    }
    put_process(10, 5);
    assert_int_equal(tob_store_add_consumer(r.store, "x", &(tob_position){1, 40}, r.now), TOB_OK);
    rig_sync(&r);
    for (size_t i = 0; i < PAGES; i++) {
        tob_buffer_init(&pages[i], sizeof(mutated));
        assert_int_equal(i == 0 ? tob_store_checkpoint_begin(r.store, r.now, &pages[0], &cursor)
                                : tob_store_checkpoint_page(r.store, &cursor, &pages[i]),
                         TOB_OK);
    }
    assert_int_equal(pages[PAGES - 1].len,
                     0); // head, clients, headends, no older senders, newer ones, nothing
    seed = 77;
    for (int round = 0; round < ROUNDS; round++) {
        tob_tables tables;
        tob_checkpoint_loader *loader = NULL;
        const char *reason = NULL;
        const tob_buffer *page = &pages[below(PAGES - 1)];
        memcpy(mutated, page->data, page->len);
        for (uint64_t i = 0; i <= below(4); i++) {
            mutated[below(page->len)] = (uint8_t)below(256);
        }
        size_t len = below(4) ? page->len : below(page->len) + 1;
        assert_int_equal(tob_tables_init(&tables), TOB_OK);
        assert_int_equal(tob_checkpoint_loader_new(&tables, cursor.at, 0, &loader), TOB_OK);
        tob_error err = page == &pages[0]
                            ? TOB_OK
                            : tob_checkpoint_load(loader, r.arena, pages[0].data, pages[0].len, &reason);
        assert_int_equal(err, TOB_OK);
        err = tob_checkpoint_load(loader, r.arena, mutated, len, &reason);
        assert_true(err == TOB_OK || (err == TOB_DAMAGED && reason));
        loaded += !err;
        tob_checkpoint_loader_free(loader);
        tob_tables_fini(&tables);
    }
    assert_true(loaded > 0 && loaded < ROUNDS);
    for (size_t i = 0; i < PAGES; i++) {
        tob_buffer_fini(&pages[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(recovery_is_exact_whatever_happened_between_the_pages, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(only_what_follows_the_checkpoint_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(repeats_are_told_after_a_checkpoint_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(removed_rows_leave_no_page_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_that_can_not_be_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(headends_that_can_not_be_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(digests_that_can_not_be_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_record_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_checkpoint_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_journal_that_ends_before_a_page_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(mutated_pages_are_refused_or_harmless, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
