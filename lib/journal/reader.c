#include "journal/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/files.h"
#include "journal/segment.h"
#include "journal/window.h"

#define OLDEST_TRIES 16 // the oldest segment may be deleted while we look for it

struct tob_journal_reader {
    char *dir;
    int dir_fd;
    char *path; // of the open segment, for messages
    int fd;     // -1: none is open
    tob_segment_header header;
    uint64_t sealed_end;   // of the open segment, once the next one says it; 0: not known
    uint64_t sealed_bytes; // of its file then
    tob_window window;
    tob_position known; // a place that is known to be a record's or the end; {0, 0}: none
};

tob_error tob_journal_reader_new(const char *dir, tob_journal_reader **ret) {
    tob_journal_reader *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    tob_error err = TOB_OK;
    r->fd = -1;
    r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0) {
        err = errno == ENOENT ? TOB_NOT_FOUND : TOB_IO;
        goto out;
    }
    r->dir = strdup(dir);
    if (!r->dir) {
        err = TOB_NO_MEMORY;
        goto out;
    }
    *ret = r;
    r = NULL;
out:
    tob_journal_reader_free(r);
    return err;
}

static void close_segment(tob_journal_reader *r) {
    if (r->fd >= 0) {
        close(r->fd);
    }
    free(r->path);
    r->fd = -1;
    r->path = NULL;
    r->window.n = 0;
    r->sealed_end = 0;
}

void tob_journal_reader_free(tob_journal_reader *r) {
    if (!r) {
        return;
    }
    close_segment(r);
    tob_window_fini(&r->window);
    if (r->dir_fd >= 0) {
        close(r->dir_fd);
    }
    free(r->dir);
    free(r);
}

// Opens a segment's file and reads its header.
//   ret_fd   owned by the caller
static tob_error open_header(tob_journal_reader *r, uint64_t segment, int *ret_fd, tob_segment_header *ret,
                             tob_journal_problem *problem) {
    char name[TOB_SEGMENT_NAME_BYTES];
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    tob_segment_name(segment, name);
    int fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        tob_journal_say(problem, "%s/%s: %s", r->dir, name, strerror(errno));
        return errno == ENOENT ? TOB_NOT_FOUND : TOB_IO;
    }
    tob_error err = tob_file_read(fd, bytes, sizeof(bytes), 0);
    if (err && errno != 0) {
        tob_journal_say(problem, "%s/%s at offset 0: %s", r->dir, name, strerror(errno));
    } else if (err || tob_segment_header_decode(bytes, ret) || ret->segment != segment) {
        tob_journal_say(problem, "%s/%s at offset 0: the segment's header does not pass its check", r->dir,
                        name);
        err = TOB_DAMAGED;
    }
    if (err) {
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return TOB_OK;
}

static tob_error open_segment(tob_journal_reader *r, uint64_t segment, tob_journal_problem *problem) {
    char name[TOB_SEGMENT_NAME_BYTES];
    if (r->fd >= 0 && r->header.segment == segment) {
        return TOB_OK;
    }
    close_segment(r);
    tob_error err = open_header(r, segment, &r->fd, &r->header, problem);
    if (err) {
        return err;
    }
    tob_segment_name(segment, name);
    if (asprintf(&r->path, "%s/%s", r->dir, name) < 0) {
        r->path = NULL;
        close_segment(r);
        return TOB_NO_MEMORY;
    }
    r->window.fd = r->fd;
    r->window.path = r->path;
    return TOB_OK;
}

// How far the open segment may be read: what lies behind is not written yet.
static tob_error find_limit(tob_journal_reader *r, tob_position end, tob_journal_problem *problem) {
    if (r->header.segment == end.segment) {
        r->window.bytes = end.offset;
        return TOB_OK;
    }
    if (r->sealed_end == 0) {
        tob_segment_header next;
        int fd = -1;
        tob_error err = open_header(r, r->header.segment + 1, &fd, &next, problem);
        if (err) {
            return err;
        }
        close(fd);
        r->sealed_end = next.previous_end;
        r->sealed_bytes = tob_file_bytes(r->fd);
    }
    r->window.bytes = r->sealed_end;
    return TOB_OK;
}

// Where the row of segments begins that ends with the one `end` is in.
static tob_error find_oldest(tob_journal_reader *r, tob_position end, uint64_t *ret,
                             tob_journal_problem *problem) {
    uint64_t *numbers = NULL;
    size_t count = 0;
    tob_error err = tob_journal_dir_list(r->dir_fd, &numbers, &count);
    if (err) {
        tob_journal_say(problem, "%s: %s", r->dir, err == TOB_IO ? strerror(errno) : tob_error_string(err));
        return err;
    }
    uint64_t oldest = end.segment;
    for (size_t i = count; i > 0; i--) {
        oldest -= numbers[i - 1] == oldest - 1;
    }
    free(numbers);
    *ret = oldest;
    return TOB_OK;
}

