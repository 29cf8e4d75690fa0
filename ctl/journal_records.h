// What the records of a journal and its checkpoints say: the checks that lib/journal's verify and repair need to know ours
// from others, and the facts that the journal commands print.
//
// Threads: main thread. Errors: TOB_NO_MEMORY, and what is said.
#ifndef TOB_CTL_JOURNAL_RECORDS_H
#define TOB_CTL_JOURNAL_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "journal/repair.h"
#include "journal/verify.h"
#include "util/text.h"
#include "wire/arena.h"

#define TOB_CTL_MAX_CONSUMERS 1024 // ingestd keeps 64

// One record of the journal. Strings are borrowed for the call that hands it over.
typedef struct tob_ctl_record {
    uint64_t received_unix_ms;
    const char
        *kind; // "batch", "removals", "consumers", "counters", "erased", "lost" (a repair put it there) or "empty"
    const char *agent_id; // of a batch
    uint64_t boot_id;
    uint64_t number;
    size_t series; // of a batch; of others: how many things it has
    uint64_t samples;
    size_t bytes;
} tob_ctl_record;

typedef struct tob_ctl_checkpoint {
    tob_position at;
    uint64_t created_unix_ms;
    uint64_t clients;
    uint64_t headends;
    uint64_t senders;
    uint64_t consumers;
    uint64_t stored_batches;
    uint64_t stored_samples;
} tob_ctl_checkpoint;

typedef struct tob_ctl_consumer {
    char name[TOB_MAX_ID_BYTES + 1];
    tob_position position; // {0, 0}: forgotten
    tob_position as_of;    // what said so
} tob_ctl_consumer;

typedef struct tob_ctl_journal_records {
    tob_arena *arena;
    tob_ctl_checkpoint *checkpoints;
    size_t checkpoint_count;
    tob_ctl_consumer *consumers;
    size_t consumer_count;
    tob_position *places; // of the consumers
    tob_buffer head;      // of the newest checkpoint that has one, serialized
    void (*on_record)(void *user, tob_position at, const tob_ctl_record *record); // may be NULL
    void *user;
} tob_ctl_journal_records;

// tob_ctl_journal_records_init; free with _fini, also after an error.
TOB_MUST_USE tob_error tob_ctl_journal_records_init(tob_ctl_journal_records *records);
void tob_ctl_journal_records_fini(tob_ctl_journal_records *records);

// What is known of the checkpoint at a place; NULL: nothing.
const tob_ctl_checkpoint *tob_ctl_checkpoint_at(const tob_ctl_journal_records *records, tob_position at);

// The callbacks of tob_verify_options, whose `user` is the records: what ingestd would refuse to recover is TOB_DAMAGED.
tob_error tob_ctl_check_record(void *user, tob_position at, const void *payload, size_t n,
                               tob_verify_note *ret);
tob_error tob_ctl_check_checkpoint_record(void *user, tob_position at, const void *payload, size_t n,
                                          tob_verify_note *ret);

// The callbacks of tob_repair_options. A filler is a Record that has nothing but its time and an unknown field, number
// TOB_CTL_LOST_FIELD.
#define TOB_CTL_LOST_FIELD 15

size_t tob_ctl_make_filler(uint64_t unix_ms, size_t n, uint8_t to[TOB_REPAIR_FILLER_BYTES]);
tob_error tob_ctl_make_head(void *user, tob_position at, tob_buffer *to);
tob_error tob_ctl_consumer_places(void *user, const tob_position **ret, size_t *ret_count);

#endif
