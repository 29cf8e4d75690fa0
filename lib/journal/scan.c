#include "journal/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/crc32c.h"
#include "journal/segment.h"

#define SECTOR       512u       // what a disk writes whole or not at all
#define WINDOW_BYTES (1u << 20) // what is read at once, unless a record is larger

tob_error tob_scan_open(int dir_fd, const char *name, tob_scan_file *ret) {
    struct stat st;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? TOB_NOT_FOUND : TOB_IO;
    }
    if (fstat(fd, &st)) {
        int error_number = errno;
        close(fd);
        errno = error_number;
        return TOB_IO;
    }
    *ret = (tob_scan_file){.fd = fd, .bytes = (uint64_t)st.st_size};
    return TOB_OK;
}

void tob_scan_close(tob_scan_file *file) {
    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file->window);
    *file = (tob_scan_file){.fd = -1};
}

// Reads n bytes; what can't be read, or is past the end by now, becomes zeros.
static tob_error read_all(int fd, uint8_t *to, size_t n, uint64_t offset) {
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno != EIO) {
            return TOB_IO;
        }
        size_t step = got > 0 ? (size_t)got : n;
        if (got < 0) { // one sector less at a time
            step = SECTOR - offset % SECTOR < n ? (size_t)(SECTOR - offset % SECTOR) : n;
        }
        if (got <= 0) {
            memset(to, 0, step);
        }
        to += step;
        n -= step;
        offset += step;
    }
    return TOB_OK;
}

tob_error tob_scan_view(tob_scan_file *file, uint64_t offset, size_t n, const uint8_t **ret) {
    tob_scan_file *f = file;
    if (offset < f->from || offset + n > f->from + f->n) {
        if (n > f->capacity) {
            size_t capacity = n > WINDOW_BYTES ? n : WINDOW_BYTES;
            uint8_t *window = realloc(f->window, capacity);
            if (!window) {
                return TOB_NO_MEMORY;
            }
            f->window = window;
            f->capacity = capacity;
        }
        uint64_t rest = f->bytes - offset;
        size_t want = rest < f->capacity ? (size_t)rest : f->capacity;
        f->n = 0;
        tob_error err = read_all(f->fd, f->window, want, offset);
        if (err) {
            return err;
        }
        f->from = offset;
        f->n = want;
    }
    *ret = f->window + (offset - f->from);
    return TOB_OK;
}

tob_error tob_scan_read(tob_scan_file *file, uint64_t salt, uint64_t offset, tob_scan_record *ret) {
    tob_scan_file *f = file;
    const uint8_t *bytes = NULL;
    *ret = (tob_scan_record){.header = false};
    if (f->bytes < TOB_RECORD_HEADER_BYTES || offset > f->bytes - TOB_RECORD_HEADER_BYTES) {
        return TOB_OK;
    }
    tob_error err = tob_scan_view(f, offset, TOB_RECORD_HEADER_BYTES, &bytes);
    if (err) {
        return err;
    }
    ret->header = tob_record_header_decode(bytes, salt, offset, &ret->head);
    uint64_t unpadded = TOB_RECORD_HEADER_BYTES + (uint64_t)ret->head.length;
    if (!ret->header || f->bytes - offset < unpadded) {
        return TOB_OK;
    }
    err = tob_scan_view(f, offset, (size_t)unpadded, &bytes);
    if (err) {
        return err;
    }
    ret->payload = bytes + TOB_RECORD_HEADER_BYTES;
    ret->whole = tob_crc32c(0, ret->payload, ret->head.length) == ret->head.payload_crc;
    return TOB_OK;
}

// The end of the last byte from `offset` on that is not zero; `offset` when all are. Asked with growing offsets.
static tob_error content_end(tob_scan_file *f, uint64_t offset, uint64_t *ret) {
    uint64_t end = offset;
    for (uint64_t at = offset; !f->content_known && at < f->bytes; at += SECTOR) {
        uint64_t rest = f->bytes - at;
        size_t n = rest < SECTOR ? (size_t)rest : SECTOR;
        const uint8_t *bytes = NULL;
        tob_error err = tob_scan_view(f, at, n, &bytes);
        if (err) {
            return err;
        }
        for (size_t last = n; !tob_all_zero(bytes, n) && last > 0; last--) {
            if (bytes[last - 1] != 0) {
                end = at + last;
                break;
            }
        }
    }
    f->content = f->content_known ? f->content : end;
    f->content_known = true;
    *ret = f->content > offset ? f->content : offset;
    return TOB_OK;
}

tob_error tob_scan_all_zero(tob_scan_file *file, bool *ret) {
    uint64_t end = 0;
    tob_error err = content_end(file, 0, &end);
    *ret = end == 0;
    return err;
}

// What follows a record that does not pass: the next one that does, and whether a later sync wrote any.
typedef struct following {
    bool found;
    uint64_t offset;
    bool later_group;
} following;

//   content      where nothing but zeros begins
//   want_group   look on until a later group is found
static tob_error look_ahead(tob_scan_file *f, uint64_t salt, uint64_t offset, uint64_t content,
                            uint64_t limit, bool want_group, following *ret) {
    *ret = (following){.found = false};
    for (uint64_t at = offset + TOB_RECORD_ALIGN; at < content && at + TOB_RECORD_HEADER_BYTES <= limit;
         at += TOB_RECORD_ALIGN) {
        const uint8_t *bytes = NULL;
        tob_record_header header;
        tob_error err = tob_scan_view(f, at, TOB_RECORD_HEADER_BYTES, &bytes);
        if (err) {
            return err;
        }
        if (!tob_record_header_decode(bytes, salt, at, &header)) {
            continue;
        }
        ret->later_group |= header.group_offset > offset;
        tob_scan_record r = {.whole = false};
        if (!ret->found && at >= offset + TOB_RECORD_HEADER_BYTES) {
            err = tob_scan_read(f, salt, at, &r);
            if (err) {
                return err;
            }
            ret->found = r.whole && at + TOB_RECORD_HEADER_BYTES + header.length <= limit;
            ret->offset = at;
        }
        if (ret->found && (ret->later_group || !want_group)) {
            break;
        }
    }
    return TOB_OK;
}

