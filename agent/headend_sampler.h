// tob_headend_sampler measures a gateway machine: established TCP connections, bandwidth, CPU and memory.
//
//   active_connections   ESTABLISHED lines of /proc/net/tcp and tcp6, optionally only of some local ports
//   bandwidth_in, _out   bytes per second since the reading before, from /proc/net/dev; of one interface, or
//   summed
//                        over all but lo (on a machine with bridges name one, or bytes count once per layer)
//   cpu_usage            percent of the whole machine since the reading before, from /proc/stat: everything
//   but idle
//                        and iowait
//   memory_usage         MemTotal - MemAvailable of /proc/meminfo
//
// Threads: one at a time.
#ifndef TOB_AGENT_HEADEND_SAMPLER_H
#define TOB_AGENT_HEADEND_SAMPLER_H

#include <stdint.h>

#include "agent/problem.h"
#include "wire/metrics.h"

#define TOB_MAX_PORTS      64
#define TOB_MAX_INTERFACES 1024 // further ones are not counted

typedef struct tob_headend_sampler tob_headend_sampler;

typedef struct tob_headend_sampler_options {
    const char *root;      // "/", or where the machine's /proc is; copied
    const char *interface; // NULL or "": all but lo; copied
    const char *ports;     // "443,51820"; NULL or "": all
} tob_headend_sampler_options;

// Errors: TOB_INVALID for the interface or ports, TOB_TOO_LARGE for the root or over TOB_MAX_PORTS;
// TOB_NO_MEMORY; with a text in ret_problem.
TOB_MUST_USE tob_error tob_headend_sampler_new(const tob_headend_sampler_options *options,
                                               tob_headend_sampler **ret, tob_problem *ret_problem);
void tob_headend_sampler_free(tob_headend_sampler *sampler);

// tob_headend_sampler_read takes one sample. Rates need a reading before: bandwidth and CPU are absent in the
// first. Errors: TOB_NOT_FOUND for a missing file or interface; TOB_MALFORMED, TOB_IO, TOB_PERMISSION_DENIED.
TOB_MUST_USE tob_error tob_headend_sampler_read(tob_headend_sampler *sampler, tob_headend_sample *ret,
                                                tob_problem *ret_problem);

// The same at a given monotonic time.
TOB_MUST_USE tob_error tob_headend_sampler_read_at(tob_headend_sampler *sampler, uint64_t now_ns,
                                                   tob_headend_sample *ret, tob_problem *ret_problem);

#endif
