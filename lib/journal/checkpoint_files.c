// Finding and reading checkpoints; checkpoint.c writes them.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/checkpoint.h"
#include "journal/files.h"
#include "journal/segment.h"
#include "journal/window.h"

#define DROP_BYTES (8u << 20) // given back to the file system at once

static int newest_first(const void *a, const void *b) {
    return tob_position_compare(*(const tob_position *)b, *(const tob_position *)a);
}

static bool read_place(const char *name, void *ret) {
    tob_position *at = ret;
    return tob_checkpoint_place(name, &at->segment, &at->offset);
}

tob_error tob_checkpoint_list(int dir_fd, tob_position **ret, size_t *ret_count) {
    static const tob_journal_names checkpoints = {sizeof(tob_position), read_place, newest_first};
    void *places = NULL;
    tob_error err = tob_journal_dir_names(dir_fd, &checkpoints, &places, ret_count);
    if (!err) {
        *ret = places;
    }
    return err;
}

// Removes one under the name of what is unfinished, and in pieces: a file system takes its time for a large file, and the
// journal's syncs would wait for it.
static tob_error drop(int dir_fd, tob_position at) {
    char name[TOB_CHECKPOINT_NAME_BYTES];
    tob_checkpoint_name(at.segment, at.offset, name);
    if (renameat(dir_fd, name, dir_fd, TOB_CHECKPOINT_UNFINISHED)) {
        return TOB_IO;
    }
    int fd = openat(dir_fd, TOB_CHECKPOINT_UNFINISHED, O_WRONLY | O_CLOEXEC);
    uint64_t bytes = fd < 0 ? 0 : tob_file_bytes(fd);
    while (bytes > DROP_BYTES && !tob_file_truncate(fd, bytes - DROP_BYTES)) {
        bytes -= DROP_BYTES;
    }
    if (fd >= 0) {
        close(fd);
    }
    return tob_checkpoint_drop_unfinished(dir_fd);
}

tob_error tob_checkpoint_drop_old(int dir_fd, tob_position latest) {
    tob_position *places = NULL;
    size_t count = 0;
    tob_error err = tob_checkpoint_list(dir_fd, &places, &count);
    for (size_t i = 2; !err && i < count; i++) {
        if (tob_position_compare(places[i], latest) != 0) {
            err = drop(dir_fd, places[i]);
        }
    }
    free(places);
    return err;
}

tob_error tob_checkpoint_keep_newest(const char *dir, uint32_t *ret_removed,
                                     tob_journal_problem *ret_problem) {
    tob_position *places = NULL;
    size_t count = 0;
    *ret_removed = 0;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tob_error err = dir_fd < 0 ? TOB_IO : tob_checkpoint_list(dir_fd, &places, &count);
    for (size_t i = 1; !err && i < count; i++) {
        err = drop(dir_fd, places[i]);
        *ret_removed += err ? 0 : 1;
    }
    if (!err && *ret_removed && fsync(dir_fd)) {
        err = TOB_IO;
    }
    if (err) {
        tob_journal_say(ret_problem, "%s: removing old checkpoints failed: %s", dir,
                        err == TOB_IO ? strerror(errno) : tob_error_string(err));
    }
    free(places);
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    return err;
}

tob_error tob_checkpoint_find(const char *dir, tob_checkpoint_places *ret, tob_journal_problem *ret_problem) {
    tob_position *places = NULL;
    size_t count = 0;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 && errno == ENOENT) {
        *ret = (tob_checkpoint_places){0};
        return TOB_OK;
    }
    tob_error err = dir_fd < 0 ? TOB_IO : tob_checkpoint_list(dir_fd, &places, &count);
    if (err) {
        tob_journal_say(ret_problem, "%s: %s", dir, err == TOB_IO ? strerror(errno) : tob_error_string(err));
    } else {
        *ret = (tob_checkpoint_places){.newest = count > 0 ? places[0] : (tob_position){0, 0},
                                       .before = count > 1 ? places[1] : (tob_position){0, 0}};
    }
    free(places);
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    return err;
}

// One reading.
typedef struct reading {
    tob_window window;
    tob_checkpoint_header header;
    tob_journal_record_fn fn;
    void *user;
    tob_journal_problem *problem;
} reading;

static tob_error damaged(const reading *r, uint64_t offset, const char *reason) {
    return tob_window_damaged(&r->window, offset, reason, r->problem);
}

static tob_error read_header(reading *r, tob_position at) {
    const uint8_t *bytes = NULL;
    if (r->window.bytes < TOB_SEGMENT_HEADER_BYTES) {
        return damaged(r, r->window.bytes, "the checkpoint ends within its header");
    }
    tob_error err = tob_window_view(&r->window, 0, TOB_SEGMENT_HEADER_BYTES, &bytes, r->problem);
    if (err) {
        return err;
    }
    err = tob_checkpoint_header_decode(bytes, &r->header);
    if (err == TOB_PRECONDITION) {
        tob_journal_say(r->problem, "%s at offset 4: a newer version of this program wrote it",
                        r->window.path);
    } else if (err) {
        return damaged(r, 0, "the checkpoint's header does not pass its check");
    } else if (r->header.segment != at.segment || r->header.offset != at.offset) {
        return damaged(r, 8, "the checkpoint is for another place than its name says");
    }
    return err;
}

// Reads until the empty record, which must be the file's end.
static tob_error read_records(reading *r) {
    for (uint64_t offset = TOB_SEGMENT_HEADER_BYTES;;) {
        tob_window_record record;
        tob_error err = tob_window_read(&r->window, r->header.salt, offset, &record, r->problem);
        if (err) {
            return err;
        }
        if (offset >= r->window.bytes) {
            return damaged(r, offset, "the checkpoint ends without its last record");
        }
        if (!record.whole) {
            return damaged(r, offset, "a record does not pass its check");
        }
        if (record.length == 0) {
            offset += record.bytes;
            return offset == r->window.bytes ? TOB_OK
                                             : damaged(r, offset, "something follows the last record");
        }
        err = r->fn(r->user, (tob_position){0, offset}, record.payload, record.length);
        if (err) {
            tob_journal_say(r->problem, "%s at offset %" PRIu64 ": the record can't be used: %s",
                            r->window.path, offset, tob_error_string(err));
            return err;
        }
        offset += record.bytes;
    }
}

tob_error tob_checkpoint_read(const char *dir, tob_position at, tob_journal_record_fn fn, void *user,
                              uint64_t *ret_bytes, tob_journal_problem *ret_problem) {
    char name[TOB_CHECKPOINT_NAME_BYTES];
    char *path = NULL;
    int fd = -1;
    struct stat st;
    tob_checkpoint_name(at.segment, at.offset, name);
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        tob_journal_say(ret_problem, "%s: %s", dir, tob_error_string(TOB_NO_MEMORY));
        return TOB_NO_MEMORY;
    }
    reading r = {.fn = fn, .user = user, .problem = ret_problem};
    tob_error err = TOB_IO;
    ret_problem->text[0] = 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        tob_journal_say(ret_problem, "%s: %s", path, strerror(errno));
        goto out;
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    r.window.fd = fd;
    r.window.bytes = (uint64_t)st.st_size;
    r.window.path = path;
    err = read_header(&r, at);
    if (!err) {
        err = read_records(&r);
    }
    if (err && !ret_problem->text[0]) {
        tob_journal_say(ret_problem, "%s: %s", path, tob_error_string(err));
    }
    if (!err) {
        *ret_bytes = r.window.bytes;
    }
out:
    tob_window_fini(&r.window);
    if (fd >= 0) {
        close(fd);
    }
    free(path);
    return err;
}
