#include <signal.h>
#include <sys/resource.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "store_rig.h"

static rig r;

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

static bool same_place(tob_position a, tob_position b) {
    return tob_position_compare(a, b) == 0;
}

static void remove_client(const char *id) {
    assert_int_equal(tob_store_add_removal(r.store, TOB_SOURCE_CLIENT, id, r.now), TOB_OK);
}

// ---- batches

static void a_batch_is_applied_by_the_sync_and_not_before(void **state) {
    (void)state;
    const sample s = {TOB_SOURCE_CLIENT, "c", (int64_t)r.now, 31, 10};
    bool repeated = true;
    tob_position at, before = rig_stats(&r).end;
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &at), TOB_OK);
    assert_false(repeated);
    assert_true(same_place(at, before));
    assert_int_equal(rig_value(&r, "c"), -1);
    assert_int_equal(rig_stats(&r).stored_batches, 0);
    rig_sync(&r);
    assert_int_equal(rig_value(&r, "c"), 10);
    assert_int_equal(rig_stats(&r).stored_batches, 1);
    assert_int_equal(rig_stats(&r).stored_samples, 1);
    assert_true(tob_position_compare(rig_stats(&r).end, at) > 0);
    rig_crash_and_compare(&r);
    assert_int_equal(r.recovery.records, 1);
}

static void what_was_not_synced_never_was(void **state) {
    (void)state;
    rig_report(&r, "c", "agent", 1, 10);
    rig_sync(&r);
    rig_report(&r, "c", "agent", 2, 20);
    rig_report(&r, "d", "agent", 3, 30);
    rig_reopen(&r);
    assert_int_equal(rig_value(&r, "c"), 10);
    assert_int_equal(rig_value(&r, "d"), -1);
    assert_int_equal(rig_stats(&r).stored_batches, 1);
    assert_false(rig_report(&r, "c", "agent", 2, 20));
}

static void a_repeat_is_stored_and_counted_once(void **state) {
    (void)state;
    const sample s = {TOB_SOURCE_CLIENT, "c", (int64_t)r.now, 31, 10};
    bool repeated = false;
    tob_position first, at;
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &first), TOB_OK);
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &at), TOB_OK); // in the same group
    assert_true(repeated);
    assert_true(tob_position_compare(at, first) > 0);
    rig_sync(&r);
    assert_true(same_place(at, rig_stats(&r).end));
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &at), TOB_OK); // in another
    assert_true(repeated);
    assert_true(same_place(at, rig_stats(&r).end));
    rig_sync(&r);
    assert_int_equal(rig_stats(&r).repeated_batches, 2);
    rig_reopen(&r); // after a crash
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &at), TOB_OK);
    assert_true(repeated);
    rig_sync(&r);
    rig_checkpoint(&r, NULL); // and after a checkpoint
    rig_reopen(&r);
    assert_int_equal(rig_add(&r, &s, 1, "agent", 7, 1, &repeated, &at), TOB_OK);
    assert_true(repeated);
    rig_sync(&r);
    assert_int_equal(rig_stats(&r).stored_batches, 1);
    assert_int_equal(rig_stats(&r).stored_samples, 1);
    assert_int_equal(rig_add(&r, &s, 1, "agent", 8, 1, &repeated, &at), TOB_OK); // another start of the agent
    assert_false(repeated);
}

static void the_fifth_last_batch_is_no_repeat_also_within_a_group(void **state) {
    (void)state;
    for (uint64_t number = 1; number <= 3; number++) {
        rig_report(&r, "c", "agent", number, 1);
    }
    rig_sync(&r);
    rig_report(&r, "c", "agent", 4, 1);
    assert_true(rig_report(&r, "c", "agent", 1, 1));
    rig_report(&r, "c", "agent", 5, 1);
    assert_true(rig_report(&r, "c", "agent", 2, 1));
    assert_false(rig_report(&r, "c", "agent", 1, 1));
    rig_sync(&r);
    assert_int_equal(rig_stats(&r).stored_batches, 6);
    rig_crash_and_compare(&r);
}

// ---- writes that fail

