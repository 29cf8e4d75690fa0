#include "rpc/peer.h"

#include <arpa/inet.h>
#include <string.h>

static void of_ipv4(const void *bytes, char ret[TOB_PEER_BYTES]) {
    struct in_addr address;
    memcpy(&address, bytes, sizeof(address));
    ret[0] = 0;
    (void)!inet_ntop(AF_INET, &address, ret, TOB_PEER_BYTES);
}

static void of_ipv6(const void *bytes, char ret[TOB_PEER_BYTES]) {
    struct in6_addr address;
    memcpy(&address, bytes, sizeof(address));
    ret[0] = 0;
    if (IN6_IS_ADDR_V4MAPPED(&address)) {
        of_ipv4(address.s6_addr + 12, ret);
    } else {
        (void)!inet_ntop(AF_INET6, &address, ret, TOB_PEER_BYTES);
    }
}

void tob_peer_of_address(const nng_sockaddr *address, char ret[TOB_PEER_BYTES]) {
    switch (address->s_family) {
    case NNG_AF_INET: of_ipv4(&address->s_in.sa_addr, ret); break;
    case NNG_AF_INET6: of_ipv6(address->s_in6.sa_addr, ret); break;
    default: ret[0] = 0; break;
    }
}

bool tob_peer_parse(const char *text, char ret[TOB_PEER_BYTES]) {
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (strnlen(text, TOB_PEER_BYTES) == TOB_PEER_BYTES) {
        return false;
    }
    if (inet_pton(AF_INET, text, &ipv4) == 1) {
        of_ipv4(&ipv4, ret);
    } else if (inet_pton(AF_INET6, text, &ipv6) == 1) {
        of_ipv6(&ipv6, ret);
    } else {
        return false;
    }
    return true;
}
