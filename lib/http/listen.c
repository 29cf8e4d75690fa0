#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/text.h"

#define MAX_HOST_BYTES 255
#define BACKLOG        4096

// Splits at the last colon, so that "[::1]:80" works; brackets are taken off.
static tob_error split_address(const char *address, char host[MAX_HOST_BYTES + 1], const char **ret_port) {
    const char *colon = address ? strrchr(address, ':') : NULL;
    if (!colon || colon == address || !colon[1]) {
        return TOB_INVALID;
    }
    size_t len = (size_t)(colon - address);
    if (*address == '[') {
        if (len < 3 || address[len - 1] != ']') {
            return TOB_INVALID;
        }
        address++;
        len -= 2;
    } else if (memchr(address, ':', len)) {
        return TOB_INVALID;
    }
    uint64_t port = 0; // getaddrinfo would take 70000 for 4464
    if (len > MAX_HOST_BYTES || tob_parse_u64(colon + 1, UINT16_MAX, &port)) {
        return TOB_INVALID;
    }
    memcpy(host, address, len);
    host[len] = 0;
    *ret_port = colon + 1;
    return TOB_OK;
}

static tob_error listen_error(int error_number) {
    switch (error_number) {
    case EADDRINUSE: return TOB_UNAVAILABLE;
    case EADDRNOTAVAIL: return TOB_INVALID;
    case EACCES: return TOB_PERMISSION_DENIED;
    default: return tob_error_from_errno(error_number);
    }
}

// No SO_REUSEPORT: with it a second process of the same user would share the port instead of being told.
static tob_error open_one(const struct addrinfo *info, int *ret_fd) {
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return listen_error(errno);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        tob_error error = listen_error(errno);
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return TOB_OK;
}

static uint16_t bound_port(int fd) {
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        return 0;
    }
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

tob_error tob_listen(const char *address, int *ret_fd, uint16_t *ret_port) {
    char host[MAX_HOST_BYTES + 1];
    const char *port = NULL;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    tob_error error = split_address(address, host, &port);
    if (error) {
        return error;
    }
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return TOB_INVALID;
    }
    error = TOB_INVALID;
    for (const struct addrinfo *info = found; info && fd < 0; info = info->ai_next) {
        error = open_one(info, &fd);
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return error;
    }
    *ret_port = bound_port(fd);
    *ret_fd = fd;
    return TOB_OK;
}
