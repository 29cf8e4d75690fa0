#include "ingestd/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "ingestd/checkpoint_pages.h"
#include "ingestd/recovery.h"
#include "ingestd/store_queue.h"
#include "ingestd/tables.h"
#include "journal/checkpoint.h"
#include "util/text.h"
#include "wire/record.h"

struct tob_store {
    tob_tables tables;
    tob_journal *journal;
    tob_checkpoint_places checkpoints;
    tob_page_columns *columns;
    tob_buffer record; // being made
    tob_store_queue queue;
    uint64_t queued_repeats;
    uint64_t repeated_batches;
    uint64_t retain_ms;
    uint64_t retain_bytes;
};

tob_error tob_store_open(const tob_store_options *options, uint64_t now_monotonic_ms, tob_store **ret,
                         tob_store_recovery *ret_recovery, tob_journal_problem *ret_problem) {
    ret_problem->text[0] = 0;
    tob_store *store = calloc(1, sizeof(*store));
    if (!store) {
        return TOB_NO_MEMORY;
    }
    store->retain_ms = options->retain_ms;
    store->retain_bytes = options->retain_bytes;
    tob_store_queue_init(&store->queue);
    tob_buffer_init(&store->record, TOB_JOURNAL_MAX_RECORD_BYTES);
    tob_error err = tob_tables_init(&store->tables);
    if (!err) {
        err = tob_page_columns_new(&store->columns);
    }
    if (!err) {
        err = tob_recover(&options->journal, now_monotonic_ms, &store->tables, &store->journal,
                          &store->checkpoints, ret_recovery, ret_problem);
    }
    if (err) {
        tob_store_close(store);
        return err;
    }
    *ret = store;
    return TOB_OK;
}

void tob_store_close(tob_store *store) {
    if (store) {
        tob_journal_close(store->journal);
        tob_store_queue_fini(&store->queue);
        tob_tables_fini(&store->tables);
        tob_page_columns_free(store->columns);
        tob_buffer_fini(&store->record);
        free(store);
    }
}

// ---- adding

// Appends a record and queues what will come of it.
static tob_error append(tob_store *store, const tob_journal_part *parts, size_t count, const tob_store_op *op,
                        tob_position *ret_at) {
    tob_error err = tob_store_queue_reserve(&store->queue);
    if (!err) {
        err = tob_journal_append(store->journal, parts, count, ret_at);
    }
    if (!err) {
        tob_store_queue_add(&store->queue, op);
    }
    return err;
}

static tob_error append_message(tob_store *store, const Tobogganing__V1__Record *record,
                                const tob_store_op *op) {
    uint8_t *to = NULL;
    tob_position at;
    tob_buffer_clear(&store->record);
    tob_error err = tob_buffer_reserve(&store->record, tobogganing__v1__record__get_packed_size(record), &to);
    if (err) {
        return err;
    }
    const tob_journal_part part = {to, tobogganing__v1__record__pack(record, to)};
    return append(store, &part, 1, op, &at);
}

tob_error tob_store_add_batch(tob_store *store, const tob_submission *submission, bool *ret_repeated,
                              tob_position *ret_at) {
    const tob_submission *s = submission;
    tob_store_op op = {.kind = TOB_STORE_BATCH, .of.batch.submission = *s};
    tob_batch_key *key = &op.of.batch.key;
    *key = tob_batch_key_of(s->agent_id, s->boot_id, s->batch, s->batch_len);
    if (tob_digests_has(store->tables.digests, key)) {
        store->queued_repeats++;
        *ret_repeated = true;
        *ret_at = tob_journal_queue_end(store->journal);
        return TOB_OK;
    }
    uint8_t prefix[TOB_RECORD_PREFIX_BYTES];
    size_t n = tob_record_prefix(s->received_unix_ms, s->batch_len, prefix);
    const tob_journal_part parts[] = {{prefix, n}, {s->batch, s->batch_len}};
    tob_position at;
    tob_error err = tob_digests_reserve(store->tables.digests);
    if (!err) {
        err = append(store, parts, 2, &op, &at);
    }
    if (err) {
        return err;
    }
    tob_digests_queue(store->tables.digests, key);
    *ret_repeated = false;
    *ret_at = at;
    return TOB_OK;
}

static bool has_row(const tob_fleet *fleet, tob_source_kind kind, const char *id) {
    size_t len = strlen(id);
    return (kind == TOB_SOURCE_CLIENT ? tob_fleet_find_client(fleet, id, len)
                                      : tob_fleet_find_headend(fleet, id, len)) != TOB_FLEET_NONE;
}

