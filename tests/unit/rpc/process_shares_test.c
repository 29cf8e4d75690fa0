// The division of a process's counters, against several ingestd that are plain tables.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/process_shares.h"
#include "util/random.h"

enum { COUNTERS = 5, INGESTDS = 6, MAX_IDS = 512, STEPS = 400, SEQUENCES = 200 };

// What one ingestd knows: processes by id.
typedef struct ingestd {
    uint64_t ids[MAX_IDS];
    uint64_t values[MAX_IDS][COUNTERS];
    size_t count;
} ingestd;

static ingestd ingestds[INGESTDS];
static uint64_t totals[COUNTERS];
static tob_process_shares shares;
static uint64_t now_ms;

static int begin(void **state) {
    (void)state;
    memset(ingestds, 0, sizeof(ingestds));
    memset(totals, 0, sizeof(totals));
    memset(&shares, 0, sizeof(shares));
    now_ms = 1000;
    return 0;
}

static int end(void **state) {
    (void)state;
    tob_process_shares_fini(&shares);
    return 0;
}

static struct {
    Tobogganing__V1__Process process;
    Tobogganing__V1__Counter counters[COUNTERS];
    Tobogganing__V1__Counter *pointers[COUNTERS];
} message;

static Tobogganing__V1__Process *render(void) {
    tobogganing__v1__process__init(&message.process);
    for (size_t k = 0; k < COUNTERS; k++) {
        tobogganing__v1__counter__init(&message.counters[k]);
        message.counters[k].value = totals[k];
        message.pointers[k] = &message.counters[k];
    }
    message.process.counters = message.pointers;
    message.process.n_counters = COUNTERS;
    return &message.process;
}

// As ingestd does: a process's values replace what was known of it, and never go backwards.
static void arrive(ingestd *to, const Tobogganing__V1__Process *process) {
    size_t i = 0;
    while (i < to->count && to->ids[i] != process->id) {
        i++;
    }
    if (i == to->count) {
        assert_true(to->count < MAX_IDS);
        to->ids[to->count++] = process->id;
    }
    for (size_t k = 0; k < process->n_counters; k++) {
        assert_true(process->counters[k]->value >= to->values[i][k]);
        assert_true(process->counters[k]->value <= totals[k]);
        to->values[i][k] = process->counters[k]->value;
    }
}

static uint64_t known(size_t counter) {
    uint64_t sum = 0;
    for (size_t i = 0; i < INGESTDS; i++) {
        for (size_t p = 0; p < ingestds[i].count; p++) {
            sum += ingestds[i].values[p][counter];
        }
    }
    return sum;
}

static tob_process_share *share_of(size_t i) {
    tob_process_share *share = NULL;
    assert_int_equal(tob_process_shares_of(&shares, i + 1, now_ms, now_ms, &share), TOB_OK);
    return share;
}

typedef enum fate { ACKED, ANSWER_LOST, REPORT_LOST, NOT_TAKEN } fate;

static void report(size_t to, fate f) {
    tob_process_share *share = share_of(to);
    Tobogganing__V1__Process *process = render();
    tob_process_shares_assign(&shares, share, process);
    if (f == ACKED || f == ANSWER_LOST) {
        arrive(&ingestds[to], process);
    }
    switch (f) {
    case ACKED: tob_process_share_acked(share, now_ms); break;
    case ANSWER_LOST:
    case REPORT_LOST: tob_process_share_lost(share); break;
    case NOT_TAKEN: tob_process_share_not_taken(share); break;
    }
}

static void repeat(size_t to, bool acked) {
    tob_process_share *share = share_of(to);
    if (share->dirty && share->ever_sent) {
        Tobogganing__V1__Process *process = render();
        tob_process_shares_repeat(share, process);
        arrive(&ingestds[to], process);
        if (acked) {
            tob_process_share_acked(share, now_ms);
        }
    }
}

static void expect_exact(void) {
    for (size_t k = 0; k < COUNTERS; k++) {
        assert_int_equal(known(k), totals[k]);
    }
}

static void what_was_sent_to_one_is_not_sent_to_another(void **state) {
    (void)state;
    totals[0] = 10;
    report(0, ACKED);
    totals[0] = 15;
    report(0, REPORT_LOST); // the 5 are with the first, whether or not it has them
    totals[0] = 18;
    report(1, ACKED);
    assert_int_equal(ingestds[1].values[0][0], 3);
    repeat(0, true);
    assert_int_equal(ingestds[0].values[0][0], 15);
    expect_exact();
}

