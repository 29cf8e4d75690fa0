#include <stdlib.h>
#include <string.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "ingestd/checkpoint_pages.h"
#include "util/text.h"

#define MAX_GAUGE 9223372036854775807.0 // 2^63 as a double: 2^63-1 rounds to it

// As of which page each row is; those that no page had are not in it.
typedef struct row_pages {
    uint32_t *pages; // by row: 1 + index of the page, 0: none
    size_t capacity;
} row_pages;

struct tob_checkpoint_loader {
    tob_tables *tables;
    tob_position at;
    uint64_t now_monotonic_ms;
    bool begun;
    tob_position *places; // of the pages of rows
    size_t page_count;
    size_t page_capacity;
    tob_position last_place; // the greatest of them
    row_pages rows[TOB_SOURCE_KINDS];
    const char *reason;
};

tob_error tob_checkpoint_loader_new(tob_tables *tables, tob_position at, uint64_t now_monotonic_ms,
                                    tob_checkpoint_loader **ret) {
    tob_checkpoint_loader *l = calloc(1, sizeof(*l));
    if (!l) {
        return TOB_NO_MEMORY;
    }
    l->tables = tables;
    l->at = l->last_place = at;
    l->now_monotonic_ms = now_monotonic_ms;
    *ret = l;
    return TOB_OK;
}

void tob_checkpoint_loader_free(tob_checkpoint_loader *l) {
    if (l) {
        free(l->places);
        free(l->rows[TOB_SOURCE_CLIENT].pages);
        free(l->rows[TOB_SOURCE_HEADEND].pages);
        free(l);
    }
}

tob_position tob_checkpoint_last_place(const tob_checkpoint_loader *l) {
    return l->last_place;
}

bool tob_checkpoint_loaded(const tob_checkpoint_loader *l) {
    return l->begun;
}

bool tob_checkpoint_has(const tob_checkpoint_loader *l, tob_source_kind kind, const char *id,
                        tob_position at) {
    if (tob_position_compare(at, l->last_place) >= 0) {
        return false; // as almost all are
    }
    const tob_fleet *fleet = l->tables->fleet;
    size_t len = strlen(id);
    uint32_t row = kind == TOB_SOURCE_CLIENT ? tob_fleet_find_client(fleet, id, len)
                                             : tob_fleet_find_headend(fleet, id, len);
    const row_pages *rows = &l->rows[kind];
    uint32_t page = row < rows->capacity ? rows->pages[row] : 0;
    return page > 0 && tob_position_compare(at, l->places[page - 1]) < 0;
}

static tob_error damaged(tob_checkpoint_loader *l, const char *reason) {
    l->reason = reason;
    return TOB_DAMAGED;
}

// ---- pages of rows

static tob_error begin_page(tob_checkpoint_loader *l, tob_position place) {
    if (tob_position_compare(place, l->at) < 0) {
        return damaged(l, "position: before the checkpoint's");
    }
    if (l->page_count == l->page_capacity) {
        size_t capacity = l->page_capacity ? l->page_capacity * 2 : 64;
        tob_position *places = realloc(l->places, capacity * sizeof(*places));
        if (!places) {
            return TOB_NO_MEMORY;
        }
        l->places = places;
        l->page_capacity = capacity;
    }
    l->places[l->page_count++] = place;
    if (tob_position_compare(place, l->last_place) > 0) {
        l->last_place = place;
    }
    return TOB_OK;
}

// Notes that a row is as of the page at hand.
static tob_error note_row(tob_checkpoint_loader *l, tob_source_kind kind, uint32_t row) {
    row_pages *rows = &l->rows[kind];
    if (row >= rows->capacity) {
        size_t capacity = rows->capacity ? rows->capacity * 2 : TOB_CHECKPOINT_PAGE_ROWS;
        while (capacity <= row) {
            capacity *= 2;
        }
        uint32_t *pages = realloc(rows->pages, capacity * sizeof(*pages));
        if (!pages) {
            return TOB_NO_MEMORY;
        }
        memset(pages + rows->capacity, 0, (capacity - rows->capacity) * sizeof(*pages));
        rows->pages = pages;
        rows->capacity = capacity;
    }
    rows->pages[row] = (uint32_t)l->page_count;
    return TOB_OK;
}

static const char *check_source(const char *id, uint64_t last_check_in, int64_t sample_time, uint32_t present,
                                unsigned metrics) {
    if (!tob_id_valid(id, strlen(id))) {
        return "id: must be 1-128 bytes of [A-Za-z0-9._:-]";
    }
    if (last_check_in > INT64_MAX / 2) {
        return "last_check_in_unix_ms: out of range";
    }
    if (sample_time < -1) {
        return "sample_time_unix_ms: less than -1";
    }
    return present >> metrics ? "present: unknown metrics" : NULL;
}

