// A store in a directory of its own, and reports for it, for the tests of the store.
#ifndef TOB_TESTS_STORE_RIG_H
#define TOB_TESTS_STORE_RIG_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingestd/store.h"
#include "journal/checkpoint.h"
#include "wire/arena.h"
#include "wire/batch.h"

typedef struct rig {
    char dir[64];
    tob_journal_sync_mode sync;
    tob_store *store;
    tob_arena *arena; // of what is borrowed until the sync
    tob_store_recovery recovery;
    tob_journal_problem problem;
    uint64_t now; // of both clocks
} rig;

// One sample. Metric m of those in `present` is value + m.
typedef struct sample {
    tob_source_kind kind;
    const char *id;
    int64_t time;
    uint32_t present;
    int64_t value;
} sample;

static inline tob_error rig_try_open(rig *r) {
    tob_store_options options = {.journal = {.dir = r->dir,
                                             .segment_bytes = TOB_JOURNAL_MIN_SEGMENT,
                                             .sync = r->sync},
                                 .retain_ms = 1000,
                                 .retain_bytes = 64u << 20};
    return tob_store_open(&options, r->now, &r->store, &r->recovery, &r->problem);
}

static inline void rig_open(rig *r) {
    tob_error err = rig_try_open(r);
    if (err) {
        fail_msg("%s: %s", tob_error_string(err), r->problem.text);
    }
}

static inline void rig_init(rig *r) {
    *r = (rig){.dir = "/tmp/tob-store-XXXXXX", .sync = TOB_JOURNAL_SYNC_NEVER, .now = 1000000000};
    assert_non_null(mkdtemp(r->dir));
    assert_int_equal(tob_arena_new(256u << 20, &r->arena), TOB_OK);
    rig_open(r);
}

// A crash, as far as the store can tell: nothing is synced or settled.
static inline void rig_crash(rig *r) {
    tob_store_close(r->store);
    r->store = NULL;
    tob_arena_clear(r->arena);
}

static inline void rig_reopen(rig *r) {
    rig_crash(r);
    rig_open(r);
}

// Removes the files whose names begin so.
static inline void rig_delete(const char *dir, const char *prefix) {
    DIR *listing = opendir(dir);
    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        char path[400];
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
            assert_int_equal(unlink(path), 0);
        }
    }
    closedir(listing);
}

static inline void rig_fini(rig *r) {
    char path[400];
    rig_crash(r);
    tob_arena_free(r->arena);
    rig_delete(r->dir, "");
    snprintf(path, sizeof(path), "%s/.lock", r->dir);
    unlink(path);
    rmdir(r->dir);
}

static inline size_t rig_pack(const sample *samples, size_t n, const char *agent, uint64_t boot,
                              uint64_t number, uint8_t **ret) {
    Tobogganing__V1__Batch batch = TOBOGGANING__V1__BATCH__INIT;
    Tobogganing__V1__ClientSeries *clients = calloc(n + 1, sizeof(*clients));
    Tobogganing__V1__HeadendSeries *headends = calloc(n + 1, sizeof(*headends));
    int64_t(*values)[5] = calloc(n + 1, sizeof(*values));
    double(*gauges)[5] = calloc(n + 1, sizeof(*gauges));
    batch.clients = calloc(n + 1, sizeof(*batch.clients));
    batch.headends = calloc(n + 1, sizeof(*batch.headends));
    batch.agent_id = (char *)agent;
    batch.boot_id = boot;
    batch.number = number;
    for (size_t i = 0; i < n; i++) {
        int64_t *time = (int64_t *)&samples[i].time;
        for (int m = 0; m < 5; m++) {
            values[i][m] = samples[i].value + m;
            gauges[i][m] = (double)(samples[i].value + m);
        }
        if (samples[i].kind == TOB_SOURCE_CLIENT) {
            Tobogganing__V1__ClientSeries *s = &clients[i];
            tobogganing__v1__client_series__init(s);
            batch.clients[batch.n_clients++] = s;
            s->client_id = (char *)samples[i].id;
            s->headless = samples[i].value & 1;
            s->time_unix_ms = time;
            s->n_time_unix_ms = 1;
            s->bytes_sent = &values[i][0];
            s->n_bytes_sent = samples[i].present & 1;
            s->bytes_received = &values[i][1];
            s->n_bytes_received = samples[i].present >> 1 & 1;
            s->packets_sent = &values[i][2];
            s->n_packets_sent = samples[i].present >> 2 & 1;
            s->packets_received = &values[i][3];
            s->n_packets_received = samples[i].present >> 3 & 1;
            s->connection_uptime_ms = &values[i][4];
            s->n_connection_uptime_ms = samples[i].present >> 4 & 1;
        } else {
            Tobogganing__V1__HeadendSeries *s = &headends[i];
            tobogganing__v1__headend_series__init(s);
            batch.headends[batch.n_headends++] = s;
            s->headend_id = (char *)samples[i].id;
            s->name = (char *)(samples[i].value % 3 == 0 ? "" : samples[i].value % 3 == 1 ? "one" : "two");
            s->time_unix_ms = time;
            s->n_time_unix_ms = 1;
            s->active_connections = &gauges[i][0];
            s->n_active_connections = samples[i].present & 1;
            s->bandwidth_in = &gauges[i][1];
            s->n_bandwidth_in = samples[i].present >> 1 & 1;
            s->bandwidth_out = &gauges[i][2];
            s->n_bandwidth_out = samples[i].present >> 2 & 1;
            s->cpu_usage = &gauges[i][3];
            s->n_cpu_usage = samples[i].present >> 3 & 1;
            s->memory_usage = &gauges[i][4];
            s->n_memory_usage = samples[i].present >> 4 & 1;
        }
    }
    *ret = malloc(tobogganing__v1__batch__get_packed_size(&batch) + 1);
    size_t len = tobogganing__v1__batch__pack(&batch, *ret);
    free(batch.clients);
    free(batch.headends);
    free(clients);
    free(headends);
    free(values);
    free(gauges);
    return len;
}