// Is a sector missing of [offset, end): zero from the record's begin to the sector's end?
static tob_error sector_missing(tob_scan_file *f, uint64_t offset, uint64_t end, bool *ret) {
    *ret = false;
    for (uint64_t at = offset; at < end && !*ret;) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        uint64_t to = next < f->bytes ? next : f->bytes;
        const uint8_t *bytes = NULL;
        tob_error err = tob_scan_view(f, at, (size_t)(to - at), &bytes);
        if (err) {
            return err;
        }
        *ret = tob_all_zero(bytes, (size_t)(to - at));
        at = next;
    }
    return TOB_OK;
}

tob_error tob_scan_add_hole(tob_verify_file *file_report, uint64_t offset, uint64_t end, const char *reason) {
    tob_verify_file *report = file_report;
    if (report->hole_count > 0) { // damage next to damage for the same reason is one
        tob_verify_hole *last = &report->holes[report->hole_count - 1];
        if (last->end == offset && last->reason == reason) {
            last->end = end;
            return TOB_OK;
        }
    }
    if (report->hole_count == report->hole_capacity) {
        size_t capacity = report->hole_capacity ? report->hole_capacity * 2 : 8;
        tob_verify_hole *holes = realloc(report->holes, capacity * sizeof(*holes));
        if (!holes) {
            return TOB_NO_MEMORY;
        }
        report->holes = holes;
        report->hole_capacity = capacity;
    }
    report->holes[report->hole_count++] = (tob_verify_hole){.offset = offset,
                                                            .end = end,
                                                            .reason = reason,
                                                            .before_unix_ms = report->last_unix_ms};
    return TOB_OK;
}

static void note_time(tob_verify_file *report, uint64_t unix_ms) {
    if (!unix_ms) {
        return;
    }
    for (size_t i = report->hole_count; i > 0 && !report->holes[i - 1].after_unix_ms; i--) {
        report->holes[i - 1].after_unix_ms = unix_ms;
    }
    report->first_unix_ms = report->first_unix_ms ? report->first_unix_ms : unix_ms;
    report->last_unix_ms = unix_ms;
}

static uint64_t align(uint64_t offset) {
    return (offset + TOB_RECORD_ALIGN - 1) / TOB_RECORD_ALIGN * TOB_RECORD_ALIGN;
}

// The record at `offset` does not pass: a hole up to where it goes on, or the torn tail. The judgement of a torn tail is
// replay.h's.
static tob_error pass_over(tob_scan_file *f, const tob_scan_range *range, uint64_t offset,
                           const tob_scan_record *bad, tob_verify_file *report, uint64_t *ret_next,
                           bool *ret_torn) {
    uint64_t content = 0, limit = range->expected_end ? range->expected_end : f->bytes;
    following next;
    tob_error err = content_end(f, offset, &content);
    if (!err) {
        err = look_ahead(f, range->salt, offset, content, limit < f->bytes ? limit : f->bytes,
                         range->may_be_torn, &next);
    }
    if (err) {
        return err;
    }
    uint64_t known = TOB_RECORD_HEADER_BYTES + (bad->header ? (uint64_t)bad->head.length : 0);
    *ret_torn = range->may_be_torn && !next.later_group;
    if (*ret_torn && offset + known <= f->bytes && content > offset) {
        err = sector_missing(f, offset, offset + known, ret_torn);
        if (err) {
            return err;
        }
    }
    if (*ret_torn || (!range->expected_end && content == offset)) {
        report->torn_bytes = content - offset;
        *ret_torn = true;
        return TOB_OK;
    }
    uint64_t end = align(content);
    if (bad->header && offset + tob_record_bytes(bad->head.length) > end) {
        end = offset + tob_record_bytes(bad->head.length);
    }
    end = end < offset + TOB_RECORD_HEADER_BYTES ? offset + TOB_RECORD_HEADER_BYTES : end;
    *ret_next = next.found ? next.offset : range->expected_end ? range->expected_end : end;
    return tob_scan_add_hole(report, offset, *ret_next,
                             offset >= f->bytes ? "the file ends too early"
                                                : "a record does not pass its check");
}

tob_error tob_scan_records(tob_scan_file *file, const tob_scan_range *range, tob_verify_record_fn fn,
                           void *user, tob_verify_file *file_report) {
    uint64_t offset = TOB_SEGMENT_HEADER_BYTES;
    tob_error err = TOB_OK;
    while (!err && offset < (range->expected_end ? range->expected_end : file->bytes)) {
        tob_scan_record r;
        err = tob_scan_read(file, range->salt, offset, &r);
        if (err) {
            break;
        }
        uint64_t next = offset + tob_record_bytes(r.head.length);
        if (!r.whole || (range->expected_end && next > range->expected_end)) {
            bool torn = false;
            err = pass_over(file, range, offset, &r, file_report, &next, &torn);
            if (torn) {
                break;
            }
        } else {
            tob_verify_note note = {.reason = "the record can't be used"};
            err = fn(user, (tob_position){range->segment, offset}, r.payload, r.head.length, &note);
            if (err == TOB_DAMAGED) {
                err = tob_scan_add_hole(file_report, offset, next, note.reason);
            } else if (!err) {
                file_report->records++;
                note_time(file_report, note.unix_ms);
            }
        }
        offset = next;
    }
    file_report->end = offset;
    return err;
}
