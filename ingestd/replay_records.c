#include "ingestd/replay_records.h"

#include <string.h>

#include "ingestd/positions.h"

static tob_error grow(tob_record_page *page) {
    if (page->count < page->capacity) {
        return TOB_OK;
    }
    size_t capacity = page->capacity ? page->capacity * 2 : 256;
    Tobogganing__V1__JournalRecord **records = tob_arena_alloc(page->arena, capacity * sizeof(*records));
    if (!records) {
        return tob_arena_error(page->arena);
    }
    if (page->count) {
        memcpy(records, page->records, page->count * sizeof(*records));
    }
    page->records = records;
    page->capacity = capacity;
    return TOB_OK;
}

tob_error tob_record_page_add(void *user, tob_position at, const void *payload, size_t n) {
    tob_record_page *page = user;
    page->full = page->count > 0 && page->bytes + n > TOB_REPLAY_PAGE_BYTES;
    if (page->full) {
        return TOB_CANCELLED;
    }
    tob_error err = grow(page);
    Tobogganing__V1__JournalRecord *record = tob_arena_alloc(page->arena, sizeof(*record));
    Tobogganing__V1__Position *position = tob_arena_alloc(page->arena, sizeof(*position));
    uint8_t *copy = tob_arena_alloc(page->arena, n ? n : 1);
    if (err || !record || !position || !copy) {
        return err ? err : tob_arena_error(page->arena);
    }
    if (n) {
        memcpy(copy, payload, n);
    }
    tobogganing__v1__journal_record__init(record);
    *position = tob_position_message(at);
    record->position = position;
    record->record = (ProtobufCBinaryData){.len = n, .data = copy};
    page->records[page->count++] = record;
    page->bytes += n;
    return TOB_OK;
}
