#include "journal/replay.h"

#include <inttypes.h>

#include "journal/files.h"
#include "journal/window.h"

#define SECTOR 512u // what a disk writes whole or not at all

typedef struct reader {
    const tob_replay_segment *segment;
    tob_journal_problem *problem;
    tob_window window;
} reader;

static reader reader_of(const tob_replay_segment *segment, tob_journal_problem *problem) {
    return (reader){.segment = segment,
                    .problem = problem,
                    .window = {.fd = segment->fd, .bytes = segment->file_bytes, .path = segment->path}};
}

static tob_error view(reader *r, uint64_t offset, size_t n, const uint8_t **ret) {
    return tob_window_view(&r->window, offset, n, ret, r->problem);
}

static tob_error damaged(const reader *r, uint64_t offset, const char *reason) {
    return tob_window_damaged(&r->window, offset, reason, r->problem);
}

// The end of the last byte from `offset` on that is not zero; `offset` when all are.
static tob_error find_content_end(reader *r, uint64_t offset, uint64_t *ret) {
    uint64_t end = offset;
    while (offset < r->segment->file_bytes) {
        uint64_t rest = r->segment->file_bytes - offset;
        size_t n = rest < SECTOR ? (size_t)rest : SECTOR;
        const uint8_t *bytes = NULL;
        tob_error err = view(r, offset, n, &bytes);
        if (err) {
            return err;
        }
        if (!tob_all_zero(bytes, n)) {
            size_t last = n;
            while (bytes[last - 1] == 0) {
                last--;
            }
            end = offset + last;
        }
        offset += n;
    }
    *ret = end;
    return TOB_OK;
}

// Does a group of records begin after `offset`? Then the group that `offset` is in was synced before.
static tob_error find_later_group(reader *r, uint64_t offset, uint64_t content_end, bool *ret) {
    *ret = false;
    for (uint64_t at = offset + TOB_RECORD_ALIGN;
         at + TOB_RECORD_HEADER_BYTES <= r->segment->file_bytes && at < content_end; at += TOB_RECORD_ALIGN) {
        const uint8_t *bytes = NULL;
        tob_error err = view(r, at, TOB_RECORD_HEADER_BYTES, &bytes);
        if (err) {
            return err;
        }
        tob_record_header header;
        if (tob_record_header_decode(bytes, r->segment->header.salt, at, &header) &&
            header.group_offset > offset) {
            *ret = true;
            return TOB_OK;
        }
    }
    return TOB_OK;
}

// Is a sector missing of the record's bytes [offset, end): zero from the record's begin to the sector's end?
static tob_error find_missing_sector(reader *r, uint64_t offset, uint64_t end, bool *ret) {
    *ret = false;
    for (uint64_t at = offset; at < end && !*ret;) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        uint64_t to = next < r->segment->file_bytes ? next : r->segment->file_bytes;
        const uint8_t *bytes = NULL;
        tob_error err = view(r, at, (size_t)(to - at), &bytes);
        if (err) {
            return err;
        }
        *ret = tob_all_zero(bytes, (size_t)(to - at));
        at = next;
    }
    return TOB_OK;
}

// A record in the last segment fails its check: is it the torn tail (TOB_OK) or damage? `bytes`: of the
// record, as far as it is known.
static tob_error judge(reader *r, uint64_t offset, uint64_t bytes, uint64_t *ret_torn_bytes) {
    uint64_t content_end = 0;
    tob_error err = find_content_end(r, offset, &content_end);
    if (err) {
        return err;
    }
    bool later = false, missing = false;
    err = find_later_group(r, offset, content_end, &later);
    if (err) {
        return err;
    }
    if (later) {
        return damaged(r, offset, "a record does not pass its check, and records written later follow it");
    }
    if (offset + bytes <= r->segment->file_bytes && content_end > offset) {
        err = find_missing_sector(r, offset, offset + bytes, &missing);
        if (err) {
            return err;
        }
        if (!missing) {
            return damaged(r, offset, "a record does not pass its check although all of it was written");
        }
    }
    *ret_torn_bytes = content_end - offset;
    return TOB_OK;
}

// The record at `from` fails its check: did a record begin there, or the last one end?
static tob_error check_place(reader *r, uint64_t from) {
    uint64_t at = 0;
    tob_error err = tob_window_walk(&r->window, r->segment->header.salt, from, &at, r->problem);
    if (err || at == from) {
        return err;
    }
    if (at > from) {
        return damaged(r, from, "no record begins here, where reading is to begin");
    }
    tob_journal_say(r->problem, "%s at offset %" PRIu64 ": the records end before, at offset %" PRIu64,
                    r->segment->path, from, at);
    return TOB_DAMAGED;
}

