// tob_gateway: HTTP in, calls to ingestd out. It keeps nothing: every answer about a report is ingestd's.
//
// Threads: one owner; the HTTP workers have threads of their own.
#ifndef TOB_GATEWAY_GATEWAY_H
#define TOB_GATEWAY_GATEWAY_H

#include <stdint.h>

#include "gateway/readiness.h"
#include "http/server.h"
#include "util/error.h"

#define TOB_GATEWAY_MAX_JSON_BYTES     (4u << 20) // what --max-body-bytes may say
#define TOB_GATEWAY_MAX_PROTOBUF_BYTES (4u << 20)
#define TOB_GATEWAY_MAX_INFLATED_JSON  (1u << 20) // a gzip body of JSON once decoded

typedef struct tob_gateway tob_gateway;

typedef struct tob_gateway_options {
    const char *listen;        // "HOST:PORT"
    const char *ingest;        // URLs of ingestd, comma-separated
    const char *exporter;      // "http://HOST:PORT"
    const char *cluster_token; // for the counters that are reported to ingestd
    uint64_t workers;          // 0: one for each CPU
    uint64_t max_connections;
    size_t max_body_bytes; // of a JSON body
    uint64_t request_timeout_ms;
} tob_gateway_options;

// The strings are copied. On TOB_INVALID ret_option is set to the option that is wrong, "ingest" or "exporter".
// Errors: TOB_INVALID, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_gateway_new(const tob_gateway_options *options, const char **ret_option,
                                       tob_gateway **ret);

// Errors: tob_http_server_start's.
TOB_MUST_USE tob_error tob_gateway_start(tob_gateway *gateway);
uint16_t tob_gateway_port(const tob_gateway *gateway);

// tob_gateway_set_cluster_token changes the token for the calls to come; copied. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_gateway_set_cluster_token(tob_gateway *gateway, const char *token);

// tob_gateway_tick asks ingestd how it is; every second or so.
void tob_gateway_tick(tob_gateway *gateway);
tob_readiness *tob_gateway_readiness(tob_gateway *gateway);

// tob_gateway_route names the routes there are, from 0 on; false behind the last.
bool tob_gateway_route(size_t i, const char **ret_method, const char **ret_pattern);

// tob_gateway_report_error: how the last report of the counters to ingestd ended.
tob_error tob_gateway_report_error(const tob_gateway *gateway);

// tob_gateway_stop answers what is under way, for at most grace_ms, and reports the counters once more.
void tob_gateway_stop(tob_gateway *gateway, uint64_t grace_ms);
void tob_gateway_free(tob_gateway *gateway);

#endif
