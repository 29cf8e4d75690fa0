// tob_relay: GET /metrics is answered by the exporter. Only this path, only that exporter: the request's own Host
// never decides where it goes (CVE-2023-30847 of h2o's proxy is why this is not that).
//
// Threads: the worker's.
#ifndef TOB_GATEWAY_RELAY_H
#define TOB_GATEWAY_RELAY_H

#include "http/server.h"
#include "util/error.h"

#define TOB_RELAY_MAX_REQUESTS 32           // for each worker; more are answered 503
#define TOB_RELAY_BUFFER_BYTES (512u << 10) // read ahead of a slow reader, for each request
#define TOB_RELAY_TIMEOUT_MS   30000        // to connect, and between two pieces of an answer
#define TOB_RELAY_MAX_HOST     255

// Where the exporter is.
typedef struct tob_relay_target {
    char host[TOB_RELAY_MAX_HOST + 1];
    char authority[TOB_RELAY_MAX_HOST + 9]; // for the header Host
    uint16_t port;
} tob_relay_target;

// tob_relay_target_parse reads "http://HOST[:PORT]". TOB_INVALID for anything else.
TOB_MUST_USE tob_error tob_relay_target_parse(const char *url, tob_relay_target *ret);

typedef struct tob_relay tob_relay;

// target: borrowed; outlives the relay. Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_relay_new(tob_http_worker *worker, const tob_relay_target *target,
                                     tob_relay **ret);

// tob_relay_free: at the end of the worker, when all its requests are gone.
void tob_relay_free(tob_relay *relay);

// Handler; the worker's state is a tob_gateway_worker.
void tob_relay_metrics(h2o_req_t *req, const tob_http_match *match, void *user);

#endif
