// Random changes, and whether they are answered as they should be.
#include <inttypes.h>
#include <stdlib.h>

#include "sequence.h"

enum { GROUP_ITEMS = 4 };

#define HOUR_MS INT64_C(3600000)
#define DAY_MS  (24 * HOUR_MS)

static plain_sample random_sample(sequence *q, unsigned source, uint32_t present) {
    int64_t now = (int64_t)q->clock.unix_ms;
    int64_t stored = q->now.sources[source].there ? q->now.sources[source].sample_time : now;
    plain_sample sample = {.time = now, .present = present};
    switch (sequence_below(q, 8)) {
    case 0: sample.time -= (int64_t)sequence_below(q, 2 * DAY_MS); break;
    case 1: sample.time -= (int64_t)sequence_below(q, HOUR_MS); break;
    case 2: sample.time += (int64_t)sequence_below(q, PLAIN_FUTURE_MS + 1); break;
    case 3: // the same time again
        sample.time = stored <= now + PLAIN_FUTURE_MS ? stored : now;
        break;
    default: sample.time -= (int64_t)sequence_below(q, 3000); break;
    }
    for (unsigned v = 0; v < PLAIN_VALUES; v++) {
        sample.values[v] = (int64_t)sequence_below(q, sequence_chance(q, 10) ? INT64_C(1) << 40 : 1000);
    }
    return sample;
}

static void add_series(sequence *q, plain_batch *batch, unsigned source) {
    plain_series *series = &batch->series[batch->n++];
    uint32_t present = sequence_chance(q, 50) ? 0x1f : (uint32_t)sequence_below(q, 0x20);
    *series = (plain_series){.source = source};
    series->headless = sequence_chance(q, 50);
    series->n = 1 + (unsigned)sequence_below(q, 3);
    series->name = plain_is_client(source) ? 0 : (unsigned)sequence_below(q, 5);
    series->fill = sequence_chance(q, 5) ? (unsigned)sequence_below(q, 30) : 0;
    for (unsigned i = 0; i < series->n; i++) {
        series->samples[i] = random_sample(q, source, present);
    }
    watcher_register(q->watcher, source);
}

static void new_batch(sequence *q, plain_item *item) {
    plain_batch *batch = &item->batch;
    unsigned n = 1 + (unsigned)sequence_below(q, 4), clients = (unsigned)sequence_below(q, n + 1);
    batch->sender = (unsigned)sequence_below(q, PLAIN_SENDERS);
    batch->number = sequence_chance(q, 10) && q->numbers[batch->sender] ? q->numbers[batch->sender]
                                                                        : ++q->numbers[batch->sender];
    batch->content = ++q->contents;
    for (unsigned i = 0; i < n; i++) {
        add_series(q, batch,
                   i < clients ? (unsigned)sequence_below(q, PLAIN_CLIENTS)
                               : PLAIN_CLIENTS + (unsigned)sequence_below(q, PLAIN_HEADENDS));
    }
    // Contents are told from each other by this: no two batches of a sender are alike.
    batch->series[0].samples[0].values[0] = (int64_t)(batch->content << 8);
    batch->series[0].samples[0].present |= 1;
    for (unsigned i = 1; i < batch->series[0].n; i++) {
        batch->series[0].samples[i].present |= 1;
    }
}

// Was it made for a clock that is far behind now? Then it would be refused before it comes to the store.
static bool acceptable(const sequence *q, const plain_batch *batch) {
    for (unsigned i = 0; i < batch->n; i++) {
        for (unsigned k = 0; k < batch->series[i].n; k++) {
            if (batch->series[i].samples[k].time > (int64_t)q->clock.unix_ms + PLAIN_FUTURE_MS) {
                return false;
            }
        }
    }
    return true;
}

static void random_batch(sequence *q, plain_item *item) {
    item->kind = PLAIN_BATCH;
    if (q->sent_count && sequence_chance(q, 30)) {
        size_t back = 1 + (size_t)sequence_below(q, sequence_chance(q, 70) ? 6 : SEQUENCE_SENT);
        size_t i = (q->sent_count - (back < q->sent_count ? back : q->sent_count)) % SEQUENCE_SENT;
        if (q->sent_count - i <= SEQUENCE_SENT && acceptable(q, &q->sent[i].batch)) {
            item->batch = q->sent[i].batch;
            for (unsigned s = 0; s < item->batch.n; s++) {
                watcher_register(q->watcher, item->batch.series[s].source);
            }
            return;
        }
    }
    new_batch(q, item);
}

