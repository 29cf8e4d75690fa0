// CPU time of other processes. Threads: any.
#ifndef TESTS_BENCH_PROCESS_CPU_H
#define TESTS_BENCH_PROCESS_CPU_H

#include "util/error.h"

// process_cpu_s adds up the user and system time of processes and all their threads, in seconds (proc(5),
// /proc/PID/stat: ticks of 10 ms).
//   pids   "17" or "17,18"
// Errors: TOB_IO when there is no such process.
TOB_MUST_USE tob_error process_cpu_s(const char *pids, double *ret);

#endif
