#include "ingestd/recovery.h"

#include <inttypes.h>
#include <stdio.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "wire/arena.h"
#include "wire/batch.h"

enum { ARENA_BYTES = 512 << 20 }; // one record at most 32 MiB, unpacked columns up to 8 times that

typedef struct recovery {
    tob_fleet *fleet;
    tob_process_table *processes;
    tob_arena *arena;
    uint64_t records;
    tob_position at;
    const char *reason;
} recovery;

static tob_error apply_batch(recovery *r, const Tobogganing__V1__Record *record) {
    ProtobufCMessage *message = NULL;
    tob_error err = tob_arena_unpack(r->arena, &tobogganing__v1__batch__descriptor, record->batch.data,
                                     record->batch.len, &message);
    if (err) {
        r->reason = "its batch can't be unpacked";
        return err;
    }
    Tobogganing__V1__Batch *batch = (Tobogganing__V1__Batch *)message;
    for (size_t i = 0; i < batch->n_clients && !err; i++) {
        err = tob_batch_check_client(batch->clients[i], record->received_unix_ms, &r->reason);
        err = err ? err : tob_fleet_apply_client(r->fleet, batch->clients[i], record->received_unix_ms);
    }
    for (size_t i = 0; i < batch->n_headends && !err; i++) {
        err = tob_batch_check_headend(batch->headends[i], record->received_unix_ms, &r->reason);
        err = err ? err : tob_fleet_apply_headend(r->fleet, batch->headends[i], record->received_unix_ms);
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
    if (err) {
        return TOB_DAMAGED;
    }
    const Tobogganing__V1__Record *record = (const Tobogganing__V1__Record *)message;
    if (record->batch.len) {
        err = apply_batch(r, record);
    }
    for (size_t i = 0; i < record->n_processes && !err; i++) {
        err = tob_process_table_put(r->processes, record->processes[i], record->received_unix_ms, &r->reason);
    }
    r->records++;
    return err == TOB_INVALID || err == TOB_MALFORMED ? TOB_DAMAGED : err;
}

// Exporters page through a snapshot for a new epoch: what was recovered need not go over the bus.
static void forget_dirty(tob_fleet *fleet) {
    enum { SOME = 1000 };
    uint32_t clients[SOME], headends[SOME];
    for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
        size_t c = 1, h = 1;
        while (c + h > 0) {
            tob_fleet_take_dirty(fleet, bucket, SOME, clients, &c, headends, &h);
        }
    }
}

tob_error tob_recover(const tob_journal_options *options, tob_fleet *fleet, tob_process_table *processes,
                      tob_journal **ret, uint64_t *ret_records, uint64_t *ret_cut_bytes,
                      tob_journal_problem *ret_problem) {
    recovery r = {.fleet = fleet, .processes = processes};
    tob_error err = tob_arena_new(ARENA_BYTES, &r.arena);
    if (err) {
        return err;
    }
    ret_problem->text[0] = 0;
    err = tob_journal_open(options, apply_record, &r, ret, ret_cut_bytes, ret_problem);
    if (err && !ret_problem->text[0]) {
        snprintf(ret_problem->text, sizeof(ret_problem->text),
                 "record in segment %" PRIu64 " at offset %" PRIu64 ": %s", r.at.segment, r.at.offset,
                 r.reason);
    }
    tob_arena_free(r.arena);
    if (!err) {
        forget_dirty(fleet);
        *ret_records = r.records;
    }
    return err;
}
