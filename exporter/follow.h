// tob_follow keeps the mirror converged with one ingestd: the rules of convergence, without sockets. It is told what
// arrived and when, and says which page to ask for.
//
// - Every bucket's messages count up. What is missing was lost; the heartbeat's last sequences show the losses that no
//   later message would. Each bucket also has a place in ingestd's journal before which nothing is missing: after a loss
//   the journal is replayed from there.
// - A snapshot is taken where there is no such place: at first, when the journal does not reach back, and for another
//   epoch, in which all rows are old: any row of the new epoch replaces them, and what a complete snapshot does not
//   have is gone then, not before.
// - While the bus is silent, the journal is replayed now and then: data gets older, but not stale for good.
//
// Threads: one at a time; tob_follow_silent from any.
// Errors:  none to return: what can't be applied is counted and logged, and asked for again where that helps.
#ifndef TOB_EXPORTER_FOLLOW_H
#define TOB_EXPORTER_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "exporter/moment.h"
#include "exporter/resync.h"
#include "util/error.h"

#define TOB_BUS_SILENT_MS       5000u
#define TOB_RESYNC_INTERVAL_MS  1000u  // from the end of one to the start of the next
#define TOB_RESYNC_RETRY_MS     500u   // after a page that failed
#define TOB_RESYNC_POLL_MS      15000u // while the bus is silent
#define TOB_RESYNC_STALLED_MS   2000u
#define TOB_REPLAY_MAX_FAILURES 3 // in a row; then a snapshot is tried

typedef struct tob_follow tob_follow;

typedef struct tob_follow_options {
    tob_mirror *mirror;   // borrowed for its life
    tob_manager *manager; // likewise; NULL: counters are not taken in
    unsigned owner;       // the instance's slot in both
    uint64_t instance;
    uint64_t buckets; // bit b: bucket b is followed
} tob_follow_options;

TOB_MUST_USE tob_error tob_follow_new(const tob_follow_options *options, uint64_t epoch, tob_moment now,
                                      tob_follow **ret);
void tob_follow_free(tob_follow *follow);

// tob_follow_bus takes in one message of the bus, of this instance.
void tob_follow_bus(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now);

// tob_follow_hello: ingestd answered a call, in this epoch. While the bus talks, it has the last word.
void tob_follow_hello(tob_follow *follow, uint64_t epoch, tob_moment now);

// tob_follow_request: is it time to ask for a page? Then `ret` is the request, and one of the next three has to follow
// before the next one.
//   may_begin   false: only go on with a resync that is under way
bool tob_follow_request(tob_follow *follow, bool may_begin, tob_moment now, tob_page_request *ret);

// bytes: the page's size on the wire.
void tob_follow_snapshot(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, size_t bytes,
                         tob_moment now);
void tob_follow_replay(tob_follow *follow, const Tobogganing__V1__ReplayResponse *page, size_t bytes,
                       tob_moment now);

// message: what the server said, "" if nothing; retry_after_ms: 0 if it didn't say.
void tob_follow_page_failed(tob_follow *follow, tob_error error, const char *message, uint32_t retry_after_ms,
                            tob_moment now);

// tob_follow_tick notices silence: call it every few hundred milliseconds.
void tob_follow_tick(tob_follow *follow, tob_moment now);

// tob_follow_synced: has a snapshot been completed? Stays so.
bool tob_follow_synced(const tob_follow *follow);

// tob_follow_busy: is a resync under way?
bool tob_follow_busy(const tob_follow *follow);

// tob_follow_working: did it get on within TOB_RESYNC_STALLED_MS, too?
bool tob_follow_working(const tob_follow *follow, tob_moment now);

// tob_follow_took_ms: how long the last complete resync waited for pages and took them in, failures left out.
uint64_t tob_follow_took_ms(const tob_follow *follow);

// Was nothing heard on the bus for TOB_BUS_SILENT_MS?
bool tob_follow_silent(const tob_follow *follow);

// When something was heard last, on the bus or in answer to a call; monotonic.
uint64_t tob_follow_heard_ms(const tob_follow *follow);

uint64_t tob_follow_instance(const tob_follow *follow);

#endif
