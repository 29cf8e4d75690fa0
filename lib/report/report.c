#include "report/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TWO_TO_63 0x1p63

static tob_error problem(tob_report_problem *ret, tob_error error, const char *format, ...) TOB_PRINTF(3, 4);
static tob_error problem(tob_report_problem *ret, tob_error error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(ret->text, sizeof(ret->text), format, args);
    va_end(args);
    return error;
}

// Translates jansson's failure. Its "… near 'TEXT'" quotes the input, cut anywhere: that part is left out.
static tob_error load_failed(const json_error_t *error, tob_report_problem *ret) {
    switch (json_error_code(error)) {
    case json_error_out_of_memory: return problem(ret, TOB_NO_MEMORY, "out of memory");
    case json_error_numeric_overflow: {
        bool negative = strstr(error->text, "negative") != NULL;
        return problem(ret, TOB_INVALID, "line %d column %d: number %s", error->line, error->column,
                       negative ? "must not be negative" : "over 2^63-1");
    }
    default: break;
    }
    const char *near = strstr(error->text, " near ");
    int len = near ? (int)(near - error->text) : (int)strlen(error->text);
    return problem(ret, TOB_MALFORMED, "line %d column %d: %.*s", error->line,
                   error->column < 0 ? 0 : error->column, len, error->text);
}

tob_error tob_report_load(const void *body, size_t n, json_t **ret, tob_report_problem *ret_problem) {
    if (n == 0) {
        return problem(ret_problem, TOB_MALFORMED, "line 1 column 0: empty where a JSON object is expected");
    }
    json_error_t error = {0};
    json_t *top = json_loadb(body, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!top) {
        return load_failed(&error, ret_problem);
    }
    if (!json_is_object(top)) {
        json_decref(top);
        return problem(ret_problem, TOB_INVALID, "must be a JSON object");
    }
    *ret = top;
    return TOB_OK;
}

// Finds "metrics" (NULL when absent) and counts the names in it that are not in the table.
static tob_error find_metrics(const json_t *object, const tob_metric *table, size_t table_size,
                              const json_t **ret, unsigned *ret_unknown, tob_report_problem *ret_problem) {
    const json_t *metrics = json_object_get(object, "metrics");
    unsigned known = 0;
    if (metrics && !json_is_object(metrics)) {
        return problem(ret_problem, TOB_INVALID, "metrics: must be an object");
    }
    if (json_object_size(metrics) > TOB_REPORT_MAX_METRICS) {
        return problem(ret_problem, TOB_TOO_LARGE, "metrics: more than %d names", TOB_REPORT_MAX_METRICS);
    }
    for (size_t i = 0; i < table_size; i++) {
        known += json_object_get(metrics, table[i].json) != NULL;
    }
    *ret = metrics;
    *ret_unknown = (unsigned)json_object_size(metrics) - known;
    return TOB_OK;
}

// The checks that every number passes: a number, not negative.
static tob_error check_number(const json_t *value, const char *name, tob_report_problem *ret_problem) {
    if (!json_is_number(value)) {
        return problem(ret_problem, TOB_INVALID, "metrics.%s: must be a number", name);
    }
    if (json_is_integer(value) ? json_integer_value(value) < 0 : json_real_value(value) < 0) {
        return problem(ret_problem, TOB_INVALID, "metrics.%s: must not be negative", name);
    }
    return TOB_OK;
}

static tob_error read_counter(const json_t *value, const char *name, int64_t *ret,
                              tob_report_problem *ret_problem) {
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return TOB_OK;
    }
    double real = json_real_value(value);
    if (real >= TWO_TO_63) {
        return problem(ret_problem, TOB_INVALID, "metrics.%s: over 2^63-1", name);
    }
    if (real != trunc(real)) {
        return problem(ret_problem, TOB_INVALID, "metrics.%s: must be a whole number", name);
    }
    *ret = (int64_t)real;
    return TOB_OK;
}

static tob_error read_uptime_ms(const json_t *value, const char *name, int64_t *ret,
                                tob_report_problem *ret_problem) {
    if (json_is_integer(value)) {
        if (json_integer_value(value) <= INT64_MAX / 1000) {
            *ret = json_integer_value(value) * 1000;
            return TOB_OK;
        }
    } else {
        double ms = round(json_real_value(value) * 1000);
        if (ms < TWO_TO_63) {
            *ret = (int64_t)ms;
            return TOB_OK;
        }
    }
    return problem(ret_problem, TOB_INVALID, "metrics.%s: over (2^63-1)/1000 seconds", name);
}

