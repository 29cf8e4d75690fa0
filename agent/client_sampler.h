// tob_client_sampler reads one tunnel interface's counters and how long the tunnel has been up.
//
// Uptime: Linux keeps no creation time of an interface. In this order:
//   1. what udev noted when the interface appeared (/run/udev/data/nIFINDEX, "I:" microseconds of the
//   monotonic
//      clock); exact, but not in containers;
//   2. the greater of the age of the interface's folder in /sys (the kernel sets it when the folder is first
//   looked
//      at, and again after it dropped it from its cache: never too old, sometimes too young) and the time
//      since this sampler first saw this interface index. A recreated interface has a new index and starts at
//      0.
// Neither is ever more than the machine's own uptime (/proc/uptime).
//
// Threads: one at a time.
#ifndef TOB_AGENT_CLIENT_SAMPLER_H
#define TOB_AGENT_CLIENT_SAMPLER_H

#include "agent/problem.h"
#include "wire/metrics.h"

#define TOB_MAX_INTERFACE_BYTES 15 // IFNAMSIZ - 1

typedef struct tob_client_sampler tob_client_sampler;

// tob_client_sampler_new
//   root        "/", or where the machine's /proc, /sys and /run are; copied
//   interface   "wg0"; copied
//   ret         owned by the caller; free with tob_client_sampler_free
// Errors: TOB_INVALID for the name, TOB_TOO_LARGE for the root, TOB_NO_MEMORY. The interface need not exist
// yet.
TOB_MUST_USE tob_error tob_client_sampler_new(const char *root, const char *interface,
                                              tob_client_sampler **ret);
void tob_client_sampler_free(tob_client_sampler *sampler);

// tob_client_sampler_read takes one sample, all metrics present.
// Errors: TOB_NOT_FOUND when the interface does not exist; TOB_MALFORMED, TOB_IO, TOB_PERMISSION_DENIED.
TOB_MUST_USE tob_error tob_client_sampler_read(tob_client_sampler *sampler, tob_client_sample *ret,
                                               tob_problem *ret_problem);

#endif
