#include "wire/metrics.h"

const tob_metric tob_client_metrics[TOB_CLIENT_METRICS] = {
    [TOB_CLIENT_BYTES_SENT] = {"bytes_sent", "tobogganing_client_bytes_sent", "Bytes sent by client"},
    [TOB_CLIENT_BYTES_RECEIVED] = {"bytes_received", "tobogganing_client_bytes_received",
                                   "Bytes received by client"},
    [TOB_CLIENT_PACKETS_SENT] = {"packets_sent", "tobogganing_client_packets_sent", "Packets sent by client"},
    [TOB_CLIENT_PACKETS_RECEIVED] = {"packets_received", "tobogganing_client_packets_received",
                                     "Packets received by client"},
    [TOB_CLIENT_CONNECTION_UPTIME] = {"connection_uptime", "tobogganing_client_connection_uptime_seconds",
                                      "Connection uptime"},
};

const tob_metric tob_headend_metrics[TOB_HEADEND_METRICS] = {
    [TOB_HEADEND_ACTIVE_CONNECTIONS] = {"active_connections", "tobogganing_headend_active_connections",
                                        "Active connections"},
    [TOB_HEADEND_BANDWIDTH_IN] = {"bandwidth_in", "tobogganing_headend_bandwidth_in_bytes",
                                  "Incoming bandwidth"},
    [TOB_HEADEND_BANDWIDTH_OUT] = {"bandwidth_out", "tobogganing_headend_bandwidth_out_bytes",
                                   "Outgoing bandwidth"},
    [TOB_HEADEND_CPU_USAGE] = {"cpu_usage", "tobogganing_headend_cpu_usage_percent", "CPU usage percentage"},
    [TOB_HEADEND_MEMORY_USAGE] = {"memory_usage", "tobogganing_headend_memory_usage_bytes", "Memory usage"},
};
