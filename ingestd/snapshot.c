#include "ingestd/snapshot.h"

#include <stdbool.h>

#include "ingestd/rows.h"

#define HEADENDS_BIT (1ull << 62) // cursors with it set count headends

// Row numbers from `from` to `to` in the arena.
static uint32_t *row_numbers(tob_arena *arena, uint64_t from, uint64_t to) {
    uint32_t *rows = tob_arena_alloc(arena, (to - from + 1) * sizeof(*rows));
    for (uint64_t i = from; rows && i < to; i++) {
        rows[i - from] = (uint32_t)i;
    }
    return rows;
}

tob_error tob_snapshot_rows(const tob_fleet *fleet, tob_directory *directory, tob_arena *arena,
                            uint64_t cursor, uint64_t max_rows, Tobogganing__V1__SnapshotResponse *page) {
    bool headends = cursor & HEADENDS_BIT;
    uint64_t from = cursor & ~HEADENDS_BIT;
    uint64_t count = headends ? tob_fleet_headends(fleet) : tob_fleet_clients(fleet);
    from = from < count ? from : count;
    uint64_t to = count - from < max_rows ? count : from + max_rows;
    uint32_t *rows = row_numbers(arena, from, to);
    if (!rows) {
        return tob_arena_error(arena);
    }
    page->next_cursor = to < count ? (cursor & HEADENDS_BIT) | to : headends ? 0 : HEADENDS_BIT;
    if (headends) {
        page->n_headends = to - from;
        return tob_rows_headends(fleet, directory, arena, rows, to - from, &page->headends);
    }
    page->n_clients = to - from;
    return tob_rows_clients(fleet, directory, arena, rows, to - from, &page->clients);
}
