#include "journal/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/segment.h"

void tob_journal_say(tob_journal_problem *problem, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
}

// A new directory is only there after a crash once its parent is synced.
static tob_error sync_parent(int dir_fd) {
    int parent = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) {
        return TOB_IO;
    }
    int failed = fsync(parent);
    int error_number = errno;
    close(parent);
    errno = error_number;
    return failed ? TOB_IO : TOB_OK;
}

tob_error tob_journal_dir_open(const char *dir, int *ret_dir_fd, int *ret_lock_fd,
                               tob_journal_problem *ret_problem) {
    tob_error err = TOB_IO;
    int dir_fd = -1, lock_fd = -1;
    bool made = mkdir(dir, 0700) == 0;
    if (!made && errno != EEXIST) {
        goto refused;
    }
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || (made && sync_parent(dir_fd))) {
        goto refused;
    }
    lock_fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd < 0) {
        goto refused;
    }
    while (flock(lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK) {
            tob_journal_say(ret_problem, "%s: another process has this journal open", dir);
            err = TOB_BUSY;
            goto out;
        }
        if (errno != EINTR) {
            goto refused;
        }
    }
    *ret_dir_fd = dir_fd;
    *ret_lock_fd = lock_fd;
    return TOB_OK;
refused:
    tob_journal_say(ret_problem, "%s: %s", dir, strerror(errno));
out:
    if (lock_fd >= 0) {
        close(lock_fd);
    }
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    return err;
}

static tob_error read_names(DIR *listing, const tob_journal_names *names, char **ret, size_t *ret_count) {
    for (size_t capacity = 0;;) {
        if (*ret_count == capacity) {
            size_t more = capacity ? capacity * 2 : 64;
            char *bigger = realloc(*ret, more * names->bytes);
            if (!bigger) {
                return TOB_NO_MEMORY;
            }
            *ret = bigger;
            capacity = more;
        }
        errno = 0;
        struct dirent *entry = readdir(listing);
        if (!entry) {
            return errno ? TOB_IO : TOB_OK;
        }
        *ret_count += names->read(entry->d_name, *ret + *ret_count * names->bytes);
    }
}

tob_error tob_journal_dir_names(int dir_fd, const tob_journal_names *names, void **ret, size_t *ret_count) {
    char *all = NULL;
    size_t count = 0;
    int own = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); // closedir closes it
    DIR *listing = own < 0 ? NULL : fdopendir(own);
    if (!listing) {
        if (own >= 0) {
            close(own);
        }
        return TOB_IO;
    }
    tob_error err = read_names(listing, names, &all, &count);
    int error_number = errno;
    closedir(listing);
    errno = error_number;
    if (err) {
        free(all);
        return err;
    }
    qsort(all, count, names->bytes, names->compare);
    *ret = all;
    *ret_count = count;
    return TOB_OK;
}

static bool read_number(const char *name, void *ret) {
    return tob_segment_number(name, ret);
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

tob_error tob_journal_dir_list(int dir_fd, uint64_t **ret, size_t *ret_count) {
    static const tob_journal_names segments = {sizeof(uint64_t), read_number, compare_numbers};
    void *numbers = NULL;
    tob_error err = tob_journal_dir_names(dir_fd, &segments, &numbers, ret_count);
    if (!err) {
        *ret = numbers;
    }
    return err;
}

tob_error tob_file_write(int fd, const void *bytes, size_t n, uint64_t offset) {
    const uint8_t *p = bytes;
    while (n > 0) {
        ssize_t wrote = pwrite(fd, p, n, (off_t)offset);
        if (wrote < 0) {
            if (errno == EINTR) {
                continue;
            }
            return TOB_IO;
        }
        if (wrote == 0) {
            errno = ENOSPC;
            return TOB_IO;
        }
        p += wrote;
        n -= (size_t)wrote;
        offset += (uint64_t)wrote;
    }
    return TOB_OK;
}

tob_error tob_file_read(int fd, void *bytes, size_t n, uint64_t offset) {
    uint8_t *p = bytes;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return TOB_IO;
        }
        if (got == 0) {
            errno = 0;
            return TOB_IO;
        }
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return TOB_OK;
}

tob_error tob_file_truncate(int fd, uint64_t bytes) {
    while (ftruncate(fd, (off_t)bytes)) {
        if (errno != EINTR) {
            return TOB_IO;
        }
    }
    return TOB_OK;
}

void tob_file_preallocate(int fd, uint64_t end, uint64_t bytes) {
    if (bytes <= end) {
        return;
    }
    int failed = 0;
    do {
        failed = fallocate(fd, 0, (off_t)end, (off_t)(bytes - end));
    } while (failed && errno == EINTR);
    if (failed && ftruncate(fd, (off_t)end)) {
        return; // what was allocated in part reads as zeros: no harm
    }
}

void tob_file_written(int fd, uint64_t *ret_bytes, uint64_t *ret_unix_ms) {
    struct stat st;
    bool known = fstat(fd, &st) == 0;
    *ret_bytes = known ? (uint64_t)st.st_size : 0;
    *ret_unix_ms = known && st.st_mtim.tv_sec >= 0
                       ? (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000
                       : 0;
}

uint64_t tob_file_bytes(int fd) {
    uint64_t bytes = 0, at = 0;
    tob_file_written(fd, &bytes, &at);
    return bytes;
}

tob_error tob_checkpoint_drop_unfinished(int dir_fd) {
    return unlinkat(dir_fd, TOB_CHECKPOINT_UNFINISHED, 0) && errno != ENOENT ? TOB_IO : TOB_OK;
}