// Is `from` possible at all?
static tob_error check_from(reader *r, uint64_t from, uint64_t expected_end) {
    if (from < TOB_SEGMENT_HEADER_BYTES || from % TOB_RECORD_ALIGN != 0) {
        return damaged(r, from, "no record begins here, where reading is to begin");
    }
    if (expected_end ? from > expected_end : from > r->segment->file_bytes) {
        return damaged(r, from, "the segment ends before");
    }
    return TOB_OK;
}

static tob_error hand_over(const reader *r, uint64_t offset, const tob_window_record *record,
                           tob_journal_record_fn fn, void *user) {
    tob_error err =
        fn(user, (tob_position){r->segment->header.segment, offset}, record->payload, record->length);
    if (err) {
        tob_journal_say(r->problem, "%s at offset %" PRIu64 ": the record can't be used: %s",
                        r->segment->path, offset, tob_error_string(err));
    }
    return err;
}

tob_error tob_replay_segment_from(const tob_replay_segment *segment, uint64_t from, uint64_t expected_end,
                                  tob_journal_record_fn fn, void *user, uint64_t *ret_end,
                                  uint64_t *ret_torn_bytes, tob_journal_problem *ret_problem) {
    reader r = reader_of(segment, ret_problem);
    uint64_t offset = from, torn_bytes = 0;
    tob_error err = check_from(&r, from, expected_end);
    if (!err && !expected_end && from == segment->file_bytes) { // nothing is there to be read
        err = check_place(&r, from);
    }
    while (!err && offset < (expected_end ? expected_end : segment->file_bytes)) {
        tob_window_record record;
        err = tob_window_read(&r.window, segment->header.salt, offset, &record, ret_problem);
        if (!err && !record.whole && offset == from) {
            err = check_place(&r, from);
        }
        if (!err && !record.whole) {
            err = expected_end ? damaged(&r, offset, "a record does not pass its check")
                               : judge(&r, offset, record.bytes, &torn_bytes);
            break;
        }
        if (!err) {
            err = hand_over(&r, offset, &record, fn, user);
        }
        offset += record.bytes;
    }
    if (!err && expected_end && offset != expected_end) {
        err = damaged(&r, offset, "the segment ends elsewhere than the next one says");
    }
    if (!err) {
        *ret_end = offset;
        *ret_torn_bytes = torn_bytes;
    }
    tob_window_fini(&r.window);
    return err;
}

tob_error tob_replay_segment_records(const tob_replay_segment *segment, uint64_t expected_end,
                                     tob_journal_record_fn fn, void *user, uint64_t *ret_end,
                                     uint64_t *ret_torn_bytes, tob_journal_problem *ret_problem) {
    return tob_replay_segment_from(segment, TOB_SEGMENT_HEADER_BYTES, expected_end, fn, user, ret_end,
                                   ret_torn_bytes, ret_problem);
}

tob_error tob_replay_header(tob_replay_segment *segment, uint64_t number, bool *ret_torn,
                            tob_journal_problem *ret_problem) {
    reader r = reader_of(segment, ret_problem);
    const uint8_t *bytes = NULL;
    uint64_t content_end = 0;
    tob_error err = TOB_OK;
    if (segment->file_bytes < TOB_SEGMENT_HEADER_BYTES) {
        *ret_torn = true;
        return TOB_OK;
    }
    err = view(&r, 0, TOB_SEGMENT_HEADER_BYTES, &bytes);
    if (err) {
        goto out;
    }
    err = tob_segment_header_decode(bytes, &segment->header);
    if (err == TOB_PRECONDITION) {
        tob_journal_say(ret_problem, "%s at offset 4: a newer version of this program wrote it",
                        segment->path);
        goto out;
    }
    if (!err && segment->header.segment == number) {
        *ret_torn = false;
        goto out;
    }
    // The header is synced before the first record is written: with content but no header, it is damage.
    if (err && tob_all_zero(bytes, TOB_SEGMENT_HEADER_BYTES)) {
        err = find_content_end(&r, 0, &content_end);
        if (err) {
            goto out;
        }
        if (content_end == 0) {
            *ret_torn = true;
            goto out;
        }
    }
    err = damaged(&r, 0, "the segment's header does not pass its check");
out:
    tob_window_fini(&r.window);
    return err;
}
