#include "ingestd/sweep.h"

void tob_sweep_init(tob_sweep *sweep, uint64_t now_ms) {
    *sweep = (tob_sweep){.due_ms = now_ms};
}

static bool under_way(const tob_sweep *sweep) {
    return sweep->due_ms != UINT64_MAX && (sweep->next > 0 || sweep->headends);
}

void tob_sweep_want(tob_sweep *sweep, uint64_t now_ms, uint64_t delay_ms) {
    if (under_way(sweep)) {
        sweep->again = true;
    } else if (sweep->due_ms == UINT64_MAX) {
        sweep->due_ms = now_ms + delay_ms;
    }
}

void tob_sweep_want_relabelled(tob_sweep *sweep, uint64_t now_ms) {
    if (under_way(sweep)) {
        sweep->again = true;
        sweep->again_relabel = true;
    } else {
        sweep->due_ms = now_ms;
        sweep->relabel = true;
    }
}

void tob_sweep_failed(tob_sweep *sweep, uint64_t now_ms) {
    *sweep =
        (tob_sweep){.due_ms = now_ms + TOB_SWEEP_DELAY_MS, .relabel = sweep->relabel || sweep->again_relabel};
}

// Is the source of a row registered?
static bool registered(tob_source_kind kind, const tob_source *source, const tob_directory *directory) {
    return kind == TOB_SOURCE_CLIENT
               ? tob_directory_find_client(directory, source->id, source->id_len) != NULL
               : tob_directory_find_headend(directory, source->id, source->id_len) != NULL;
}

// What a slot has; NULL: no row.
static const tob_source *source_of(tob_source_kind kind, const tob_fleet *fleet, uint32_t slot) {
    if (kind == TOB_SOURCE_CLIENT) {
        const tob_client_row *client = tob_fleet_client(fleet, slot);
        return client ? &client->source : NULL;
    }
    const tob_headend_row *headend = tob_fleet_headend(fleet, slot);
    return headend ? &headend->source : NULL;
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
    sweep->relabel = sweep->again_relabel;
    sweep->due_ms = !sweep->again ? UINT64_MAX : sweep->again_relabel ? now_ms : now_ms + TOB_SWEEP_DELAY_MS;
    sweep->again = false;
    sweep->again_relabel = false;
}

tob_error tob_sweep_slice(tob_sweep *sweep, tob_store *store, tob_directory *directory, uint64_t now_ms,
                          uint64_t now_unix_ms, uint64_t *ret_added, uint64_t *ret_touched) {
    tob_fleet *fleet = tob_store_fleet(store);
    tob_source_kind kind = sweep->headends ? TOB_SOURCE_HEADEND : TOB_SOURCE_CLIENT;
    uint64_t slots = sweep->headends ? tob_fleet_headend_slots(fleet) : tob_fleet_client_slots(fleet);
    uint64_t from = sweep->next < slots ? sweep->next : slots;
    uint64_t to = slots - from < TOB_SWEEP_SLICE_ROWS ? slots : from + TOB_SWEEP_SLICE_ROWS;
    tob_error err = TOB_OK;
    *ret_added = 0;
    *ret_touched = 0;
    tob_directory_read_lock(directory);
    for (uint64_t slot = from; slot < to && !err; slot++) {
        const tob_source *source = source_of(kind, fleet, (uint32_t)slot);
        if (!source) {
            continue;
        }
        if (!registered(kind, source, directory)) {
            err = tob_store_add_removal(store, kind, source->id, now_unix_ms);
            *ret_added += err ? 0 : 1;
        } else if (sweep->relabel) {
            tob_fleet_touch(fleet, kind, (uint32_t)slot);
            (*ret_touched)++;
        }
    }
    tob_directory_read_unlock(directory);
    advance(sweep, to, slots, now_ms);
    return err;
}
