// tob_follow keeps the mirror and the manager's sums converged with one ingestd: the rules of convergence,
// without sockets. It is told what arrived and when, and says which page of the snapshot to ask for.
//
// - Every bucket's messages count up. What is missing was lost, and only a snapshot that began afterwards
//   replaces it; the heartbeat's last sequences show the losses that no later message would.
// - Another epoch or instance makes all rows old: any row of the new epoch replaces them, and what a complete
//   snapshot does not have is gone then, not before.
// - While the bus is silent, snapshots are taken now and then: data gets older, but not stale for good.
//
// Threads: one at a time; tob_follow_ready and _silent from any.
// Errors:  none to return: what can't be applied is counted and logged, and asked for again where that helps.
#ifndef TOB_EXPORTER_FOLLOW_H
#define TOB_EXPORTER_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "util/error.h"
#include "wire/bus_topics.h"

#define TOB_BUS_SILENT_MS        5000u
#define TOB_SNAPSHOT_PAGE_ROWS   2000u  // below 4 MiB with the longest names
#define TOB_SNAPSHOT_INTERVAL_MS 1000u  // from the end of one to the start of the next
#define TOB_SNAPSHOT_RETRY_MS    500u   // after a page that failed
#define TOB_SNAPSHOT_POLL_MS     15000u // while the bus is silent

typedef struct tob_follow tob_follow;

// One moment on both clocks.
typedef struct tob_moment {
    uint64_t monotonic_ms;
    uint64_t unix_ms;
} tob_moment;

// mirror, manager   borrowed for its life
TOB_MUST_USE tob_error tob_follow_new(tob_mirror *mirror, tob_manager *manager, tob_moment now,
                                      tob_follow **ret);
void tob_follow_free(tob_follow *follow);

// tob_follow_bus takes in one message of the bus.
void tob_follow_bus(tob_follow *follow, const Tobogganing__V1__BusMessage *message, tob_moment now);

// tob_follow_request: is it time to ask for a page? Then `ret` is the request, and _page or _page_failed has
// to follow before the next one.
bool tob_follow_request(tob_follow *follow, tob_moment now, Tobogganing__V1__SnapshotRequest *ret);
void tob_follow_page(tob_follow *follow, const Tobogganing__V1__SnapshotResponse *page, tob_moment now);

// message: what the server said, "" if nothing; retry_after_ms: 0 if it didn't say.
void tob_follow_page_failed(tob_follow *follow, tob_error error, const char *message, uint32_t retry_after_ms,
                            tob_moment now);

// tob_follow_tick notices silence and hides what expired: call it every few hundred milliseconds.
void tob_follow_tick(tob_follow *follow, tob_moment now);

// Has a snapshot been completed? Then the mirror may be shown, and stays so.
bool tob_follow_ready(const tob_follow *follow);

// Was nothing heard on the bus for TOB_BUS_SILENT_MS?
bool tob_follow_silent(const tob_follow *follow);

#endif
