// What the committer answers from memory: snapshots of the fleet table, and single rows of it.
#include <string.h>

#include "tobogganing/v1/reports.pb-c.h"

#include "ingestd/committer_state.h"
#include "ingestd/positions.h"
#include "ingestd/rows.h"
#include "ingestd/snapshot.h"
#include "util/clock.h"

static void fill_expiries(tob_committer *c, Tobogganing__V1__Manager *manager) {
    tob_expiry found[TOB_EXPIRIES_MAX];
    size_t count = c->options.expiries ? tob_expiries_get(c->options.expiries, found) : 0;
    for (size_t i = 0; i < count; i++) {
        tobogganing__v1__certificate_expiry__init(&c->expiries[i]);
        c->expiries[i].type = (char *)found[i].type;
        c->expiries[i].not_after_unix_s = found[i].not_after_unix_s;
        c->expiry_rows[i] = &c->expiries[i];
    }
    manager->certificate_expiries = c->expiry_rows;
    manager->n_certificate_expiries = count;
}

void tob_committer_fill_manager(tob_committer *c, Tobogganing__V1__Manager *manager) {
    tobogganing__v1__manager__init(manager);
    manager->clusters = tob_directory_clusters(c->options.directory);
    manager->clients = tob_directory_clients(c->options.directory);
    manager->headends = tob_directory_headends(c->options.directory);
    manager->processes = tob_process_table_all(tob_store_processes(c->store), &manager->n_processes);
    manager->clients_on_previous_key =
        tob_directory_on_previous_key(c->options.directory, tob_clock_unix_ms());
    fill_expiries(c, manager);
}

void tob_committer_answer_snapshot(tob_committer *c, const tob_work *w) {
    const Tobogganing__V1__SnapshotRequest *request = w->of.snapshot;
    uint64_t max_rows = request->max_rows ? request->max_rows : TOB_SNAPSHOT_DEFAULT_ROWS;
    if (max_rows > TOB_SNAPSHOT_MAX_ROWS) {
        tob_rpc_fail(w->call, TOB_INVALID, 0, "max_rows: over %d", TOB_SNAPSHOT_MAX_ROWS);
        return;
    }
    tob_arena_clear(c->arena);
    Tobogganing__V1__Manager manager;
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    const tob_fleet *fleet = tob_store_fleet(c->store);
    tob_error err = tob_snapshot_rows(fleet, c->options.directory, c->arena, request->cursor, max_rows,
                                      request->buckets, &page);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "no memory for the page");
        return;
    }
    tob_store_stats stats;
    tob_store_get_stats(c->store, &stats);
    Tobogganing__V1__Position position = tob_position_message(stats.end);
    tob_committer_fill_manager(c, &manager);
    page.instance = c->options.instance;
    page.epoch = c->epoch;
    page.version = tob_fleet_version(fleet);
    page.manager = &manager;
    page.position = &position;
    page.last_sequences = tob_bus_last_sequences(c->bus);
    page.n_last_sequences = TOB_BUS_BUCKETS;
    tob_rpc_reply(w->call, &page.base);
}

// The row of one source as a message; *ret_found stays false when there is none.
static tob_error render_last(tob_committer *c, const tob_work_source *of, Tobogganing__V1__LastReport *report,
                             bool *ret_found) {
    const tob_fleet *fleet = tob_store_fleet(c->store);
    bool client = of->kind == TOB_SOURCE_CLIENT;
    size_t len = strlen(of->id);
    uint32_t row =
        client ? tob_fleet_find_client(fleet, of->id, len) : tob_fleet_find_headend(fleet, of->id, len);
    if (row == TOB_FLEET_NONE) {
        return TOB_OK;
    }
    Tobogganing__V1__ClientRow **clients = NULL;
    Tobogganing__V1__HeadendRow **headends = NULL;
    tob_error err = client ? tob_rows_clients(fleet, c->options.directory, c->arena, &row, 1, &clients)
                           : tob_rows_headends(fleet, c->options.directory, c->arena, &row, 1, &headends);
    if (!err) {
        report->client = clients ? clients[0] : NULL;
        report->headend = headends ? headends[0] : NULL;
        *ret_found = true;
    }
    return err;
}

void tob_committer_answer_last(tob_committer *c, const tob_work *w) {
    Tobogganing__V1__LastReport report = TOBOGGANING__V1__LAST_REPORT__INIT;
    bool found = false;
    tob_arena_clear(c->arena);
    tob_error err = render_last(c, &w->of.last, &report, &found);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "no memory for the row");
    } else if (!found) {
        tob_rpc_fail(w->call, TOB_NOT_FOUND, 0, "%s has not reported",
                     w->of.last.kind == TOB_SOURCE_CLIENT ? "client_id: this client"
                                                          : "headend_id: this headend");
    } else {
        tob_rpc_reply(w->call, &report.base);
    }
}
