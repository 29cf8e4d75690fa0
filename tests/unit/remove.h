// Takes a test's folder away.
#ifndef TOB_TESTS_REMOVE_H
#define TOB_TESTS_REMOVE_H

#include <ftw.h>
#include <stdio.h>

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

// remove_tree removes a folder and what is in it. Returns 0, or what failed.
static inline int remove_tree(const char *path) {
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
