// A folder that looks like the root of a machine, for samplers.
#ifndef TOB_TEST_TREE_H
#define TOB_TEST_TREE_H

// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/remove.h"

// A test's setup: *state becomes the path of an empty folder.
static inline int tree_setup(void **state) {
    char *path = strdup("/tmp/tob-tree-XXXXXX");
    *state = path && mkdtemp(path) ? path : NULL;
    return *state ? 0 : -1;
}

static inline int tree_teardown(void **state) {
    int failed = remove_tree(*state);
    free(*state);
    return failed;
}

// Writes a file, with the folders above it.
static inline void tree_write(const char *root, const char *path, const char *text) {
    char full[512];
    assert_true((size_t)snprintf(full, sizeof(full), "%s%s", root, path) < sizeof(full));
    for (char *c = full + strlen(root) + 1; *c; c++) {
        if (*c == '/') {
            *c = 0;
            mkdir(full, 0700);
            *c = '/';
        }
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline void tree_remove(const char *root, const char *path) {
    char full[512];
    snprintf(full, sizeof(full), "%s%s", root, path);
    assert_int_equal(remove(full), 0);
}

#endif