tob_error tob_store_add_removal(tob_store *store, tob_source_kind kind, const char *id,
                                uint64_t now_unix_ms) {
    bool batches = false;
    size_t len = strlen(id);
    if (!tob_id_valid(id, len)) {
        return TOB_INVALID;
    }
    bool queued = tob_store_queue_removes(&store->queue, kind, id, &batches);
    if (queued || (!batches && !has_row(store->tables.fleet, kind, id))) {
        return TOB_OK;
    }
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    tob_store_op op = {.kind = TOB_STORE_REMOVAL, .of.removal.kind = kind};
    char *ids[] = {op.of.removal.id};
    memcpy(op.of.removal.id, id, len + 1);
    record.received_unix_ms = now_unix_ms;
    if (kind == TOB_SOURCE_CLIENT) {
        record.removed_clients = ids;
        record.n_removed_clients = 1;
    } else {
        record.removed_headends = ids;
        record.n_removed_headends = 1;
    }
    return append_message(store, &record, &op);
}

tob_error tob_store_add_counters(tob_store *store, uint64_t now_unix_ms) {
    const tob_process_table *processes = store->tables.processes;
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    const tob_store_op op = {.kind = TOB_STORE_COUNTERS, .of.puts = tob_process_table_puts(processes)};
    size_t count = 0;
    Tobogganing__V1__Process **all = tob_process_table_all(processes, &count);
    record.received_unix_ms = now_unix_ms;
    record.processes = malloc((count + 1) * sizeof(*record.processes));
    if (!record.processes) {
        return TOB_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        if (tob_process_table_unjournalled(processes, i)) {
            record.processes[record.n_processes++] = all[i];
        }
    }
    tob_error err = record.n_processes ? append_message(store, &record, &op) : TOB_OK;
    free(record.processes);
    return err;
}

// Will there be a consumer of that name, once all that is queued is applied?
static bool has_consumer(const tob_store *store, const char *name) {
    const tob_store_op *op = tob_store_queue_consumer(&store->queue, name);
    return op ? !op->of.consumer.forget : tob_consumers_find(store->tables.consumers, name) != NULL;
}

static size_t count_consumers(const tob_store *store) {
    size_t count = 0;
    const tob_consumer *all = tob_consumers_all(store->tables.consumers, &count);
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        left += has_consumer(store, all[i].name);
    }
    for (size_t i = 0; store->queue.consumers && i < store->queue.count; i++) {
        const tob_store_op *op = &store->queue.ops[i];
        left += op->kind == TOB_STORE_CONSUMER && !op->of.consumer.forget &&
                !tob_consumers_find(store->tables.consumers, op->of.consumer.name) &&
                tob_store_queue_consumer(&store->queue, op->of.consumer.name) == op;
    }
    return left;
}

tob_error tob_store_add_consumer(tob_store *store, const char *name, const tob_position *position,
                                 uint64_t now_unix_ms) {
    size_t len = strlen(name);
    if (!tob_id_valid(name, len)) {
        return TOB_INVALID;
    }
    bool known = has_consumer(store, name);
    if (!known && !position) {
        return TOB_OK;
    }
    if (!known && count_consumers(store) >= TOB_CONSUMERS_MAX) {
        return TOB_BUSY;
    }
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    Tobogganing__V1__ConsumerPosition consumer = TOBOGGANING__V1__CONSUMER_POSITION__INIT;
    Tobogganing__V1__ConsumerPosition *consumers[] = {&consumer};
    Tobogganing__V1__Position place = TOBOGGANING__V1__POSITION__INIT;
    tob_store_op op = {.kind = TOB_STORE_CONSUMER, .of.consumer.forget = !position};
    memcpy(op.of.consumer.name, name, len + 1);
    consumer.consumer = op.of.consumer.name;
    if (position) {
        op.of.consumer.position = *position;
        place.segment = position->segment;
        place.offset = position->offset;
        consumer.position = &place;
    }
    record.received_unix_ms = now_unix_ms;
    record.consumers = consumers;
    record.n_consumers = 1;
    return append_message(store, &record, &op);
}

// ---- syncing

static tob_error apply_batch(tob_tables *tables, const tob_submission *s, const tob_batch_key *key) {
    tob_error err = TOB_OK;
    for (size_t i = 0; i < s->client_count && !err; i++) {
        if (i % TOB_FLEET_PREFETCH == 0) {
            tob_fleet_prefetch_clients(tables->fleet, s->clients + i, s->client_count - i);
        }
        err = tob_fleet_apply_client(tables->fleet, s->clients[i], s->received_unix_ms);
        tables->stored_samples += s->clients[i]->n_time_unix_ms;
    }
    for (size_t i = 0; i < s->headend_count && !err; i++) {
        err = tob_fleet_apply_headend(tables->fleet, s->headends[i], s->received_unix_ms);
        tables->stored_samples += s->headends[i]->n_time_unix_ms;
    }
    tables->stored_batches++;
    return err ? err : tob_digests_add(tables->digests, key, s->received_unix_ms);
}

