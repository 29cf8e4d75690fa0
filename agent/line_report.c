#include "agent/line_report.h"

#include <math.h>
#include <string.h>

#include "util/text.h"

// JSON times are seconds: the greatest that fits the wire's milliseconds.
#define MAX_SECONDS ((double)(INT64_MAX / 1000))

static tob_error read_time(const json_t *object, uint64_t now_unix_ms, int64_t *ret,
                           tob_problem *ret_problem) {
    const json_t *time = json_object_get(object, "time");
    if (!time) {
        *ret = (int64_t)now_unix_ms;
        return TOB_OK;
    }
    double seconds = json_number_value(time);
    if (!json_is_number(time) || !(seconds >= 0 && seconds < MAX_SECONDS)) {
        return tob_problem_set(ret_problem, TOB_INVALID, "time: must be Unix time in seconds");
    }
    int64_t time_ms = (int64_t)round(seconds * 1000);
    if (time_ms >
        (int64_t)now_unix_ms + TOB_MAX_FUTURE_MS) { // the server would refuse the line's neighbours with it
        return tob_problem_set(ret_problem, TOB_INVALID, "time: more than 5 minutes in the future");
    }
    *ret = time_ms;
    return TOB_OK;
}

// Reads an optional string; *ret stays as it is when there is none.
static tob_error read_string(const json_t *object, const char *field, size_t max_bytes, const char **ret,
                             tob_problem *ret_problem) {
    const json_t *value = json_object_get(object, field);
    if (!value) {
        return TOB_OK;
    }
    if (!json_is_string(value) || json_string_length(value) == 0 || json_string_length(value) > max_bytes) {
        return tob_problem_set(ret_problem, TOB_INVALID, "%s: must be a string of 1 to %zu bytes", field,
                               max_bytes);
    }
    *ret = json_string_value(value);
    return TOB_OK;
}

static tob_error read_source(const tob_line_defaults *defaults, const json_t *object,
                             tob_agent_report *report, tob_problem *ret_problem) {
    bool client = defaults->kind == TOB_SOURCE_CLIENT;
    const char *id_field = client ? "client_id" : "headend_id";
    const char *credential_field = client ? "api_key" : "token";
    report->kind = defaults->kind;
    report->id = defaults->id;
    tob_error err = read_string(object, id_field, TOB_MAX_ID_BYTES, &report->id, ret_problem);
    bool own =
        report->id == defaults->id || (defaults->id && report->id && strcmp(report->id, defaults->id) == 0);
    report->credential = own ? defaults->credential : NULL; // another's id needs its own credential
    if (!err) {
        err =
            read_string(object, credential_field, TOB_MAX_CREDENTIAL_BYTES, &report->credential, ret_problem);
    }
    if (err) {
        return err;
    }
    if (!report->id || !tob_id_valid(report->id, strlen(report->id))) {
        return tob_problem_set(ret_problem, TOB_INVALID, "%s: %s", id_field,
                               report->id ? "must be 1 to 128 bytes of [A-Za-z0-9._:-]" : "missing");
    }
    if (!report->credential) {
        return tob_problem_set(ret_problem, TOB_INVALID, "%s: missing", credential_field);
    }
    return TOB_OK;
}

static tob_error read_client(const tob_line_defaults *defaults, const json_t *object, uint64_t now_unix_ms,
                             tob_line_report *to, tob_problem *ret_problem) {
    tob_client_report body;
    tob_report_problem problem;
    tob_error err = tob_report_read_client(object, &body, &problem);
    if (err) {
        return tob_problem_set(ret_problem, err, "%s", problem.text);
    }
    to->report.headless = json_object_get(object, "headless") ? body.headless : defaults->headless;
    to->report.sample.client = body.sample;
    to->unknown_metrics = body.unknown_metrics;
    return read_time(object, now_unix_ms, &to->report.sample.client.time_unix_ms, ret_problem);
}

static tob_error read_headend(const tob_line_defaults *defaults, const json_t *object, uint64_t now_unix_ms,
                              tob_line_report *to, tob_problem *ret_problem) {
    tob_headend_report body;
    tob_report_problem problem;
    tob_error err = tob_report_read_headend(object, &body, &problem);
    if (err) {
        return tob_problem_set(ret_problem, err, "%s", problem.text);
    }
    memcpy(to->name, body.name, sizeof(to->name));
    bool own = defaults->id && strcmp(to->report.id, defaults->id) == 0;
    to->report.name = *to->name ? to->name : own ? defaults->name : NULL;
    to->report.sample.headend = body.sample;
    to->unknown_metrics = body.unknown_metrics;
    return read_time(object, now_unix_ms, &to->report.sample.headend.time_unix_ms, ret_problem);
}

tob_error tob_line_report_parse(const tob_line_defaults *defaults, const char *text, size_t len,
                                uint64_t now_unix_ms, tob_line_report *ret, tob_problem *ret_problem) {
    tob_report_problem problem;
    *ret = (tob_line_report){.object = NULL};
    tob_error err = tob_report_load(text, len, &ret->object, &problem);
    if (err) {
        return tob_problem_set(ret_problem, err, "%s", problem.text);
    }
    err = read_source(defaults, ret->object, &ret->report, ret_problem);
    if (!err) {
        err = defaults->kind == TOB_SOURCE_CLIENT
                  ? read_client(defaults, ret->object, now_unix_ms, ret, ret_problem)
                  : read_headend(defaults, ret->object, now_unix_ms, ret, ret_problem);
    }
    if (err) {
        tob_line_report_fini(ret);
    }
    return err;
}

void tob_line_report_fini(tob_line_report *report) {
    json_decref(report->object);
    *report = (tob_line_report){.object = NULL};
}
