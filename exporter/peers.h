// tob_peers is a connection to every address at which an ingestd may answer, and who that is: each is asked when it is
// connected and every few seconds, as another one may be there after a restart.
//
// Threads: _set_addresses on one; _tick, _behind, _call and _take on one; both may run at once. _set_bearer on any. _stop
//          after both have ended. `wake` is called on NNG's threads.
#ifndef TOB_EXPORTER_PEERS_H
#define TOB_EXPORTER_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exporter/instances.h"
#include "exporter/resync.h"
#include "rpc/connection.h"
#include "rpc/endpoints.h"
#include "util/error.h"

#define TOB_PEERS_MAX              TOB_ENDPOINTS_MAX_ADDRESSES
#define TOB_PEER_HEALTH_MS         5000u // from one question to the next
#define TOB_PEER_HEALTH_RETRY_MS   1000u
#define TOB_PEER_HEALTH_TIMEOUT_MS 5000u
#define TOB_PEER_PAGE_TIMEOUT_MS   10000u

typedef struct tob_peers tob_peers;

// What came of a call.
typedef struct tob_peer_answer {
    tob_resync_kind kind; // NONE: it said who it is
    uint64_t instance;    // that was asked for a page, or is there
    uint64_t epoch;       // NONE only
    tob_error error;      // never with NONE
    uint32_t retry_after_ms;
    char message[TOB_RPC_MESSAGE_BYTES];
    uint8_t *body; // of a page; owned by the caller, free with tob_peer_answer_clear
    size_t body_len;
} tob_peer_answer;

// bearer: the cluster token; copied. wake: an answer is there to be taken.
TOB_MUST_USE tob_error tob_peers_new(const char *bearer, void (*wake)(void *user), void *user,
                                     tob_peers **ret);
void tob_peers_free(tob_peers *peers);

// tob_peers_set_addresses connects to those that are new, and drops the others, which takes up to 1.5 s each.
// Errors: as tob_rpc_connection_new, TOB_TOO_LARGE over TOB_PEERS_MAX; the rest of them are connected all the same.
TOB_MUST_USE tob_error tob_peers_set_addresses(tob_peers *peers, const char *const *addresses, size_t count);

// tob_peers_set_bearer: for the calls to come. TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_peers_set_bearer(tob_peers *peers, const char *bearer);

// tob_peers_tick asks those whose turn it is who they are.
void tob_peers_tick(tob_peers *peers, uint64_t monotonic_ms);

// tob_peers_behind tells what is known of each address, and returns how many there are.
size_t tob_peers_behind(tob_peers *peers, tob_behind ret[TOB_PEERS_MAX]);

// tob_peers_call asks an instance for a page. Exactly one answer will be there to be taken if and only if TOB_OK is
// returned. Errors: TOB_UNAVAILABLE when it is nowhere, or busy; as tob_rpc_connection_call.
TOB_MUST_USE tob_error tob_peers_call(tob_peers *peers, uint64_t instance, const tob_page_request *request);

// tob_peers_take: false when there is none.
bool tob_peers_take(tob_peers *peers, tob_peer_answer *ret);
void tob_peer_answer_clear(tob_peer_answer *answer);

// tob_peers_stop ends all calls and connections. Not from `wake`.
void tob_peers_stop(tob_peers *peers);

#endif
