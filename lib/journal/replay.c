#include "journal/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal/crc32c.h"
#include "journal/files.h"

#define SECTOR       512u       // what a disk writes whole or not at all
#define WINDOW_BYTES (1u << 20) // what is read at once, unless a record is larger

// A window on the file that moves forward.
typedef struct reader {
    const tob_replay_segment *segment;
    tob_journal_problem *problem;
    uint8_t *window;
    size_t capacity;
    uint64_t from; // of the window
    size_t n;
} reader;

// Bytes [offset, offset + n) of the file, which must be inside it; valid until the next call.
static tob_error view(reader *r, uint64_t offset, size_t n, const uint8_t **ret) {
    if (offset < r->from || offset + n > r->from + r->n) {
        if (n > r->capacity || !r->window) {
            size_t capacity = n > WINDOW_BYTES ? n : WINDOW_BYTES;
            uint8_t *window = realloc(r->window, capacity);
            if (!window) {
                return TOB_NO_MEMORY;
            }
            r->window = window;
            r->capacity = capacity;
        }
        uint64_t rest = r->segment->file_bytes - offset;
        size_t want = rest < r->capacity ? (size_t)rest : r->capacity;
        r->n = 0;
        tob_error err = tob_file_read(r->segment->fd, r->window, want, offset);
        if (err) {
            tob_journal_say(r->problem, "%s at offset %" PRIu64 ": %s", r->segment->path, offset,
                            errno ? strerror(errno) : "the file became shorter while it was read");
            return err;
        }
        r->from = offset;
        r->n = want;
    }
    *ret = r->window + (offset - r->from);
    return TOB_OK;
}

static tob_error damaged(const reader *r, uint64_t offset, const char *reason) {
    tob_journal_say(r->problem, "%s at offset %" PRIu64 ": %s", r->segment->path, offset, reason);
    return TOB_DAMAGED;
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

typedef enum verdict { WHOLE, BAD } verdict;

// Reads the record at `offset`.
//   ret_bytes     whole: with its padding; bad: what is known to belong to it
static tob_error read_record(reader *r, uint64_t offset, verdict *ret, uint64_t *ret_bytes,
                             const uint8_t **ret_payload, uint32_t *ret_length) {
    const uint8_t *bytes = NULL;
    uint64_t rest = r->segment->file_bytes - offset;
    *ret = BAD;
    *ret_bytes = TOB_RECORD_HEADER_BYTES;
    if (rest < TOB_RECORD_HEADER_BYTES) {
        return TOB_OK;
    }
    tob_error err = view(r, offset, TOB_RECORD_HEADER_BYTES, &bytes);
    if (err) {
        return err;
    }
    tob_record_header header;
    if (!tob_record_header_decode(bytes, r->segment->header.salt, offset, &header)) {
        return TOB_OK;
    }
    uint64_t unpadded = TOB_RECORD_HEADER_BYTES + (uint64_t)header.length;
    *ret_bytes = unpadded;
    if (rest < unpadded) {
        return TOB_OK;
    }
    err = view(r, offset, (size_t)unpadded, &bytes);
    if (err) {
        return err;
    }
    if (tob_crc32c(0, bytes + TOB_RECORD_HEADER_BYTES, header.length) != header.payload_crc) {
        return TOB_OK;
    }
    *ret = WHOLE;
    *ret_bytes = tob_record_bytes(header.length);
    *ret_payload = bytes + TOB_RECORD_HEADER_BYTES;
    *ret_length = header.length;
    return TOB_OK;
}

tob_error tob_replay_segment_records(const tob_replay_segment *segment, uint64_t expected_end,
                                     tob_journal_record_fn fn, void *user, uint64_t *ret_end,
                                     uint64_t *ret_torn_bytes, tob_journal_problem *ret_problem) {
    reader r = {.segment = segment, .problem = ret_problem};
    tob_error err = TOB_OK;
    uint64_t offset = TOB_SEGMENT_HEADER_BYTES, torn_bytes = 0;
    while (expected_end == 0 || offset < expected_end) {
        verdict is = BAD;
        uint64_t bytes = 0;
        const uint8_t *payload = NULL;
        uint32_t length = 0;
        if (offset >= segment->file_bytes && expected_end == 0) {
            break;
        }
        if (offset < segment->file_bytes) {
            err = read_record(&r, offset, &is, &bytes, &payload, &length);
            if (err) {
                goto out;
            }
        }
        if (is == BAD) {
            err = expected_end ? damaged(&r, offset, "a record does not pass its check")
                               : judge(&r, offset, bytes, &torn_bytes);
            if (err) {
                goto out;
            }
            break;
        }
        err = fn(user, (tob_position){segment->header.segment, offset}, payload, length);
        if (err) {
            tob_journal_say(ret_problem, "%s at offset %" PRIu64 ": the record can't be used: %s",
                            segment->path, offset, tob_error_string(err));
            goto out;
        }
        offset += bytes;
    }
    if (expected_end && offset != expected_end) {
        err = damaged(&r, offset, "the segment ends elsewhere than the next one says");
        goto out;
    }
    *ret_end = offset;
    *ret_torn_bytes = torn_bytes;
out:
    free(r.window);
    return err;
}

tob_error tob_replay_header(tob_replay_segment *segment, uint64_t number, bool *ret_torn,
                            tob_journal_problem *ret_problem) {
    reader r = {.segment = segment, .problem = ret_problem};
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
    free(r.window);
    return err;
}
