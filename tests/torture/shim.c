#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// The system calls are made directly: whatever else is preloaded (a sanitizer, say) is not asked.

#define EXPORT      __attribute__((visibility("default")))
#define FIRST_FD    400 // our own files are out of the way of the program's
#define TEXT_BYTES  64
#define DIR_BYTES   1024
#define PATH_BYTES  4096
#define SECTOR      512
#define MAX_CONTROL 1024

typedef enum action { NOTHING, ENOSPC_, EIO_, SHORT, TORN, KILL, KILL_AFTER, KILL_WITHIN } action;

static const char *const action_names[] = {"nothing", "enospc", "eio",        "short",
                                           "torn",    "kill",   "kill-after", "kill-within"};

// What the environment or the control file says.
typedef struct orders {
    char match[TEXT_BYTES];
    char call[TEXT_BYTES];
    uint64_t at;
    action what;
    bool sticky;
    uint64_t then_kill;
    uint64_t delay_ms;
} orders;

static struct {
    bool loaded;
    char dir[DIR_BYTES];
    char control[DIR_BYTES];
    char shadow[DIR_BYTES];
    orders environment;
    int count_fd;
    int trace_fd;
    atomic_ulong count;
    atomic_bool torn; // the next write fails
} shim;

// What is to be done about one call.
typedef struct verdict {
    bool ours;
    action what; // NOTHING: let it pass
} verdict;

typedef enum needs { NEEDS_ROOM, NEEDS_NONE } needs;

static action action_of(const char *name) {
    for (size_t i = 0; i < sizeof(action_names) / sizeof(action_names[0]); i++) {
        if (strcmp(name, action_names[i]) == 0) {
            return (action)i;
        }
    }
    fprintf(stderr, "shim: %s is nothing that can be done\n", name);
    abort();
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int open_own(const char *path) {
    if (!*path) {
        return -1;
    }
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    close(fd);
    return moved;
}

static void set_order(orders *o, const char *key, const char *value) {
    if (strcmp(key, "at") == 0) {
        o->at = strtoull(value, NULL, 10);
    } else if (strcmp(key, "do") == 0) {
        o->what = action_of(*value ? value : "nothing");
    } else if (strcmp(key, "sticky") == 0) {
        o->sticky = strcmp(value, "1") == 0;
    } else if (strcmp(key, "then_kill") == 0) {
        o->then_kill = strtoull(value, NULL, 10);
    } else if (strcmp(key, "delay_ms") == 0) {
        o->delay_ms = strtoull(value, NULL, 10);
    } else if (strcmp(key, "match") == 0) {
        snprintf(o->match, sizeof(o->match), "%s", value);
    } else if (strcmp(key, "call") == 0) {
        snprintf(o->call, sizeof(o->call), "%s", value);
    }
}

void tob_shim_load(void) {
    static const char *const keys[][2] = {{"at", "TOB_SHIM_AT"},
                                          {"do", "TOB_SHIM_DO"},
                                          {"sticky", "TOB_SHIM_STICKY"},
                                          {"then_kill", "TOB_SHIM_THEN_KILL"},
                                          {"delay_ms", "TOB_SHIM_DELAY_MS"},
                                          {"match", "TOB_SHIM_MATCH"},
                                          {"call", "TOB_SHIM_CALL"}};
    if (shim.loaded) {
        int fds[] = {shim.count_fd, shim.trace_fd};
        for (size_t i = 0; i < 2; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
            }
        }
    }
    shim.environment = (orders){0};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        set_order(&shim.environment, keys[i][0], environment(keys[i][1]));
    }
    snprintf(shim.dir, sizeof(shim.dir), "%s", environment("TOB_SHIM_DIR"));
    snprintf(shim.control, sizeof(shim.control), "%s", environment("TOB_SHIM_CONTROL"));
    snprintf(shim.shadow, sizeof(shim.shadow), "%s", environment("TOB_SHIM_SHADOW"));
    shim.count_fd = open_own(environment("TOB_SHIM_COUNT_FILE"));
    shim.trace_fd = open_own(environment("TOB_SHIM_TRACE"));
    atomic_store(&shim.count, 0);
    atomic_store(&shim.torn, false);
    shim.loaded = true;
}

__attribute__((constructor)) static void load_at_start(void) {
    if (!shim.loaded) {
        tob_shim_load();
    }
}

