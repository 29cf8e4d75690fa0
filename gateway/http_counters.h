// tob_http_counters counts responses by method, route and status, for tobogganing_manager_http_requests_total.
//
// Threads: any; no lock once a combination was seen.
#ifndef TOB_GATEWAY_HTTP_COUNTERS_H
#define TOB_GATEWAY_HTTP_COUNTERS_H

#include "rpc/process.h"
#include "util/error.h"

#define TOB_HTTP_COUNTERS_SLOTS 1024 // combinations that are remembered; others cost a look-up each time

typedef struct tob_http_counters tob_http_counters;

// process: borrowed; outlives the counters. Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_http_counters_new(tob_process *process, tob_http_counters **ret);
void tob_http_counters_free(tob_http_counters *counters);

// method, pattern: the same pointers for the same text, as tob_http_on_response gives them.
void tob_http_counters_add(tob_http_counters *counters, const char *method, const char *pattern, int status);

#endif
