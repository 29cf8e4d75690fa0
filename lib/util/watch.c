#include "util/watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"

#define FOLDER_EVENTS                                                                                        \
    (IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define FILE_EVENTS (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
#define SELF_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)

// What a file is now; all zero when there is none.
typedef struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
    struct timespec changed;
} stamp;

typedef struct file {
    char *path;
    stamp last;
} file;

// A folder that is watched for one name in it, or a file (name "").
typedef struct place {
    int wd;
    char name[NAME_MAX + 1];
} place;

struct tob_watch {
    int fd; // -1: nothing is watched
    file files[TOB_WATCH_MAX_FILES];
    size_t file_count;
    place places[TOB_WATCH_MAX_PLACES];
    size_t place_count;
};

tob_error tob_watch_new(tob_watch **ret) {
    tob_watch *watch = calloc(1, sizeof(*watch));
    if (!watch) {
        return TOB_NO_MEMORY;
    }
    watch->fd = -1;
    *ret = watch;
    return TOB_OK;
}

void tob_watch_free(tob_watch *watch) {
    if (!watch) {
        return;
    }
    if (watch->fd >= 0) {
        close(watch->fd);
    }
    for (size_t i = 0; i < watch->file_count; i++) {
        free(watch->files[i].path);
    }
    free(watch);
}

int tob_watch_fd(const tob_watch *watch) {
    return watch ? watch->fd : -1;
}

static void take_stamp(file *f, stamp *ret) {
    struct stat st;
    *ret = (stamp){.inode = 0};
    if (stat(f->path, &st) == 0) {
        ret->device = st.st_dev;
        ret->inode = st.st_ino;
        ret->size = st.st_size;
        ret->modified = st.st_mtim;
        ret->changed = st.st_ctim;
    }
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same(const stamp *a, const stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

// ---- where a path leads

// A walk along a path, as the kernel resolves it: what is behind, and what is still to come.
typedef struct walk {
    tob_watch *watch;
    char at[PATH_MAX];
    char rest[PATH_MAX];
    unsigned links;
} walk;

static tob_error add_place(tob_watch *watch, const char *path, const char *name) {
    size_t name_bytes = strlen(name) + 1;
    int wd = inotify_add_watch(watch->fd, path, *name ? FOLDER_EVENTS : FILE_EVENTS);
    if (wd < 0) {
        // Not there, or not ours to see: the place before it tells when that changes.
        return errno == ENOSPC || errno == ENOMEM ? TOB_IO : TOB_OK;
    }
    if (watch->place_count == TOB_WATCH_MAX_PLACES || name_bytes > sizeof(watch->places[0].name)) {
        return TOB_TOO_LARGE;
    }
    place *p = &watch->places[watch->place_count++];
    p->wd = wd;
    memcpy(p->name, name, name_bytes);
    return TOB_OK;
}

// The next name of the path, taken from the rest; "" at the end.
static tob_error next_name(walk *w, char ret[NAME_MAX + 1]) {
    size_t skip = strspn(w->rest, "/"), n = strcspn(w->rest + skip, "/");
    if (n > NAME_MAX) {
        return TOB_TOO_LARGE;
    }
    memcpy(ret, w->rest + skip, n);
    ret[n] = 0;
    memmove(w->rest, w->rest + skip + n, strlen(w->rest + skip + n) + 1);
    return TOB_OK;
}

static bool at_end(const walk *w) {
    return w->rest[strspn(w->rest, "/")] == 0;
}

static tob_error enter(walk *w, const char *name) {
    size_t at = strlen(w->at), n = strlen(name);
    bool slash = at > 0 && w->at[at - 1] != '/';
    if (at + slash + n >= sizeof(w->at)) {
        return TOB_TOO_LARGE;
    }
    if (slash) {
        w->at[at++] = '/';
    }
    memcpy(w->at + at, name, n + 1);
    return TOB_OK;
}

static void leave(walk *w, size_t len) {
    w->at[len] = 0;
}

// Puts a link's target before the rest.
static tob_error follow(walk *w, const char *target) {
    size_t n = strlen(target), rest = strlen(w->rest);
    if (n + 1 + rest >= sizeof(w->rest) || ++w->links > TOB_WATCH_MAX_LINKS) {
        return TOB_TOO_LARGE;
    }
    memmove(w->rest + n + 1, w->rest, rest + 1);
    memcpy(w->rest, target, n);
    w->rest[n] = '/';
    if (*target == '/') {
        strcpy(w->at, "/");
    }
    return TOB_OK;
}

// One step. Watches the folder if the name in it is a link, is not there, or is the file; before it looks what is behind the
// name, so that no change falls between.
static tob_error step(walk *w, const char *name, bool *ret_go_on) {
    char target[PATH_MAX], folder[PATH_MAX];
    size_t len = strlen(w->at);
    struct stat st;
    memcpy(folder, w->at, len + 1);
    tob_error err = enter(w, name);
    *ret_go_on = false;
    if (err) {
        return err;
    }
    bool there = lstat(w->at, &st) == 0;
    if (there && S_ISDIR(st.st_mode) && !at_end(w)) {
        *ret_go_on = true;
        return TOB_OK;
    }
    err = add_place(w->watch, folder, name);
    if (err) {
        return err;
    }
    ssize_t n = readlink(w->at, target, sizeof(target) - 1);
    if (n < 0) {
        return at_end(w) ? add_place(w->watch, w->at, "") : TOB_OK;
    }
    target[n] = 0;
    leave(w, len);
    *ret_go_on = true;
    return follow(w, target);
}

static tob_error walk_along(tob_watch *watch, const char *path) {
    walk w = {.watch = watch};
    char name[NAME_MAX + 1];
    bool go_on = true;
    if (strlen(path) >= sizeof(w.rest)) {
        return TOB_TOO_LARGE;
    }
    strcpy(w.rest, path);
    strcpy(w.at, *path == '/' ? "/" : ".");
    while (go_on) {
        tob_error err = next_name(&w, name);
        if (err || !*name) {
            return err;
        }
        err = step(&w, name, &go_on);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

static bool watches(const tob_watch *watch, int wd) {
    for (size_t i = 0; i < watch->place_count; i++) {
        if (watch->places[i].wd == wd) {
            return true;
        }
    }
    return false;
}

// Looks along all paths again. What is not on any of them now is not watched any more.
static tob_error walk_all(tob_watch *watch) {
    int old[TOB_WATCH_MAX_PLACES];
    size_t old_count = watch->place_count;
    tob_error err = TOB_OK;
    for (size_t i = 0; i < old_count; i++) {
        old[i] = watch->places[i].wd;
    }
    watch->place_count = 0;
    for (size_t i = 0; i < watch->file_count && !err; i++) {
        err = walk_along(watch, watch->files[i].path);
    }
    for (size_t i = 0; i < old_count; i++) {
        if (!watches(watch, old[i])) {
            inotify_rm_watch(watch->fd, old[i]); // fails when the kernel did so itself
        }
    }
    return err;
}

tob_error tob_watch_add(tob_watch *watch, const char *path) {
    if (!path || !*path) {
        return TOB_OK;
    }
    if (watch->file_count == TOB_WATCH_MAX_FILES) {
        return TOB_TOO_LARGE;
    }
    if (watch->fd < 0) {
        watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (watch->fd < 0) {
            return TOB_IO;
        }
    }
    file *f = &watch->files[watch->file_count];
    f->path = strdup(path);
    if (!f->path) {
        return TOB_NO_MEMORY;
    }
    tob_error err = walk_along(watch, path);
    if (err) {
        free(f->path);
        f->path = NULL;
        return err;
    }
    watch->file_count++;
    take_stamp(f, &f->last);
    return TOB_OK;
}

tob_error tob_watch_open(const char *const *paths, size_t count, tob_watch **ret) {
    tob_watch *watch = NULL;
    tob_error err = tob_watch_new(&watch);
    for (size_t i = 0; i < count && !err; i++) {
        err = tob_watch_add(watch, paths[i]);
    }
    if (err) {
        int why = errno;
        tob_watch_free(watch);
        errno = why;
        return err;
    }
    *ret = watch;
    return TOB_OK;
}

// ---- what happened

static bool matters(const tob_watch *watch, const struct inotify_event *event) {
    if (event->mask & IN_Q_OVERFLOW) {
        return true;
    }
    for (size_t i = 0; i < watch->place_count; i++) {
        const place *p = &watch->places[i];
        if (p->wd == event->wd &&
            (event->mask & SELF_EVENTS || !*p->name || (event->len && strcmp(event->name, p->name) == 0))) {
            return true;
        }
    }
    return false;
}

// Reads all events; true when one of them is about a file of ours.
static bool drain(tob_watch *watch) {
    _Alignas(struct inotify_event) char bytes[8192];
    bool any = false;
    for (;;) {
        ssize_t n = read(watch->fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return any;
        }
        for (const char *at = bytes; at < bytes + n;) {
            const struct inotify_event *event = (const void *)at;
            any |= matters(watch, event);
            at += sizeof(*event) + event->len;
        }
    }
}

// A file that is written in place is empty for a moment, and a folder is turned round in several steps.
static void settle(tob_watch *watch) {
    uint64_t now = tob_clock_monotonic_ms(), quiet = now + TOB_WATCH_SETTLE_MS,
             latest = now + TOB_WATCH_LATEST_MS;
    while (now < quiet && now < latest) {
        struct pollfd fd = {.fd = watch->fd, .events = POLLIN};
        uint64_t left = quiet < latest ? quiet - now : latest - now;
        bool more = poll(&fd, 1, (int)left) > 0 && drain(watch);
        now = tob_clock_monotonic_ms();
        quiet = more ? now + TOB_WATCH_SETTLE_MS : quiet;
    }
}

bool tob_watch_take(tob_watch *watch) {
    bool changed = false;
    if (!watch || watch->fd < 0 || !drain(watch)) {
        return false;
    }
    settle(watch);
    // Not all of it watched any more, say: whoever is told reads the files anyway.
    changed = walk_all(watch) != TOB_OK;
    for (size_t i = 0; i < watch->file_count; i++) {
        stamp now;
        take_stamp(&watch->files[i], &now);
        changed |= !same(&now, &watch->files[i].last);
        watch->files[i].last = now;
    }
    return changed;
}
