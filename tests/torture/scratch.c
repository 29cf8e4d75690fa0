#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            perror(#condition);                                                                              \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

void scratch_new(char ret[SCRATCH_PATH_BYTES]) {
    snprintf(ret, SCRATCH_PATH_BYTES, "/dev/shm/tob-torture-XXXXXX");
    if (!mkdtemp(ret)) {
        const char *tmp = getenv("TMPDIR");
        snprintf(ret, SCRATCH_PATH_BYTES, "%s/tob-torture-XXXXXX", tmp ? tmp : "/tmp");
        MUST(mkdtemp(ret));
    }
}

static void each(const char *dir, void (*fn)(int dir_fd, const char *name, void *user), void *user) {
    DIR *listing = opendir(dir);
    MUST(listing);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            fn(dirfd(listing), entry->d_name, user);
        }
    }
    closedir(listing);
}

static void remove_one(int dir_fd, const char *name, void *user) {
    (void)user;
    MUST(unlinkat(dir_fd, name, 0) == 0);
}

void scratch_empty(const char *dir) {
    each(dir, remove_one, NULL);
}

void scratch_remove(const char *dir) {
    scratch_empty(dir);
    MUST(rmdir(dir) == 0);
}

static void read_one(int dir_fd, const char *name, void *user) {
    scratch_files *all = user;
    struct stat st;
    if (strcmp(name, "lock") == 0) {
        return;
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && fstat(fd, &st) == 0);
    scratch_file file = {.n = (size_t)st.st_size, .bytes = malloc((size_t)st.st_size + 1)};
    MUST(file.bytes && read(fd, file.bytes, file.n) == (ssize_t)file.n);
    close(fd);
    snprintf(file.name, sizeof(file.name), "%s", name);
    all->files = realloc(all->files, (all->count + 1) * sizeof(*all->files));
    MUST(all->files);
    all->files[all->count++] = file;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const scratch_file *)a)->name, ((const scratch_file *)b)->name);
}

scratch_files scratch_read(const char *dir) {
    scratch_files all = {0};
    each(dir, read_one, &all);
    if (all.count > 1) {
        qsort(all.files, all.count, sizeof(*all.files), by_name);
    }
    return all;
}

void scratch_forget(scratch_files *all) {
    for (size_t i = 0; i < all->count; i++) {
        free(all->files[i].bytes);
    }
    free(all->files);
    *all = (scratch_files){0};
}

void scratch_write(const char *dir, const char *name, const void *bytes, size_t n) {
    char path[SCRATCH_PATH_BYTES + sizeof(((scratch_file *)0)->name)];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

void scratch_write_all(const char *dir, const scratch_files *all) {
    scratch_empty(dir);
    for (size_t i = 0; i < all->count; i++) {
        scratch_write(dir, all->files[i].name, all->files[i].bytes, all->files[i].n);
    }
}

static void remove_others(int dir_fd, const char *name, void *user) {
    const scratch_files *all = user;
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->files[i].name, name) == 0) {
            return;
        }
    }
    if (strcmp(name, "lock") != 0) {
        MUST(unlinkat(dir_fd, name, 0) == 0);
    }
}

void scratch_restore(const char *dir, const scratch_files *all, size_t first, size_t second) {
    scratch_files borrowed = *all;
    each(dir, remove_others, &borrowed);
    for (size_t i = 0; i < all->count; i++) {
        char path[SCRATCH_PATH_BYTES + sizeof(all->files[i].name)];
        snprintf(path, sizeof(path), "%s/%s", dir, all->files[i].name);
        if (i == first || i == second || access(path, F_OK)) {
            scratch_write(dir, all->files[i].name, all->files[i].bytes, all->files[i].n);
        }
    }
}
