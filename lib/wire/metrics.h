// The metrics of the contract, once: the order of values in samples, in `present` bits (bus.proto) and in
// rows; their JSON names and their families in the exposition.
#ifndef TOB_WIRE_METRICS_H
#define TOB_WIRE_METRICS_H

#include <stdint.h>

// Client counters, integers 0…2^63-1. Uptime is milliseconds here, seconds in JSON and in the exposition.
enum {
    TOB_CLIENT_BYTES_SENT,
    TOB_CLIENT_BYTES_RECEIVED,
    TOB_CLIENT_PACKETS_SENT,
    TOB_CLIENT_PACKETS_RECEIVED,
    TOB_CLIENT_CONNECTION_UPTIME,
    TOB_CLIENT_METRICS, // how many
};

// Headend gauges, finite doubles 0…2^63-1. Bandwidth is bytes per second, CPU percent of the machine.
enum {
    TOB_HEADEND_ACTIVE_CONNECTIONS,
    TOB_HEADEND_BANDWIDTH_IN,
    TOB_HEADEND_BANDWIDTH_OUT,
    TOB_HEADEND_CPU_USAGE,
    TOB_HEADEND_MEMORY_USAGE,
    TOB_HEADEND_METRICS,
};

typedef struct tob_metric {
    const char *json;   // name in the documented JSON body
    const char *family; // name in the exposition
    const char *help;
} tob_metric;

extern const tob_metric tob_client_metrics[TOB_CLIENT_METRICS];
extern const tob_metric tob_headend_metrics[TOB_HEADEND_METRICS];

typedef struct tob_client_sample {
    int64_t time_unix_ms;
    uint32_t present; // bit i: values[i] was reported; 0 is a plain check-in
    int64_t values[TOB_CLIENT_METRICS];
} tob_client_sample;

typedef struct tob_headend_sample {
    int64_t time_unix_ms;
    uint32_t present;
    double values[TOB_HEADEND_METRICS];
} tob_headend_sample;

typedef enum tob_source_kind { TOB_SOURCE_CLIENT, TOB_SOURCE_HEADEND, TOB_SOURCE_KINDS } tob_source_kind;

#endif