// The orders as they are now.
static orders current(void) {
    orders o = shim.environment;
    char text[MAX_CONTROL] = "";
    int fd = *shim.control ? (int)syscall(SYS_openat, AT_FDCWD, shim.control, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return o;
    }
    long n = syscall(SYS_read, fd, text, sizeof(text) - 1);
    syscall(SYS_close, fd);
    text[n > 0 ? n : 0] = 0;
    o = (orders){.at = 1, .sticky = true};
    char *rest = text;
    for (char *line = strtok_r(rest, " \n", &rest); line; line = strtok_r(NULL, " \n", &rest)) {
        char *equals = strchr(line, '=');
        if (equals) {
            *equals = 0;
            set_order(&o, line, equals + 1);
        }
    }
    return o;
}

// The path of `name` in the directory `dir_fd`, or of dir_fd itself when name is NULL.
static bool path_of(int dir_fd, const char *name, char ret[PATH_BYTES]) {
    char link[TEXT_BYTES], dir[PATH_BYTES];
    if (name && *name == '/') {
        return snprintf(ret, PATH_BYTES, "%s", name) < PATH_BYTES;
    }
    if (dir_fd == AT_FDCWD) {
        snprintf(link, sizeof(link), "/proc/self/cwd");
    } else {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
    }
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, dir, sizeof(dir) - 1);
    if (n <= 0) {
        return false;
    }
    dir[n] = 0;
    return snprintf(ret, PATH_BYTES, "%s%s%s", dir, name ? "/" : "", name ? name : "") < PATH_BYTES;
}

static bool below(const char *path, const char *match) {
    size_t n = strlen(shim.dir);
    return n > 0 && strncmp(path, shim.dir, n) == 0 && (path[n] == '/' || path[n] == 0) &&
           strstr(path, match);
}

static void note(unsigned long number, const char *call, const char *path, uint64_t bytes) {
    char line[PATH_BYTES + 2 * TEXT_BYTES];
    if (shim.count_fd >= 0) {
        int n = snprintf(line, sizeof(line), "%lu\n", number);
        // Numbers only grow, so the text never becomes shorter. O_APPEND would add it to the end.
        fcntl(shim.count_fd, F_SETFL, 0);
        syscall(SYS_pwrite64, shim.count_fd, line, n, 0L);
    }
    if (shim.trace_fd >= 0) {
        int n =
            snprintf(line, sizeof(line), "%lu %s %s %llu\n", number, call, path, (unsigned long long)bytes);
        syscall(SYS_write, shim.trace_fd, line, n);
    }
}

static void die(void) {
    for (;;) {
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    }
}

static void delay(uint64_t ms) {
    struct timespec rest = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) && errno == EINTR) {
    }
}

// Counts one call and says what becomes of it.
static verdict judge(const char *call, int dir_fd, const char *name, uint64_t bytes, needs room) {
    char path[PATH_BYTES];
    verdict v = {0};
    int error_number = errno;
    if (!shim.loaded || !*shim.dir || !path_of(dir_fd, name, path)) {
        goto out;
    }
    orders o = current();
    if (!below(path, o.match) || !strstr(call, o.call)) {
        goto out;
    }
    unsigned long number = atomic_fetch_add(&shim.count, 1) + 1;
    note(number, call, path, bytes);
    v.ours = true;
    if (o.delay_ms && strstr(call, "sync")) {
        delay(o.delay_ms);
    }
    bool now = o.at && (number == o.at || (o.sticky && number > o.at));
    if (now && !(o.what == ENOSPC_ && o.sticky && room == NEEDS_NONE)) {
        v.what = o.what;
    }
    if (bytes && atomic_exchange(&shim.torn, false)) {
        v.what = ENOSPC_;
    }
    if (v.what == KILL || (o.then_kill && number == o.at + o.then_kill)) {
        die();
    }
out:
    errno = error_number;
    return v;
}

static bool fails(verdict v) {
    if (v.what == ENOSPC_ || v.what == EIO_) {
        errno = v.what == EIO_ ? EIO : ENOSPC;
        return true;
    }
    return false;
}

