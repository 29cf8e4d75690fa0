#include "ingestd/fleet.h"

#include <stdlib.h>
#include <string.h>

#include "ingestd/fleet_table.h"
#include "wire/batch.h"

struct tob_fleet {
    tob_fleet_table clients;
    tob_fleet_table headends;
    uint64_t version;
};

tob_error tob_fleet_new(tob_fleet **ret) {
    tob_fleet *fleet = calloc(1, sizeof(*fleet));
    if (!fleet) {
        return TOB_NO_MEMORY;
    }
    tob_fleet_table_init(&fleet->clients, sizeof(tob_client_row));
    tob_fleet_table_init(&fleet->headends, sizeof(tob_headend_row));
    *ret = fleet;
    return TOB_OK;
}

void tob_fleet_free(tob_fleet *fleet) {
    if (!fleet) {
        return;
    }
    for (uint32_t i = 0; i < fleet->headends.slots; i++) {
        free(((tob_headend_row *)tob_fleet_table_slot(&fleet->headends, i))->name);
    }
    tob_fleet_table_fini(&fleet->clients);
    tob_fleet_table_fini(&fleet->headends);
    free(fleet);
}

// A row is a new version.
static void touch(tob_fleet *fleet, tob_fleet_table *t, uint32_t row) {
    tob_source *source = tob_fleet_table_slot(t, row);
    source->version = ++fleet->version;
    tob_fleet_table_changed(t, row);
}

// Does a sample received at `received_unix_ms` replace what the row has?
static bool replaces(const tob_source *source, int64_t time_unix_ms, uint64_t received_unix_ms) {
    int64_t stored = source->sample_time_unix_ms;
    return time_unix_ms >= stored || (uint64_t)stored > received_unix_ms + TOB_MAX_FUTURE_MS;
}

// The newest sample of a series, the later of equals. All samples of a series have the same metrics.
static size_t newest(const int64_t *times, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++) {
        if (times[i] >= times[at]) {
            at = i;
        }
    }
    return at;
}

tob_error tob_fleet_apply_client(tob_fleet *fleet, const Tobogganing__V1__ClientSeries *series,
                                 uint64_t received_unix_ms) {
    uint32_t number = 0;
    tob_error err = tob_fleet_table_find_or_add(&fleet->clients, series->client_id, &number);
    if (err) {
        return err;
    }
    tob_client_row *row = tob_fleet_table_slot(&fleet->clients, number);
    tob_client_sample sample =
        tob_batch_client_sample(series, newest(series->time_unix_ms, series->n_time_unix_ms));
    if (replaces(&row->source, sample.time_unix_ms, received_unix_ms)) {
        for (unsigned m = 0; m < TOB_CLIENT_METRICS; m++) {
            row->values[m] = sample.present & (1u << m) ? sample.values[m] : row->values[m];
        }
        row->source.present = (uint8_t)(row->source.present | sample.present);
        row->source.sample_time_unix_ms = sample.time_unix_ms;
        row->headless = series->headless;
    }
    row->source.last_check_in_unix_ms = received_unix_ms;
    touch(fleet, &fleet->clients, number);
    return TOB_OK;
}

static tob_error set_name(tob_headend_row *row, const char *name) {
    if (!*name || (row->name && strcmp(row->name, name) == 0)) {
        return TOB_OK;
    }
    char *copy = strdup(name);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    free(row->name);
    row->name = copy;
    return TOB_OK;
}

tob_error tob_fleet_apply_headend(tob_fleet *fleet, const Tobogganing__V1__HeadendSeries *series,
                                  uint64_t received_unix_ms) {
    uint32_t number = 0;
    tob_error err = tob_fleet_table_find_or_add(&fleet->headends, series->headend_id, &number);
    if (err) {
        return err;
    }
    tob_headend_row *row = tob_fleet_table_slot(&fleet->headends, number);
    tob_headend_sample sample =
        tob_batch_headend_sample(series, newest(series->time_unix_ms, series->n_time_unix_ms));
    if (replaces(&row->source, sample.time_unix_ms, received_unix_ms)) {
        err = set_name(row, series->name);
        if (err) {
            return err;
        }
        for (unsigned m = 0; m < TOB_HEADEND_METRICS; m++) {
            row->values[m] = sample.present & (1u << m) ? sample.values[m] : row->values[m];
        }
        row->source.present = (uint8_t)(row->source.present | sample.present);
        row->source.sample_time_unix_ms = sample.time_unix_ms;
    }
    row->source.last_check_in_unix_ms = received_unix_ms;
    touch(fleet, &fleet->headends, number);
    return TOB_OK;
}

void tob_fleet_prefetch_clients(const tob_fleet *fleet, Tobogganing__V1__ClientSeries *const *series,
                                size_t n) {
    const char *ids[TOB_FLEET_PREFETCH];
    n = n < TOB_FLEET_PREFETCH ? n : TOB_FLEET_PREFETCH;
    for (size_t i = 0; i < n; i++) {
        ids[i] = series[i]->client_id;
    }
    tob_fleet_table_prefetch(&fleet->clients, ids, n);
}

