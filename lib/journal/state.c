#include "journal/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal/files.h"

int tob_segment_open(const tob_journal *j, uint64_t segment, int flags) {
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(segment, name);
    return openat(j->dir_fd, name, flags | O_CLOEXEC, 0600);
}

tob_error tob_journal_sync_dir(const tob_journal *j) {
    return fsync(j->dir_fd) ? TOB_IO : TOB_OK;
}

void tob_journal_say_errno(const tob_journal *j, uint64_t segment, uint64_t offset, const char *what,
                           tob_journal_problem *problem) {
    int error_number = errno;
    char name[TOB_SEGMENT_NAME_BYTES];
    tob_segment_name(segment, name);
    tob_journal_say(problem, "%s/%s at offset %" PRIu64 ": %s: %s", j->dir, name, offset, what,
                    strerror(error_number));
}

tob_error tob_segment_create(tob_journal *j, const tob_segment_header *header, int *ret_fd,
                             bool *ret_sync_failed, tob_journal_problem *problem) {
    uint8_t bytes[TOB_SEGMENT_HEADER_BYTES];
    char name[TOB_SEGMENT_NAME_BYTES];
    const char *what = "making the segment failed";
    tob_segment_name(header->segment, name);
    int fd = tob_segment_open(j, header->segment, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0) {
        goto failed;
    }
    tob_segment_header_encode(header, bytes);
    tob_file_preallocate(fd, 0, j->segment_bytes);
    if (tob_file_write(fd, bytes, sizeof(bytes), 0)) {
        what = "writing failed";
        goto failed;
    }
    if (fdatasync(fd) || tob_journal_sync_dir(j)) {
        what = "sync failed";
        *ret_sync_failed = true;
        goto failed;
    }
    *ret_fd = fd;
    return TOB_OK;
failed:
    tob_journal_say_errno(j, header->segment, 0, what, problem);
    if (fd >= 0) {
        close(fd);
        unlinkat(j->dir_fd, name, 0);
    }
    return TOB_IO;
}

void tob_journal_adopt(tob_journal *j, int fd, const tob_segment_header *header, uint64_t end,
                       uint64_t settled) {
    if (j->fd >= 0) {
        close(j->fd);
    }
    j->fd = fd;
    j->header = *header;
    j->end = (tob_position){header->segment, end};
    j->settled = (tob_position){header->segment, settled};
    j->flushed = settled;
    j->queue_end = j->end;
    j->open_bytes = tob_file_bytes(fd);
}

tob_error tob_journal_reserve_closed(tob_journal *j, size_t n) {
    size_t capacity = j->closed_capacity ? j->closed_capacity : 16;
    while (capacity < j->closed_count + n) {
        capacity *= 2;
    }
    if (capacity > j->closed_capacity) {
        tob_journal_closed *closed = realloc(j->closed, capacity * sizeof(*closed));
        if (!closed) {
            return TOB_NO_MEMORY;
        }
        j->closed = closed;
        j->closed_capacity = capacity;
    }
    return TOB_OK;
}
