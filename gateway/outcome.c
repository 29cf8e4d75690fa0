#include "gateway/outcome.h"

#include "http/server.h"
#include "rpc/status.h"

static const char *text_of(tob_error error, const char *message) {
    return message && *message ? message : tob_error_string(error);
}

static bool worth_repeating(int status) {
    return status == 429 || status == 503 || status == 504;
}

tob_outcome tob_outcome_of_call(tob_error error, const char *message, uint32_t retry_after_ms) {
    tob_outcome outcome = {.status = tob_http_status(error), .text = text_of(error, message)};
    if (error == TOB_UNAUTHENTICATED && retry_after_ms) {
        outcome.status = 429; // too many wrong credentials came from there: RFC 6585 §4
    }
    if (error == TOB_UNIMPLEMENTED) {
        outcome.status = 502; // ingestd does not know what we need of it
    }
    if (worth_repeating(outcome.status)) {
        outcome.retry_after_ms = retry_after_ms ? retry_after_ms : TOB_RETRY_AFTER_MS;
    }
    return outcome;
}

tob_outcome tob_outcome_of_batch(tob_error error, const char *message, uint32_t retry_after_ms) {
    tob_outcome outcome = tob_outcome_of_call(error, message, retry_after_ms);
    if (!worth_repeating(outcome.status) || outcome.status < 500) {
        return (tob_outcome){.status = 502, .text = "ingestd refused the batch that this report was in"};
    }
    return outcome;
}

tob_error tob_call_error(const tob_rpc_result *result) {
    return result->error == TOB_DEADLINE && !result->sent ? TOB_UNAVAILABLE : result->error;
}

tob_outcome tob_outcome_of_rejection(const Tobogganing__V1__Rejection *rejection) {
    tob_error error = tob_status_error(rejection->code);
    if (!error) {
        return (tob_outcome){.status = 502, .text = "ingestd refused the report without a reason"};
    }
    return tob_outcome_of_call(error, rejection->reason, rejection->retry_after_ms);
}
