#include "journal/window.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal/crc32c.h"
#include "journal/files.h"
#include "journal/segment.h"

void tob_window_fini(tob_window *w) {
    free(w->data);
    w->data = NULL;
    w->capacity = 0;
    w->n = 0;
}

tob_error tob_window_view(tob_window *w, uint64_t offset, size_t n, const uint8_t **ret,
                          tob_journal_problem *problem) {
    if (!w->data || offset < w->from || offset + n > w->from + w->n) {
        if (n > w->capacity || !w->data) {
            size_t capacity = n > TOB_WINDOW_BYTES ? n : TOB_WINDOW_BYTES;
            tob_window_fini(w);
            w->data = malloc(capacity);
            if (!w->data) {
                return TOB_NO_MEMORY;
            }
            w->capacity = capacity;
        }
        uint64_t rest = w->bytes - offset;
        size_t want = rest < w->capacity ? (size_t)rest : w->capacity;
        w->n = 0;
        tob_error err = tob_file_read(w->fd, w->data, want, offset);
        if (err) {
            tob_journal_say(problem, "%s at offset %" PRIu64 ": %s", w->path, offset,
                            errno ? strerror(errno) : "the file became shorter while it was read");
            return err;
        }
        w->from = offset;
        w->n = want;
    }
    *ret = w->data + (offset - w->from);
    return TOB_OK;
}

tob_error tob_window_damaged(const tob_window *w, uint64_t offset, const char *reason,
                             tob_journal_problem *problem) {
    tob_journal_say(problem, "%s at offset %" PRIu64 ": %s", w->path, offset, reason);
    return TOB_DAMAGED;
}

// False in `ret_passes` also when the header does not fit before the end.
static tob_error read_header(tob_window *w, uint64_t salt, uint64_t offset, tob_record_header *ret,
                             bool *ret_passes, tob_journal_problem *problem) {
    const uint8_t *bytes = NULL;
    *ret_passes = false;
    if (offset > w->bytes || w->bytes - offset < TOB_RECORD_HEADER_BYTES) {
        return TOB_OK;
    }
    tob_error err = tob_window_view(w, offset, TOB_RECORD_HEADER_BYTES, &bytes, problem);
    if (!err) {
        *ret_passes = tob_record_header_decode(bytes, salt, offset, ret);
    }
    return err;
}

tob_error tob_window_read(tob_window *w, uint64_t salt, uint64_t offset, tob_window_record *ret,
                          tob_journal_problem *problem) {
    tob_record_header header = {0};
    bool passes = false;
    const uint8_t *bytes = NULL;
    *ret = (tob_window_record){.bytes = TOB_RECORD_HEADER_BYTES};
    tob_error err = read_header(w, salt, offset, &header, &passes, problem);
    if (err || !passes) {
        return err;
    }
    ret->bytes = TOB_RECORD_HEADER_BYTES + (uint64_t)header.length;
    if (w->bytes - offset < ret->bytes) {
        return TOB_OK;
    }
    err = tob_window_view(w, offset, (size_t)ret->bytes, &bytes, problem);
    if (err) {
        return err;
    }
    if (tob_crc32c(0, bytes + TOB_RECORD_HEADER_BYTES, header.length) == header.payload_crc) {
        *ret = (tob_window_record){.whole = true,
                                   .bytes = tob_record_bytes(header.length),
                                   .length = header.length,
                                   .payload = bytes + TOB_RECORD_HEADER_BYTES};
    }
    return TOB_OK;
}

tob_error tob_window_walk(tob_window *w, uint64_t salt, uint64_t to, uint64_t *ret,
                          tob_journal_problem *problem) {
    uint64_t at = TOB_SEGMENT_HEADER_BYTES;
    while (at < to) {
        tob_record_header header = {0};
        bool passes = false;
        tob_error err = read_header(w, salt, at, &header, &passes, problem);
        if (err) {
            return err;
        }
        if (!passes) {
            break;
        }
        at += tob_record_bytes(header.length);
    }
    *ret = at;
    return TOB_OK;
}
