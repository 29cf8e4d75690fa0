// What the journal commands take for records of ours, and what a repair puts in the place of others.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "ctl/journal_records.h"

#define AT ((tob_position){1, 40})

typedef struct fixture {
    tob_ctl_journal_records records;
    tob_ctl_record last; // strings not kept
    char kind[16];
    char agent[32];
    size_t count;
} fixture;

static void keep(void *user, tob_position at, const tob_ctl_record *record) {
    fixture *f = user;
    assert_true(at.segment > 0);
    f->last = *record;
    snprintf(f->kind, sizeof(f->kind), "%s", record->kind);
    snprintf(f->agent, sizeof(f->agent), "%s", record->agent_id);
    f->count++;
}

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(tob_ctl_journal_records_init(&f->records), TOB_OK);
    f->records.on_record = keep;
    f->records.user = f;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    tob_ctl_journal_records_fini(&f->records);
    free(f);
    return 0;
}

static tob_error check(fixture *f, tob_position at, const Tobogganing__V1__Record *record,
                       tob_verify_note *note) {
    uint8_t bytes[4096];
    assert_true(tobogganing__v1__record__get_packed_size(record) <= sizeof(bytes));
    size_t n = tobogganing__v1__record__pack(record, bytes);
    *note = (tob_verify_note){.reason = NULL};
    return tob_ctl_check_record(&f->records, at, bytes, n, note);
}

static tob_error check_page(fixture *f, tob_position at, const Tobogganing__V1__CheckpointRecord *record,
                            tob_verify_note *note) {
    uint8_t bytes[4096];
    assert_true(tobogganing__v1__checkpoint_record__get_packed_size(record) <= sizeof(bytes));
    size_t n = tobogganing__v1__checkpoint_record__pack(record, bytes);
    *note = (tob_verify_note){.reason = NULL};
    return tob_ctl_check_checkpoint_record(&f->records, at, bytes, n, note);
}

static void a_batch_is_told_with_its_sender_and_samples(void **state) {
    fixture *f = *state;
    int64_t times[] = {1000, 10}, sent[] = {5, 1};
    Tobogganing__V1__ClientSeries series = TOBOGGANING__V1__CLIENT_SERIES__INIT, *clients[] = {&series};
    Tobogganing__V1__Batch batch = TOBOGGANING__V1__BATCH__INIT;
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    uint8_t bytes[256];
    tob_verify_note note;
    series.client_id = (char *)"c";
    series.time_unix_ms = times;
    series.bytes_sent = sent;
    series.n_time_unix_ms = series.n_bytes_sent = 2;
    batch.agent_id = (char *)"agent-7";
    batch.boot_id = 12;
    batch.number = 34;
    batch.clients = clients;
    batch.n_clients = 1;
    record.received_unix_ms = 1700000000000;
    record.batch = (ProtobufCBinaryData){tobogganing__v1__batch__pack(&batch, bytes), bytes};
    assert_int_equal(check(f, AT, &record, &note), TOB_OK);
    assert_int_equal(note.unix_ms, 1700000000000);
    assert_string_equal(f->kind, "batch");
    assert_string_equal(f->agent, "agent-7");
    assert_int_equal(f->last.boot_id, 12);
    assert_int_equal(f->last.number, 34);
    assert_int_equal(f->last.series, 1);
    assert_int_equal(f->last.samples, 2);
    // A column of another length, as recovery would refuse it.
    series.n_bytes_sent = 1;
    record.batch.len = tobogganing__v1__batch__pack(&batch, bytes);
    assert_int_equal(check(f, AT, &record, &note), TOB_DAMAGED);
    assert_non_null(note.reason);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(check(f, AT, &record, &note), TOB_DAMAGED);
    assert_string_equal(note.reason, "its batch can't be unpacked");
    record.batch.len = 0;
    record.received_unix_ms = UINT64_MAX;
    assert_int_equal(check(f, AT, &record, &note), TOB_DAMAGED);
    assert_int_equal(f->count, 1);
    assert_int_equal(tob_ctl_check_record(&f->records, AT, "\xff\xff", 2, &note), TOB_DAMAGED);
}

