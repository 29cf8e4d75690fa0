// One line of --from-stdin: the documented body of a report, with fields of its own beside it:
//   "time"                     when the sample was taken, Unix seconds with decimals; else now
//   "client_id", "api_key"     whose it is (client lines); else the agent's own
//   "headend_id", "token"      likewise (headend lines)
//
// Threads: any. No text of the line is in a problem: it may hold credentials.
#ifndef TOB_AGENT_LINE_REPORT_H
#define TOB_AGENT_LINE_REPORT_H

#include <jansson.h>

#include "agent/problem.h"
#include "agent/queue.h"
#include "report/report.h"

// Who it is when the line does not say; NULL: the line must.
typedef struct tob_line_defaults {
    tob_source_kind kind;
    const char *id;
    const char *credential;
    const char *name;
    bool headless;
} tob_line_defaults;

typedef struct tob_line_report {
    tob_agent_report report; // its strings live until tob_line_report_fini
    json_t *object;
    char name[TOB_MAX_NAME_BYTES + 1];
    unsigned unknown_metrics;
} tob_line_report;

// tob_line_report_parse
//   now_unix_ms   the sample's time when the line has none
//   ret           set on success; tob_line_report_fini when done
// Errors: TOB_MALFORMED, TOB_INVALID, TOB_TOO_LARGE, TOB_NO_MEMORY, with the field in ret_problem.
TOB_MUST_USE tob_error tob_line_report_parse(const tob_line_defaults *defaults, const char *text, size_t len,
                                             uint64_t now_unix_ms, tob_line_report *ret,
                                             tob_problem *ret_problem);
void tob_line_report_fini(tob_line_report *report);

#endif
