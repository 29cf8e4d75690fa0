#include "committer_rig.h"
#include "ingestd/positions.h"
#include "journal/checkpoint.h"

static int setup(void **state) {
    *state = rig_new();
    return 0;
}

static int teardown(void **state) {
    rig_free(*state);
    return 0;
}

static tob_checkpointer_stats stats_of(rig *r) {
    tob_checkpointer_stats stats;
    tob_checkpointer_get_stats(r->checkpointer, &stats);
    return stats;
}

static void await_checkpoint_after(rig *r, tob_position before) {
    uint64_t until = tob_clock_monotonic_ms() + RIG_TIMEOUT_MS;
    while (tob_position_compare(stats_of(r).at, before) <= 0) {
        assert_true(tob_clock_monotonic_ms() < until);
        usleep(1000);
    }
}

static void the_last_checkpoint_spares_the_start_the_journal(void **state) {
    rig *r = *state;
    uint64_t sent = 0;
    rig_start(r);
    for (int64_t i = 1; i <= 20; i++) {
        rig_submit(r, "c-1", i, i);
    }
    rig_stop(r);
    rig_start(r);
    assert_true(r->recovery.checkpoint.segment > 0);
    assert_int_equal(r->recovery.records, 0);
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 1);
    assert_int_equal(sent, 20);
    tob_committer_stats stats;
    tob_committer_get_stats(r->committer, &stats);
    assert_int_equal(stats.stored_batches, 20);
    assert_int_equal(tob_position_compare(stats_of(r).at, r->recovery.checkpoint), 0);
    assert_true(stats_of(r).bytes > 0);
    rig_stop(r);
}

static void one_is_made_when_the_time_has_come_and_something_was_journalled(void **state) {
    rig *r = *state;
    r->checkpoints.interval_ms = 1;
    rig_start(r);
    rig_submit(r, "c-1", 1, 1);
    await_checkpoint_after(r, (tob_position){0, 0});
    tob_checkpointer_stats first = stats_of(r);
    tob_position at = rig_submit(r, "c-1", 2, 2);
    await_checkpoint_after(r, at);
    assert_true(stats_of(r).unix_ms >= first.unix_ms);
    rig_stop(r);
}

static void one_is_made_when_the_journal_has_grown_enough(void **state) {
    rig *r = *state;
    r->checkpoints.bytes = 20000;
    rig_start(r);
    for (int64_t i = 1; i <= 50; i++) {
        rig_submit(r, "c-1", i, i);
    }
    assert_int_equal(stats_of(r).at.segment, 0); // not yet
    tob_committer_stats stats = {.epoch = 0};
    for (int64_t i = 51; stats.journal_end.offset < 30000; i++) {
        rig_submit(r, "c-1", i, i);
        tob_committer_get_stats(r->committer, &stats);
    }
    await_checkpoint_after(r, (tob_position){0, 0});
    rig_stop(r);
}

// With reports all the while: what is recovered must be all of them, whatever page the change was before or after.
static void reports_go_on_while_it_is_made(void **state) {
    rig *r = *state;
    enum { CLIENTS = 20000, PER_BATCH = 5000 };
    tob_batch_builder *builder = NULL;
    char id[16];
    uint64_t sent = 0;
    r->checkpoints.interval_ms = 1;
    rig_start(r);
    assert_int_equal(tob_batch_builder_new("many", 1, 4 << 20, &builder), TOB_OK);
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            snprintf(id, sizeof(id), "m-%d", i);
            rig_register(r, id, id);
            assert_int_equal(tob_batch_add_client(builder, id, "k", false,
                                                  &(tob_client_sample){.time_unix_ms = round,
                                                                       .present = 1,
                                                                       .values = {round * 100000 + i}},
                                                  1),
                             TOB_OK);
            if (i % PER_BATCH == PER_BATCH - 1) {
                tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder,
                                                                         (uint64_t)(round * CLIENTS + i)),
                                                                NULL);
                tob_batch_clear(builder);
            }
        }
        await_checkpoint_after(r, stats_of(r).at);
    }
    tob_batch_builder_free(builder);
    rig_stop(r);
    rig_start(r);
    Tobogganing__V1__SnapshotResponse *page = rig_snapshot(r, 0, 10, 0);
    tobogganing__v1__snapshot_response__free_unpacked(page, NULL);
    assert_int_equal(rig_rows_of(r, "m-19999", &sent), 1);
    assert_int_equal(sent, 3 * 100000 + 19999);
    assert_int_equal(rig_rows_of(r, "m-0", &sent), 1);
    assert_int_equal(sent, 3 * 100000);
    rig_stop(r);
}

// Where checkpoints can't be written everything else goes on, and the journal has it all.
static void one_that_fails_hurts_nobody(void **state) {
    rig *r = *state;
    uint64_t sent = 0;
    rig_start(r);
    tob_checkpointer_options options = r->checkpoints;
    tob_checkpointer *elsewhere = NULL;
    options.journal_dir = "/nonexistent/journal";
    options.interval_ms = 1;
    assert_int_equal(tob_checkpointer_new(&options, &elsewhere), TOB_OK);
    assert_int_equal(tob_checkpointer_start(elsewhere), TOB_OK);
    rig_submit(r, "c-1", 1, 1);
    rig_submit(r, "c-1", 2, 2);
    tob_checkpointer_stop(elsewhere);
    tob_checkpointer_stats stats;
    tob_checkpointer_get_stats(elsewhere, &stats);
    assert_int_equal(stats.at.segment, 0);
    tob_checkpointer_free(elsewhere);
    assert_int_equal(rig_rows_of(r, "c-1", &sent), 1);
    assert_int_equal(sent, 2);
    rig_stop(r);
}

static void old_segments_go_once_two_checkpoints_have_made_them_superfluous(void **state) {
    rig *r = *state;
    enum { SAMPLES = 9000 };
    tob_client_sample *samples = calloc(SAMPLES, sizeof(*samples));
    tob_batch_builder *builder = NULL;
    r->options.store.retain_bytes = 1;
    r->checkpoints.interval_ms = 1;
    rig_start(r);
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = (tob_client_sample){.time_unix_ms = (int64_t)i,
                                         .present = 1u << TOB_CLIENT_BYTES_SENT,
                                         .values = {(int64_t)(i * 7919 % 104729) << 40}};
    }
    assert_int_equal(tob_batch_builder_new("big", 1, 4 << 20, &builder), TOB_OK);
    assert_int_equal(tob_batch_add_client(builder, "c-1", "k", false, samples, SAMPLES), TOB_OK);
    tob_committer_stats stats = {.epoch = 0};
    uint64_t until = tob_clock_monotonic_ms() + RIG_TIMEOUT_MS;
    for (uint64_t n = 1; stats.journal_oldest.segment < 3; n++) {
        assert_true(tob_clock_monotonic_ms() < until);
        tobogganing__v1__submit_response__free_unpacked(rig_send(r, builder, n), NULL);
        tob_committer_get_stats(r->committer, &stats);
    }
    rig_stop(r);
    rig_start(r); // and what is left is enough
    assert_true(r->recovery.checkpoint.segment >= 3);
    rig_stop(r);
    tob_batch_builder_free(builder);
    free(samples);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_checkpoint_spares_the_start_the_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(one_is_made_when_the_time_has_come_and_something_was_journalled,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(one_is_made_when_the_journal_has_grown_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(reports_go_on_while_it_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_fails_hurts_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(old_segments_go_once_two_checkpoints_have_made_them_superfluous,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
