#include "agent/system_file.h"

#include <errno.h>
#include <string.h>

#include "util/text.h"

tob_error tob_system_path(const char *root, const char *path, char *to, size_t size,
                          tob_problem *ret_problem) {
    size_t root_len = strlen(root);
    while (root_len && root[root_len - 1] == '/') {
        root_len--;
    }
    int n = snprintf(to, size, "%.*s%s", (int)root_len, root, path);
    if (n < 0 || (size_t)n >= size) {
        return tob_problem_set(ret_problem, TOB_TOO_LARGE, "%s: the path is too long", path);
    }
    return TOB_OK;
}

tob_error tob_system_open(const char *root, const char *path, FILE **ret, tob_problem *ret_problem) {
    char full[TOB_MAX_ROOT_BYTES + 256];
    tob_error err = tob_system_path(root, path, full, sizeof(full), ret_problem);
    if (err) {
        return err;
    }
    FILE *file = fopen(full, "re");
    if (!file) {
        int e = errno;
        return tob_problem_set(ret_problem, tob_error_from_errno(e), "%s: %s", full, strerror(e));
    }
    *ret = file;
    return TOB_OK;
}

tob_error tob_system_read_number(const char *root, const char *path, int64_t *ret, tob_problem *ret_problem) {
    FILE *file = NULL;
    tob_error err = tob_system_open(root, path, &file, ret_problem);
    if (err) {
        return err;
    }
    char text[64] = "";
    uint64_t value = 0;
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    if (ferror(file)) { // an interface that goes away meanwhile ends here
        int e = errno;
        err = tob_problem_set(ret_problem, tob_error_from_errno(e), "%s: %s", path, strerror(e));
    } else {
        text[n] = 0;
        text[strcspn(text, "\n")] = 0;
        if (tob_parse_u64(text, INT64_MAX, &value)) {
            err = tob_problem_set(ret_problem, TOB_MALFORMED, "%s: not a number from 0 to 2^63-1", path);
        }
    }
    fclose(file);
    if (!err) {
        *ret = (int64_t)value;
    }
    return err;
}
