// The logger: one line an event on stderr, logfmt or JSON, with a stable event name and typed fields.
//
// Threads: tob_log_configure before the first thread starts; everything else from any thread. A line is one
//          write(2), so lines of several threads never mix.
// Errors:  none; a line that can't be written is lost. Lines are cut at TOB_LOG_MAX_LINE bytes.
#ifndef TOB_UTIL_LOG_H
#define TOB_UTIL_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_LOG_MAX_LINE 4096

typedef enum tob_log_level { TOB_LOG_DEBUG, TOB_LOG_INFO, TOB_LOG_WARN, TOB_LOG_ERROR } tob_log_level;
typedef enum tob_log_format { TOB_LOG_LOGFMT, TOB_LOG_JSON } tob_log_format;

typedef struct tob_log_field {
    const char *key;
    enum { TOB_FIELD_STRING, TOB_FIELD_INT, TOB_FIELD_UINT, TOB_FIELD_DOUBLE } kind;
    union {
        const char *string;
        int64_t i;
        uint64_t u;
        double d;
    } value;
} tob_log_field;

#define TOB_STR(k, v)  ((tob_log_field){.key = (k), .kind = TOB_FIELD_STRING, .value.string = (v)})
#define TOB_INT(k, v)  ((tob_log_field){.key = (k), .kind = TOB_FIELD_INT, .value.i = (int64_t)(v)})
#define TOB_UINT(k, v) ((tob_log_field){.key = (k), .kind = TOB_FIELD_UINT, .value.u = (uint64_t)(v)})
#define TOB_DBL(k, v)  ((tob_log_field){.key = (k), .kind = TOB_FIELD_DOUBLE, .value.d = (v)})
#define TOB_ERR(e)     TOB_STR("error", tob_error_string(e))

// tob_log_configure
//   program    static text, the first field of every line
//   level      "debug", "info", "warn" or "error";  format  "logfmt" or "json"
// Errors: TOB_INVALID for another word.
TOB_MUST_USE tob_error tob_log_configure(const char *program, const char *level, const char *format);

// tob_log_write: `fields` ends with TOB_LOG_END. Values are escaped. Use the macros below:
//   tob_info("listening", TOB_STR("url", url), TOB_UINT("port", port));
// Secrets (keys, tokens) are never a field.
void tob_log_write(tob_log_level level, const char *event, const tob_log_field *fields);

#define TOB_LOG_END                   ((tob_log_field){.key = NULL})
#define TOB_LOG_AT(level, event, ...) tob_log_write((level), (event), (const tob_log_field[]){__VA_ARGS__})
#define tob_debug(...)                TOB_LOG_AT(TOB_LOG_DEBUG, __VA_ARGS__, TOB_LOG_END)
#define tob_info(...)                 TOB_LOG_AT(TOB_LOG_INFO, __VA_ARGS__, TOB_LOG_END)
#define tob_warn(...)                 TOB_LOG_AT(TOB_LOG_WARN, __VA_ARGS__, TOB_LOG_END)
#define tob_err(...)                  TOB_LOG_AT(TOB_LOG_ERROR, __VA_ARGS__, TOB_LOG_END)

#endif
