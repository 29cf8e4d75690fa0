// What the committer answers from memory: snapshots of the fleet table.
#include "ingestd/committer_state.h"
#include "ingestd/positions.h"
#include "ingestd/snapshot.h"

void tob_committer_fill_manager(tob_committer *c, Tobogganing__V1__Manager *manager) {
    tobogganing__v1__manager__init(manager);
    manager->clusters = tob_directory_clusters(c->options.directory);
    manager->clients = tob_directory_clients(c->options.directory);
    manager->headends = tob_directory_headends(c->options.directory);
    manager->processes = tob_process_table_all(tob_store_processes(c->store), &manager->n_processes);
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
