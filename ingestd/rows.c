#include "ingestd/rows.h"

// Labels are copied: the directory's strings may go once its lock is released.
static tob_error label(tob_arena *arena, const char *text, char **ret) {
    *ret = tob_arena_strdup(arena, text);
    return *ret ? TOB_OK : tob_arena_error(arena);
}

static tob_error client_message(const tob_client_row *row, const tob_directory_client *known,
                                tob_arena *arena, Tobogganing__V1__ClientRow *to) {
    tobogganing__v1__client_row__init(to);
    tob_error err = label(arena, known ? known->name : row->source.id, &to->name);
    if (!err) {
        err = label(arena, known ? known->type : "", &to->type);
    }
    to->client_id = row->source.id;
    to->headless = row->headless;
    to->version = row->source.version;
    to->last_check_in_unix_ms = row->source.last_check_in_unix_ms;
    to->present = row->source.present;
    to->bytes_sent = (uint64_t)row->values[TOB_CLIENT_BYTES_SENT];
    to->bytes_received = (uint64_t)row->values[TOB_CLIENT_BYTES_RECEIVED];
    to->packets_sent = (uint64_t)row->values[TOB_CLIENT_PACKETS_SENT];
    to->packets_received = (uint64_t)row->values[TOB_CLIENT_PACKETS_RECEIVED];
    to->connection_uptime_ms = (uint64_t)row->values[TOB_CLIENT_CONNECTION_UPTIME];
    return err;
}

tob_error tob_rows_clients(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                           const uint32_t *rows, size_t n, Tobogganing__V1__ClientRow ***ret) {
    Tobogganing__V1__ClientRow *messages = tob_arena_alloc(arena, (n + 1) * sizeof(*messages));
    Tobogganing__V1__ClientRow **pointers = tob_arena_alloc(arena, (n + 1) * sizeof(*pointers));
    if (!messages || !pointers) {
        return tob_arena_error(arena);
    }
    tob_error err = TOB_OK;
    tob_directory_read_lock(directory);
    for (size_t i = 0; i < n && !err; i++) {
        const tob_client_row *row = tob_fleet_client(fleet, rows[i]);
        const tob_directory_client *known =
            tob_directory_find_client(directory, row->source.id, row->source.id_len);
        pointers[i] = &messages[i];
        err = client_message(row, known, arena, &messages[i]);
    }
    tob_directory_read_unlock(directory);
    *ret = pointers;
    return err;
}

static tob_error headend_message(const tob_headend_row *row, const tob_directory_headend *known,
                                 tob_arena *arena, Tobogganing__V1__HeadendRow *to) {
    tobogganing__v1__headend_row__init(to);
    const char *name = row->name ? row->name : known ? known->name : row->source.id;
    tob_error err = label(arena, name, &to->name);
    if (!err) {
        err = label(arena, known ? known->region : "", &to->region);
    }
    if (!err) {
        err = label(arena, known ? known->datacenter : "", &to->datacenter);
    }
    to->headend_id = row->source.id;
    to->version = row->source.version;
    to->last_check_in_unix_ms = row->source.last_check_in_unix_ms;
    to->present = row->source.present;
    to->active_connections = row->values[TOB_HEADEND_ACTIVE_CONNECTIONS];
    to->bandwidth_in = row->values[TOB_HEADEND_BANDWIDTH_IN];
    to->bandwidth_out = row->values[TOB_HEADEND_BANDWIDTH_OUT];
    to->cpu_usage = row->values[TOB_HEADEND_CPU_USAGE];
    to->memory_usage = row->values[TOB_HEADEND_MEMORY_USAGE];
    return err;
}

tob_error tob_rows_headends(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                            const uint32_t *rows, size_t n, Tobogganing__V1__HeadendRow ***ret) {
    Tobogganing__V1__HeadendRow *messages = tob_arena_alloc(arena, (n + 1) * sizeof(*messages));
    Tobogganing__V1__HeadendRow **pointers = tob_arena_alloc(arena, (n + 1) * sizeof(*pointers));
    if (!messages || !pointers) {
        return tob_arena_error(arena);
    }
    tob_error err = TOB_OK;
    tob_directory_read_lock(directory);
    for (size_t i = 0; i < n && !err; i++) {
        const tob_headend_row *row = tob_fleet_headend(fleet, rows[i]);
        const tob_directory_headend *known =
            tob_directory_find_headend(directory, row->source.id, row->source.id_len);
        pointers[i] = &messages[i];
        err = headend_message(row, known, arena, &messages[i]);
    }
    tob_directory_read_unlock(directory);
    *ret = pointers;
    return err;
}
