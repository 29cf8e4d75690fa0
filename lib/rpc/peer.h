// Addresses of callers as text: what a connection says, and what a gateway says of its own callers.
//
// Threads: any. Internal to lib/rpc.
#ifndef TOB_RPC_PEER_H
#define TOB_RPC_PEER_H

#include <nng/nng.h>
#include <stdbool.h>

#define TOB_PEER_BYTES 46 // the longest IPv6 address as text, and NUL (RFC 4291 §2.2: INET6_ADDRSTRLEN)

// tob_peer_of_address: "192.0.2.1", "2001:db8::1", without port. An IPv6 address that stands for an IPv4 one (RFC 4291 §2.5.5.2)
// is that one. "" for what is no IP address.
void tob_peer_of_address(const nng_sockaddr *address, char ret[TOB_PEER_BYTES]);

// tob_peer_parse writes a text in that form. False when it is no IP address, or longer than one can be.
bool tob_peer_parse(const char *text, char ret[TOB_PEER_BYTES]);

#endif
