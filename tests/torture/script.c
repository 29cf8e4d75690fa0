#include "script.h"

#include <assert.h>
#include <stdlib.h>

// While it is written.
typedef struct writing {
    script *to;
    int64_t now;
    uint64_t contents;
    uint64_t count;
    uint64_t numbers[PLAIN_SENDERS];
} writing;

static script_step *add_step(writing *w, script_step_kind kind) {
    assert(w->to->count < SCRIPT_MAX_STEPS);
    w->now += 1000;
    script_step *step = &w->to->steps[w->to->count++];
    step->kind = kind;
    return step;
}

static plain_item *add_item(writing *w, script_step *step, plain_kind kind, unsigned which) {
    assert(step->n < SCRIPT_GROUP_ITEMS);
    plain_item *item = &step->items[step->n++];
    *item = (plain_item){.kind = kind, .which = which, .received = w->now};
    return item;
}

// One sample of `source`, `age_ms` old.
static void add_series(writing *w, plain_item *item, unsigned source, int64_t age_ms, uint32_t present) {
    assert(item->batch.n < PLAIN_MAX_SERIES);
    plain_series *series = &item->batch.series[item->batch.n++];
    *series = (plain_series){.source = source, .headless = item->batch.content % 2, .n = 1};
    series->name = plain_is_client(source) ? 0 : 1 + (unsigned)(item->batch.content % 3);
    series->samples[0] = (plain_sample){.time = w->now - age_ms, .present = present};
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        series->samples[0].values[v] = (int64_t)(item->batch.content * 100 + v);
    }
}

static plain_item *add_batch(writing *w, script_step *step, unsigned sender) {
    plain_item *item = add_item(w, step, PLAIN_BATCH, 0);
    item->batch = (plain_batch){.sender = sender, .number = ++w->numbers[sender], .content = ++w->contents};
    return item;
}

// A group of batches of two senders for four sources.
static script_step *add_reports(writing *w, unsigned which) {
    script_step *step = add_step(w, SCRIPT_GROUP);
    plain_item *item = add_batch(w, step, which % PLAIN_SENDERS);
    add_series(w, item, which % PLAIN_CLIENTS, 0, 0x1f);
    add_series(w, item, PLAIN_CLIENTS + which % PLAIN_HEADENDS, 0, 0x1f);
    item = add_batch(w, step, (which + 1) % PLAIN_SENDERS);
    add_series(w, item, (which + 1) % PLAIN_CLIENTS, 0, 0x05);
    add_series(w, item, (which + 2) % PLAIN_CLIENTS, 3600000, 0x0a); // late
    return step;
}

// The first batch of the step before, and a new one with its number.
static void add_repeat(writing *w) {
    const script_step *before = &w->to->steps[w->to->count - 1];
    plain_item again = before->items[0];
    script_step *step = add_step(w, SCRIPT_GROUP);
    again.received = w->now;
    step->items[step->n++] = again;
    plain_item *other = add_batch(w, step, again.batch.sender);
    other->batch.number = again.batch.number;
    add_series(w, other, 3, 0, 0x10);
    plain_item *twice = add_item(w, step, PLAIN_BATCH, 0);
    twice->batch = other->batch;
}

// Enough to end a segment.
static void add_filling(writing *w, unsigned source) {
    script_step *step = add_step(w, SCRIPT_GROUP);
    for (unsigned i = 0; i < 2; i++) {
        plain_item *item = add_batch(w, step, 5);
        add_series(w, item, source, i * 10, 0x1f);
        item->batch.series[0].fill = SCRIPT_SEGMENT_BYTES / 75; // 50 bytes each, about
    }
}

static void add_simple(writing *w, plain_kind kind, unsigned which) {
    script_step *step = add_step(w, SCRIPT_GROUP);
    plain_item *item = add_item(w, step, kind, which);
    item->position = (plain_consumer){true, 1, 40 + 8 * w->contents};
    item->count = w->count += 10;
}

static void add_checkpoint(writing *w, unsigned which) {
    add_step(w, SCRIPT_BEGIN);
    add_reports(w, which);
    add_step(w, SCRIPT_PAGE);
    add_simple(w, PLAIN_REMOVAL, which % PLAIN_CLIENTS);
    add_simple(w, PLAIN_COMMIT, 1);
    add_step(w, SCRIPT_PAGE);
    add_reports(w, which + 3);
    add_repeat(w);
    for (unsigned i = 0; i < 3; i++) {
        add_step(w, SCRIPT_PAGE);
    }
    add_simple(w, PLAIN_COUNTERS, 0);
    add_step(w, SCRIPT_COMMIT);
}

static void write_script(writing *w) {
    for (unsigned i = 0; i < 4; i++) {
        add_reports(w, i * 3);
    }
    add_repeat(w);
    add_simple(w, PLAIN_COMMIT, 0);
    add_simple(w, PLAIN_COUNTERS, 0);
    add_simple(w, PLAIN_REMOVAL, PLAIN_CLIENTS);
    add_filling(w, 1);
    add_checkpoint(w, 2);
    add_reports(w, 4);
    add_filling(w, 2);
    add_simple(w, PLAIN_FORGET, 0);
    add_step(w, SCRIPT_RETAIN);
    add_checkpoint(w, 7);
    add_step(w, SCRIPT_RETAIN);
    add_reports(w, 5);
    add_step(w, SCRIPT_RESTART);
    add_reports(w, 6);
    add_repeat(w);
    add_filling(w, 11);
    add_checkpoint(w, 9);
    add_step(w, SCRIPT_RETAIN);
    add_reports(w, 8);
    add_reports(w, 9);
}

const script *script_get(void) {
    static script whole;
    if (whole.count == 0) {
        writing w = {.to = &whole, .now = SCRIPT_NOW_MS};
        write_script(&w);
    }
    return &whole;
}

static tob_error do_group(rig *r, const script_step *step, bool ret_repeated[SCRIPT_GROUP_ITEMS]) {
    for (unsigned i = 0; i < step->n; i++) {
        rig_added added;
        tob_error err = rig_add(r, &step->items[i], &added);
        if (err) {
            (void)!rig_sync(r); // of what was added before, nobody is told
            return err;
        }
        ret_repeated[i] = added.repeated;
    }
    return rig_sync(r);
}

tob_error script_do(rig *r, const script_step *step, bool ret_repeated[SCRIPT_GROUP_ITEMS]) {
    bool last = false;
    tob_error err = TOB_OK;
    switch (step->kind) {
    case SCRIPT_GROUP: return do_group(r, step, ret_repeated);
    case SCRIPT_BEGIN: return rig_checkpoint_begin(r, SCRIPT_NOW_MS);
    case SCRIPT_PAGE: return r->writer ? rig_checkpoint_page(r, &last) : TOB_OK;
    case SCRIPT_COMMIT:
        while (!err && r->writer && !last) {
            err = rig_checkpoint_page(r, &last);
        }
        return err || !r->writer ? err : rig_checkpoint_commit(r);
    case SCRIPT_RETAIN: return rig_retain(r, INT64_C(2) * SCRIPT_NOW_MS);
    case SCRIPT_RESTART: err = rig_close(r); return err ? err : rig_open(r);
    }
    abort();
}