static tob_error apply(tob_tables *tables, const tob_store_op *op) {
    switch (op->kind) {
    case TOB_STORE_BATCH: return apply_batch(tables, &op->of.batch.submission, &op->of.batch.key);
    case TOB_STORE_REMOVAL: tob_fleet_remove(tables->fleet, op->of.removal.kind, op->of.removal.id); break;
    case TOB_STORE_COUNTERS: tob_process_table_journalled(tables->processes, op->of.puts); break;
    case TOB_STORE_CONSUMER:
        if (!op->of.consumer.forget) {
            return tob_consumers_put(tables->consumers, op->of.consumer.name, op->of.consumer.position);
        }
        tob_consumers_forget(tables->consumers, op->of.consumer.name);
        break;
    }
    return TOB_OK;
}

tob_error tob_store_sync(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem) {
    *ret_fatal = false;
    ret_problem->text[0] = 0;
    tob_error err = tob_journal_sync(store->journal, ret_fatal, ret_problem);
    if (!err) {
        tob_digests_forget_queued(store->tables.digests);
        store->repeated_batches += store->queued_repeats;
        for (size_t i = 0; i < store->queue.count && !err; i++) {
            err = apply(&store->tables, &store->queue.ops[i]);
        }
        if (err) { // what is durable must be served: a new start recovers it
            *ret_fatal = true;
            snprintf(ret_problem->text, sizeof(ret_problem->text), "what is durable can't be applied: %s",
                     tob_error_string(err));
        }
    }
    tob_digests_forget_queued(store->tables.digests);
    tob_store_queue_clear(&store->queue);
    store->queued_repeats = 0;
    return err;
}

tob_error tob_store_settle(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem) {
    return tob_journal_settle(store->journal, ret_fatal, ret_problem);
}

uint64_t tob_store_settle_due(const tob_store *store) {
    return tob_journal_settle_due(store->journal);
}

// ---- the rest

tob_fleet *tob_store_fleet(tob_store *store) {
    return store->tables.fleet;
}

tob_process_table *tob_store_processes(tob_store *store) {
    return store->tables.processes;
}

tob_consumers *tob_store_consumers(tob_store *store) {
    return store->tables.consumers;
}

void tob_store_get_stats(const tob_store *store, tob_store_stats *ret) {
    *ret = (tob_store_stats){.stored_batches = store->tables.stored_batches,
                             .stored_samples = store->tables.stored_samples,
                             .repeated_batches = store->repeated_batches,
                             .oldest = tob_journal_oldest(store->journal),
                             .end = tob_journal_end(store->journal),
                             .journal_bytes = tob_journal_bytes(store->journal)};
}

tob_error tob_store_checkpoint_begin(tob_store *store, uint64_t now_unix_ms, tob_buffer *page,
                                     tob_store_cursor *ret) {
    return tob_checkpoint_head(&store->tables, tob_journal_end(store->journal), now_unix_ms, page, ret);
}

tob_error tob_store_checkpoint_page(tob_store *store, tob_store_cursor *cursor, tob_buffer *page) {
    return tob_checkpoint_page(&store->tables, tob_journal_end(store->journal), store->columns, cursor, page);
}

void tob_store_checkpointed(tob_store *store, tob_position at) {
    if (tob_position_compare(at, store->checkpoints.newest) == 0) {
        return; // it replaced the one of the same place
    }
    store->checkpoints = (tob_checkpoint_places){.newest = at, .before = store->checkpoints.newest};
}

void tob_store_dropped_older(tob_store *store) {
    store->checkpoints.before = store->checkpoints.newest;
}

tob_error tob_store_rotate(tob_store *store, bool *ret_fatal, tob_journal_problem *ret_problem) {
    return tob_journal_rotate(store->journal, ret_fatal, ret_problem);
}

tob_error tob_store_retain(tob_store *store, uint64_t now_unix_ms, uint64_t *ret_removed,
                           tob_journal_problem *ret_problem) {
    return tob_journal_retain(store->journal, store->checkpoints.before, store->retain_ms,
                              store->retain_bytes, now_unix_ms, ret_removed, ret_problem);
}