// All columns as long as the ids.
static bool same_lengths(size_t n, const size_t *lengths, size_t count) {
    bool same = n <= TOB_CHECKPOINT_PAGE_ROWS;
    for (size_t i = 0; i < count; i++) {
        same = same && lengths[i] == n;
    }
    return same;
}

static tob_error load_client(tob_checkpoint_loader *l, const Tobogganing__V1__ClientStates *s, size_t i) {
    const uint64_t values[TOB_CLIENT_METRICS] = {
        [TOB_CLIENT_BYTES_SENT] = s->bytes_sent[i],
        [TOB_CLIENT_BYTES_RECEIVED] = s->bytes_received[i],
        [TOB_CLIENT_PACKETS_SENT] = s->packets_sent[i],
        [TOB_CLIENT_PACKETS_RECEIVED] = s->packets_received[i],
        [TOB_CLIENT_CONNECTION_UPTIME] = s->connection_uptime_ms[i],
    };
    const char *reason = check_source(s->client_ids[i], s->last_check_in_unix_ms[i],
                                      s->sample_time_unix_ms[i], s->present[i], TOB_CLIENT_METRICS);
    tob_client_row row = {.source = {.id = s->client_ids[i],
                                     .last_check_in_unix_ms = s->last_check_in_unix_ms[i],
                                     .sample_time_unix_ms = s->sample_time_unix_ms[i],
                                     .present = (uint8_t)s->present[i]},
                          .headless = s->headless[i]};
    for (size_t m = 0; m < TOB_CLIENT_METRICS; m++) {
        reason = values[m] > INT64_MAX ? "a client's value: over 2^63-1" : reason;
        row.values[m] = (int64_t)values[m];
    }
    if (reason) {
        return damaged(l, reason);
    }
    uint32_t number = 0;
    tob_error err = tob_fleet_restore_client(l->tables->fleet, &row, &number);
    return err ? err : note_row(l, TOB_SOURCE_CLIENT, number);
}

static tob_error load_clients(tob_checkpoint_loader *l, const Tobogganing__V1__ClientStates *s) {
    const size_t lengths[] = {s->n_headless,
                              s->n_last_check_in_unix_ms,
                              s->n_sample_time_unix_ms,
                              s->n_present,
                              s->n_bytes_sent,
                              s->n_bytes_received,
                              s->n_packets_sent,
                              s->n_packets_received,
                              s->n_connection_uptime_ms};
    if (!same_lengths(s->n_client_ids, lengths, sizeof(lengths) / sizeof(lengths[0]))) {
        return damaged(l, "clients: columns of different or too great length");
    }
    tob_error err = TOB_OK;
    for (size_t i = 0; i < s->n_client_ids && !err; i++) {
        err = load_client(l, s, i);
    }
    return err;
}

static tob_error load_headend(tob_checkpoint_loader *l, const Tobogganing__V1__HeadendStates *s, size_t i) {
    const double values[TOB_HEADEND_METRICS] = {
        [TOB_HEADEND_ACTIVE_CONNECTIONS] = s->active_connections[i],
        [TOB_HEADEND_BANDWIDTH_IN] = s->bandwidth_in[i],
        [TOB_HEADEND_BANDWIDTH_OUT] = s->bandwidth_out[i],
        [TOB_HEADEND_CPU_USAGE] = s->cpu_usage[i],
        [TOB_HEADEND_MEMORY_USAGE] = s->memory_usage[i],
    };
    const char *reason = check_source(s->headend_ids[i], s->last_check_in_unix_ms[i],
                                      s->sample_time_unix_ms[i], s->present[i], TOB_HEADEND_METRICS);
    if (!tob_name_valid(s->names[i], strlen(s->names[i]))) {
        reason = "names: must be at most 256 bytes of UTF-8 without control characters";
    }
    tob_headend_row row = {.source = {.id = s->headend_ids[i],
                                      .last_check_in_unix_ms = s->last_check_in_unix_ms[i],
                                      .sample_time_unix_ms = s->sample_time_unix_ms[i],
                                      .present = (uint8_t)s->present[i]},
                           .name = s->names[i][0] ? s->names[i] : NULL};
    for (size_t m = 0; m < TOB_HEADEND_METRICS; m++) {
        bool good = values[m] >= 0 && values[m] <= MAX_GAUGE; // false for NaN
        reason = good ? reason : "a headend's value: not a number in 0…2^63-1";
        row.values[m] = values[m];
    }
    if (reason) {
        return damaged(l, reason);
    }
    uint32_t number = 0;
    tob_error err = tob_fleet_restore_headend(l->tables->fleet, &row, &number);
    return err ? err : note_row(l, TOB_SOURCE_HEADEND, number);
}

