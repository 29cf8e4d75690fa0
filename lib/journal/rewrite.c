#include "journal/rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/crc32c.h"
#include "journal/files.h"
#include "journal/segment.h"
#include "journal/window.h"

#define UNFINISHED "rewrite.unfinished"

struct tob_rewrite {
    char *dir;
    char *path; // of the segment, for messages
    int dir_fd;
    int fd;     // of the segment
    int new_fd; // -1: nothing was replaced yet
    struct stat old;
    char name[TOB_SEGMENT_NAME_BYTES];
    uint8_t *replacement;
    size_t capacity;
};

static tob_error refused(const tob_rewrite *r, const char *what, tob_journal_problem *problem) {
    tob_error err = errno == ENOENT ? TOB_NOT_FOUND : TOB_IO;
    tob_journal_say(problem, "%s: %s: %s", r->path, what, strerror(errno));
    return err;
}

static void rewrite_free(tob_rewrite *r) {
    int fds[] = {r->fd, r->new_fd, r->dir_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(r->replacement);
    free(r->path);
    free(r->dir);
    free(r);
}

void tob_rewrite_abort(tob_rewrite *rewrite) {
    if (!rewrite) {
        return;
    }
    if (rewrite->new_fd >= 0) {
        unlinkat(rewrite->dir_fd, UNFINISHED, 0); // nobody's data; the next one writes over it
    }
    rewrite_free(rewrite);
}

static tob_error rewrite_open(const char *dir, uint64_t segment, tob_rewrite **ret,
                              tob_journal_problem *problem) {
    tob_rewrite *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    r->dir_fd = r->fd = r->new_fd = -1;
    tob_segment_name(segment, r->name);
    r->dir = strdup(dir);
    if (!r->dir || asprintf(&r->path, "%s/%s", dir, r->name) < 0) {
        r->path = NULL;
        rewrite_free(r);
        return TOB_NO_MEMORY;
    }
    r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->fd = r->dir_fd < 0 ? -1 : openat(r->dir_fd, r->name, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &r->old)) {
        tob_error err = refused(r, "opening failed", problem);
        rewrite_free(r);
        return err;
    }
    posix_fadvise(r->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    *ret = r;
    return TOB_OK;
}

// The new file begins as a copy of the old one.
static tob_error copy_segment(tob_rewrite *r, tob_journal_problem *problem) {
    r->new_fd = openat(r->dir_fd, UNFINISHED, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (r->new_fd < 0) {
        return refused(r, "making the new file failed", problem);
    }
    loff_t from = 0, to = 0;
    while (from < r->old.st_size) {
        ssize_t n = copy_file_range(r->fd, &from, r->new_fd, &to, (size_t)(r->old.st_size - from), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return refused(r, "copying it failed", problem);
        }
    }
    return TOB_OK;
}

static tob_error put_record(tob_rewrite *r, uint64_t salt, uint64_t offset, tob_record_header header,
                            tob_journal_problem *problem) {
    uint8_t bytes[TOB_RECORD_HEADER_BYTES];
    tob_error err = r->new_fd < 0 ? copy_segment(r, problem) : TOB_OK;
    if (err) {
        return err;
    }
    header.payload_crc = tob_crc32c(0, r->replacement, header.length);
    tob_record_header_encode(&header, salt, offset, bytes);
    if (tob_file_write(r->new_fd, bytes, sizeof(bytes), offset) ||
        tob_file_write(r->new_fd, r->replacement, header.length, offset + sizeof(bytes))) {
        return refused(r, "writing failed", problem);
    }
    return TOB_OK;
}

static tob_error reserve(tob_rewrite *r, size_t n) {
    if (n > r->capacity) {
        uint8_t *bigger = realloc(r->replacement, n);
        if (!bigger) {
            return TOB_NO_MEMORY;
        }
        r->replacement = bigger;
        r->capacity = n;
    }
    return TOB_OK;
}

// Where the segment ends is in the next one's header.
static tob_error read_end(const tob_rewrite *r, uint64_t segment, uint64_t *ret,
                          tob_journal_problem *problem) {
    char next[TOB_SEGMENT_NAME_BYTES];
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    tob_segment_header header = {0};
    tob_segment_name(segment + 1, next);
    int fd = openat(r->dir_fd, next, O_RDONLY | O_CLOEXEC);
    tob_error err = fd < 0 || tob_file_read(fd, bytes, sizeof(bytes), 0)
                        ? refused(r, "reading the next segment's header failed", problem)
                        : tob_segment_header_decode(bytes, &header);
    if (fd >= 0) {
        close(fd);
    }
    *ret = header.previous_end;
    return err;
}

static tob_error rewrite_records(tob_rewrite *r, uint64_t segment, tob_rewrite_fn fn, void *user,
                                 tob_journal_problem *problem) {
    tob_window w = {.fd = r->fd, .bytes = (uint64_t)r->old.st_size, .path = r->path};
    tob_segment_header header = {0};
    const uint8_t *bytes = NULL;
    uint64_t end = 0, offset = TOB_SEGMENT_HEADER_BYTES;
    tob_error err = w.bytes < TOB_SEGMENT_HEADER_BYTES
                        ? tob_window_damaged(&w, w.bytes, "the segment ends within its header", problem)
                        : tob_window_view(&w, 0, TOB_SEGMENT_HEADER_BYTES, &bytes, problem);
    err = err ? err : tob_segment_header_decode(bytes, &header);
    err = err ? err : read_end(r, segment, &end, problem);
    while (!err && offset < end) {
        tob_window_record record;
        tob_record_header head = {0};
        bool replace = false;
        err = tob_window_read(&w, header.salt, offset, &record, problem);
        if (!err && !record.whole) {
            err = tob_window_damaged(&w, offset, "a record does not pass its check", problem);
        }
        err = err ? err : reserve(r, record.length);
        if (!err) {
            err = fn(user, (tob_position){segment, offset}, record.payload, record.length, r->replacement,
                     &replace);
        }
        if (!err && replace) {
            (void)tob_record_header_decode(record.payload - TOB_RECORD_HEADER_BYTES, header.salt, offset,
                                           &head); // it passed
            err = put_record(r, header.salt, offset, head, problem);
        }
        offset += record.bytes;
    }
    tob_window_fini(&w);
    return err;
}

// The time of its last record decides when a segment is old: it stays.
static tob_error finish(tob_rewrite *r, tob_journal_problem *problem) {
    const struct timespec times[] = {r->old.st_atim, r->old.st_mtim};
    if (futimens(r->new_fd, times) || fsync(r->new_fd)) {
        return refused(r, "making the new file durable failed", problem);
    }
    return TOB_OK;
}

tob_error tob_rewrite_segment(const char *dir, uint64_t segment, tob_rewrite_fn fn, void *user,
                              tob_rewrite **ret, tob_journal_problem *ret_problem) {
    tob_rewrite *r = NULL;
    ret_problem->text[0] = 0;
    tob_error err = rewrite_open(dir, segment, &r, ret_problem);
    if (!err) {
        err = rewrite_records(r, segment, fn, user, ret_problem);
    }
    if (!err && r->new_fd >= 0) {
        err = finish(r, ret_problem);
    }
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: segment %" PRIu64 ": %s", dir, segment, tob_error_string(err));
    }
    if (err || r->new_fd < 0) {
        tob_rewrite_abort(r);
        r = NULL;
    }
    if (!err) {
        *ret = r;
    }
    return err;
}

tob_error tob_rewrite_commit(tob_rewrite *rewrite, tob_journal_problem *ret_problem) {
    struct stat now;
    tob_error err = TOB_OK;
    // It may have been deleted meanwhile: then it must not come back.
    if (fstatat(rewrite->dir_fd, rewrite->name, &now, 0) || now.st_ino != rewrite->old.st_ino) {
        errno = ENOENT;
        err = refused(rewrite, "it is gone", ret_problem);
    } else if (renameat(rewrite->dir_fd, UNFINISHED, rewrite->dir_fd, rewrite->name)) {
        err = refused(rewrite, "putting the new file in its place failed", ret_problem);
    } else if (fsync(rewrite->dir_fd)) {
        err = refused(rewrite, "sync of the directory failed", ret_problem);
    }
    if (err) {
        tob_rewrite_abort(rewrite);
    } else {
        rewrite_free(rewrite);
    }
    return err;
}

tob_error tob_rewrite_drop_unfinished(const char *dir, tob_journal_problem *ret_problem) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool gone = fd >= 0 && (unlinkat(fd, UNFINISHED, 0) == 0 || errno == ENOENT);
    if (!gone) {
        tob_journal_say(ret_problem, "%s/%s: removing it failed: %s", dir, UNFINISHED, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return gone ? TOB_OK : TOB_IO;
}