static tob_error read_gauge(const json_t *value, const char *name, double *ret,
                            tob_report_problem *ret_problem) {
    if (json_is_integer(value)) {
        double rounded = (double)json_integer_value(value);
        *ret = rounded < TWO_TO_63 ? rounded : nextafter(TWO_TO_63, 0); // 2^63-1 itself is no double
        return TOB_OK;
    }
    if (json_real_value(value) >= TWO_TO_63) {
        return problem(ret_problem, TOB_INVALID, "metrics.%s: over 2^63-1", name);
    }
    *ret = json_real_value(value) + 0.0; // -0.0 is 0
    return TOB_OK;
}

tob_error tob_report_read_client(const json_t *object, tob_client_report *ret,
                                 tob_report_problem *ret_problem) {
    tob_client_report report = {0};
    const json_t *headless = json_object_get(object, "headless");
    if (headless && !json_is_boolean(headless)) {
        return problem(ret_problem, TOB_INVALID, "headless: must be true or false");
    }
    report.headless = json_is_true(headless);
    const json_t *metrics = NULL;
    tob_error err = find_metrics(object, tob_client_metrics, TOB_CLIENT_METRICS, &metrics,
                                 &report.unknown_metrics, ret_problem);
    for (size_t i = 0; !err && i < TOB_CLIENT_METRICS; i++) {
        const char *name = tob_client_metrics[i].json;
        const json_t *value = json_object_get(metrics, name);
        if (!value) {
            continue;
        }
        err = check_number(value, name, ret_problem);
        if (!err) {
            err = i == TOB_CLIENT_CONNECTION_UPTIME
                      ? read_uptime_ms(value, name, &report.sample.values[i], ret_problem)
                      : read_counter(value, name, &report.sample.values[i], ret_problem);
            report.sample.present |= 1u << i;
        }
    }
    if (!err) {
        *ret = report;
    }
    return err;
}

static tob_error read_name(const json_t *object, char ret[TOB_MAX_NAME_BYTES + 1],
                           tob_report_problem *ret_problem) {
    const json_t *name = json_object_get(object, "headend_name");
    if (!name) {
        return TOB_OK;
    }
    if (!json_is_string(name)) {
        return problem(ret_problem, TOB_INVALID, "headend_name: must be a string");
    }
    size_t len = json_string_length(name);
    if (!tob_name_valid(json_string_value(name), len)) {
        return problem(ret_problem, TOB_INVALID,
                       "headend_name: must be at most %d bytes without control characters",
                       TOB_MAX_NAME_BYTES);
    }
    memcpy(ret, json_string_value(name), len + 1);
    return TOB_OK;
}

tob_error tob_report_read_headend(const json_t *object, tob_headend_report *ret,
                                  tob_report_problem *ret_problem) {
    tob_headend_report report = {0};
    tob_error err = read_name(object, report.name, ret_problem);
    if (err) {
        return err;
    }
    const json_t *metrics = NULL;
    err = find_metrics(object, tob_headend_metrics, TOB_HEADEND_METRICS, &metrics, &report.unknown_metrics,
                       ret_problem);
    for (size_t i = 0; !err && i < TOB_HEADEND_METRICS; i++) {
        const char *name = tob_headend_metrics[i].json;
        const json_t *value = json_object_get(metrics, name);
        if (!value) {
            continue;
        }
        err = check_number(value, name, ret_problem);
        if (!err) {
            err = read_gauge(value, name, &report.sample.values[i], ret_problem);
            report.sample.present |= 1u << i;
        }
    }
    if (!err) {
        *ret = report;
    }
    return err;
}

tob_error tob_report_parse_client(const void *body, size_t n, tob_client_report *ret,
                                  tob_report_problem *ret_problem) {
    json_t *object = NULL;
    tob_error err = tob_report_load(body, n, &object, ret_problem);
    if (!err) {
        err = tob_report_read_client(object, ret, ret_problem);
    }
    json_decref(object);
    return err;
}

tob_error tob_report_parse_headend(const void *body, size_t n, tob_headend_report *ret,
                                   tob_report_problem *ret_problem) {
    json_t *object = NULL;
    tob_error err = tob_report_load(body, n, &object, ret_problem);
    if (!err) {
        err = tob_report_read_headend(object, ret, ret_problem);
    }
    json_decref(object);
    return err;
}
