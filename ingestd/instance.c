#include "ingestd/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/random.h"

enum { PATH_BYTES = 4200 };

static tob_error read_instance(const char *path, uint64_t *ret) {
    FILE *file = fopen(path, "re");
    if (!file) {
        return tob_error_from_errno(errno);
    }
    uint64_t value = 0;
    int n = fscanf(file, "%16" SCNx64, &value);
    fclose(file);
    if (n != 1 || value == 0) {
        return TOB_MALFORMED;
    }
    *ret = value;
    return TOB_OK;
}

// Writes a temporary file and renames it, so that a crash leaves the whole file or none.
static tob_error write_instance(const char *path, uint64_t value) {
    char temporary[PATH_BYTES + 8];
    char text[24];
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    int n = snprintf(text, sizeof(text), "%016" PRIx64 "\n", value);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return tob_error_from_errno(errno);
    }
    bool ok = write(fd, text, (size_t)n) == n && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok && rename(temporary, path) == 0 ? TOB_OK : TOB_IO;
}

tob_error tob_instance_load(const char *state_dir, uint64_t *ret) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/instance", state_dir);
    if (n < 0 || n >= PATH_BYTES) {
        return TOB_INVALID;
    }
    uint64_t value = 0;
    tob_error err = read_instance(path, &value);
    if (err == TOB_NOT_FOUND) {
        value = tob_random_u64();
        err = write_instance(path, value);
    }
    if (!err) {
        *ret = value;
    }
    return err;
}
