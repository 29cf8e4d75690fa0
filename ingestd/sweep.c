#include "ingestd/sweep.h"

void tob_sweep_init(tob_sweep *sweep, uint64_t now_ms) {
    *sweep = (tob_sweep){.due_ms = now_ms};
}

void tob_sweep_want(tob_sweep *sweep, uint64_t now_ms, uint64_t delay_ms) {
    bool under_way = sweep->due_ms != UINT64_MAX && (sweep->next > 0 || sweep->headends);
    if (under_way) {
        sweep->again = true;
    } else if (sweep->due_ms == UINT64_MAX) {
        sweep->due_ms = now_ms + delay_ms;
    }
}

void tob_sweep_failed(tob_sweep *sweep, uint64_t now_ms) {
    *sweep = (tob_sweep){.due_ms = now_ms + TOB_SWEEP_DELAY_MS};
}

// The id of the source in a slot that the directory does not have; NULL for others.
static const char *missing(const tob_sweep *sweep, const tob_fleet *fleet, const tob_directory *directory,
                           uint32_t slot) {
    if (sweep->headends) {
        const tob_headend_row *row = tob_fleet_headend(fleet, slot);
        return row && !tob_directory_find_headend(directory, row->source.id, row->source.id_len)
                   ? row->source.id
                   : NULL;
    }
    const tob_client_row *row = tob_fleet_client(fleet, slot);
    return row && !tob_directory_find_client(directory, row->source.id, row->source.id_len) ? row->source.id
                                                                                            : NULL;
}

// The next slots, or the other table, or the end.
static void advance(tob_sweep *sweep, uint64_t to, uint64_t slots, uint64_t now_ms) {
    sweep->next = to;
    sweep->due_ms = now_ms + TOB_SWEEP_INTERVAL_MS;
    if (to < slots) {
        return;
    }
    sweep->next = 0;
    if (!sweep->headends) {
        sweep->headends = true;
        return;
    }
    sweep->headends = false;
    sweep->due_ms = sweep->again ? now_ms + TOB_SWEEP_DELAY_MS : UINT64_MAX;
    sweep->again = false;
}

tob_error tob_sweep_slice(tob_sweep *sweep, tob_store *store, tob_directory *directory, uint64_t now_ms,
                          uint64_t now_unix_ms, uint64_t *ret_added) {
    const tob_fleet *fleet = tob_store_fleet(store);
    uint64_t slots = sweep->headends ? tob_fleet_headend_slots(fleet) : tob_fleet_client_slots(fleet);
    uint64_t from = sweep->next < slots ? sweep->next : slots;
    uint64_t to = slots - from < TOB_SWEEP_SLICE_ROWS ? slots : from + TOB_SWEEP_SLICE_ROWS;
    uint64_t added = 0;
    tob_error err = TOB_OK;
    tob_directory_read_lock(directory);
    for (uint64_t slot = from; slot < to && !err; slot++) {
        const char *id = missing(sweep, fleet, directory, (uint32_t)slot);
        if (id) {
            err = tob_store_add_removal(store, sweep->headends ? TOB_SOURCE_HEADEND : TOB_SOURCE_CLIENT, id,
                                        now_unix_ms);
            added += err ? 0 : 1;
        }
    }
    tob_directory_read_unlock(directory);
    advance(sweep, to, slots, now_ms);
    *ret_added = added;
    return err;
}
