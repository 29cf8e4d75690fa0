// tob_process_shares divides what a process has counted among the ingestd that it reports to, so that all processes of all
// ingestd add up, and nothing is counted twice.
//
// A share is a process of its own in the eyes of its ingestd: a random id, and values that only grow. What may have reached
// an ingestd stays in its share, and is sent there again until it is acknowledged; the next share has what is counted
// beyond. One that was not acknowledged for TOB_SHARE_STALE_MS starts anew, with another id and from 0: its ingestd may be
// about to forget the old one (a day of silence), after which the same id would count twice. What was sent and never
// acknowledged by then is left out rather than counted twice.
//
// Over TOB_PROCESS_MAX_SHARES, the one that was acknowledged longest ago makes room, those with nothing unacknowledged
// first: what it has is settled, where it is.
//
// Threads: one at a time. Internal to lib/rpc and its tests.
#ifndef TOB_RPC_PROCESS_SHARES_H
#define TOB_RPC_PROCESS_SHARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/process.pb-c.h"

#include "rpc/process.h"
#include "util/error.h"

#define TOB_PROCESS_MAX_SHARES 64
#define TOB_SHARE_STALE_MS     (12 * 3600000ull)

typedef struct tob_process_share {
    uint64_t key; // of its ingestd
    uint64_t id;
    uint64_t started_unix_ms;
    uint64_t acked_ms;                         // monotonic; at first when it was made
    uint64_t tried_ms;                         // likewise
    bool dirty;                                // has something that is not acknowledged
    bool ever_sent;                            // something may have arrived
    size_t count;                              // of counters
    uint64_t sent[TOB_PROCESS_MAX_COUNTERS];   // what may have reached its ingestd, since the first id
    uint64_t before[TOB_PROCESS_MAX_COUNTERS]; // `sent` without the last report
    uint64_t base[TOB_PROCESS_MAX_COUNTERS];   // `sent` when the present id began
} tob_process_share;

typedef struct tob_process_shares {
    tob_process_share *shares[TOB_PROCESS_MAX_SHARES];
    size_t count;
    uint64_t settled[TOB_PROCESS_MAX_COUNTERS]; // by shares that made room
} tob_process_shares;

void tob_process_shares_fini(tob_process_shares *shares); // a zeroed one is empty

// tob_process_shares_of finds or makes the share of one ingestd. Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_process_shares_of(tob_process_shares *shares, uint64_t key, uint64_t now_ms,
                                             uint64_t now_unix_ms, tob_process_share **ret);

// tob_process_shares_assign gives the share all that no other one has, and makes `message`, which holds the totals, the
// report to send. Follow it by _acked, _lost or _not_taken.
void tob_process_shares_assign(const tob_process_shares *shares, tob_process_share *share,
                               Tobogganing__V1__Process *message);

// tob_process_shares_repeat makes `message` what the share was last; nothing is added.
void tob_process_shares_repeat(const tob_process_share *share, Tobogganing__V1__Process *message);

void tob_process_share_acked(tob_process_share *share, uint64_t now_ms);
void tob_process_share_lost(tob_process_share *share);      // it may have arrived
void tob_process_share_not_taken(tob_process_share *share); // it has certainly changed nothing

#endif