static void copy_file(int from, const char *to_path) {
    static _Thread_local char block[1 << 16];
    char temporary[DIR_BYTES + 2 * TEXT_BYTES];
    snprintf(temporary, sizeof(temporary), "%s.new", to_path);
    int to = (int)syscall(SYS_openat, AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char self[TEXT_BYTES];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", from);
    int readable =
        (int)syscall(SYS_openat, AT_FDCWD, self, O_RDONLY | O_CLOEXEC, 0); // `from` may be write-only
    for (long at = 0, n = 1; to >= 0 && readable >= 0 && n > 0; at += n) {
        n = syscall(SYS_pread64, readable, block, sizeof(block), at);
        if (n > 0 && syscall(SYS_write, to, block, n) != n) {
            abort();
        }
    }
    syscall(SYS_close, readable);
    syscall(SYS_close, to);
    syscall(SYS_renameat, AT_FDCWD, temporary, AT_FDCWD, to_path);
}

static void copy_entries(int dir_fd) {
    char path[DIR_BYTES + TEXT_BYTES], line[DIR_BYTES];
    int own = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = own < 0 ? NULL : fdopendir(own);
    snprintf(path, sizeof(path), "%s/entries.new", shim.shadow);
    int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (struct dirent *entry = listing ? readdir(listing) : NULL; entry; entry = readdir(listing)) {
        if (entry->d_name[0] != '.') {
            int n =
                snprintf(line, sizeof(line), "%llu %s\n", (unsigned long long)entry->d_ino, entry->d_name);
            syscall(SYS_write, to, line, n);
        }
    }
    if (listing) {
        closedir(listing);
    }
    syscall(SYS_close, to);
    char final[DIR_BYTES + TEXT_BYTES];
    snprintf(final, sizeof(final), "%s/entries", shim.shadow);
    syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, final);
}

// Remembers what a sync that succeeded made durable.
static void remember(verdict v, int fd) {
    struct stat st;
    char path[DIR_BYTES + TEXT_BYTES];
    if (!v.ours || !*shim.shadow || fstat(fd, &st)) {
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        copy_entries(fd);
    } else {
        snprintf(path, sizeof(path), "%s/%llu.data", shim.shadow, (unsigned long long)st.st_ino);
        copy_file(fd, path);
    }
}

static long finish(verdict v, long result) {
    if (v.what == KILL_AFTER || v.what == KILL_WITHIN) {
        die();
    }
    return result;
}

// How many of n bytes a write at `offset` writes.
static size_t allowed(verdict v, size_t n, long offset) {
    if (v.what == TORN) {
        atomic_store(&shim.torn, true);
    }
    if (v.what == SHORT || v.what == TORN) {
        return n > 1 ? n / 2 : n;
    }
    if (v.what == KILL_WITHIN) {
        size_t end = ((size_t)offset + n / 2) / SECTOR * SECTOR;
        return end > (size_t)offset ? end - (size_t)offset : 0;
    }
    return n;
}

static bool is_partial(verdict v) {
    return v.what == SHORT || v.what == TORN || v.what == KILL_WITHIN;
}

static long place_of(int fd) {
    long offset = syscall(SYS_lseek, fd, 0L, SEEK_CUR);
    return offset > 0 ? offset : 0;
}

// ---- the calls

static int do_open(int dir_fd, const char *path, int flags, mode_t mode) {
    if (!(flags & O_CREAT)) {
        return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
    }
    verdict v = judge("open", dir_fd, path, 0, NEEDS_ROOM);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_openat, dir_fd, path, flags, mode));
}

static mode_t mode_argument(int flags, va_list args) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPEN_LIKE(name)                                                                                      \
    EXPORT int name(const char *path, int flags, ...) {                                                      \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        mode_t mode = mode_argument(flags, args);                                                            \
        va_end(args);                                                                                        \
        return do_open(AT_FDCWD, path, flags, mode);                                                         \
    }
#define OPENAT_LIKE(name)                                                                                    \
    EXPORT int name(int dir_fd, const char *path, int flags, ...) {                                          \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        mode_t mode = mode_argument(flags, args);                                                            \
        va_end(args);                                                                                        \
        return do_open(dir_fd, path, flags, mode);                                                           \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)

EXPORT ssize_t write(int fd, const void *bytes, size_t n) {
    verdict v = judge("write", fd, NULL, n, NEEDS_ROOM);
    return fails(v) ? -1 : finish(v, syscall(SYS_write, fd, bytes, allowed(v, n, place_of(fd))));
}

