// Reports in the documented JSON form: {"headless": false, "metrics": {"bytes_sent": 1048576, …}} and
// {"headend_name": "…", "metrics": {"cpu_usage": 45.2, …}}. The gateway reads request bodies with it, the
// agent the lines of --from-stdin.
//
// Rules: no "metrics", or an empty one, is a check-in (present = 0). Names that nobody knows are ignored and
// counted; so are, uncounted, unknown keys beside "metrics". Names are given once. Client counters are
// integers 0…2^63-1, also written as decimals (1048576.0, 1e6); "connection_uptime" is seconds with decimals,
// kept to the millisecond. Headend gauges are decimals 0…2^63-1. The size of a body is for the caller to
// limit.
//
// Threads: any. Never blocks, never logs. No text of the input (which may hold credentials) is in a problem.
#ifndef TOB_REPORT_REPORT_H
#define TOB_REPORT_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"
#include "util/text.h"
#include "wire/metrics.h"

#define TOB_REPORT_MAX_METRICS   64 // names in "metrics", known or not
#define TOB_REPORT_PROBLEM_BYTES 160

// What was wrong, for a person, with the field or the place: "metrics.bytes_sent: must not be negative",
// "line 3 column 5: unexpected token".
typedef struct tob_report_problem {
    char text[TOB_REPORT_PROBLEM_BYTES];
} tob_report_problem;

typedef struct tob_client_report {
    bool headless;            // false unless given
    tob_client_sample sample; // its time is 0: the caller's to set
    unsigned unknown_metrics; // names in "metrics" that nobody knows
} tob_client_report;

typedef struct tob_headend_report {
    char name[TOB_MAX_NAME_BYTES + 1]; // "": not given
    tob_headend_sample sample;         // its time is 0: the caller's to set
    unsigned unknown_metrics;
} tob_headend_report;

// tob_report_parse_client and _headend read one body.
//   ret           set on success only
//   ret_problem   set on an error only
// Errors: TOB_MALFORMED not JSON; TOB_INVALID a wrong type or a value out of range; TOB_TOO_LARGE over
//         TOB_REPORT_MAX_METRICS; TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_report_parse_client(const void *body, size_t n, tob_client_report *ret,
                                               tob_report_problem *ret_problem);
TOB_MUST_USE tob_error tob_report_parse_headend(const void *body, size_t n, tob_headend_report *ret,
                                                tob_report_problem *ret_problem);

// tob_report_load is the first half of the above: bytes into a JSON object.
//   ret   owned by the caller; free with json_decref
// Errors: TOB_MALFORMED, TOB_INVALID when it is no object, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_report_load(const void *body, size_t n, json_t **ret,
                                       tob_report_problem *ret_problem);

// tob_report_read_client and _headend are the second half: from an object (borrowed), whose other keys the
// caller may read too. Errors: as _parse_, without TOB_MALFORMED.
TOB_MUST_USE tob_error tob_report_read_client(const json_t *object, tob_client_report *ret,
                                              tob_report_problem *ret_problem);
TOB_MUST_USE tob_error tob_report_read_headend(const json_t *object, tob_headend_report *ret,
                                               tob_report_problem *ret_problem);

#endif
