// tob_digests tells repeated batches: for each sender, which is one start of an agent, it keeps the digests of the last four
// batches.
//
// Senders are kept in two generations. The older one is dropped after TOB_DIGESTS_ROTATE_MS of received time, or when the
// newer one has TOB_DIGESTS_MAX_SENDERS: so memory is bounded, and a sender is remembered for at least TOB_DIGESTS_ROTATE_MS
// after its last batch, unless there are too many. A step of the wall clock (TOB_DIGESTS_STEP_MS between two batches) is
// not counted as time.
//
// A batch is queued first, and added when it is durable; or all that is queued is forgotten.
//
// Threads: one at a time (the committer's).
// Errors:  TOB_NO_MEMORY.
#ifndef TOB_INGESTD_DIGESTS_H
#define TOB_INGESTD_DIGESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_DIGESTS_BATCHES     4 // of a sender
#define TOB_DIGESTS_MAX_SENDERS (1u << 22)
#define TOB_DIGESTS_ROTATE_MS   (12 * 3600 * 1000)
#define TOB_DIGESTS_STEP_MS     (3600 * 1000)
#define TOB_SENDER_BYTES        16

typedef struct tob_batch_key {
    uint8_t sender[TOB_SENDER_BYTES];
    uint64_t digest; // never 0
} tob_batch_key;

// tob_batch_key_of: the sender is XXH3, 128 bits, canonical, of agent id, NUL and the boot id's 8 bytes, little-endian; the
// digest XXH3, 64 bits, of the serialized batch.
tob_batch_key tob_batch_key_of(const char *agent_id, uint64_t boot_id, const void *batch, size_t batch_len);

typedef struct tob_sender_digests {
    uint8_t sender[TOB_SENDER_BYTES];
    uint64_t digests[TOB_DIGESTS_BATCHES]; // the last first; 0: none
    uint32_t heard_unix_s;
} tob_sender_digests;

typedef struct tob_digests tob_digests;

// max_senders: of a generation; TOB_DIGESTS_MAX_SENDERS but in tests.
TOB_MUST_USE tob_error tob_digests_new(uint32_t max_senders, tob_digests **ret);
void tob_digests_free(tob_digests *digests);

// tob_digests_has: is it one of its sender's last four, queued ones included?
bool tob_digests_has(const tob_digests *digests, const tob_batch_key *key);

// tob_digests_prefetch fetches from memory what looking up a sender will need, in two steps with other work in between: the
// index first, then (`entry`) the sender's entry. Changes nothing.
void tob_digests_prefetch(const tob_digests *digests, const tob_batch_key *key, bool entry);

// tob_digests_reserve makes room for queueing one more batch, and for adding whatever is queued then.
TOB_MUST_USE tob_error tob_digests_reserve(tob_digests *digests);

// tob_digests_queue: after a reserve, for a batch that is not one of those that it has.
void tob_digests_queue(tob_digests *digests, const tob_batch_key *key);
void tob_digests_forget_queued(tob_digests *digests);

// tob_digests_add, whether queued or not. Fails only without a reserve. received_unix_ms: by our clock.
TOB_MUST_USE tob_error tob_digests_add(tob_digests *digests, const tob_batch_key *key,
                                       uint64_t received_unix_ms);

// ---- checkpoints. Senders have numbers: those of the older generation first, then the newer one's. A number is not used again.

typedef struct tob_digests_range {
    uint64_t older; // numbers from here on, below `newer`, are the older generation's
    uint64_t newer;
    uint64_t end;
} tob_digests_range;

tob_digests_range tob_digests_numbers(const tob_digests *digests);

// Borrowed until the next change. number: within the range.
const tob_sender_digests *tob_digests_at(const tob_digests *digests, uint64_t number);

// tob_digests_restore puts a sender into the newer generation as it was.
TOB_MUST_USE tob_error tob_digests_restore(tob_digests *digests, const tob_sender_digests *sender);

// tob_digests_restore_newer: what was restored so far is the older generation.
void tob_digests_restore_newer(tob_digests *digests);

#endif
