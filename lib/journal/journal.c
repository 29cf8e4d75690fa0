#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal/crc32c.h"
#include "journal/state.h"
#include "util/random.h"

int tob_position_compare(tob_position a, tob_position b) {
    if (a.segment != b.segment) {
        return a.segment < b.segment ? -1 : 1;
    }
    return (a.offset > b.offset) - (a.offset < b.offset);
}

tob_position tob_journal_end(const tob_journal *journal) {
    return journal->end;
}

tob_position tob_journal_queue_end(const tob_journal *journal) {
    return journal->queue_end;
}

uint64_t tob_journal_bytes(const tob_journal *journal) {
    return journal->closed_bytes + journal->open_bytes;
}

void tob_journal_close(tob_journal *journal) {
    if (!journal) {
        return;
    }
    int fds[] = {journal->fd, journal->dir_fd, journal->lock_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    tob_buffer_fini(&journal->queue);
    free(journal->chunks);
    free(journal->closed);
    free(journal->dir);
    free(journal);
}

static tob_error add_chunk(tob_journal *j, const tob_journal_chunk *c) {
    if (j->chunk_count == j->chunk_capacity) {
        size_t capacity = j->chunk_capacity ? j->chunk_capacity * 2 : 8;
        tob_journal_chunk *chunks = realloc(j->chunks, capacity * sizeof(*chunks));
        if (!chunks) {
            return TOB_NO_MEMORY;
        }
        j->chunks = chunks;
        j->chunk_capacity = capacity;
    }
    j->chunks[j->chunk_count++] = *c;
    return TOB_OK;
}

// Where the group begins that a record in `segment` belongs to: what was written since the last settling.
static uint64_t group_in(const tob_journal *j, uint64_t segment) {
    return segment == j->settled.segment ? j->settled.offset : TOB_SEGMENT_HEADER_BYTES;
}

// Where a record of `bytes` bytes goes: after the queue's end, or into a new segment when it does not fit
// there and something is there already.
static tob_error place_record(tob_journal *j, uint64_t bytes, tob_journal_chunk *ret) {
    uint64_t at = j->queue_end.offset;
    bool rotate = at + bytes > j->segment_bytes && at > TOB_SEGMENT_HEADER_BYTES;
    if (!rotate && j->chunk_count > 0) {
        *ret = j->chunks[j->chunk_count - 1];
        return TOB_OK;
    }
    *ret = (tob_journal_chunk){.header = j->header, .offset = at, .from = j->queue.len};
    if (rotate) {
        tob_error err = tob_journal_reserve_closed(j, j->chunk_count + 1);
        if (err) {
            return err;
        }
        ret->header = (tob_segment_header){.segment = j->queue_end.segment + 1,
                                           .salt = tob_random_u64(),
                                           .previous_end = at};
        ret->offset = TOB_SEGMENT_HEADER_BYTES;
    }
    return add_chunk(j, ret);
}

tob_error tob_journal_append(tob_journal *journal, const tob_journal_part *parts, size_t count,
                             tob_position *ret) {
    tob_journal *j = journal;
    uint8_t *to = NULL;
    size_t n = 0;
    if (j->failed) {
        return TOB_IO;
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n > TOB_JOURNAL_MAX_RECORD_BYTES - n) {
            return TOB_TOO_LARGE;
        }
        n += parts[i].n;
    }
    size_t bytes = (size_t)tob_record_bytes(n);
    tob_error err = tob_buffer_reserve(&j->queue, bytes, &to);
    if (err) {
        return err == TOB_TOO_LARGE ? TOB_BUSY : err;
    }
    tob_journal_chunk c;
    err = place_record(j, bytes, &c);
    if (err) {
        return err;
    }
    uint64_t offset = c.offset + (j->queue.len - c.from);
    size_t at = TOB_RECORD_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n > 0) {
            memcpy(to + at, parts[i].bytes, parts[i].n);
            at += parts[i].n;
        }
    }
    memset(to + at, 0, bytes - at);
    tob_record_header header = {.length = (uint32_t)n,
                                .payload_crc = tob_crc32c(0, to + TOB_RECORD_HEADER_BYTES, n),
                                .group_offset = group_in(j, c.header.segment)};
    tob_record_header_encode(&header, c.header.salt, offset, to);
    j->queue.len += bytes;
    j->queue_end = (tob_position){c.header.segment, offset + bytes};
    *ret = (tob_position){c.header.segment, offset};
    return TOB_OK;
}
