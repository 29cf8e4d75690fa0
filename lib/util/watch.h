// tob_watch tells when files change: written in place, replaced by rename, or, as Kubernetes does with mounted secrets, behind
// a symbolic link that is turned round (inotify(7) on the files, on the folders that they are in, and on those that the links
// lead through). What moves further up, and changes over NFS by others, it does not see.
//
// Threads: any one at a time; tob_watch_fd may be polled beside.
// Errors:  TOB_NO_MEMORY; TOB_TOO_LARGE over a cap below, or a path that is too long; TOB_IO with errno (too many watches,
//          say): the caller goes on without, and SIGHUP still works.
#ifndef TOB_UTIL_WATCH_H
#define TOB_UTIL_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

#define TOB_WATCH_MAX_FILES  16
#define TOB_WATCH_MAX_PLACES 256 // folders and files that are looked at for them
#define TOB_WATCH_MAX_LINKS  40  // on the way to one file, as the kernel's own limit
#define TOB_WATCH_SETTLE_MS  100 // a change is told once nothing followed it for so long,
#define TOB_WATCH_LATEST_MS  500 // or after this

typedef struct tob_watch tob_watch;

TOB_MUST_USE tob_error tob_watch_new(tob_watch **ret);
void tob_watch_free(tob_watch *watch); // NULL is fine

// NULL and "" are nothing to watch. The file need not exist yet.
TOB_MUST_USE tob_error tob_watch_add(tob_watch *watch, const char *path);

// tob_watch_open is both, for several files.
TOB_MUST_USE tob_error tob_watch_open(const char *const *paths, size_t count, tob_watch **ret);

// To be polled for reading; -1 when nothing is watched, or `watch` is NULL.
int tob_watch_fd(const tob_watch *watch);

// tob_watch_take reads what happened; true when a file is another now (by inode, size or time of change) than when it was
// last looked at. Waits for a change to settle, at most TOB_WATCH_LATEST_MS; else it does not block.
bool tob_watch_take(tob_watch *watch);

#endif