static void remove_headend(tob_fleet *fleet, uint32_t number) {
    tob_headend_row *row = tob_fleet_table_slot(&fleet->headends, number);
    free(row->name);
    row->name = NULL;
    tob_fleet_table_remove(&fleet->headends, number);
}

bool tob_fleet_remove(tob_fleet *fleet, tob_source_kind kind, const char *id) {
    bool client = kind == TOB_SOURCE_CLIENT;
    tob_fleet_table *t = client ? &fleet->clients : &fleet->headends;
    uint32_t row = tob_fleet_table_find(t, id, strlen(id));
    if (row == TOB_FLEET_NONE) {
        return false;
    }
    if (client) {
        tob_fleet_table_remove(t, row);
    } else {
        remove_headend(fleet, row);
    }
    return true;
}

static void restore_source(tob_source *to, const tob_source *from) {
    to->last_check_in_unix_ms = from->last_check_in_unix_ms;
    to->sample_time_unix_ms = from->sample_time_unix_ms;
    to->present = from->present;
}

tob_error tob_fleet_restore_client(tob_fleet *fleet, const tob_client_row *state, uint32_t *ret_row) {
    tob_error err = tob_fleet_table_find_or_add(&fleet->clients, state->source.id, ret_row);
    if (err) {
        return err;
    }
    tob_client_row *row = tob_fleet_table_slot(&fleet->clients, *ret_row);
    restore_source(&row->source, &state->source);
    row->headless = state->headless;
    memcpy(row->values, state->values, sizeof(row->values));
    touch(fleet, &fleet->clients, *ret_row);
    return TOB_OK;
}

tob_error tob_fleet_restore_headend(tob_fleet *fleet, const tob_headend_row *state, uint32_t *ret_row) {
    tob_error err = tob_fleet_table_find_or_add(&fleet->headends, state->source.id, ret_row);
    if (err) {
        return err;
    }
    tob_headend_row *row = tob_fleet_table_slot(&fleet->headends, *ret_row);
    if (!state->name) {
        free(row->name);
        row->name = NULL;
    } else {
        err = set_name(row, state->name);
    }
    if (err) {
        return err;
    }
    restore_source(&row->source, &state->source);
    memcpy(row->values, state->values, sizeof(row->values));
    touch(fleet, &fleet->headends, *ret_row);
    return TOB_OK;
}

void tob_fleet_touch(tob_fleet *fleet, tob_source_kind kind, uint32_t row) {
    touch(fleet, kind == TOB_SOURCE_CLIENT ? &fleet->clients : &fleet->headends, row);
}

uint32_t tob_fleet_clients(const tob_fleet *fleet) {
    return fleet->clients.count;
}

uint32_t tob_fleet_headends(const tob_fleet *fleet) {
    return fleet->headends.count;
}

uint32_t tob_fleet_client_slots(const tob_fleet *fleet) {
    return fleet->clients.slots;
}

uint32_t tob_fleet_headend_slots(const tob_fleet *fleet) {
    return fleet->headends.slots;
}

const tob_client_row *tob_fleet_client(const tob_fleet *fleet, uint32_t row) {
    return tob_fleet_table_row(&fleet->clients, row);
}

const tob_headend_row *tob_fleet_headend(const tob_fleet *fleet, uint32_t row) {
    return tob_fleet_table_row(&fleet->headends, row);
}

uint32_t tob_fleet_find_client(const tob_fleet *fleet, const char *id, size_t len) {
    return tob_fleet_table_find(&fleet->clients, id, len);
}

uint32_t tob_fleet_find_headend(const tob_fleet *fleet, const char *id, size_t len) {
    return tob_fleet_table_find(&fleet->headends, id, len);
}

uint64_t tob_fleet_version(const tob_fleet *fleet) {
    return fleet->version;
}

void tob_fleet_take_dirty(tob_fleet *fleet, unsigned bucket, size_t max, uint32_t *clients,
                          size_t *ret_clients, uint32_t *headends, size_t *ret_headends) {
    *ret_clients = tob_fleet_table_take_changed(&fleet->clients, bucket, max, clients);
    *ret_headends = tob_fleet_table_take_changed(&fleet->headends, bucket, max, headends);
}

void tob_fleet_take_removed(tob_fleet *fleet, tob_source_kind kind, unsigned bucket, size_t max, char **ids,
                            size_t *ret_count) {
    tob_fleet_table *t = kind == TOB_SOURCE_CLIENT ? &fleet->clients : &fleet->headends;
    *ret_count = tob_fleet_table_take_removed(t, bucket, max, ids);
}

static void forget_changes(tob_fleet_table *t, unsigned bucket) {
    enum { SOME = 1000 };
    uint32_t rows[SOME];
    char *ids[SOME];
    while (tob_fleet_table_take_changed(t, bucket, SOME, rows) > 0) {
    }
    for (size_t n = SOME; n > 0;) {
        n = tob_fleet_table_take_removed(t, bucket, SOME, ids);
        for (size_t i = 0; i < n; i++) {
            free(ids[i]);
        }
    }
}

void tob_fleet_forget_changes(tob_fleet *fleet) {
    for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
        forget_changes(&fleet->clients, bucket);
        forget_changes(&fleet->headends, bucket);
    }
}
