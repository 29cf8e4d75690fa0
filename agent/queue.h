// tob_queue holds samples that wait to be sent, oldest first, with who vouches for each: a bounded ring.
//
// Samples refer to their source (id, credential, name …), which is stored once and forgotten with its last
// sample. Threads: one at a time.
#ifndef TOB_AGENT_QUEUE_H
#define TOB_AGENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/text.h"
#include "wire/batch.h"
#include "wire/metrics.h"

// One sample and who took it. Strings are borrowed; the queue copies them.
typedef struct tob_agent_report {
    tob_source_kind kind;
    const char *id;
    const char *credential;
    const char *name; // headends: NULL or "" when not given
    bool headless;    // clients
    uint64_t line;    // of --from-stdin; 0: sampled here
    union {
        tob_client_sample client;
        tob_headend_sample headend;
    } sample;
} tob_agent_report;

// One series of a batch: what to say about it when the server refuses it.
typedef struct tob_batch_part {
    tob_source_kind kind;
    char id[TOB_MAX_ID_BYTES + 1];
    size_t samples;
    uint64_t first_line;
    uint64_t last_line;
} tob_batch_part;

typedef struct tob_queue tob_queue;

// max_samples 1…2^31. Errors: TOB_NO_MEMORY, TOB_INVALID.
TOB_MUST_USE tob_error tob_queue_new(size_t max_samples, tob_queue **ret);
void tob_queue_free(tob_queue *queue);

size_t tob_queue_count(const tob_queue *queue);
bool tob_queue_full(const tob_queue *queue);

// tob_queue_push adds one. Errors: TOB_BUSY when full; TOB_INVALID for an id that no server accepts;
// TOB_TOO_LARGE for a credential over TOB_MAX_CREDENTIAL_BYTES or a name over TOB_MAX_NAME_BYTES;
// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_queue_push(tob_queue *queue, const tob_agent_report *report);

// tob_queue_drop_oldest forgets up to n samples and returns how many.
size_t tob_queue_drop_oldest(tob_queue *queue, size_t n);

// tob_queue_build puts the oldest samples, grouped into series, into an empty builder: up to max_samples, or
// fewer when the builder has no room. They stay in the queue: drop ret_samples of them once the batch is
// packed.
//   ret_parts   one for each series, in the batch's order; owned by the caller, free with free
// Errors: TOB_TOO_LARGE when not even one sample fits; TOB_NO_MEMORY. The builder is empty then.
TOB_MUST_USE tob_error tob_queue_build(tob_queue *queue, size_t max_samples, tob_batch_builder *builder,
                                       tob_batch_part **ret_parts, size_t *ret_part_count,
                                       size_t *ret_samples);

#endif
