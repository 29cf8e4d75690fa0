#include "wire/batch.h"

#include <stdbool.h>
#include <string.h>

#include "util/text.h"

#define MAX_GAUGE 9223372036854775807.0 // 2^63 as a double: 2^63-1 rounds to it

typedef struct column {
    size_t n;
    int64_t *values;
} column;

// The columns of a client's series in the order of metrics.h.
static void client_columns(const Tobogganing__V1__ClientSeries *s, column to[TOB_CLIENT_METRICS]) {
    to[TOB_CLIENT_BYTES_SENT] = (column){s->n_bytes_sent, s->bytes_sent};
    to[TOB_CLIENT_BYTES_RECEIVED] = (column){s->n_bytes_received, s->bytes_received};
    to[TOB_CLIENT_PACKETS_SENT] = (column){s->n_packets_sent, s->packets_sent};
    to[TOB_CLIENT_PACKETS_RECEIVED] = (column){s->n_packets_received, s->packets_received};
    to[TOB_CLIENT_CONNECTION_UPTIME] = (column){s->n_connection_uptime_ms, s->connection_uptime_ms};
}

typedef struct gauge {
    size_t n;
    const double *values;
} gauge;

static void headend_gauges(const Tobogganing__V1__HeadendSeries *s, gauge to[TOB_HEADEND_METRICS]) {
    to[TOB_HEADEND_ACTIVE_CONNECTIONS] = (gauge){s->n_active_connections, s->active_connections};
    to[TOB_HEADEND_BANDWIDTH_IN] = (gauge){s->n_bandwidth_in, s->bandwidth_in};
    to[TOB_HEADEND_BANDWIDTH_OUT] = (gauge){s->n_bandwidth_out, s->bandwidth_out};
    to[TOB_HEADEND_CPU_USAGE] = (gauge){s->n_cpu_usage, s->cpu_usage};
    to[TOB_HEADEND_MEMORY_USAGE] = (gauge){s->n_memory_usage, s->memory_usage};
}

// Turns differences into values; false when one leaves 0…2^63-1.
static bool undelta(int64_t *values, size_t n) {
    int64_t value = 0;
    int64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= __builtin_add_overflow(value, values[i], &value) ? -1 : 0;
        bad |= value;
        values[i] = value;
    }
    return bad >= 0;
}

static const char *check_times(int64_t *times, size_t n, uint64_t now_unix_ms) {
    if (n == 0) {
        return "time_unix_ms: has no samples";
    }
    if (n > TOB_MAX_SAMPLES_PER_SERIES) {
        return "time_unix_ms: more than 10000 samples";
    }
    if (!undelta(times, n)) {
        return "time_unix_ms: outside 0…2^63-1";
    }
    int64_t limit = (int64_t)(now_unix_ms + TOB_MAX_FUTURE_MS);
    for (size_t i = 0; i < n; i++) {
        if (times[i] > limit) {
            return "time_unix_ms: more than 5 minutes in the future";
        }
    }
    return NULL;
}

// Texts by metric, so that a reason needs no memory.
static const char *const client_length[TOB_CLIENT_METRICS] = {
    "bytes_sent: not as long as time_unix_ms", "bytes_received: not as long as time_unix_ms",
    "packets_sent: not as long as time_unix_ms", "packets_received: not as long as time_unix_ms",
    "connection_uptime_ms: not as long as time_unix_ms"};
static const char *const client_range[TOB_CLIENT_METRICS] = {"bytes_sent: outside 0…2^63-1",
                                                             "bytes_received: outside 0…2^63-1",
                                                             "packets_sent: outside 0…2^63-1",
                                                             "packets_received: outside 0…2^63-1",
                                                             "connection_uptime_ms: outside 0…2^63-1"};
static const char *const headend_length[TOB_HEADEND_METRICS] = {
    "active_connections: not as long as time_unix_ms", "bandwidth_in: not as long as time_unix_ms",
    "bandwidth_out: not as long as time_unix_ms", "cpu_usage: not as long as time_unix_ms",
    "memory_usage: not as long as time_unix_ms"};
