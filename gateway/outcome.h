// What HTTP says about the end of a call to ingestd. Pure; threads: any.
#ifndef TOB_GATEWAY_OUTCOME_H
#define TOB_GATEWAY_OUTCOME_H

#include <stdint.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "rpc/connection.h"
#include "util/error.h"

#define TOB_RETRY_AFTER_MS 1000 // when ingestd does not say

typedef struct tob_outcome {
    int status;
    uint64_t retry_after_ms; // 0: repeating will not help
    const char *text;        // borrowed from what it was made of, or static
} tob_outcome;

// tob_outcome_of_batch: a call that carried reports of several requests and failed as a whole. None of the
// senders is at fault, so it is never 4xx.
tob_outcome tob_outcome_of_batch(tob_error error, const char *message, uint32_t retry_after_ms);

// tob_outcome_of_call: a call that carried one request's own body. UNAUTHENTICATED with a time to wait is 429.
tob_outcome tob_outcome_of_call(tob_error error, const char *message, uint32_t retry_after_ms);

// tob_call_error: how a call ended. One that ran out of time and was certainly not sent is TOB_UNAVAILABLE (503) and not
// TOB_DEADLINE (504): nothing was done.
tob_error tob_call_error(const tob_rpc_result *result);

tob_outcome tob_outcome_of_rejection(const Tobogganing__V1__Rejection *rejection);

#endif
