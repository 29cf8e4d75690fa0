#include "journal/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/crc32c.h"
#include "journal/files.h"
#include "journal/segment.h"
#include "util/random.h"

#define BUFFER_BYTES (1u << 20)
#define FLUSH_BYTES                                                                                          \
    (2u << 20) // written to the disk at once: little enough not to hold up the journal's syncs

struct tob_checkpoint_writer {
    char *dir;
    int dir_fd;
    int fd;
    tob_position at;
    uint64_t salt;
    uint64_t written; // bytes of the file
    uint64_t flushed; // of which the kernel was told to write
    uint64_t settled; // of which the disk has
    uint8_t *buffer;
    size_t n;
};

static tob_error refused(const tob_checkpoint_writer *w, const char *what, tob_journal_problem *problem) {
    int error_number = errno;
    char name[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(w->at.segment, w->at.offset, name);
    tob_journal_say(problem, "%s/%s at offset %llu: %s: %s", w->dir, name, (unsigned long long)w->written,
                    what, strerror(error_number));
    return TOB_IO;
}

static void writer_free(tob_checkpoint_writer *w) {
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->dir_fd >= 0) {
        close(w->dir_fd);
    }
    free(w->buffer);
    free(w->dir);
    free(w);
}

void tob_checkpoint_abort(tob_checkpoint_writer *writer) {
    if (writer) {
        // If it can't be removed, the next one or the next start does.
        (void)!tob_checkpoint_drop_unfinished(writer->dir_fd);
        writer_free(writer);
    }
}

static tob_error begin_file(tob_checkpoint_writer *w, tob_journal_problem *problem) {
    w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dir_fd < 0) {
        return refused(w, "opening the directory failed", problem);
    }
    if (tob_checkpoint_drop_unfinished(w->dir_fd)) {
        return refused(w, "removing an unfinished one failed", problem);
    }
    w->fd = openat(w->dir_fd, TOB_CHECKPOINT_UNFINISHED, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        return refused(w, "making it failed", problem);
    }
    tob_checkpoint_header header = {.segment = w->at.segment, .salt = w->salt, .offset = w->at.offset};
    tob_checkpoint_header_encode(&header, w->buffer);
    w->n = TOB_SEGMENT_HEADER_BYTES;
    return TOB_OK;
}

tob_error tob_checkpoint_create(const char *dir, tob_position at, tob_checkpoint_writer **ret,
                                tob_journal_problem *ret_problem) {
    tob_checkpoint_writer *w = calloc(1, sizeof(*w));
    if (!w) {
        tob_journal_say(ret_problem, "%s: %s", dir, tob_error_string(TOB_NO_MEMORY));
        return TOB_NO_MEMORY;
    }
    w->dir_fd = w->fd = -1;
    w->at = at;
    w->salt = tob_random_u64();
    w->dir = strdup(dir);
    w->buffer = malloc(BUFFER_BYTES);
    tob_error err = w->dir && w->buffer ? begin_file(w, ret_problem) : TOB_NO_MEMORY;
    if (err) {
        if (err == TOB_NO_MEMORY) {
            tob_journal_say(ret_problem, "%s: %s", dir, tob_error_string(err));
        }
        writer_free(w);
        return err;
    }
    *ret = w;
    return TOB_OK;
}

