#include "ingestd/store_queue.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_OPS = 16384 }; // memory kept between groups

static const char *removal_id(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_store_queue *queue = owner;
    const char *id = queue->ops[row].of.removal.id;
    *ret_len = strlen(id);
    return id;
}

void tob_store_queue_init(tob_store_queue *queue) {
    *queue = (tob_store_queue){.ops = NULL};
    for (size_t i = 0; i < TOB_SOURCE_KINDS; i++) {
        tob_index_init(&queue->removals[i], removal_id, queue);
    }
}

void tob_store_queue_fini(tob_store_queue *queue) {
    for (size_t i = 0; i < TOB_SOURCE_KINDS; i++) {
        tob_index_fini(&queue->removals[i]);
    }
    free(queue->ops);
    queue->ops = NULL;
}

void tob_store_queue_clear(tob_store_queue *queue) {
    for (size_t i = 0; i < queue->count; i++) {
        const tob_store_op *op = &queue->ops[i];
        if (op->kind == TOB_STORE_REMOVAL) {
            const char *id = op->of.removal.id;
            tob_index_remove(&queue->removals[op->of.removal.kind], id, strlen(id));
        }
    }
    queue->count = queue->batches = queue->consumers = 0;
    if (queue->capacity > KEPT_OPS) {
        free(queue->ops);
        queue->ops = NULL;
        queue->capacity = 0;
    }
}

tob_error tob_store_queue_reserve(tob_store_queue *queue) {
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? queue->capacity * 2 : 64;
        tob_store_op *ops = realloc(queue->ops, capacity * sizeof(*ops));
        if (!ops) {
            return TOB_NO_MEMORY;
        }
        queue->ops = ops;
        queue->capacity = capacity;
    }
    tob_error err = tob_index_reserve(&queue->removals[TOB_SOURCE_CLIENT], 1);
    return err ? err : tob_index_reserve(&queue->removals[TOB_SOURCE_HEADEND], 1);
}

void tob_store_queue_add(tob_store_queue *queue, const tob_store_op *op) {
    uint32_t row = (uint32_t)queue->count++;
    queue->ops[row] = *op;
    queue->batches += op->kind == TOB_STORE_BATCH;
    queue->consumers += op->kind == TOB_STORE_CONSUMER;
    if (op->kind == TOB_STORE_REMOVAL) {
        queue->ops[row].of.removal.batches = queue->batches;
        tob_index *index = &queue->removals[op->of.removal.kind];
        if (tob_index_find(index, op->of.removal.id, strlen(op->of.removal.id)) == TOB_INDEX_NONE) {
            (void)!tob_index_add(index, row); // room was made for it
        }
    }
}

bool tob_store_queue_removes(const tob_store_queue *queue, tob_source_kind kind, const char *id,
                             bool *ret_batches) {
    uint32_t row = tob_index_find(&queue->removals[kind], id, strlen(id));
    size_t before = row == TOB_INDEX_NONE ? 0 : queue->ops[row].of.removal.batches;
    *ret_batches = queue->batches > before;
    return row != TOB_INDEX_NONE && !*ret_batches;
}

const tob_store_op *tob_store_queue_consumer(const tob_store_queue *queue, const char *name) {
    for (size_t i = queue->consumers ? queue->count : 0; i > 0; i--) {
        const tob_store_op *op = &queue->ops[i - 1];
        if (op->kind == TOB_STORE_CONSUMER && strcmp(op->of.consumer.name, name) == 0) {
            return op;
        }
    }
    return NULL;
}