static const char *const headend_range[TOB_HEADEND_METRICS] = {"active_connections: not a number in 0…2^63-1",
                                                               "bandwidth_in: not a number in 0…2^63-1",
                                                               "bandwidth_out: not a number in 0…2^63-1",
                                                               "cpu_usage: not a number in 0…2^63-1",
                                                               "memory_usage: not a number in 0…2^63-1"};

tob_error tob_batch_check_client(Tobogganing__V1__ClientSeries *series, uint64_t now_unix_ms,
                                 const char **ret_reason) {
    if (!tob_id_valid(series->client_id, strlen(series->client_id))) {
        *ret_reason = "client_id: must be 1-128 bytes of [A-Za-z0-9._:-]";
        return TOB_INVALID;
    }
    const char *reason = check_times(series->time_unix_ms, series->n_time_unix_ms, now_unix_ms);
    column columns[TOB_CLIENT_METRICS];
    client_columns(series, columns);
    for (size_t m = 0; m < TOB_CLIENT_METRICS && !reason; m++) {
        if (columns[m].n == 0) {
            continue;
        }
        if (columns[m].n != series->n_time_unix_ms) {
            reason = client_length[m];
        } else if (!undelta(columns[m].values, columns[m].n)) {
            reason = client_range[m];
        }
    }
    if (reason) {
        *ret_reason = reason;
        return TOB_INVALID;
    }
    return TOB_OK;
}

static bool gauges_in_range(const gauge *g) {
    for (size_t i = 0; i < g->n; i++) {
        if (!(g->values[i] >= 0 && g->values[i] <= MAX_GAUGE)) { // false for NaN
            return false;
        }
    }
    return true;
}

tob_error tob_batch_check_headend(const Tobogganing__V1__HeadendSeries *series, uint64_t now_unix_ms,
                                  const char **ret_reason) {
    if (!tob_id_valid(series->headend_id, strlen(series->headend_id))) {
        *ret_reason = "headend_id: must be 1-128 bytes of [A-Za-z0-9._:-]";
        return TOB_INVALID;
    }
    if (!tob_name_valid(series->name, strlen(series->name))) {
        *ret_reason = "name: must be at most 256 bytes of UTF-8 without control characters";
        return TOB_INVALID;
    }
    const char *reason = check_times(series->time_unix_ms, series->n_time_unix_ms, now_unix_ms);
    gauge gauges[TOB_HEADEND_METRICS];
    headend_gauges(series, gauges);
    for (size_t m = 0; m < TOB_HEADEND_METRICS && !reason; m++) {
        if (gauges[m].n != 0 && gauges[m].n != series->n_time_unix_ms) {
            reason = headend_length[m];
        } else if (!gauges_in_range(&gauges[m])) {
            reason = headend_range[m];
        }
    }
    if (reason) {
        *ret_reason = reason;
        return TOB_INVALID;
    }
    return TOB_OK;
}

tob_client_sample tob_batch_client_sample(const Tobogganing__V1__ClientSeries *series, size_t i) {
    column columns[TOB_CLIENT_METRICS];
    client_columns(series, columns);
    tob_client_sample sample = {.time_unix_ms = series->time_unix_ms[i]};
    for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
        if (columns[m].n) {
            sample.present |= 1u << m;
            sample.values[m] = columns[m].values[i];
        }
    }
    return sample;
}

tob_headend_sample tob_batch_headend_sample(const Tobogganing__V1__HeadendSeries *series, size_t i) {
    gauge gauges[TOB_HEADEND_METRICS];
    headend_gauges(series, gauges);
    tob_headend_sample sample = {.time_unix_ms = series->time_unix_ms[i]};
    for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
        if (gauges[m].n) {
            sample.present |= 1u << m;
            sample.values[m] = gauges[m].values[i];
        }
    }
    return sample;
}
