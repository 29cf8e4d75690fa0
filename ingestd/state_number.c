#include "ingestd/state_number.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4200 };

static tob_error join(const char *state_dir, const char *name, const char *suffix, char to[PATH_BYTES]) {
    int n = snprintf(to, PATH_BYTES, "%s/%s%s", state_dir, name, suffix);
    return n < 0 || n >= PATH_BYTES ? TOB_INVALID : TOB_OK;
}

tob_error tob_state_number_read(const char *state_dir, const char *name, uint64_t *ret) {
    char path[PATH_BYTES];
    uint64_t value = 0;
    tob_error err = join(state_dir, name, "", path);
    if (err) {
        return err;
    }
    FILE *file = fopen(path, "re");
    if (!file && errno != ENOENT) {
        return tob_error_from_errno(errno);
    }
    int n = file ? fscanf(file, "%16" SCNx64, &value) : 1;
    if (file) {
        fclose(file);
    }
    if (n != 1) {
        return TOB_MALFORMED;
    }
    *ret = value;
    return TOB_OK;
}

// Makes the rename durable too.
static bool sync_dir(const char *state_dir) {
    int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

tob_error tob_state_number_write(const char *state_dir, const char *name, uint64_t value) {
    char path[PATH_BYTES], temporary[PATH_BYTES], text[24];
    tob_error err = join(state_dir, name, "", path);
    if (!err) {
        err = join(state_dir, name, ".tmp", temporary);
    }
    if (err) {
        return err;
    }
    int n = snprintf(text, sizeof(text), "%016" PRIx64 "\n", value);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return tob_error_from_errno(errno);
    }
    bool ok = write(fd, text, (size_t)n) == n && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok && rename(temporary, path) == 0 && sync_dir(state_dir) ? TOB_OK : TOB_IO;
}
