// What each HTTP worker of the gateway has: only its own thread touches it while the server runs.
#ifndef TOB_GATEWAY_WORKER_H
#define TOB_GATEWAY_WORKER_H

#include "gateway/batcher.h"
#include "gateway/ingest_proxy.h"
#include "gateway/relay.h"
#include "rpc/process.h"
#include "util/buffer.h"

typedef struct tob_gateway_worker {
    tob_batcher *batcher;
    tob_ingest_proxy *proxy;
    tob_relay *relay;
    tob_buffer inflated; // a gzip body, for the time of its handler
    tob_counter *unknown_metrics;
    size_t max_body_bytes; // of a JSON body
} tob_gateway_worker;

#endif