static ssize_t do_pwrite(int fd, const void *bytes, size_t n, long offset) {
    verdict v = judge("pwrite", fd, NULL, n, NEEDS_ROOM);
    return fails(v) ? -1 : finish(v, syscall(SYS_pwrite64, fd, bytes, allowed(v, n, offset), offset));
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) {
    return do_pwrite(fd, bytes, n, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset) {
    return do_pwrite(fd, bytes, n, offset);
}

static size_t total(const struct iovec *parts, int count) {
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += parts[i].iov_len;
    }
    return n;
}

// A part of many is the first part, or some of it.
EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    verdict v = judge("writev", fd, NULL, total(parts, count), NEEDS_ROOM);
    if (fails(v)) {
        return -1;
    }
    if (is_partial(v)) {
        size_t n = allowed(v, parts[0].iov_len, place_of(fd));
        return finish(v, syscall(SYS_write, fd, parts[0].iov_base, n));
    }
    return finish(v, syscall(SYS_writev, fd, parts, count));
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    verdict v = judge("pwritev", fd, NULL, total(parts, count), NEEDS_ROOM);
    if (fails(v)) {
        return -1;
    }
    if (is_partial(v)) {
        size_t n = allowed(v, parts[0].iov_len, offset);
        return finish(v, syscall(SYS_pwrite64, fd, parts[0].iov_base, n, offset));
    }
    return finish(v, syscall(SYS_pwritev, fd, parts, count, offset, 0L));
}

static int do_sync(const char *call, long number, int fd) {
    verdict v = judge(call, fd, NULL, 0, NEEDS_NONE);
    if (fails(v)) {
        return -1;
    }
    int result = (int)syscall(number, fd);
    if (result == 0) {
        remember(v, fd);
    }
    return (int)finish(v, result);
}

EXPORT int fsync(int fd) {
    return do_sync("fsync", SYS_fsync, fd);
}

EXPORT int fdatasync(int fd) {
    return do_sync("fdatasync", SYS_fdatasync, fd);
}

EXPORT int sync_file_range(int fd, off64_t offset, off64_t n, unsigned flags) {
    verdict v = judge("sync_file_range", fd, NULL, 0, NEEDS_NONE);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_sync_file_range, fd, offset, n, flags));
}

static int do_rename(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    verdict v = judge("rename", to_fd, to, 0, NEEDS_ROOM);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_renameat2, from_fd, from, to_fd, to, flags));
}

EXPORT int rename(const char *from, const char *to) {
    return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    return do_rename(from_fd, from, to_fd, to, 0);
}

EXPORT int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    return do_rename(from_fd, from, to_fd, to, flags);
}

static int do_fallocate(int fd, int mode, long offset, long n) {
    verdict v = judge("fallocate", fd, NULL, 0, NEEDS_ROOM);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_fallocate, fd, mode, offset, n));
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t n) {
    return do_fallocate(fd, mode, offset, n);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t n) {
    return do_fallocate(fd, mode, offset, n);
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t n) {
    return do_fallocate(fd, 0, offset, n) ? errno : 0;
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t n) {
    return do_fallocate(fd, 0, offset, n) ? errno : 0;
}

static int do_ftruncate(int fd, long n) {
    verdict v = judge("ftruncate", fd, NULL, 0, NEEDS_NONE);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_ftruncate, fd, n));
}

EXPORT int ftruncate(int fd, off_t n) {
    return do_ftruncate(fd, n);
}

EXPORT int ftruncate64(int fd, off64_t n) {
    return do_ftruncate(fd, n);
}

EXPORT int truncate(const char *path, off_t n) {
    verdict v = judge("truncate", AT_FDCWD, path, 0, NEEDS_NONE);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_truncate, path, n));
}

EXPORT int unlink(const char *path) {
    verdict v = judge("unlink", AT_FDCWD, path, 0, NEEDS_NONE);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

EXPORT int unlinkat(int dir_fd, const char *path, int flags) {
    verdict v = judge("unlink", dir_fd, path, 0, NEEDS_NONE);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_unlinkat, dir_fd, path, flags));
}

EXPORT int mkdir(const char *path, mode_t mode) {
    verdict v = judge("mkdir", AT_FDCWD, path, 0, NEEDS_ROOM);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

EXPORT int mkdirat(int dir_fd, const char *path, mode_t mode) {
    verdict v = judge("mkdir", dir_fd, path, 0, NEEDS_ROOM);
    return fails(v) ? -1 : (int)finish(v, syscall(SYS_mkdirat, dir_fd, path, mode));
}
