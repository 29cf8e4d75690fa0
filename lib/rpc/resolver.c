#include "rpc/resolver.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

// "192.0.2.1" or "[2001:db8::1]"; false for what is neither, and for addresses with a zone, which no dialer takes.
static bool write_address(const struct addrinfo *info, tob_resolver_address to) {
    char host[TOB_RESOLVER_ADDRESS_BYTES - 2];
    if ((info->ai_family != AF_INET && info->ai_family != AF_INET6) ||
        getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0 ||
        strchr(host, '%')) {
        return false;
    }
    bool v6 = info->ai_family == AF_INET6;
    snprintf(to, TOB_RESOLVER_ADDRESS_BYTES, "%s%s%s", v6 ? "[" : "", host, v6 ? "]" : "");
    return true;
}

static tob_error lookup(void *user, const char *host, tob_resolver_address *ret, size_t *ret_count) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *infos = NULL;
    (void)user;
    if (getaddrinfo(host, NULL, &hints, &infos) != 0) {
        return TOB_UNAVAILABLE;
    }
    size_t count = 0;
    for (const struct addrinfo *info = infos; info && count < TOB_RESOLVER_MAX_ADDRESSES;
         info = info->ai_next) {
        count += write_address(info, ret[count]);
    }
    freeaddrinfo(infos);
    *ret_count = count;
    return count ? TOB_OK : TOB_UNAVAILABLE;
}

const tob_resolver tob_resolver_system = {.lookup = lookup,
                                          .resolve_ms = TOB_ENDPOINTS_RESOLVE_MS,
                                          .retry_ms = TOB_ENDPOINTS_RETRY_MS};