static void the_last_that_was_said_about_a_consumer_counts(void **state) {
    fixture *f = *state;
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    Tobogganing__V1__CheckpointRecord page = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__CheckpointHead head = TOBOGGANING__V1__CHECKPOINT_HEAD__INIT;
    Tobogganing__V1__ConsumerPosition consumer = TOBOGGANING__V1__CONSUMER_POSITION__INIT,
                                      *consumers[] = {&consumer};
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT,
                              place = TOBOGGANING__V1__POSITION__INIT;
    const tob_position *places = NULL;
    size_t count = 0;
    tob_verify_note note;
    consumer.consumer = (char *)"remote-write";
    consumer.position = &position;
    position.segment = place.segment = 2;
    position.offset = place.offset = 400;
    head.position = &place;
    head.consumers = consumers;
    head.n_consumers = 1;
    page.head = &head;
    assert_int_equal(check_page(f, (tob_position){2, 400}, &page, &note), TOB_OK);
    assert_true(note.head);
    record.consumers = consumers;
    record.n_consumers = 1;
    position.offset = 40; // in a record from before the checkpoint
    assert_int_equal(check(f, (tob_position){2, 200}, &record, &note), TOB_OK);
    assert_string_equal(f->kind, "consumers");
    assert_int_equal(tob_ctl_consumer_places(&f->records, &places, &count), TOB_OK);
    assert_int_equal(count, 1);
    assert_int_equal(places[0].offset, 400);
    position.offset = 480;
    assert_int_equal(check(f, (tob_position){2, 500}, &record, &note), TOB_OK);
    assert_int_equal(tob_ctl_consumer_places(&f->records, &places, &count), TOB_OK);
    assert_int_equal(places[0].offset, 480);
    consumer.position = NULL; // forgotten
    assert_int_equal(check(f, (tob_position){2, 600}, &record, &note), TOB_OK);
    assert_int_equal(tob_ctl_consumer_places(&f->records, &places, &count), TOB_OK);
    assert_int_equal(count, 0);
    consumer.consumer = (char *)"a b";
    assert_int_equal(check(f, (tob_position){2, 700}, &record, &note), TOB_DAMAGED);
    char name[16];
    consumer.consumer = name;
    for (unsigned i = 1; i < TOB_CTL_MAX_CONSUMERS; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        assert_int_equal(check(f, (tob_position){3, i}, &record, &note), TOB_OK);
    }
    snprintf(name, sizeof(name), "one-more");
    assert_int_equal(check(f, (tob_position){4, 40}, &record, &note), TOB_DAMAGED);
}

static void a_checkpoints_pages_are_counted_and_say_how_far_the_journal_must_reach(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CheckpointRecord page = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__CheckpointHead head = TOBOGGANING__V1__CHECKPOINT_HEAD__INIT;
    Tobogganing__V1__Position place = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__ClientStates states = TOBOGGANING__V1__CLIENT_STATES__INIT;
    char *ids[] = {(char *)"a", (char *)"b"};
    protobuf_c_boolean headless[2] = {0};
    uint64_t numbers[2] = {0};
    int64_t times[2] = {0};
    uint32_t present[2] = {0};
    tob_verify_note note;
    tob_position at = {2, 400};
    states.client_ids = ids;
    states.headless = headless;
    states.sample_time_unix_ms = times;
    states.present = present;
    states.last_check_in_unix_ms = states.bytes_sent = states.bytes_received = states.packets_sent =
        states.packets_received = states.connection_uptime_ms = numbers;
    states.n_client_ids = states.n_headless = states.n_sample_time_unix_ms = states.n_present = 2;
    states.n_last_check_in_unix_ms = states.n_bytes_sent = states.n_bytes_received = 2;
    states.n_packets_sent = states.n_packets_received = states.n_connection_uptime_ms = 2;
    place.segment = 2;
    place.offset = 900;
    head.position = &place;
    page.head = &head;
    page.clients = &states;
    assert_int_equal(check_page(f, at, &page, &note), TOB_OK);
    assert_int_equal(note.reaches.offset, 900);
    assert_false(note.head);
    assert_int_equal(tob_ctl_checkpoint_at(&f->records, at)->clients, 2);
    assert_null(tob_ctl_checkpoint_at(&f->records, AT));
    states.n_present = 1;
    assert_int_equal(check_page(f, at, &page, &note), TOB_DAMAGED);
    states.n_present = 2;
    place.offset = 399;
    assert_int_equal(check_page(f, at, &page, &note), TOB_DAMAGED);
    page.clients = NULL; // a head, for another place
    assert_int_equal(check_page(f, at, &page, &note), TOB_DAMAGED);
    page.head = NULL;
    assert_int_equal(check_page(f, at, &page, &note), TOB_DAMAGED);
}

