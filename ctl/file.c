#include "ctl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/command.h"

#define READ_BYTES 65536

static int failed(const char *path, const char *why) {
    fprintf(stderr, TOB_CTL_PROGRAM ": %s: %s\n", path, why);
    return 1;
}

static bool is_standard(const char *path) {
    return strcmp(path, "-") == 0;
}

// Reads until the end; *ret_why says what was in the way.
static int read_all(int fd, const char *path, tob_buffer *ret) {
    for (;;) {
        uint8_t *room = NULL;
        size_t left = ret->max_bytes - ret->len, n = left < READ_BYTES ? left : READ_BYTES;
        if (n == 0) {
            char why[64];
            snprintf(why, sizeof(why), "has more than %zu bytes", ret->max_bytes - 1);
            return failed(path, why);
        }
        if (tob_buffer_reserve(ret, n, &room)) {
            return tob_ctl_no_memory();
        }
        ssize_t got = read(fd, room, n);
        if (got < 0 && errno != EINTR) {
            return failed(path, strerror(errno));
        }
        if (got == 0) {
            room[0] = 0;
            return 0;
        }
        ret->len += got > 0 ? (size_t)got : 0;
    }
}

int tob_ctl_read_file(const char *path, tob_buffer *ret) {
    int fd = is_standard(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed(path, strerror(errno));
    }
    struct stat st;
    uint8_t *room = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size < ret->max_bytes &&
        tob_buffer_reserve(ret, (size_t)st.st_size + 1, &room)) { // at once: copies of it may be secrets
        return tob_ctl_no_memory();
    }
    int status = read_all(fd, is_standard(path) ? "stdin" : path, ret);
    if (fd != STDIN_FILENO) {
        close(fd);
    }
    return status;
}

// A folder could not be replaced at the end, when it is too late, and a device should not be.
static const char *not_replaceable(const char *path) {
    struct stat st;
    if (stat(path, &st) || S_ISREG(st.st_mode)) {
        return NULL;
    }
    return S_ISDIR(st.st_mode) ? strerror(EISDIR) : "is not a regular file";
}

int tob_ctl_outfile_open(tob_ctl_outfile *file, const char *path, mode_t mode, bool replace) {
    *file = (tob_ctl_outfile){.path = path, .fd = -1, .replace = replace};
    if (!path || is_standard(path)) {
        return 0;
    }
    const char *why = replace ? not_replaceable(path) : NULL;
    if (why) {
        file->path = NULL;
        return failed(path, why);
    }
    int n = snprintf(file->temporary, sizeof(file->temporary), replace ? "%s.XXXXXX" : "%s", path);
    if (n >= (int)sizeof(file->temporary)) {
        file->path = NULL;
        return failed(path, strerror(ENAMETOOLONG));
    }
    file->fd = replace ? mkostemp(file->temporary, O_CLOEXEC)
                       : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file->fd < 0) {
        file->path = NULL;
        return failed(path, errno == EEXIST ? "exists; give another name, or --force to replace it"
                                            : strerror(errno));
    }
    if (replace && fchmod(file->fd, mode)) {
        int err = errno;
        tob_ctl_outfile_fini(file);
        return failed(path, strerror(err));
    }
    return 0;
}

int tob_ctl_outfile_write(tob_ctl_outfile *file, const char *text, size_t len) {
    if (!file->path) {
        return 0;
    }
    if (is_standard(file->path)) {
        fwrite(text, 1, len, stdout); // a failed write stays in ferror(stdout)
        return 0;
    }
    while (len > 0) {
        ssize_t n = write(file->fd, text, len);
        if (n < 0 && errno != EINTR) {
            return failed(file->path, strerror(errno));
        }
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

// A new name is only safe once its directory is.
static int sync_directory_of(const char *path) {
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failure = fd < 0 || fsync(fd);
    if (fd >= 0) {
        close(fd);
    }
    return failure;
}

int tob_ctl_outfile_sync(tob_ctl_outfile *file) {
    if (!file->path) {
        return 0;
    }
    if (is_standard(file->path)) {
        return fflush(stdout) || ferror(stdout) ? failed("stdout", strerror(errno)) : 0;
    }
    return fsync(file->fd) || sync_directory_of(file->path) ? failed(file->path, strerror(errno)) : 0;
}

int tob_ctl_outfile_keep(tob_ctl_outfile *file) {
    int status = tob_ctl_outfile_sync(file);
    if (status || !file->path || is_standard(file->path)) {
        return status;
    }
    if (file->replace && rename(file->temporary, file->path)) {
        return failed(file->path, strerror(errno));
    }
    file->kept = true;
    return sync_directory_of(file->path) ? failed(file->path, strerror(errno)) : 0;
}

void tob_ctl_outfile_fini(tob_ctl_outfile *file) {
    if (!file->path || is_standard(file->path)) {
        return;
    }
    close(file->fd);
    if (!file->kept) {
        unlink(file->temporary);
    }
    file->path = NULL;
}
