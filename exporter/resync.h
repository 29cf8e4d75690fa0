// tob_resync is what a tob_follow is fetching with calls: a snapshot of the fleet, or a replay of what the journal holds
// from a place on. Both come in pages while the bus goes on, and end with a cover: the bus's messages up to there are
// contained, whether they arrived or not.
//
// - The cover is the first page's. All pages are made after it, so what they have is as new or newer.
// - A message that the cover contains and that comes after the first page is left to the pages: they may already have
//   what followed it.
// - A later removal is remembered until the end, so that a page which was made before it doesn't undo it.
//
// Threads: one at a time.
#ifndef TOB_EXPORTER_RESYNC_H
#define TOB_EXPORTER_RESYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/feed.h"
#include "exporter/gaps.h"
#include "exporter/tombstones.h"
#include "util/error.h"
#include "wire/bus_topics.h"

#define TOB_SNAPSHOT_PAGE_ROWS 2000u      // below 4 MiB with the longest names
#define TOB_REPLAY_PAGE_BYTES  (1u << 20) // of journal

typedef enum tob_resync_kind { TOB_RESYNC_NONE, TOB_RESYNC_SNAPSHOT, TOB_RESYNC_REPLAY } tob_resync_kind;

// What to ask for. It points into itself: not to be copied.
typedef struct tob_page_request {
    tob_resync_kind kind;
    Tobogganing__V1__SnapshotRequest snapshot;
    Tobogganing__V1__ReplayRequest replay;
    Tobogganing__V1__Position from;
} tob_page_request;

// Embedded by tob_follow; fields are the module's own, for others to read.
typedef struct tob_resync {
    tob_resync_kind kind;
    bool asked;       // a page is
    uint64_t buckets; // bit b: bucket b will be covered
    uint64_t cursor;  // snapshot: the next page
    tob_place next;   // replay: likewise
    tob_place end;    // replay: where the journal ended with the first page
    tob_place place;  // once complete: what the journal holds before is contained
    uint64_t cover[TOB_BUS_BUCKETS];
    uint64_t start_version;
    uint64_t start_ms;
    uint64_t pages;
    uint64_t rows;
    uint64_t bytes;
    tob_tombstones removed;
} tob_resync;

void tob_resync_init(tob_resync *resync);
void tob_resync_fini(tob_resync *resync);

void tob_resync_begin_snapshot(tob_resync *resync, tob_feed *feed, tob_moment now);
void tob_resync_begin_replay(tob_resync *resync, uint64_t buckets, tob_place from, tob_moment now);

// tob_resync_abort forgets the pages so far. A page that is asked for has to be dropped when it comes.
void tob_resync_abort(tob_resync *resync);

void tob_resync_request(tob_resync *resync, uint64_t instance, uint64_t own_buckets, tob_page_request *ret);

// tob_resync_contains: will the pages have what this message of the bus has?
bool tob_resync_contains(const tob_resync *resync, unsigned bucket, uint64_t sequence);

// tob_resync_removed takes note of a removal on the bus.
// Errors: TOB_TOO_LARGE, TOB_NO_MEMORY: the pages could undo it, so abort.
TOB_MUST_USE tob_error tob_resync_removed(tob_resync *resync, tob_source_kind kind, const char *id,
                                          uint64_t sequence);

// tob_resync_snapshot and _replay take in a page of `bytes` on the wire.
//   with_manager   its counters too
// Errors: TOB_MALFORMED for a page that is not what was asked for; nothing of it was taken in.
TOB_MUST_USE tob_error tob_resync_snapshot(tob_resync *resync, tob_feed *feed,
                                           const Tobogganing__V1__SnapshotResponse *page, size_t bytes,
                                           bool with_manager, tob_moment now, bool *ret_complete);
TOB_MUST_USE tob_error tob_resync_replay(tob_resync *resync, tob_feed *feed,
                                         const Tobogganing__V1__ReplayResponse *page, size_t bytes,
                                         tob_moment now, bool *ret_complete);

#endif