// A disk that has much to write at once lets the journal's syncs wait. So it gets a little at a time, and at most two
// such pieces are on their way.
static tob_error pace(tob_checkpoint_writer *w, tob_journal_problem *problem) {
    if (w->written - w->flushed < FLUSH_BYTES) {
        return TOB_OK;
    }
    int failed =
        sync_file_range(w->fd, (off_t)w->flushed, (off_t)(w->written - w->flushed), SYNC_FILE_RANGE_WRITE);
    if (!failed && w->flushed > w->settled) {
        failed =
            sync_file_range(w->fd, (off_t)w->settled, (off_t)(w->flushed - w->settled),
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }
    if (failed && (errno == ENOSYS || errno == EINVAL || errno == ESPIPE)) { // not on this file system
        failed = fdatasync(w->fd);
    }
    if (failed) {
        return refused(w, "sync failed", problem);
    }
    w->settled = w->flushed;
    w->flushed = w->written;
    return TOB_OK;
}

static tob_error put_file(tob_checkpoint_writer *w, const void *bytes, size_t n,
                          tob_journal_problem *problem) {
    if (tob_file_write(w->fd, bytes, n, w->written)) {
        return refused(w, "writing failed", problem);
    }
    w->written += n;
    return pace(w, problem);
}

static tob_error empty_buffer(tob_checkpoint_writer *w, tob_journal_problem *problem) {
    size_t n = w->n;
    w->n = 0;
    return n ? put_file(w, w->buffer, n, problem) : TOB_OK;
}

static tob_error put(tob_checkpoint_writer *w, const void *bytes, size_t n, tob_journal_problem *problem) {
    const uint8_t *from = bytes;
    tob_error err = TOB_OK;
    while (!err && n > 0) {
        size_t piece = n < BUFFER_BYTES - w->n ? n : BUFFER_BYTES - w->n;
        memcpy(w->buffer + w->n, from, piece);
        w->n += piece;
        from += piece;
        n -= piece;
        if (w->n == BUFFER_BYTES) {
            err = empty_buffer(w, problem);
        }
    }
    return err;
}

static tob_error put_record(tob_checkpoint_writer *w, const void *payload, size_t n,
                            tob_journal_problem *problem) {
    static const uint8_t zeros[TOB_RECORD_ALIGN];
    uint8_t head[TOB_RECORD_HEADER_BYTES];
    uint64_t offset = w->written + w->n;
    tob_record_header header = {.length = (uint32_t)n,
                                .payload_crc = tob_crc32c(0, payload, n),
                                .group_offset = offset};
    tob_record_header_encode(&header, w->salt, offset, head);
    tob_error err = put(w, head, sizeof(head), problem);
    if (!err) {
        err = put(w, payload, n, problem);
    }
    if (!err) {
        err = put(w, zeros, (size_t)tob_record_bytes(n) - sizeof(head) - n, problem);
    }
    return err;
}

tob_error tob_checkpoint_append(tob_checkpoint_writer *writer, const void *payload, size_t n,
                                tob_journal_problem *ret_problem) {
    if (n > TOB_JOURNAL_MAX_RECORD_BYTES || n == 0) {
        tob_error err = n ? TOB_TOO_LARGE : TOB_INVALID;
        tob_journal_say(ret_problem, "%s: a record of %zu bytes: %s", writer->dir, n, tob_error_string(err));
        return err;
    }
    return put_record(writer, payload, n, ret_problem);
}

// Durable first, and only then under its name.
static tob_error finish(tob_checkpoint_writer *w, tob_journal_problem *problem) {
    char name[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(w->at.segment, w->at.offset, name);
    tob_error err = put_record(w, NULL, 0, problem);
    if (!err) {
        err = empty_buffer(w, problem);
    }
    if (err) {
        return err;
    }
    if (fsync(w->fd)) {
        return refused(w, "sync failed", problem);
    }
    if (renameat(w->dir_fd, TOB_CHECKPOINT_UNFINISHED, w->dir_fd, name)) {
        return refused(w, "renaming failed", problem);
    }
    if (fsync(w->dir_fd)) {
        return refused(w, "sync of the directory failed", problem);
    }
    return TOB_OK;
}

tob_error tob_checkpoint_commit(tob_checkpoint_writer *writer, uint64_t *ret_bytes,
                                tob_journal_problem *ret_problem) {
    tob_checkpoint_writer *w = writer;
    tob_error err = finish(w, ret_problem);
    if (err) {
        tob_checkpoint_abort(w);
        return err;
    }
    // It counts. An old one that can't be removed now is removed after the next.
    (void)!tob_checkpoint_drop_old(w->dir_fd, w->at);
    *ret_bytes = w->written;
    writer_free(w);
    return TOB_OK;
}
