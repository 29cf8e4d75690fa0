#include "ingestd/snapshot.h"

#include <stdbool.h>

#include "ingestd/rows.h"

#define HEADENDS_BIT (1ull << 62) // cursors with it set count headends

static const tob_source *source_at(const tob_fleet *fleet, bool headends, uint32_t slot) {
    if (headends) {
        const tob_headend_row *row = tob_fleet_headend(fleet, slot);
        return row ? &row->source : NULL;
    }
    const tob_client_row *row = tob_fleet_client(fleet, slot);
    return row ? &row->source : NULL;
}

tob_error tob_snapshot_rows(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                            uint64_t cursor, uint64_t max_rows, uint64_t buckets,
                            Tobogganing__V1__SnapshotResponse *page) {
    bool headends = cursor & HEADENDS_BIT;
    uint64_t at = cursor & ~HEADENDS_BIT;
    uint64_t slots = headends ? tob_fleet_headend_slots(fleet) : tob_fleet_client_slots(fleet);
    at = at < slots ? at : slots;
    uint64_t stop = slots - at < TOB_SNAPSHOT_LOOK_ROWS ? slots : at + TOB_SNAPSHOT_LOOK_ROWS;
    uint32_t *rows = tob_arena_alloc(arena, (max_rows + 1) * sizeof(*rows));
    size_t count = 0;
    if (!rows) {
        return tob_arena_error(arena);
    }
    for (; at < stop && count < max_rows; at++) {
        const tob_source *source = source_at(fleet, headends, (uint32_t)at);
        if (source && (!buckets || (buckets >> source->bucket & 1))) {
            rows[count++] = (uint32_t)at;
        }
    }
    page->next_cursor = at < slots ? (cursor & HEADENDS_BIT) | at : headends ? 0 : HEADENDS_BIT;
    if (headends) {
        page->n_headends = count;
        return tob_rows_headends(fleet, directory, arena, rows, count, &page->headends);
    }
    page->n_clients = count;
    return tob_rows_clients(fleet, directory, arena, rows, count, &page->clients);
}