// The payload of a filler of n bytes.
static uint8_t *filler(uint64_t unix_ms, size_t n) {
    uint8_t begin[TOB_REPAIR_FILLER_BYTES] = {0};
    size_t used = tob_ctl_make_filler(unix_ms, n, begin);
    assert_true(used <= n && used <= sizeof(begin));
    uint8_t *bytes = calloc(1, n);
    memcpy(bytes, begin, used);
    return bytes;
}

static void a_filler_of_any_size_is_a_record_that_has_nothing(void **state) {
    fixture *f = *state;
    static const size_t sizes[] = {8,   16,    24,    32,    40,       128,      136,
                                   144, 16384, 16392, 16400, 1u << 21, 16u << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int timed = 0; timed <= 1; timed++) {
            tob_verify_note note = {.reason = NULL};
            uint8_t *bytes = filler(timed ? UINT64_C(1700000000000) : 0, sizes[i]);
            assert_int_equal(tob_ctl_check_record(&f->records, AT, bytes, sizes[i], &note), TOB_OK);
            assert_string_equal(f->kind, "lost");
            assert_int_equal(note.unix_ms, timed && sizes[i] >= 24 ? UINT64_C(1700000000000) : 0);
            free(bytes);
        }
    }
}

static void a_head_that_is_made_has_what_the_newest_had_at_its_own_place(void **state) {
    fixture *f = *state;
    Tobogganing__V1__CheckpointRecord page = TOBOGGANING__V1__CHECKPOINT_RECORD__INIT;
    Tobogganing__V1__CheckpointHead head = TOBOGGANING__V1__CHECKPOINT_HEAD__INIT;
    Tobogganing__V1__Position place = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__ConsumerPosition consumer = TOBOGGANING__V1__CONSUMER_POSITION__INIT,
                                      *consumers[] = {&consumer};
    Tobogganing__V1__CheckpointRecord *made = NULL;
    tob_verify_note note;
    tob_buffer buffer;
    tob_buffer_init(&buffer, 1u << 20);
    // Without any: a head and nothing else.
    assert_int_equal(tob_ctl_make_head(&f->records, (tob_position){7, 80}, &buffer), TOB_OK);
    made = tobogganing__v1__checkpoint_record__unpack(NULL, buffer.len, buffer.data);
    assert_int_equal(made->head->position->segment, 7);
    assert_int_equal(made->head->stored_samples, 0);
    tobogganing__v1__checkpoint_record__free_unpacked(made, NULL);
    place.segment = 5;
    place.offset = 48;
    consumer.consumer = (char *)"remote-write";
    consumer.position = &place;
    head.position = &place;
    head.stored_samples = 99;
    head.consumers = consumers;
    head.n_consumers = 1;
    page.head = &head;
    assert_int_equal(check_page(f, (tob_position){5, 48}, &page, &note), TOB_OK);
    place.segment = 4;
    head.stored_samples = 88; // of an older one
    assert_int_equal(check_page(f, (tob_position){4, 48}, &page, &note), TOB_OK);
    tob_buffer_clear(&buffer);
    assert_int_equal(tob_ctl_make_head(&f->records, (tob_position){7, 80}, &buffer), TOB_OK);
    made = tobogganing__v1__checkpoint_record__unpack(NULL, buffer.len, buffer.data);
    assert_int_equal(made->head->position->segment, 7);
    assert_int_equal(made->head->position->offset, 80);
    assert_int_equal(made->head->stored_samples, 99);
    assert_int_equal(made->head->n_consumers, 1);
    assert_int_equal(made->head->consumers[0]->position->segment, 5);
    tobogganing__v1__checkpoint_record__free_unpacked(made, NULL);
    tob_buffer_fini(&buffer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_batch_is_told_with_its_sender_and_samples),
        TEST(the_last_that_was_said_about_a_consumer_counts),
        TEST(a_checkpoints_pages_are_counted_and_say_how_far_the_journal_must_reach),
        TEST(a_filler_of_any_size_is_a_record_that_has_nothing),
        TEST(a_head_that_is_made_has_what_the_newest_had_at_its_own_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
