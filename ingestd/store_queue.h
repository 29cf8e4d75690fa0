// What was added to a store and is not applied yet, in the order in which it was added. Inside store.c only.
//
// Threads: one at a time. Errors: TOB_NO_MEMORY, from tob_store_queue_reserve alone.
#ifndef TOB_INGESTD_STORE_QUEUE_H
#define TOB_INGESTD_STORE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingestd/digests.h"
#include "ingestd/store.h"
#include "util/index.h"
#include "util/text.h"

typedef enum tob_store_op_kind {
    TOB_STORE_BATCH,
    TOB_STORE_REMOVAL,
    TOB_STORE_COUNTERS,
    TOB_STORE_CONSUMER,
} tob_store_op_kind;

typedef struct tob_store_op {
    tob_store_op_kind kind;
    union {
        struct {
            tob_submission submission;
            tob_batch_key key;
        } batch;
        struct {
            tob_source_kind kind;
            size_t batches; // queued before it
            char id[TOB_MAX_ID_BYTES + 1];
        } removal;
        struct {
            bool forget;
            tob_position position;
            char name[TOB_MAX_ID_BYTES + 1];
        } consumer;
        uint64_t puts; // counters: of the process table
    } of;
} tob_store_op;

typedef struct tob_store_queue {
    tob_store_op *ops; // memory is kept
    size_t count;
    size_t capacity;
    size_t batches;
    size_t consumers;
    tob_index removals[TOB_SOURCE_KINDS]; // of the first removal of an id
} tob_store_queue;

// The queue must not move afterwards.
void tob_store_queue_init(tob_store_queue *queue);
void tob_store_queue_fini(tob_store_queue *queue);
void tob_store_queue_clear(tob_store_queue *queue);

// tob_store_queue_reserve makes the next tob_store_queue_add succeed.
TOB_MUST_USE tob_error tob_store_queue_reserve(tob_store_queue *queue);
void tob_store_queue_add(tob_store_queue *queue, const tob_store_op *op);

// Is a removal queued that nothing queued after it can undo?
//   ret_batches   were batches queued that may have made a row of the id (again)?
bool tob_store_queue_removes(const tob_store_queue *queue, tob_source_kind kind, const char *id,
                             bool *ret_batches);

// The last op of a consumer; NULL: none.
const tob_store_op *tob_store_queue_consumer(const tob_store_queue *queue, const char *name);

#endif