static tob_error load_headends(tob_checkpoint_loader *l, const Tobogganing__V1__HeadendStates *s) {
    const size_t lengths[] = {s->n_names,
                              s->n_last_check_in_unix_ms,
                              s->n_sample_time_unix_ms,
                              s->n_present,
                              s->n_active_connections,
                              s->n_bandwidth_in,
                              s->n_bandwidth_out,
                              s->n_cpu_usage,
                              s->n_memory_usage};
    if (!same_lengths(s->n_headend_ids, lengths, sizeof(lengths) / sizeof(lengths[0]))) {
        return damaged(l, "headends: columns of different or too great length");
    }
    tob_error err = TOB_OK;
    for (size_t i = 0; i < s->n_headend_ids && !err; i++) {
        err = load_headend(l, s, i);
    }
    return err;
}

// ---- the rest

static tob_error load_digests(tob_checkpoint_loader *l, const Tobogganing__V1__BatchDigests *d) {
    size_t n = d->n_heard_unix_s;
    if (n > TOB_CHECKPOINT_PAGE_ROWS || d->senders.len != n * TOB_SENDER_BYTES ||
        d->n_digests != n * TOB_DIGESTS_BATCHES) {
        return damaged(l, "digests: columns of different or too great length");
    }
    if (n == 0) {
        tob_digests_restore_newer(l->tables->digests);
    }
    tob_error err = TOB_OK;
    for (size_t i = 0; i < n && !err; i++) {
        tob_sender_digests sender = {.heard_unix_s = d->heard_unix_s[i]};
        memcpy(sender.sender, d->senders.data + i * TOB_SENDER_BYTES, TOB_SENDER_BYTES);
        memcpy(sender.digests, &d->digests[i * TOB_DIGESTS_BATCHES], sizeof(sender.digests));
        err = tob_digests_restore(l->tables->digests, &sender);
    }
    return err;
}

static tob_error load_consumer(tob_checkpoint_loader *l, const Tobogganing__V1__ConsumerPosition *consumer) {
    if (!consumer->position) {
        return damaged(l, "consumers: one without a position");
    }
    tob_position position = {consumer->position->segment, consumer->position->offset};
    tob_error err = tob_consumers_put(l->tables->consumers, consumer->consumer, position);
    if (err == TOB_INVALID || err == TOB_BUSY) {
        return damaged(l, "consumers: too many, or a name that can't be");
    }
    return err;
}

static tob_error load_head(tob_checkpoint_loader *l, const Tobogganing__V1__CheckpointHead *head) {
    tob_error err = TOB_OK;
    tob_position at = {0, 0};
    if (head->position) {
        at = (tob_position){head->position->segment, head->position->offset};
    }
    if (tob_position_compare(at, l->at) != 0) {
        return damaged(l, "position: another than the file's name says");
    }
    l->tables->stored_batches = head->stored_batches;
    l->tables->stored_samples = head->stored_samples;
    for (size_t i = 0; i < head->n_processes && !err; i++) {
        err = tob_process_table_restore(l->tables->processes, head->processes[i], l->now_monotonic_ms,
                                        &l->reason);
        err = err == TOB_INVALID || err == TOB_BUSY ? TOB_DAMAGED : err;
    }
    for (size_t i = 0; i < head->n_consumers && !err; i++) {
        err = load_consumer(l, head->consumers[i]);
    }
    l->begun = !err;
    return err;
}

static tob_error load_record(tob_checkpoint_loader *l, const Tobogganing__V1__CheckpointRecord *record) {
    if (!l->begun) {
        return record->head ? load_head(l, record->head) : damaged(l, "it does not begin with a head");
    }
    if (!record->head || !record->head->position) {
        return damaged(l, "position: missing");
    }
    if (record->digests) {
        return load_digests(l, record->digests);
    }
    if (!record->clients && !record->headends) {
        return damaged(l, "it has neither rows nor digests");
    }
    const Tobogganing__V1__Position *position = record->head->position;
    tob_error err = begin_page(l, (tob_position){position->segment, position->offset});
    if (!err) {
        err = record->clients ? load_clients(l, record->clients) : load_headends(l, record->headends);
    }
    return err;
}

tob_error tob_checkpoint_load(tob_checkpoint_loader *l, tob_arena *arena, const void *payload, size_t n,
                              const char **ret_reason) {
    ProtobufCMessage *message = NULL;
    tob_arena_clear(arena);
    l->reason = "it is not a tobogganing.v1.CheckpointRecord";
    tob_error err =
        tob_arena_unpack(arena, &tobogganing__v1__checkpoint_record__descriptor, payload, n, &message);
    if (err == TOB_MALFORMED || err == TOB_TOO_LARGE) {
        err = TOB_DAMAGED;
    }
    if (!err) {
        l->reason = NULL;
        err = load_record(l, (const Tobogganing__V1__CheckpointRecord *)message);
    }
    if (err) {
        *ret_reason = l->reason ? l->reason : tob_error_string(err);
    }
    return err;
}