// Adds a batch as the service would; it is applied by the next sync.
static inline tob_error rig_add(rig *r, const sample *samples, size_t n, const char *agent, uint64_t boot,
                                uint64_t number, bool *ret_repeated, tob_position *ret_at) {
    uint8_t *packed = NULL;
    size_t len = rig_pack(samples, n, agent, boot, number, &packed);
    uint8_t *bytes = tob_arena_alloc(r->arena, len);
    ProtobufCMessage *message = NULL;
    const char *reason = NULL;
    memcpy(bytes, packed, len);
    free(packed);
    assert_int_equal(tob_arena_unpack(r->arena, &tobogganing__v1__batch__descriptor, bytes, len, &message),
                     TOB_OK);
    Tobogganing__V1__Batch *batch = (Tobogganing__V1__Batch *)message;
    for (size_t i = 0; i < batch->n_clients; i++) {
        assert_int_equal(tob_batch_check_client(batch->clients[i], r->now, &reason), TOB_OK);
    }
    for (size_t i = 0; i < batch->n_headends; i++) {
        assert_int_equal(tob_batch_check_headend(batch->headends[i], r->now, &reason), TOB_OK);
    }
    const tob_submission submission = {.batch = bytes,
                                       .batch_len = len,
                                       .agent_id = batch->agent_id,
                                       .boot_id = boot,
                                       .received_unix_ms = r->now,
                                       .clients = batch->clients,
                                       .client_count = batch->n_clients,
                                       .headends = batch->headends,
                                       .headend_count = batch->n_headends};
    return tob_store_add_batch(r->store, &submission, ret_repeated, ret_at);
}

static inline void rig_sync(rig *r) {
    bool fatal = false;
    tob_error err = tob_store_sync(r->store, &fatal, &r->problem);
    if (err || fatal) {
        fail_msg("%s: %s", tob_error_string(err), r->problem.text);
    }
    tob_arena_clear(r->arena);
}

// A batch of one client's sample with all metrics, not synced. True when it is a repeat.
static inline bool rig_report(rig *r, const char *id, const char *agent, uint64_t number, int64_t value) {
    bool repeated = false;
    tob_position at;
    const sample s = {TOB_SOURCE_CLIENT, id, (int64_t)r->now, 31, value};
    assert_int_equal(rig_add(r, &s, 1, agent, 7, number, &repeated, &at), TOB_OK);
    return repeated;
}

// A gateway told a counter; it is journalled by tob_store_add_counters.
static inline void rig_put_process(rig *r, uint64_t id, uint64_t value) {
    Tobogganing__V1__Process process = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Counter counter = TOBOGGANING__V1__COUNTER__INIT;
    Tobogganing__V1__Counter *counters[] = {&counter};
    const char *reason = NULL;
    process.id = id;
    process.kind = (char *)"gateway";
    process.counters = counters;
    process.n_counters = 1;
    counter.family = TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_UNKNOWN_METRICS;
    counter.value = value;
    assert_int_equal(tob_process_table_put(tob_store_processes(r->store), &process, r->now, &reason), TOB_OK);
}

// Value of a client's bytes_sent; -1: there is no such row.
static inline int64_t rig_value(rig *r, const char *id) {
    uint32_t row = tob_fleet_find_client(tob_store_fleet(r->store), id, strlen(id));
    return row == TOB_FLEET_NONE
               ? -1
               : tob_fleet_client(tob_store_fleet(r->store), row)->values[TOB_CLIENT_BYTES_SENT];
}

static inline tob_store_stats rig_stats(rig *r) {
    tob_store_stats stats;
    tob_store_get_stats(r->store, &stats);
    return stats;
}

// Called between the pages of a checkpoint.
typedef void (*rig_between_fn)(void);