static tob_error open_oldest(tob_journal_reader *r, tob_position end, tob_position *ret,
                             tob_journal_problem *problem) {
    tob_error err = TOB_NOT_FOUND;
    for (int i = 0; i < OLDEST_TRIES && err == TOB_NOT_FOUND; i++) {
        uint64_t segment = 0;
        err = find_oldest(r, end, &segment, problem);
        if (!err) {
            err = open_segment(r, segment, problem);
            *ret = (tob_position){segment, TOB_SEGMENT_HEADER_BYTES};
        }
    }
    return err;
}

static tob_error no_place(const tob_journal_reader *r, tob_position at, tob_journal_problem *problem) {
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(at.segment, name);
    tob_journal_say(problem, "%s/%s at offset %" PRIu64 ": no record begins here", r->dir, name, at.offset);
    return TOB_NOT_FOUND;
}

// The record at `at` does not pass its check: is it damaged, or was there never one?
static tob_error judge(tob_journal_reader *r, tob_position at, tob_journal_problem *problem) {
    uint64_t reached = at.offset;
    if (tob_position_compare(at, r->known) != 0) {
        tob_error err = tob_window_walk(&r->window, r->header.salt, at.offset, &reached, problem);
        if (err) {
            return err;
        }
    }
    if (reached > at.offset) {
        return no_place(r, at, problem);
    }
    return tob_window_damaged(&r->window, reached, "a record does not pass its check", problem);
}

// Opens the segment of *at; when *at is its end and another follows, that one.
//   at   moved to the next segment's beginning then
static tob_error go_to(tob_journal_reader *r, tob_position *at, tob_position end,
                       tob_journal_problem *problem) {
    for (;;) {
        tob_error err = open_segment(r, at->segment, problem);
        if (!err) {
            err = find_limit(r, end, problem);
        }
        if (err) {
            return err;
        }
        if (at->offset < TOB_SEGMENT_HEADER_BYTES || at->offset > r->window.bytes ||
            at->offset % TOB_RECORD_ALIGN != 0) {
            return no_place(r, *at, problem);
        }
        if (at->segment == end.segment) {
            return TOB_OK;
        }
        if (at->offset < r->window.bytes) {
            return r->sealed_bytes >= r->sealed_end
                       ? TOB_OK
                       : tob_window_damaged(&r->window, r->sealed_bytes,
                                            "the segment ends before the next one says", problem);
        }
        *at = (tob_position){at->segment + 1, TOB_SEGMENT_HEADER_BYTES};
        r->known = *at;
    }
}

// Hands over one record, which begins at or, at a segment's end, behind *at.
//   at   moved behind it
static tob_error read_one(tob_journal_reader *r, tob_position *at, tob_position end, tob_journal_record_fn fn,
                          void *user, uint64_t *ret_bytes, tob_journal_problem *problem) {
    tob_position begin = *at;
    tob_window_record record;
    tob_error err = go_to(r, &begin, end, problem);
    if (!err && tob_position_compare(begin, end) == 0) { // a crash can leave a last segment without records
        *at = begin;
        return TOB_OK;
    }
    if (!err) {
        err = tob_window_read(&r->window, r->header.salt, begin.offset, &record, problem);
    }
    if (err) {
        return err;
    }
    if (!record.whole) {
        return judge(r, begin, problem);
    }
    err = fn(user, begin, record.payload, record.length);
    if (err) {
        tob_journal_say(problem, "%s at offset %" PRIu64 ": the record can't be used: %s", r->path,
                        begin.offset, tob_error_string(err));
        return err;
    }
    *ret_bytes = record.length;
    *at = (tob_position){begin.segment, begin.offset + record.bytes};
    r->known = *at;
    return TOB_OK;
}

tob_error tob_journal_read(tob_journal_reader *reader, tob_position from, tob_position end,
                           uint64_t max_bytes, tob_journal_record_fn fn, void *user, tob_position *ret_next,
                           tob_journal_problem *ret_problem) {
    tob_journal_reader *r = reader;
    tob_position at = from;
    uint64_t read = 0;
    tob_error err = TOB_OK;
    ret_problem->text[0] = 0;
    if (from.segment == 0 && from.offset == 0) {
        err = open_oldest(r, end, &at, ret_problem);
    }
    if (!err && tob_position_compare(at, end) > 0) {
        err = no_place(r, at, ret_problem);
    }
    bool first = true;
    while (!err && tob_position_compare(at, end) < 0 && (first || read < max_bytes)) {
        uint64_t bytes = 0;
        err = read_one(r, &at, end, fn, user, &bytes, ret_problem);
        read += bytes;
        first = false;
    }
    if (r->window.capacity > TOB_WINDOW_BYTES) {
        tob_window_fini(&r->window);
    }
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: %s", r->dir, tob_error_string(err));
    }
    *ret_next = at;
    return err;
}
