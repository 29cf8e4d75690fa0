// A resolver for tests, preloaded (LD_PRELOAD): getaddrinfo answers the names that the file TOB_RESOLVER_FILE has, and
// passes all others on. A line of it is "NAME ADDRESS…", with numeric addresses, IPv4 or IPv6; a name without any does not
// exist; "NAME !" fails for now. The file is read at each call, so that addresses come and go while a program runs. Each such
// call adds a byte to the file TOB_RESOLVER_CALLS.
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

typedef int getaddrinfo_fn(const char *node, const char *service, const struct addrinfo *hints,
                           struct addrinfo **ret);

static getaddrinfo_fn *real_getaddrinfo(void) {
    void *found = dlsym(RTLD_NEXT, "getaddrinfo");
    getaddrinfo_fn *fn = NULL;
    memcpy(&fn, &found, sizeof(fn)); // ISO C has no cast from an object's pointer to a function's
    return fn;
}

// The line of `node` behind its name, to be freed; NULL when there is none.
static char *find_line(const char *node) {
    const char *path = getenv("TOB_RESOLVER_FILE");
    FILE *file = path ? fopen(path, "re") : NULL;
    char *line = NULL, *found = NULL;
    size_t capacity = 0, n = strlen(node);
    while (file && !found && getline(&line, &capacity, file) >= 0) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, node, n) == 0 && (line[n] == ' ' || line[n] == 0)) {
            found = strdup(line + n);
        }
    }
    free(line);
    if (file) {
        fclose(file);
    }
    return found;
}

static void count_call(void) {
    const char *path = getenv("TOB_RESOLVER_CALLS");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || write(fd, ".", 1) != 1) {
        abort(); // the test would wait for it in vain
    }
    close(fd);
}

EXPORTED int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                         struct addrinfo **ret) {
    getaddrinfo_fn *next = real_getaddrinfo();
    char *line = node ? find_line(node) : NULL;
    if (!line) {
        return next(node, service, hints, ret);
    }
    count_call();
    struct addrinfo *all = NULL, **last = &all;
    int result = EAI_NONAME;
    char *rest = line;
    for (char *address = strtok_r(rest, " ", &rest); address; address = strtok_r(NULL, " ", &rest)) {
        // glibc's freeaddrinfo frees entry by entry, so lists may be chained.
        int one = strcmp(address, "!") == 0 ? EAI_AGAIN : next(address, service, hints, last);
        if (one == 0) {
            while (*last) {
                last = &(*last)->ai_next;
            }
        }
        result = all ? 0 : one;
    }
    free(line);
    if (result == 0) {
        *ret = all;
    }
    return result;
}