static void what_was_refused_goes_to_another(void **state) {
    (void)state;
    totals[0] = 10;
    report(0, NOT_TAKEN);
    report(1, ACKED);
    assert_int_equal(ingestds[1].values[0][0], 10);
    report(0, ACKED);
    expect_exact();
}

static void going_back_goes_on_with_the_same_process(void **state) {
    (void)state;
    totals[0] = 1;
    report(0, ACKED);
    totals[0] = 3;
    report(1, ACKED);
    totals[0] = 7;
    report(0, ACKED);
    assert_int_equal(ingestds[0].count, 1);
    assert_int_equal(ingestds[0].values[0][0], 5);
    expect_exact();
}

static void a_share_that_was_silent_for_half_a_day_gets_another_id(void **state) {
    (void)state;
    totals[0] = 10;
    report(0, ACKED);
    uint64_t id = share_of(0)->id;
    now_ms += TOB_SHARE_STALE_MS;
    assert_int_equal(share_of(0)->id, id);
    now_ms += 1;
    assert_int_not_equal(share_of(0)->id, id);
    totals[0] = 12;
    report(0, ACKED);
    assert_int_equal(ingestds[0].count, 2);
    assert_int_equal(ingestds[0].values[1][0], 2);
    expect_exact();
    // What was never acknowledged is left out, not counted twice.
    totals[0] = 20;
    report(0, REPORT_LOST);
    now_ms += TOB_SHARE_STALE_MS + 1;
    totals[0] = 21;
    report(0, ACKED);
    assert_int_equal(known(0), 13);
}

static void shares_over_the_cap_are_settled(void **state) {
    (void)state;
    for (size_t i = 0; i < TOB_PROCESS_MAX_SHARES + 1; i++) {
        totals[0] += 1;
        now_ms += 1;
        tob_process_share *share = NULL;
        assert_int_equal(tob_process_shares_of(&shares, 1000 + i, now_ms, now_ms, &share), TOB_OK);
        tob_process_shares_assign(&shares, share, render());
        if (i == 0) {
            tob_process_share_lost(share); // is kept although it is the oldest
        } else {
            tob_process_share_acked(share, now_ms);
        }
    }
    assert_int_equal(shares.count, TOB_PROCESS_MAX_SHARES);
    assert_int_equal(shares.settled[0], 1);
    tob_process_share *oldest = NULL;
    assert_int_equal(tob_process_shares_of(&shares, 1000, now_ms, now_ms, &oldest), TOB_OK);
    assert_true(oldest->dirty && oldest->sent[0] == 1);
    report(0, ACKED);
    assert_int_equal(ingestds[0].values[0][0], 0); // all is somewhere already
}

static void whatever_is_lost_nothing_is_counted_twice(void **state) {
    (void)state;
    for (int s = 0; s < SEQUENCES; s++) {
        begin(NULL);
        for (int step = 0; step < STEPS; step++) {
            now_ms += tob_random_below(1000);
            totals[tob_random_below(COUNTERS)] += tob_random_below(10);
            size_t to = (size_t)tob_random_below(INGESTDS);
            if (tob_random_below(4)) {
                report(to, (fate)tob_random_below(4));
            } else {
                repeat(to, tob_random_below(2));
            }
            for (size_t k = 0; k < COUNTERS; k++) {
                assert_true(known(k) <= totals[k]);
            }
        }
        for (size_t i = 0; i < INGESTDS; i++) {
            repeat(i, true);
        }
        report(0, ACKED);
        expect_exact();
        end(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_sent_to_one_is_not_sent_to_another, begin, end),
        cmocka_unit_test_setup_teardown(what_was_refused_goes_to_another, begin, end),
        cmocka_unit_test_setup_teardown(going_back_goes_on_with_the_same_process, begin, end),
        cmocka_unit_test_setup_teardown(a_share_that_was_silent_for_half_a_day_gets_another_id, begin, end),
        cmocka_unit_test_setup_teardown(shares_over_the_cap_are_settled, begin, end),
        cmocka_unit_test_setup_teardown(whatever_is_lost_nothing_is_counted_twice, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
