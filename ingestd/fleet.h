// tob_fleet is the fleet table: the last known state of every source that ever reported, in memory.
//
// Rows are numbered from 0 in the order of their first report and never move. Values are last-write-wins by
// the time of the sample; last_check_in is when we heard from the source, whatever its own clock says.
//
// Threads: one at a time (the committer's).
// Errors:  TOB_NO_MEMORY; TOB_TOO_LARGE over TOB_FLEET_MAX_ROWS.
#ifndef TOB_INGESTD_FLEET_H
#define TOB_INGESTD_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/ingest.pb-c.h"

#include "util/error.h"
#include "wire/bus_topics.h"
#include "wire/metrics.h"

#define TOB_FLEET_MAX_ROWS 100000000u // of each kind

typedef struct tob_fleet tob_fleet;

// What rows of both kinds have.
typedef struct tob_source {
    char *id;
    uint64_t version; // grows with every change in the fleet
    uint64_t last_check_in_unix_ms;
    int64_t sample_time_unix_ms; // of the values; -1: none yet
    uint32_t present;            // bit i: values[i] was ever reported
    uint8_t id_len;
    uint8_t bucket;
    bool dirty; // changed since it was last taken by tob_fleet_take_dirty
} tob_source;

typedef struct tob_client_row {
    tob_source source;
    bool headless;
    int64_t values[TOB_CLIENT_METRICS];
} tob_client_row;

typedef struct tob_headend_row {
    tob_source source;
    char *name; // last reported; NULL: never
    double values[TOB_HEADEND_METRICS];
} tob_headend_row;

TOB_MUST_USE tob_error tob_fleet_new(tob_fleet **ret);
void tob_fleet_free(tob_fleet *fleet);

// tob_fleet_apply_client applies one checked series (wire/batch.h) received at `received_unix_ms`.
TOB_MUST_USE tob_error tob_fleet_apply_client(tob_fleet *fleet, const Tobogganing__V1__ClientSeries *series,
                                              uint64_t received_unix_ms);
TOB_MUST_USE tob_error tob_fleet_apply_headend(tob_fleet *fleet, const Tobogganing__V1__HeadendSeries *series,
                                               uint64_t received_unix_ms);

uint32_t tob_fleet_clients(const tob_fleet *fleet);
uint32_t tob_fleet_headends(const tob_fleet *fleet);
const tob_client_row *tob_fleet_client(const tob_fleet *fleet, uint32_t row);
const tob_headend_row *tob_fleet_headend(const tob_fleet *fleet, uint32_t row);

// The greatest version so far.
uint64_t tob_fleet_version(const tob_fleet *fleet);

// tob_fleet_take_dirty hands out the rows of a bucket that changed since they were last handed out, at most
// `max` of each kind.
//   clients, headends   room for `max` row numbers each
void tob_fleet_take_dirty(tob_fleet *fleet, unsigned bucket, size_t max, uint32_t *clients,
                          size_t *ret_clients, uint32_t *headends, size_t *ret_headends);

#endif
