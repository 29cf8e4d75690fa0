// What each HTTP worker of the gateway has: only its own thread touches it while the server runs.
#ifndef TOB_GATEWAY_WORKER_H
#define TOB_GATEWAY_WORKER_H

#include "gateway/admin.h"
#include "gateway/batcher.h"
#include "gateway/calls.h"
#include "gateway/ingest_proxy.h"
#include "gateway/relay.h"
#include "rpc/process.h"
#include "util/buffer.h"
#include "wire/arena.h"

#define TOB_WORKER_MAX_CALLS   16          // of admins and of those who read back; more are answered 503
#define TOB_WORKER_ARENA_BYTES (32u << 20) // of memory for one answer of ingestd's

// Failures of auth_attempts_total that the gateway sees by itself, by type.
typedef struct tob_gateway_refused {
    tob_counter *api_key;
    tob_counter *jwt;
    tob_counter *admin;
} tob_gateway_refused;

typedef struct tob_gateway_worker {
    tob_batcher *batcher;
    tob_calls *batches; // of protobuf, on their way to ingestd
    tob_calls *calls;   // all others
    tob_admin *admin;
    tob_relay *relay;
    tob_rpc_client *rpc;
    tob_arena *arena;    // an answer of ingestd's, for the time of its handling
    tob_buffer inflated; // a gzip body, for the time of its handler
    tob_counter *unknown_metrics;
    tob_gateway_refused refused;
    size_t max_body_bytes; // of a JSON body
    uint32_t request_timeout_ms;
} tob_gateway_worker;

#endif
