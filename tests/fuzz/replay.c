// Runs a fuzz target over files: replay FILE|DIR…. The test suite does so with every committed corpus.
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

enum { MAX_FILE_BYTES = 1 << 20 };

static size_t replayed;

static bool replay_file(const char *path) {
    bool ok = false;
    uint8_t *whole = malloc(MAX_FILE_BYTES);
    uint8_t *input = NULL;
    FILE *file = fopen(path, "rb");
    if (!whole || !file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        goto out;
    }
    size_t n = fread(whole, 1, MAX_FILE_BYTES, file);
    // A block of exactly n bytes, so that a sanitizer sees a read past the input.
    input = malloc(n ? n : 1);
    if (ferror(file) || !feof(file) || !input) {
        fprintf(stderr, "%s: can't be read, or is over %d bytes\n", path, MAX_FILE_BYTES);
        goto out;
    }
    memcpy(input, whole, n);
    LLVMFuzzerTestOneInput(input, n);
    replayed++;
    ok = true;
out:
    free(input);
    free(whole);
    if (file) {
        fclose(file);
    }
    return ok;
}

static bool replay_dir(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    bool ok = true;
    for (struct dirent *entry = readdir(dir); entry && ok; entry = readdir(dir)) {
        char file[4096];
        int len = snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') {
            ok = len > 0 && (size_t)len < sizeof(file) && replay_file(file);
        }
    }
    closedir(dir);
    return ok;
}

int main(int argc, char **argv) {
    bool ok = true;
    for (int i = 1; i < argc && ok; i++) {
        struct stat status;
        ok = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode) ? replay_dir(argv[i])
                                                                    : replay_file(argv[i]);
    }
    printf("%zu inputs\n", replayed);
    return ok && replayed > 0 ? 0 : 1;
}
