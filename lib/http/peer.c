#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "http/server.h"

void tob_http_peer(const h2o_req_t *req, char ret[TOB_HTTP_PEER_BYTES]) {
    struct sockaddr_storage address = {0};
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address;
    ret[0] = 0;
    if (!req->conn->callbacks->get_peername(req->conn, (struct sockaddr *)&address)) {
        return;
    }
    if (address.ss_family == AF_INET) {
        (void)!inet_ntop(AF_INET, &ipv4->sin_addr, ret, TOB_HTTP_PEER_BYTES);
    } else if (address.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr)) {
        (void)!inet_ntop(AF_INET, ipv6->sin6_addr.s6_addr + 12, ret, TOB_HTTP_PEER_BYTES);
    } else if (address.ss_family == AF_INET6) {
        (void)!inet_ntop(AF_INET6, &ipv6->sin6_addr, ret, TOB_HTTP_PEER_BYTES);
    }
}
