#include "ingestd/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "ingestd/checkpoint_pages.h"
#include "util/text.h"
#include "wire/arena.h"
#include "wire/batch.h"

enum { ARENA_BYTES = 512 << 20 }; // one record at most 32 MiB, unpacked columns up to 8 times that

typedef struct recovery {
    const char *dir;
    tob_tables *tables;
    uint64_t now_monotonic_ms;
    tob_arena *arena;
    tob_checkpoint_loader *loader; // NULL: there is no checkpoint
    uint64_t records;
    tob_position at;    // of the record at hand
    const char *reason; // why it was refused; NULL: it was not
} recovery;

// ---- the journal's records

static bool in_checkpoint(const recovery *r, tob_source_kind kind, const char *id) {
    return r->loader && tob_checkpoint_has(r->loader, kind, id, r->at);
}

static tob_error apply_series(recovery *r, const Tobogganing__V1__Batch *batch, uint64_t received_unix_ms,
                              uint64_t *ret_samples) {
    tob_error err = TOB_OK;
    uint64_t samples = 0;
    for (size_t i = 0; i < batch->n_clients && !err; i++) {
        Tobogganing__V1__ClientSeries *series = batch->clients[i];
        if (i > 0 && i % TOB_FLEET_PREFETCH == 0) {
            tob_fleet_prefetch_clients(r->tables->fleet, batch->clients + i, batch->n_clients - i);
        }
        err = tob_batch_check_client(series, received_unix_ms, &r->reason);
        if (!err && !in_checkpoint(r, TOB_SOURCE_CLIENT, series->client_id)) {
            err = tob_fleet_apply_client(r->tables->fleet, series, received_unix_ms);
        }
        samples += series->n_time_unix_ms;
    }
    for (size_t i = 0; i < batch->n_headends && !err; i++) {
        Tobogganing__V1__HeadendSeries *series = batch->headends[i];
        err = tob_batch_check_headend(series, received_unix_ms, &r->reason);
        if (!err && !in_checkpoint(r, TOB_SOURCE_HEADEND, series->headend_id)) {
            err = tob_fleet_apply_headend(r->tables->fleet, series, received_unix_ms);
        }
        samples += series->n_time_unix_ms;
    }
    *ret_samples = samples;
    return err;
}

static tob_error apply_batch(recovery *r, const Tobogganing__V1__Record *record) {
    ProtobufCMessage *message = NULL;
    uint64_t samples = 0;
    r->reason = "its batch can't be unpacked";
    tob_error err = tob_arena_unpack(r->arena, &tobogganing__v1__batch__descriptor, record->batch.data,
                                     record->batch.len, &message);
    if (err) {
        return err;
    }
    const Tobogganing__V1__Batch *batch = (const Tobogganing__V1__Batch *)message;
    tob_batch_key key =
        tob_batch_key_of(batch->agent_id, batch->boot_id, record->batch.data, record->batch.len);
    tob_digests_prefetch(r->tables->digests, &key, false);
    tob_fleet_prefetch_clients(r->tables->fleet, batch->clients, batch->n_clients);
    tob_digests_prefetch(r->tables->digests, &key, true);
    err = apply_series(r, batch, record->received_unix_ms, &samples);
    if (!err) {
        err = tob_digests_add(r->tables->digests, &key, record->received_unix_ms);
    }
    r->tables->stored_batches++;
    r->tables->stored_samples += samples;
    return err;
}

static void remove_rows(recovery *r, tob_source_kind kind, char *const *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!in_checkpoint(r, kind, ids[i])) {
            tob_fleet_remove(r->tables->fleet, kind, ids[i]);
        }
    }
}

static tob_error apply_consumers(recovery *r, const Tobogganing__V1__Record *record) {
    tob_error err = TOB_OK;
    for (size_t i = 0; i < record->n_consumers && !err; i++) {
        const Tobogganing__V1__ConsumerPosition *consumer = record->consumers[i];
        if (!consumer->position) {
            tob_consumers_forget(r->tables->consumers, consumer->consumer);
            continue;
        }
        tob_position position = {consumer->position->segment, consumer->position->offset};
        r->reason = "too many consumers, or a name that can't be";
        err = tob_consumers_put(r->tables->consumers, consumer->consumer, position);
    }
    return err;
}

static tob_error apply_message(recovery *r, const Tobogganing__V1__Record *record) {
    r->reason = "received_unix_ms: out of range";
    tob_error err = record->received_unix_ms > INT64_MAX / 2 ? TOB_INVALID : TOB_OK;
    if (!err && record->batch.len) {
        err = apply_batch(r, record);
    }
    for (size_t i = 0; i < record->n_processes && !err; i++) {
        err = tob_process_table_restore(r->tables->processes, record->processes[i], r->now_monotonic_ms,
                                        &r->reason);
    }
    if (!err) {
        remove_rows(r, TOB_SOURCE_CLIENT, record->removed_clients, record->n_removed_clients);
        remove_rows(r, TOB_SOURCE_HEADEND, record->removed_headends, record->n_removed_headends);
        err = apply_consumers(r, record);
    }
    return err;
}

