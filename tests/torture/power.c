#include "power.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "scratch.h"

typedef struct inode_name {
    unsigned long long inode;
    char name[128];
} inode_name;

static size_t names_synced(const char *shadow, inode_name *to, size_t max) {
    char path[SCRATCH_PATH_BYTES + 16];
    snprintf(path, sizeof(path), "%s/entries", shadow);
    FILE *file = fopen(path, "r");
    size_t n = 0;
    while (file && n < max && fscanf(file, "%llu %127s", &to[n].inode, to[n].name) == 2) {
        n++;
    }
    if (file) {
        fclose(file);
    }
    return n;
}

static size_t names_now(const char *dir, inode_name *to, size_t max) {
    scratch_files all = scratch_read(dir);
    size_t n = 0;
    for (size_t i = 0; i < all.count && n < max; i++) {
        char path[SCRATCH_PATH_BYTES + 130];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", dir, all.files[i].name);
        if (stat(path, &st) == 0) {
            to[n].inode = st.st_ino;
            snprintf(to[n++].name, sizeof(to[0].name), "%s", all.files[i].name);
        }
    }
    scratch_forget(&all);
    return n;
}

// Of n names those whose file is still there, under whatever name.
static size_t keep_inodes(inode_name *names, size_t n, const inode_name *now, size_t now_count) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < now_count; k++) {
            if (names[i].inode == now[k].inode) {
                names[kept++] = names[i];
                break;
            }
        }
    }
    return kept;
}

void power_lose(const char *dir, const char *shadow, power how) {
    enum { MAX = 64 };
    static inode_name names[MAX];
    static inode_name now[MAX];
    size_t n = 0, now_count = names_now(dir, now, MAX);
    switch (how) {
    case POWER_STAYS: return;
    case POWER_FAILS: n = names_synced(shadow, names, MAX); break;
    case POWER_FAILS_NAMES_STAY:
        memcpy(names, now, sizeof(now));
        n = now_count;
        break;
    case POWER_FAILS_NAMES_GO:
        n = keep_inodes(names, names_synced(shadow, names, MAX), now, now_count);
        break;
    }
    scratch_files synced = scratch_read(shadow);
    scratch_empty(dir);
    for (size_t i = 0; i < n; i++) {
        char data[64];
        const scratch_file *content = NULL;
        snprintf(data, sizeof(data), "%llu.data", names[i].inode);
        for (size_t k = 0; k < synced.count; k++) {
            content = strcmp(synced.files[k].name, data) == 0 ? &synced.files[k] : content;
        }
        scratch_write(dir, names[i].name, content ? content->bytes : NULL, content ? content->n : 0);
    }
    scratch_forget(&synced);
}
