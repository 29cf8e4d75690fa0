// Numbers as the exposition writes them (Prometheus text format 0.0.4): digits, fast.
//
// Threads: any. Errors: none. Each writes at most TOB_NUMBER_MAX_BYTES at `to`, no NUL, and returns the end.
#ifndef TOB_EXPORTER_NUMBER_H
#define TOB_EXPORTER_NUMBER_H

#include <stdint.h>

#define TOB_NUMBER_MAX_BYTES 32

char *tob_write_u64(char *to, uint64_t n);

// tob_write_thousandths writes n / 1000 with up to three decimals and no trailing zeros: milliseconds as
// seconds.
char *tob_write_thousandths(char *to, uint64_t n);

// tob_write_double writes a text that strtod reads back as the same double; integers below 2^64 as digits.
char *tob_write_double(char *to, double d);

#endif
