// tob_fleet is the fleet table: the last known state of every source that ever reported, in memory.
//
// Rows are numbered and never move; the number of a removed row is used again once its removal was handed out. Values are
// last-write-wins by the time of the sample, unless what is stored lies more than TOB_MAX_FUTURE_MS in the future: then our
// clock was stepped back since, and anything newer replaces it. last_check_in is when we last heard from the source, whatever
// its own clock says, even if our own was stepped back.
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

#define TOB_FLEET_NONE     UINT32_MAX
#define TOB_FLEET_PREFETCH 32

typedef struct tob_fleet tob_fleet;

// What rows of both kinds have.
typedef struct tob_source {
    char *id;
    uint64_t version; // grows with every change in the fleet
    uint64_t last_check_in_unix_ms;
    int64_t sample_time_unix_ms; // of the values; -1: none yet
    uint32_t listed_at; // place in its bucket's list of changed or removed rows; TOB_FLEET_NONE: in neither
    uint8_t present;    // bit i: values[i] was ever reported
    uint8_t id_len;
    uint8_t bucket;
    bool removed; // waits to be handed out by tob_fleet_take_removed
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

// tob_fleet_prefetch_clients, before many series are applied one after the other: what the next TOB_FLEET_PREFETCH of them
// need is fetched from memory together. Changes nothing.
void tob_fleet_prefetch_clients(const tob_fleet *fleet, Tobogganing__V1__ClientSeries *const *series,
                                size_t n);

// tob_fleet_remove ends a row; false when there is none of that id.
bool tob_fleet_remove(tob_fleet *fleet, tob_source_kind kind, const char *id);

// tob_fleet_restore_client sets a row as it was, or makes it; it counts as changed. Of `state` the version and whatever
// else the fleet keeps for itself is ignored; id and name are copied.
TOB_MUST_USE tob_error tob_fleet_restore_client(tob_fleet *fleet, const tob_client_row *state,
                                                uint32_t *ret_row);
TOB_MUST_USE tob_error tob_fleet_restore_headend(tob_fleet *fleet, const tob_headend_row *state,
                                                 uint32_t *ret_row);

// tob_fleet_touch: the row counts as changed, though its values are the same. It must be one.
void tob_fleet_touch(tob_fleet *fleet, tob_source_kind kind, uint32_t row);

// How many rows there are.
uint32_t tob_fleet_clients(const tob_fleet *fleet);
uint32_t tob_fleet_headends(const tob_fleet *fleet);

// For those who walk: row numbers are below this; numbers that no row has are among them.
uint32_t tob_fleet_client_slots(const tob_fleet *fleet);
uint32_t tob_fleet_headend_slots(const tob_fleet *fleet);

// NULL: no row has that number now. Borrowed until the next change.
const tob_client_row *tob_fleet_client(const tob_fleet *fleet, uint32_t row);
const tob_headend_row *tob_fleet_headend(const tob_fleet *fleet, uint32_t row);

// The number of the row of an id, or TOB_FLEET_NONE.
uint32_t tob_fleet_find_client(const tob_fleet *fleet, const char *id, size_t len);
uint32_t tob_fleet_find_headend(const tob_fleet *fleet, const char *id, size_t len);

// The greatest version so far.
uint64_t tob_fleet_version(const tob_fleet *fleet);

// tob_fleet_take_dirty hands out the rows of a bucket that changed since they were last handed out, at most
// `max` of each kind.
//   clients, headends   room for `max` row numbers each
void tob_fleet_take_dirty(tob_fleet *fleet, unsigned bucket, size_t max, uint32_t *clients,
                          size_t *ret_clients, uint32_t *headends, size_t *ret_headends);

// tob_fleet_take_removed hands out the ids of a bucket's rows that were removed since they were last handed out and did not
// come back, at most `max`.
//   ids   room for `max`; what is handed out is owned by the caller; free each with free
void tob_fleet_take_removed(tob_fleet *fleet, tob_source_kind kind, unsigned bucket, size_t max, char **ids,
                            size_t *ret_count);

// tob_fleet_forget_changes: nothing counts as changed or removed any more.
void tob_fleet_forget_changes(tob_fleet *fleet);

#endif