static inline void rig_checkpoint(rig *r, rig_between_fn between) {
    tob_checkpoint_writer *writer = NULL;
    tob_store_cursor cursor;
    tob_buffer page;
    uint64_t bytes = 0;
    bool fatal = false;
    tob_buffer_init(&page, TOB_JOURNAL_MAX_RECORD_BYTES);
    assert_int_equal(tob_store_checkpoint_begin(r->store, r->now, &page, &cursor), TOB_OK);
    assert_int_equal(tob_checkpoint_create(r->dir, cursor.at, &writer, &r->problem), TOB_OK);
    while (page.len > 0) {
        assert_int_equal(tob_checkpoint_append(writer, page.data, page.len, &r->problem), TOB_OK);
        if (between) {
            between();
        }
        assert_int_equal(tob_store_checkpoint_page(r->store, &cursor, &page), TOB_OK);
    }
    assert_int_equal(tob_store_settle(r->store, &fatal, &r->problem), TOB_OK);
    assert_int_equal(tob_checkpoint_commit(writer, &bytes, &r->problem), TOB_OK);
    tob_store_checkpointed(r->store, cursor.at);
    tob_buffer_fini(&page);
}

// ---- the whole state as text, by id, to be compared

static inline int rig_compare_lines(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct rig_lines {
    char **lines;
    size_t count;
} rig_lines;

static inline void rig_line(rig_lines *all, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void rig_line(rig_lines *all, const char *format, ...) {
    va_list args;
    if ((all->count & (all->count - 1)) == 0) {
        all->lines = realloc(all->lines, (all->count ? 2 * all->count : 1) * sizeof(*all->lines));
    }
    va_start(args, format);
    assert_true(vasprintf(&all->lines[all->count++], format, args) >= 0);
    va_end(args);
}

static inline void rig_source_lines(tob_fleet *fleet, rig_lines *all) {
    for (uint32_t i = 0; i < tob_fleet_client_slots(fleet); i++) {
        const tob_client_row *row = tob_fleet_client(fleet, i);
        if (row) {
            const int64_t *v = row->values;
            rig_line(all, "client %s %d at %llu sample %lld present %u: %lld %lld %lld %lld %lld",
                     row->source.id, row->headless, (unsigned long long)row->source.last_check_in_unix_ms,
                     (long long)row->source.sample_time_unix_ms, row->source.present, (long long)v[0],
                     (long long)v[1], (long long)v[2], (long long)v[3], (long long)v[4]);
        }
    }
    for (uint32_t i = 0; i < tob_fleet_headend_slots(fleet); i++) {
        const tob_headend_row *row = tob_fleet_headend(fleet, i);
        if (row) {
            const double *v = row->values;
            rig_line(all, "headend %s \"%s\" at %llu sample %lld present %u: %g %g %g %g %g", row->source.id,
                     row->name ? row->name : "", (unsigned long long)row->source.last_check_in_unix_ms,
                     (long long)row->source.sample_time_unix_ms, row->source.present, v[0], v[1], v[2], v[3],
                     v[4]);
        }
    }
}

static inline rig_lines rig_state(rig *r) {
    rig_lines all = {.lines = NULL};
    tob_store_stats stats = rig_stats(r);
    size_t n = 0;
    rig_source_lines(tob_store_fleet(r->store), &all);
    const tob_consumer *consumers = tob_consumers_all(tob_store_consumers(r->store), &n);
    for (size_t i = 0; i < n; i++) {
        rig_line(&all, "consumer %s %llu %llu", consumers[i].name,
                 (unsigned long long)consumers[i].position.segment,
                 (unsigned long long)consumers[i].position.offset);
    }
    Tobogganing__V1__Process **processes = tob_process_table_all(tob_store_processes(r->store), &n);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < processes[i]->n_counters; c++) {
            rig_line(&all, "process %llu counter %d %llu", (unsigned long long)processes[i]->id,
                     (int)processes[i]->counters[c]->family,
                     (unsigned long long)processes[i]->counters[c]->value);
        }
    }
    rig_line(&all, "stored %llu batches %llu samples", (unsigned long long)stats.stored_batches,
             (unsigned long long)stats.stored_samples);
    rig_line(&all, "rows %u %u", tob_fleet_clients(tob_store_fleet(r->store)),
             tob_fleet_headends(tob_store_fleet(r->store)));
    qsort(all.lines, all.count, sizeof(*all.lines), rig_compare_lines);
    return all;
}

static inline void rig_lines_free(rig_lines *all) {
    for (size_t i = 0; i < all->count; i++) {
        free(all->lines[i]);
    }
    free(all->lines);
}

static inline void rig_same(const rig_lines *a, const rig_lines *b) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        assert_string_equal(a->lines[i], b->lines[i]);
    }
    assert_int_equal(a->count, b->count);
}

// What a start recovers is what there is.
static inline void rig_crash_and_compare(rig *r) {
    rig_lines before = rig_state(r);
    rig_reopen(r);
    rig_lines after = rig_state(r);
    rig_same(&before, &after);
    rig_lines_free(&before);
    rig_lines_free(&after);
}

#endif