static tob_error apply_record(void *user, tob_position at, const void *payload, size_t n) {
    recovery *r = user;
    ProtobufCMessage *message = NULL;
    r->at = at;
    r->reason = "it is not a tobogganing.v1.Record";
    tob_arena_clear(r->arena);
    tob_error err = tob_arena_unpack(r->arena, &tobogganing__v1__record__descriptor, payload, n, &message);
    if (!err) {
        err = apply_message(r, (const Tobogganing__V1__Record *)message);
    }
    switch (err) {
    case TOB_OK: r->reason = NULL; break;
    case TOB_INVALID:
    case TOB_MALFORMED:
    case TOB_BUSY: err = TOB_DAMAGED; break;
    default: r->reason = err == TOB_DAMAGED ? r->reason : tob_error_string(err); break;
    }
    r->records++;
    return err;
}

static tob_error load_record(void *user, tob_position at, const void *payload, size_t n) {
    recovery *r = user;
    r->at = at;
    return tob_checkpoint_load(r->loader, r->arena, payload, n, &r->reason);
}

// ---- both

// What a record of ours was refused for, where the journal knows only that it was.
static void say(const recovery *r, const char *file, uint64_t offset, tob_journal_problem *ret_problem) {
    snprintf(ret_problem->text, sizeof(ret_problem->text), "%s/%s at offset %" PRIu64 ": %s", r->dir, file,
             offset, r->reason);
}

static tob_error read_checkpoint(recovery *r, tob_position at, tob_store_recovery *ret_recovery,
                                 tob_journal_problem *ret_problem) {
    char file[64];
    snprintf(file, sizeof(file), "checkpoint-%016" PRIx64 "-%016" PRIx64 ".ckpt", at.segment, at.offset);
    tob_error err = tob_checkpoint_loader_new(r->tables, at, r->now_monotonic_ms, &r->loader);
    if (err) {
        return err;
    }
    err = tob_checkpoint_read(r->dir, at, load_record, r, &ret_recovery->checkpoint_bytes, ret_problem);
    if (!err && !tob_checkpoint_loaded(r->loader)) {
        r->reason = "it has no head";
        r->at.offset = 0;
        err = TOB_DAMAGED;
    }
    if (err && r->reason) {
        say(r, file, r->at.offset, ret_problem);
    }
    ret_recovery->checkpoint = at;
    return err;
}

static tob_error read_journal(recovery *r, const tob_journal_options *options, tob_journal **ret,
                              tob_store_recovery *ret_recovery, tob_journal_problem *ret_problem) {
    tob_journal_options from = *options;
    from.from = ret_recovery->checkpoint;
    tob_error err = tob_journal_open(&from, apply_record, r, ret, &ret_recovery->cut_bytes, ret_problem);
    if (err && r->reason) {
        char file[64];
        snprintf(file, sizeof(file), "journal-%016" PRIx64 ".seg", r->at.segment);
        say(r, file, r->at.offset, ret_problem);
    }
    if (!err && !from.from.segment && tob_journal_oldest(*ret).segment > 1) {
        char file[64];
        snprintf(file, sizeof(file), "journal-%016" PRIx64 ".seg", tob_journal_oldest(*ret).segment);
        r->reason = "segments before it are missing, and no checkpoint replaces them";
        say(r, file, 0, ret_problem);
        tob_journal_close(*ret);
        *ret = NULL;
        err = TOB_DAMAGED;
    }
    ret_recovery->records = r->records;
    return err;
}

// Records that came to lie before a page's place would be left out by the next recovery.
static tob_error check_end(const recovery *r, tob_journal *journal, tob_journal_problem *ret_problem) {
    tob_position end = tob_journal_end(journal);
    tob_position last = r->loader ? tob_checkpoint_last_place(r->loader) : end;
    if (tob_position_compare(end, last) >= 0) {
        return TOB_OK;
    }
    snprintf(ret_problem->text, sizeof(ret_problem->text),
             "%s/journal-%016" PRIx64 ".seg at offset %" PRIu64
             ": the journal ends here, but the checkpoint has what was "
             "at segment %" PRIu64 ", offset %" PRIu64,
             r->dir, end.segment, end.offset, last.segment, last.offset);
    return TOB_DAMAGED;
}

tob_error tob_recover(const tob_journal_options *options, uint64_t now_monotonic_ms, tob_tables *tables,
                      tob_journal **ret, tob_checkpoint_places *ret_places, tob_store_recovery *ret_recovery,
                      tob_journal_problem *ret_problem) {
    recovery r = {.dir = options->dir, .tables = tables, .now_monotonic_ms = now_monotonic_ms};
    tob_journal *journal = NULL;
    *ret_recovery = (tob_store_recovery){.records = 0};
    ret_problem->text[0] = 0;
    tob_error err = tob_arena_new(ARENA_BYTES, &r.arena);
    if (!err) {
        err = tob_journal_probe(options->dir, ret_problem); // or checkpoints would vanish while they are read
    }
    if (!err) {
        err = tob_checkpoint_find(options->dir, ret_places, ret_problem);
    }
    if (!err && ret_places->newest.segment) {
        err = read_checkpoint(&r, ret_places->newest, ret_recovery, ret_problem);
    }
    if (!err) {
        err = read_journal(&r, options, &journal, ret_recovery, ret_problem);
    }
    if (!err) {
        err = check_end(&r, journal, ret_problem);
    }
    tob_checkpoint_loader_free(r.loader);
    tob_arena_free(r.arena);
    if (err) {
        tob_journal_close(journal);
        if (!ret_problem->text[0]) {
            snprintf(ret_problem->text, sizeof(ret_problem->text), "%s: %s", options->dir,
                     tob_error_string(err));
        }
        return err;
    }
    tob_fleet_forget_changes(tables->fleet);
    *ret = journal;
    return TOB_OK;
}