static void limit_files(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_group_that_can_not_be_written_changes_nothing(void **state) {
    (void)state;
    const tob_position to = {1, 40};
    bool fatal = true;
    signal(SIGXFSZ, SIG_IGN);
    rig_report(&r, "c", "agent", 1, 10);
    rig_report(&r, "gone", "agent", 2, 10);
    rig_put_process(&r, 9, 1);
    assert_int_equal(tob_store_add_counters(r.store, r.now), TOB_OK);
    rig_sync(&r);
    rig_lines before = rig_state(&r);
    limit_files((rlim_t)rig_stats(&r).end.offset);
    for (int i = 0; i < 2; i++) {
        assert_false(rig_report(&r, "c", "agent", 3, 20));
        assert_true(rig_report(&r, "c", "agent", 3, 20));
        assert_false(rig_report(&r, "new", "other", 1, 20));
        remove_client("gone");
        assert_int_equal(tob_store_add_consumer(r.store, "x", &to, r.now), TOB_OK);
        tob_position end = rig_stats(&r).end;
        assert_int_equal(tob_store_sync(r.store, &fatal, &r.problem), TOB_IO);
        assert_false(fatal);
        assert_non_null(strstr(r.problem.text, ".seg at offset"));
        assert_true(same_place(rig_stats(&r).end, end));
        rig_lines after = rig_state(&r);
        rig_same(&before, &after);
        rig_lines_free(&after);
        assert_int_equal(rig_stats(&r).repeated_batches, 0);
    }
    limit_files(RLIM_INFINITY);
    rig_crash_and_compare(&r);
    rig_lines_free(&before);
    assert_false(rig_report(&r, "c", "agent", 3, 20));
    remove_client("gone");
    rig_sync(&r);
    assert_int_equal(rig_value(&r, "c"), 20);
    assert_int_equal(rig_value(&r, "gone"), -1);
    assert_int_equal(rig_stats(&r).stored_batches, 3);
    rig_crash_and_compare(&r);
}

static void counters_that_were_not_written_are_added_again(void **state) {
    (void)state;
    bool fatal = false;
    signal(SIGXFSZ, SIG_IGN);
    rig_put_process(&r, 9, 5);
    assert_int_equal(tob_store_add_counters(r.store, r.now), TOB_OK);
    limit_files(40);
    assert_int_equal(tob_store_sync(r.store, &fatal, &r.problem), TOB_IO);
    limit_files(RLIM_INFINITY);
    assert_int_equal(tob_store_add_counters(r.store, r.now), TOB_OK);
    rig_sync(&r);
    rig_crash_and_compare(&r);
    tob_position end = rig_stats(&r).end;
    assert_int_equal(tob_store_add_counters(r.store, r.now), TOB_OK); // nothing new
    rig_sync(&r);
    assert_true(same_place(rig_stats(&r).end, end));
}

// ---- removals

static void removals_and_reports_of_a_group_happen_in_their_order(void **state) {
    (void)state;
    rig_report(&r, "a", "agent", 1, 1);
    rig_report(&r, "b", "agent", 2, 1);
    rig_sync(&r);
    remove_client("a");
    rig_report(&r, "a", "agent", 3, 2); // comes back
    rig_report(&r, "b", "agent", 4, 2);
    remove_client("b");
    rig_report(&r, "new", "agent", 5, 2);
    remove_client("new");
    remove_client("a");
    rig_report(&r, "a", "agent", 6, 3);
    rig_report(&r, "gone", "agent", 7, 3);
    remove_client("gone");
    rig_sync(&r);
    assert_int_equal(rig_value(&r, "a"), 3);
    assert_int_equal(rig_value(&r, "b"), -1);
    assert_int_equal(rig_value(&r, "new"), -1);
    assert_int_equal(rig_value(&r, "gone"), -1);
    rig_crash_and_compare(&r);
    remove_client("a");
    rig_sync(&r);
    assert_int_equal(rig_value(&r, "a"), -1);
    rig_crash_and_compare(&r);
}

static void a_removal_is_journalled_once_and_only_of_a_row(void **state) {
    (void)state;
    rig_report(&r, "a", "agent", 1, 1);
    rig_sync(&r);
    tob_position end = rig_stats(&r).end;
    remove_client("nobody");
    assert_int_equal(tob_store_add_removal(r.store, TOB_SOURCE_HEADEND, "a", r.now), TOB_OK);
    rig_sync(&r);
    assert_true(same_place(rig_stats(&r).end, end));
    remove_client("a");
    rig_sync(&r);
    uint64_t one = rig_stats(&r).end.offset - end.offset;
    assert_true(one > 0);
    rig_report(&r, "a", "agent", 2, 1);
    rig_sync(&r);
    end = rig_stats(&r).end;
    for (int i = 0; i < 5; i++) {
        remove_client("a");
    }
    rig_sync(&r);
    assert_int_equal(rig_stats(&r).end.offset - end.offset, one);
    assert_int_equal(tob_store_add_removal(r.store, TOB_SOURCE_CLIENT, "no id", r.now), TOB_INVALID);
}

// ---- consumers

static tob_error commit(const char *name, uint64_t offset) {
    const tob_position to = {1, offset};
    return tob_store_add_consumer(r.store, name, offset ? &to : NULL, r.now);
}

static void consumers_keep_their_positions_and_leases(void **state) {
    (void)state;
    uint64_t wait = 0;
    assert_int_equal(commit("x", 40), TOB_OK);
    assert_int_equal(commit("y", 40), TOB_OK);
    assert_null(tob_consumers_find(tob_store_consumers(r.store), "x"));
    rig_sync(&r);
    assert_int_equal(tob_consumers_lease(tob_store_consumers(r.store), "x", 5, 0, 100, &wait), TOB_OK);
    assert_int_equal(commit("x", 80), TOB_OK);
    assert_int_equal(commit("y", 0), TOB_OK);
    rig_sync(&r);
    const tob_consumer *x = tob_consumers_find(tob_store_consumers(r.store), "x");
    assert_int_equal(x->position.offset, 80);
    assert_int_equal(x->holder, 5);
    assert_null(tob_consumers_find(tob_store_consumers(r.store), "y"));
    rig_crash_and_compare(&r);
    assert_int_equal(tob_consumers_find(tob_store_consumers(r.store), "x")->holder, 0);
    rig_checkpoint(&r, NULL);
    rig_crash_and_compare(&r);
    assert_int_equal(commit("no name", 40), TOB_INVALID);
    assert_int_equal(commit("nobody", 0), TOB_OK);
}

static void consumers_over_the_limit_are_refused_queued_ones_included(void **state) {
    (void)state;
    char name[16];
    for (int i = 0; i < TOB_CONSUMERS_MAX; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        assert_int_equal(commit(name, 40), TOB_OK);
        if (i == 20) {
            rig_sync(&r);
        }
    }
    assert_int_equal(commit("more", 40), TOB_BUSY);
    assert_int_equal(commit("c3", 80), TOB_OK);
    assert_int_equal(commit("c50", 80), TOB_OK);
    assert_int_equal(commit("c0", 0), TOB_OK);
    assert_int_equal(commit("more", 40), TOB_OK);
    assert_int_equal(commit("c0", 40), TOB_BUSY);
    assert_int_equal(commit("c60", 0), TOB_OK); // queued only
    assert_int_equal(commit("c0", 40), TOB_OK);
    rig_sync(&r);
    size_t n = 0;
    tob_consumers_all(tob_store_consumers(r.store), &n);
    assert_int_equal(n, TOB_CONSUMERS_MAX);
    rig_crash_and_compare(&r);
}

// ---- the journal's rest

static void old_segments_go_once_two_checkpoints_make_them_needless(void **state) {
    (void)state;
    enum { SERIES = 2000 };
    static sample samples[SERIES];
    static char ids[SERIES][32];
    uint64_t removed = 0, number = 0;
    bool repeated = false;
    tob_position at;
    for (int checkpoints = 0; checkpoints < 3; checkpoints++) {
        while (rig_stats(&r).end.segment < (uint64_t)checkpoints + 2) {
            for (size_t i = 0; i < SERIES; i++) {
                snprintf(ids[i], sizeof(ids[i]), "client-%zu", i);
                samples[i] = (sample){TOB_SOURCE_CLIENT, ids[i], (int64_t)r.now, 31, (int64_t)number};
            }
            assert_int_equal(rig_add(&r, samples, SERIES, "agent", 7, ++number, &repeated, &at), TOB_OK);
            rig_sync(&r);
        }
        assert_int_equal(tob_store_retain(r.store, UINT64_C(4102444800000), &removed, &r.problem), TOB_OK);
        assert_int_equal(removed, checkpoints < 2 ? 0 : 1);
        rig_checkpoint(&r, NULL);
    }
    assert_int_equal(tob_store_retain(r.store, UINT64_C(4102444800000), &removed, &r.problem), TOB_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(rig_stats(&r).oldest.segment, 3);
    rig_crash_and_compare(&r);
    // A start knows the checkpoint before the newest, too.
    assert_int_equal(tob_store_retain(r.store, UINT64_C(4102444800000), &removed, &r.problem), TOB_OK);
    assert_int_equal(removed, 0);
    rig_checkpoint(&r, NULL); // at the same place: that before is still the same
    assert_int_equal(tob_store_retain(r.store, UINT64_C(4102444800000), &removed, &r.problem), TOB_OK);
    assert_int_equal(removed, 0);
}

static void only_one_store_has_a_directory(void **state) {
    (void)state;
    rig other = r;
    assert_int_equal(rig_try_open(&other), TOB_BUSY);
    assert_true(strlen(other.problem.text) > 0);
}

static void settling_is_the_journals(void **state) {
    (void)state;
    bool fatal = true;
    rig_crash(&r);
    tob_store_options options = {.journal = {.dir = r.dir,
                                             .segment_bytes = TOB_JOURNAL_MIN_SEGMENT,
                                             .sync = TOB_JOURNAL_SYNC_INTERVAL,
                                             .sync_interval_ms = 50}};
    assert_int_equal(tob_store_open(&options, r.now, &r.store, &r.recovery, &r.problem), TOB_OK);
    assert_int_equal(tob_store_settle_due(r.store), UINT64_MAX);
    rig_report(&r, "c", "agent", 1, 1);
    rig_sync(&r);
    assert_true(tob_store_settle_due(r.store) != UINT64_MAX);
    assert_int_equal(tob_store_settle(r.store, &fatal, &r.problem), TOB_OK);
    assert_false(fatal);
    assert_int_equal(tob_store_settle_due(r.store), UINT64_MAX);
}

// ---- records that pass the checksums and are none of ours

static tob_error ignore_record(void *user, tob_position at, const void *payload, size_t n) {
    (void)user;
    (void)at;
    (void)payload;
    (void)n;
    return TOB_OK;
}

// Writes one record with the journal alone, then opens a store on it in a fresh directory.
static void refused(const void *payload, size_t n, const char *reason) {
    tob_journal_options options = {.dir = r.dir, .segment_bytes = TOB_JOURNAL_MIN_SEGMENT, .sync = r.sync};
    tob_journal *journal = NULL;
    uint64_t cut = 0;
    bool fatal = false;
    tob_position at;
    char place[64];
    const tob_journal_part part = {payload, n};
    if (r.store) {
        rig_crash(&r);
    }
    rig_delete(r.dir, "");
    assert_int_equal(tob_journal_open(&options, ignore_record, NULL, &journal, &cut, &r.problem), TOB_OK);
    assert_int_equal(tob_journal_append(journal, &part, 1, &at), TOB_OK);
    assert_int_equal(tob_journal_sync(journal, &fatal, &r.problem), TOB_OK);
    tob_journal_close(journal);
    assert_int_equal(rig_try_open(&r), TOB_DAMAGED);
    snprintf(place, sizeof(place),
             "/journal-0000000000000001.seg at offset %llu: ", (unsigned long long)at.offset);
    assert_non_null(strstr(r.problem.text, place));
    assert_non_null(strstr(r.problem.text, reason));
}

static void refused_record(const Tobogganing__V1__Record *record, const char *reason) {
    static uint8_t packed[65536];
    refused(packed, tobogganing__v1__record__pack(record, packed), reason);
}

static void records_that_can_not_be_are_refused_with_their_place(void **state) {
    (void)state;
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    Tobogganing__V1__ConsumerPosition consumer = TOBOGGANING__V1__CONSUMER_POSITION__INIT;
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__ConsumerPosition *consumers[] = {&consumer};
    Tobogganing__V1__Process *processes[] = {&process};
    uint8_t *batch = NULL;
    refused("\xff\xff\xff\xff", 4, "Record");
    record.received_unix_ms = UINT64_MAX;
    refused_record(&record, "received_unix_ms");
    record.received_unix_ms = r.now;
    record.batch = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"\x0a\xff\xff"};
    refused_record(&record, "batch");
    sample s = {TOB_SOURCE_CLIENT, "not an id", (int64_t)r.now, 31, 1};
    record.batch.len = rig_pack(&s, 1, "agent", 7, 1, &batch);
    record.batch.data = batch;
    refused_record(&record, "client_id");
    free(batch);
    s = (sample){TOB_SOURCE_HEADEND, "h", (int64_t)r.now + 300001, 31, 1};
    record.batch.len = rig_pack(&s, 1, "agent", 7, 1, &batch);
    record.batch.data = batch;
    refused_record(&record, "future");
    free(batch);
    record.batch.len = 0;
    record.consumers = consumers;
    record.n_consumers = 1;
    consumer.consumer = (char *)"no name";
    consumer.position = &position;
    refused_record(&record, "consumers");
    record.n_consumers = 0;
    record.processes = processes;
    record.n_processes = 1;
    refused_record(&record, "id");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_is_applied_by_the_sync_and_not_before, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_not_synced_never_was, setup, teardown),
        cmocka_unit_test_setup_teardown(a_repeat_is_stored_and_counted_once, setup, teardown),
        cmocka_unit_test_setup_teardown(the_fifth_last_batch_is_no_repeat_also_within_a_group, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_group_that_can_not_be_written_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_that_were_not_written_are_added_again, setup, teardown),
        cmocka_unit_test_setup_teardown(removals_and_reports_of_a_group_happen_in_their_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_removal_is_journalled_once_and_only_of_a_row, setup, teardown),
        cmocka_unit_test_setup_teardown(consumers_keep_their_positions_and_leases, setup, teardown),
        cmocka_unit_test_setup_teardown(consumers_over_the_limit_are_refused_queued_ones_included, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(old_segments_go_once_two_checkpoints_make_them_needless, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(only_one_store_has_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(settling_is_the_journals, setup, teardown),
        cmocka_unit_test_setup_teardown(records_that_can_not_be_are_refused_with_their_place, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
