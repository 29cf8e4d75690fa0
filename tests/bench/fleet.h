// A fleet of simulated clients, read from a file of registered ones: counters that grow as a tunnel's traffic does.
// The same file gives the same samples every time.
//
// Threads: one at a time.
#ifndef TESTS_BENCH_FLEET_H
#define TESTS_BENCH_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"
#include "util/text.h"
#include "wire/metrics.h"

#define FLEET_MAX_KEY_BYTES 64

typedef struct fleet_client {
    char id[TOB_MAX_ID_BYTES + 1];
    char key[FLEET_MAX_KEY_BYTES + 1];
    uint64_t random;      // state of its generator
    double bytes_per_s;   // sent while somebody works with it
    double receive_ratio; // bytes received for each sent
    bool active;
    uint64_t now_us; // Unix time of its last sample, microseconds: timers are never on the millisecond
    uint64_t started_us;
    uint64_t values[TOB_CLIENT_CONNECTION_UPTIME]; // the counters before it in metrics.h
} fleet_client;

typedef struct fleet {
    fleet_client *clients;
    size_t count;
} fleet;

// fleet_read reads lines of "ID KEY". The clients' first samples are after start_unix_ms.
// Errors: TOB_IO, TOB_MALFORMED, TOB_NO_MEMORY.
TOB_MUST_USE tob_error fleet_read(const char *path, uint64_t start_unix_ms, fleet *ret);
void fleet_free(fleet *f);

// fleet_sample makes the client's next `n` samples, one every interval_ms.
void fleet_sample(fleet_client *client, uint64_t interval_ms, tob_client_sample *ret, size_t n);

#endif