static plain_item random_item(sequence *q) {
    plain_item item = {.received = (int64_t)q->clock.unix_ms};
    tob_position end = sequence_end(q);
    uint64_t what = sequence_below(q, 100);
    if (what < 75) {
        random_batch(q, &item);
    } else if (what < 85) {
        item.kind = PLAIN_REMOVAL;
        item.which = (unsigned)sequence_below(q, PLAIN_SOURCES);
    } else if (what < 91) {
        item.kind = PLAIN_COMMIT;
        item.which = (unsigned)sequence_below(q, PLAIN_CONSUMERS);
        item.position = (plain_consumer){true, end.segment, end.offset};
    } else if (what < 94) {
        item.kind = PLAIN_FORGET;
        item.which = (unsigned)sequence_below(q, PLAIN_CONSUMERS);
    } else {
        item.kind = PLAIN_COUNTERS;
        item.which = (unsigned)sequence_below(q, PLAIN_PROCESSES);
        item.count = q->reported[item.which] + 1 + sequence_below(q, 100);
        item.base = q->base[item.which];
        item.generation = q->generation;
        q->reported[item.which] = item.count;
    }
    return item;
}

static sequence_sent *sent_of(sequence *q, uint64_t content) {
    for (size_t i = 0; i < SEQUENCE_SENT && i < q->sent_count; i++) {
        if (q->sent[i].batch.content == content) {
            return &q->sent[i];
        }
    }
    sequence_sent *s = &q->sent[q->sent_count++ % SEQUENCE_SENT];
    *s = (sequence_sent){0};
    return s;
}

// Is the answer to a batch right? `journal_end`: before the group.
static void check_answer(sequence *q, const plain_batch *batch, const rig_added *added,
                         tob_position journal_end) {
    plain_answer expected = plain_repeated(&q->now, batch);
    sequence_sent *sent = sent_of(q, batch->content);
    sequence_counts.repeats += added->repeated;
    if (expected != PLAIN_MAYBE && added->repeated != (expected == PLAIN_YES)) {
        sequence_fail(q, "batch %" PRIu64 " of sender %u: repeated is %d", batch->content, batch->sender,
                      added->repeated);
    }
    if (!added->repeated) {
        *sent = (sequence_sent){*batch, added->at};
        if (tob_position_compare(added->at, journal_end) < 0) {
            sequence_fail(q, "a batch is placed before the journal's end");
        }
    } else if (tob_position_compare(added->at, sent->at) <= 0) {
        sequence_fail(q, "a repeat's place is not behind the first one's");
    }
}

static void do_item(sequence *q, tob_position journal_end) {
    plain_item item = random_item(q);
    rig_added added;
    if (item.kind == PLAIN_REMOVAL) {
        watcher_unregister(q->watcher, item.which);
    }
    tob_error err = rig_add(&q->rig, &item, &added);
    if (err) {
        sequence_fail(q, "adding: %s", tob_error_string(err));
        return;
    }
    sequence_say(q, "  kind %d, which %u, sender %u, content %" PRIu64 "%s", item.kind, item.which,
                 item.batch.sender, item.batch.content, added.repeated ? ", repeated" : "");
    if (item.kind == PLAIN_BATCH) {
        check_answer(q, &item.batch, &added, journal_end);
    }
    if (!added.repeated) {
        plain_apply(&q->now, &item);
        for (unsigned p = 0; item.kind == PLAIN_COUNTERS && p < PLAIN_PROCESSES; p++) {
            q->now.counted[p] = q->reported[p];
        }
    }
}

void sequence_group(sequence *q) {
    unsigned n = 1 + (unsigned)sequence_below(q, GROUP_ITEMS);
    tob_position before = sequence_end(q);
    size_t first = q->states;
    sequence_say(q, "group at %" PRIu64, q->clock.unix_ms);
    for (unsigned i = 0; i < n && q->ok; i++) {
        do_item(q, before);
        sequence_note(q, before);
    }
    if (q->ok && rig_sync(&q->rig)) {
        sequence_fail(q, "syncing: %s", q->rig.problem.text);
        return;
    }
    for (size_t i = first; i < q->states; i++) {
        q->history[i].group_end = sequence_end(q);
    }
    sequence_counts.groups++;
    sequence_check(q, "after a group");
}
