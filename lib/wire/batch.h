// Batches ⇄ samples: building a SubmitRequest out of samples, and checking the series of a received Batch.
// The shapes, units and limits are ingest.proto's.
//
// Threads: one at a time each.
#ifndef TOB_WIRE_BATCH_H
#define TOB_WIRE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "util/buffer.h"
#include "wire/arena.h"
#include "wire/metrics.h"

#define TOB_MAX_BATCH_BYTES        (4u << 20)  // as sent
#define TOB_MAX_INFLATED_BYTES     (16u << 20) // decoded
#define TOB_MAX_SERIES_PER_BATCH   10000
#define TOB_MAX_SAMPLES_PER_SERIES 10000
#define TOB_MAX_CREDENTIAL_BYTES   8192
#define TOB_MAX_UNKNOWN_FIELDS     16 // in one message: a newer sender may know a few fields that we don't
#define TOB_MAX_FUTURE_MS          300000

typedef struct tob_batch_builder tob_batch_builder;

// tob_batch_builder_new
//   agent_id, boot_id   see Batch in ingest.proto; the id is copied
//   max_bytes           cap on the memory of one batch
//   ret                 owned by the caller; free with tob_batch_builder_free
// Errors: TOB_INVALID for the id, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_batch_builder_new(const char *agent_id, uint64_t boot_id, size_t max_bytes,
                                             tob_batch_builder **ret);
void tob_batch_builder_free(tob_batch_builder *builder);

// tob_batch_add_client adds one client's samples; everything is copied. Samples next to each other with the
// same `present` become one series, so one sample is always one series.
//   credential   the API key
// Errors: TOB_TOO_LARGE when the batch has no room (nothing was added: pack, clear, add again);
// TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_batch_add_client(tob_batch_builder *builder, const char *client_id,
                                            const char *credential, bool headless,
                                            const tob_client_sample *samples, size_t n);

// tob_batch_add_headend, likewise. name: NULL or "" when not known.
TOB_MUST_USE tob_error tob_batch_add_headend(tob_batch_builder *builder, const char *headend_id,
                                             const char *name, const char *credential,
                                             const tob_headend_sample *samples, size_t n);

// tob_batch_set_peer: whatever is added until the next call came from this address (SubmitRequest.peers: for senders whose word
// for it is believed). Borrowed until then; NULL: from ourselves.
void tob_batch_set_peer(tob_batch_builder *builder, const char *address);

// Clients' series come first in the batch, then headends': a rejection's index counts so.
size_t tob_batch_client_series(const tob_batch_builder *builder);
size_t tob_batch_headend_series(const tob_batch_builder *builder);

// tob_batch_pack appends a serialized SubmitRequest to `out`. When all series have one credential, and none has a peer, it is
// sent once.
TOB_MUST_USE tob_error tob_batch_pack(tob_batch_builder *builder, uint64_t number, tob_buffer *out);

// tob_batch_clear forgets the series and keeps memory.
void tob_batch_clear(tob_batch_builder *builder);

// tob_batch_check_client and _headend check one received series and turn its columns from deltas into values,
// in place.
//   now_unix_ms   samples more than TOB_MAX_FUTURE_MS after it are refused
//   ret_reason    on an error: what was wrong, with the field; static text
// Errors: TOB_INVALID.
TOB_MUST_USE tob_error tob_batch_check_client(Tobogganing__V1__ClientSeries *series, uint64_t now_unix_ms,
                                              const char **ret_reason);
TOB_MUST_USE tob_error tob_batch_check_headend(const Tobogganing__V1__HeadendSeries *series,
                                               uint64_t now_unix_ms, const char **ret_reason);

// tob_batch_client_sample reads sample i of a checked series.
tob_client_sample tob_batch_client_sample(const Tobogganing__V1__ClientSeries *series, size_t i);
tob_headend_sample tob_batch_headend_sample(const Tobogganing__V1__HeadendSeries *series, size_t i);

#endif
