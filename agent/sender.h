// tob_sender takes samples, batches them, and submits them to ingestd until they are acknowledged: its own
// thread sends a batch every interval, compressed, and repeats it with backoff, under the same number, while
// the server is away. Samples that arrive meanwhile wait in a bounded queue. With several servers a batch goes to the one
// that answered last, and to another when that one is away, refuses it for now, or is silent (rpc/client.h).
//
// Threads: any may push and wait; one starts, stops and frees. Events come on the sender's threads, one at a
// time: a callback must not call the sender. Errors: a series that the server refuses is an event, not an
// error.
#ifndef TOB_AGENT_SENDER_H
#define TOB_AGENT_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/queue.h"
#include "util/error.h"

#define TOB_SENDER_MAX_BATCH_BYTES                                                                           \
    (2u << 20) // memory of one batch, so that it is well under the wire's limit
#define TOB_SENDER_MAX_BATCH_SAMPLES 10000
// Of a batch of which a part was not looked at (Rejection.retry_after_ms).
#define TOB_SENDER_LIMITED_REPEATS   3

typedef enum tob_sender_event_kind {
    TOB_SENDER_ACKED,     // a batch was answered: `samples` of it are durable
    TOB_SENDER_REJECTED,  // the server refused one series: `part`, `error`, `message`
    TOB_SENDER_FAILED,    // no answer, or "later": the batch is sent again in `retry_in_ms`
    TOB_SENDER_DISCARDED, // the server refused the whole batch for good, or it can't be built: `samples` are
                          // lost
    TOB_SENDER_DROPPED,   // the queue was full: its `samples` oldest are lost
} tob_sender_event_kind;

// Borrowed for the callback.
typedef struct tob_sender_event {
    tob_sender_event_kind kind;
    uint64_t batch; // its number; 0 for DROPPED
    size_t samples;
    size_t bytes; // ACKED: of the batch, before compression
    tob_error error;
    const char *message; // never NULL
    uint64_t retry_in_ms;
    unsigned failures; // in a row, this one included; ACKED: before it
    const tob_batch_part *part;
} tob_sender_event;

typedef void (*tob_sender_event_fn)(void *user, const tob_sender_event *event);

typedef struct tob_sender_options {
    const char *server;   // comma-separated URLs; copied
    const char *agent_id; // 1–128 bytes of [A-Za-z0-9._:-]; copied
    uint64_t boot_id;
    uint64_t interval_ms;     // 0: as the server asks
    uint64_t call_timeout_ms; // of one attempt
    size_t max_queued;        // samples
    tob_sender_event_fn on_event;
    void *user;
} tob_sender_options;

typedef struct tob_sender_stats {
    uint64_t pushed; // samples, as all of these
    uint64_t acked;
    uint64_t rejected; // by the server, for good
    uint64_t dropped;  // for want of room
    uint64_t waiting;  // in the queue and in the batch under way
} tob_sender_stats;

typedef struct tob_sender tob_sender;

// Errors: TOB_INVALID for the URL or the agent's id; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_sender_new(const tob_sender_options *options, tob_sender **ret);
TOB_MUST_USE tob_error tob_sender_start(tob_sender *sender);

// tob_sender_push queues one sample (everything is copied).
//   drop_oldest   make room by losing the oldest; else a full queue is TOB_BUSY
// Errors: as tob_queue_push.
TOB_MUST_USE tob_error tob_sender_push(tob_sender *sender, const tob_agent_report *report, bool drop_oldest);

// tob_sender_hurry sends what is there at once, from now on without waiting for the interval; failures back
// off still.
void tob_sender_hurry(tob_sender *sender);

// tob_sender_relax goes back to the interval.
void tob_sender_relax(tob_sender *sender);

// tob_sender_wait_idle waits until nothing is queued or under way. TOB_DEADLINE after timeout_ms.
TOB_MUST_USE tob_error tob_sender_wait_idle(tob_sender *sender, uint64_t timeout_ms);

tob_sender_stats tob_sender_statistics(tob_sender *sender);

// tob_sender_stop abandons the call under way and ends the thread: hurry and wait before it to flush.
// Idempotent.
void tob_sender_stop(tob_sender *sender);
void tob_sender_free(tob_sender *sender); // stopped, or never started

#endif
