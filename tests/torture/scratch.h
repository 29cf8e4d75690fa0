// scratch is directories that hold nothing but files, on a file system in memory where there is one: what a crash of a
// process leaves behind is the same there, and syncing costs nothing. What a crash of the machine leaves is made by hand.
//
// Threads: one at a time. Errors: none; it aborts.
#ifndef TOB_TESTS_TORTURE_SCRATCH_H
#define TOB_TESTS_TORTURE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#define SCRATCH_PATH_BYTES 512

// scratch_new makes an empty directory. scratch_remove removes one with what is in it.
void scratch_new(char ret[SCRATCH_PATH_BYTES]);
void scratch_remove(const char *dir);
void scratch_empty(const char *dir);

// Every file but the lock, by name; the content is there until scratch_forget.
typedef struct scratch_file {
    char name[128];
    uint8_t *bytes;
    size_t n;
} scratch_file;

typedef struct scratch_files {
    scratch_file *files;
    size_t count;
} scratch_files;

scratch_files scratch_read(const char *dir);
void scratch_forget(scratch_files *all);

// scratch_write writes one file of `n` bytes, replacing it.
void scratch_write(const char *dir, const char *name, const void *bytes, size_t n);
void scratch_write_all(const char *dir, const scratch_files *all);

// scratch_restore makes the directory what scratch_write_all made it, when of its files only `first` and `second` (their
// numbers) have another content, some are missing, or others are there.
void scratch_restore(const char *dir, const scratch_files *all, size_t first, size_t second);

#endif
