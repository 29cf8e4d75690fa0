#include "rig.h"

#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGE_BYTES = 64 << 20, FIRST_PROCESS_ID = 100, MAX_MMAP_BYTES = 32 << 20 };

void rig_init(rig *r, const char *dir, uint64_t segment_bytes, tob_journal_sync_mode mode) {
    // Stores are opened thousands of times: that is quicker when memory is not given back after each.
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_MMAP_THRESHOLD, MAX_MMAP_BYTES);
    *r = (rig){.made = made_new(), .monotonic_ms = 1};
    r->options.journal = (tob_journal_options){.dir = dir,
                                               .segment_bytes = segment_bytes,
                                               .sync = mode,
                                               .sync_interval_ms = 60000};
    r->options.retain_ms = UINT64_MAX;
    r->options.retain_bytes = 1;
    tob_buffer_init(&r->page, MAX_PAGE_BYTES);
}

void rig_fini(rig *r) {
    rig_crash(r);
    made_free(r->made);
    tob_buffer_fini(&r->page);
}

tob_error rig_open(rig *r) {
    r->fatal = false;
    return tob_store_open(&r->options, r->monotonic_ms, &r->store, &r->recovery, &r->problem);
}

void rig_crash(rig *r) {
    rig_checkpoint_abort(r);
    tob_store_close(r->store);
    r->store = NULL;
    made_clear(r->made);
}

tob_error rig_close(rig *r) {
    tob_error err = rig_settle(r);
    rig_crash(r);
    return err;
}

// Each kind of process counts something else.
static const char kinds[PLAIN_PROCESSES][4] = {"/a", "/b", "/c"};

static tob_error add_counters(rig *r, const plain_item *item) {
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT, *counters[] = {&counter};
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    const char *reason = "";
    char endpoint[sizeof(kinds[0])];
    memcpy(endpoint, kinds[item->which], sizeof(endpoint));
    char *labels[] = {(char[]){"GET"}, endpoint, (char[]){"200"}};
    counter.family = TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_HTTP_REQUESTS;
    counter.labels = labels;
    counter.n_labels = 3;
    counter.value = item->count - item->base;
    process.id = FIRST_PROCESS_ID + item->generation * PLAIN_PROCESSES + item->which;
    process.kind = (char[]){"gateway"};
    process.started_unix_ms = 1;
    process.counters = counters;
    process.n_counters = 1;
    tob_error err = tob_process_table_put(tob_store_processes(r->store), &process, r->monotonic_ms, &reason);
    return err ? err : tob_store_add_counters(r->store, (uint64_t)item->received);
}

tob_error rig_add(rig *r, const plain_item *item, rig_added *ret) {
    *ret = (rig_added){0};
    uint64_t now = (uint64_t)item->received;
    switch (item->kind) {
    case PLAIN_BATCH: {
        tob_submission submission = made_submission(r->made, &item->batch, item->received);
        return tob_store_add_batch(r->store, &submission, &ret->repeated, &ret->at);
    }
    case PLAIN_REMOVAL:
        return tob_store_add_removal(r->store,
                                     plain_is_client(item->which) ? TOB_SOURCE_CLIENT : TOB_SOURCE_HEADEND,
                                     plain_source_id(item->which), now);
    case PLAIN_COMMIT: {
        tob_position position = {item->position.segment, item->position.offset};
        return tob_store_add_consumer(r->store, plain_consumer_name(item->which), &position, now);
    }
    case PLAIN_FORGET: return tob_store_add_consumer(r->store, plain_consumer_name(item->which), NULL, now);
    case PLAIN_COUNTERS: return add_counters(r, item);
    }
    abort();
}

tob_error rig_sync(rig *r) {
    tob_error err = tob_store_sync(r->store, &r->fatal, &r->problem);
    made_clear(r->made);
    return err;
}

tob_error rig_settle(rig *r) {
    return tob_store_settle(r->store, &r->fatal, &r->problem);
}

void rig_checkpoint_abort(rig *r) {
    tob_checkpoint_abort(r->writer);
    r->writer = NULL;
}

static tob_error append_page(rig *r) {
    return tob_checkpoint_append(r->writer, r->page.data, r->page.len, &r->problem);
}

tob_error rig_checkpoint_begin(rig *r, int64_t now) {
    rig_checkpoint_abort(r);
    tob_error err = tob_store_checkpoint_begin(r->store, (uint64_t)now, &r->page, &r->cursor);
    err = err ? err : tob_checkpoint_create(r->options.journal.dir, r->cursor.at, &r->writer, &r->problem);
    err = err ? err : append_page(r);
    if (err) {
        rig_checkpoint_abort(r);
    }
    return err;
}

tob_error rig_checkpoint_page(rig *r, bool *ret_last) {
    tob_error err = tob_store_checkpoint_page(r->store, &r->cursor, &r->page);
    *ret_last = !err && r->page.len == 0;
    if (!err && r->page.len > 0) {
        err = append_page(r);
    }
    if (err) {
        rig_checkpoint_abort(r);
    }
    return err;
}

tob_error rig_checkpoint_commit(rig *r) {
    uint64_t bytes = 0;
    tob_error err = rig_settle(r);
    if (err) {
        rig_checkpoint_abort(r);
        return err;
    }
    err = tob_checkpoint_commit(r->writer, &bytes, &r->problem);
    r->writer = NULL;
    if (!err) {
        tob_store_checkpointed(r->store, r->cursor.at);
    }
    return err;
}

tob_error rig_retain(rig *r, int64_t now) {
    uint64_t removed = 0;
    return tob_store_retain(r->store, (uint64_t)now, &removed, &r->problem);
}

uint64_t rig_counted(rig *r, unsigned kind) {
    size_t n = 0;
    uint64_t sum = 0;
    Tobogganing__V1__Process **all = tob_process_table_all(tob_store_processes(r->store), &n);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < all[i]->n_counters; c++) {
            const Tobogganing__V1__Counter *counter = all[i]->counters[c];
            sum +=
                counter->n_labels == 3 && strcmp(counter->labels[1], kinds[kind]) == 0 ? counter->value : 0;
        }
    }
    return sum;
}

tob_error rig_retire(rig *r) {
    return tob_process_table_retire(tob_store_processes(r->store), r->monotonic_ms);
}
