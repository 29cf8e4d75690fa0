// The other end of an HTTP connection, for tests: plain sockets, so that what is sent is exactly what is written
// down, also when it is wrong.
#ifndef TOB_TESTS_HTTP_PEER_H
#define TOB_TESTS_HTTP_PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER_DEADLINE_MS 10000
#define PEER_MAX_BYTES   (8u << 20)

static inline int peer_dial(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval timeout = {.tv_sec = PEER_DEADLINE_MS / 1000};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static inline void peer_put_bytes(int fd, const void *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t sent = send(fd, (const char *)bytes + at, n - at, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += (size_t)sent;
    }
}

static inline void peer_put(int fd, const char *text) {
    peer_put_bytes(fd, text, strlen(text));
}

// peer_get reads one response with a Content-Length, and nothing more, into static memory.
static inline const char *peer_get(int fd) {
    static char text[65536];
    size_t len = 0;
    size_t want = SIZE_MAX;
    while (len < want) {
        assert_true(len + 1 < sizeof(text));
        assert_int_equal(recv(fd, text + len, 1, 0), 1);
        text[++len] = 0;
        if (want == SIZE_MAX && len >= 4 && strcmp(text + len - 4, "\r\n\r\n") == 0) {
            const char *length = strcasestr(text, "content-length: ");
            assert_non_null(length);
            want = len + strtoul(length + 16, NULL, 10);
        }
    }
    return text;
}

// peer_get_all reads until the other side closes, into static memory.
static inline const char *peer_get_all(int fd) {
    static char text[PEER_MAX_BYTES];
    size_t len = 0;
    ssize_t n = 0;
    while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0) {
        len += (size_t)n;
    }
    assert_int_equal(n, 0);
    text[len] = 0;
    return text;
}

// peer_ask: one connection for one request; returns all that comes back.
static inline const char *peer_ask(uint16_t port, const void *request, size_t n) {
    int fd = peer_dial(port);
    peer_put_bytes(fd, request, n);
    shutdown(fd, SHUT_WR);
    const char *text = peer_get_all(fd);
    close(fd);
    return text;
}

#define assert_has(text, part)                                                                               \
    do {                                                                                                     \
        if (!strstr((text), (part))) {                                                                       \
            fail_msg("no \"%s\" in: %.2000s", (part), (text));                                               \
        }                                                                                                    \
    } while (0)

#endif
