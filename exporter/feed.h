// tob_feed puts what one ingestd says into the mirror and the manager's sums: rows, removals, counters, each checked.
//
// Threads: one at a time.
// Errors:  none to return: what can't be taken in is counted and logged, once a minute.
#ifndef TOB_EXPORTER_FEED_H
#define TOB_EXPORTER_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "exporter/moment.h"
#include "util/error.h"

#define TOB_FEED_COMPLAIN_MS 60000u // how often refused rows are logged

// Embedded by its user, who fills the first five.
typedef struct tob_feed {
    tob_mirror *mirror;   // borrowed
    tob_manager *manager; // borrowed; NULL: no counters are taken in
    unsigned owner;       // of the rows in the mirror, and of the counters
    uint64_t instance;    // for the log
    uint64_t buckets;     // bit b: rows of bucket b are; others are refused, whoever sends them
    bool starved;         // something was lost for want of memory; the user resets it
    uint64_t refused;     // since the last complaint
    uint64_t complained_ms;
} tob_feed;

unsigned tob_bucket_of(const char *id);

void tob_feed_client(tob_feed *feed, const Tobogganing__V1__ClientRow *row, bool in_snapshot, tob_moment now);
void tob_feed_headend(tob_feed *feed, const Tobogganing__V1__HeadendRow *row, bool in_snapshot,
                      tob_moment now);
void tob_feed_manager(tob_feed *feed, const Tobogganing__V1__Manager *message, tob_moment now);

// tob_feed_removal: as tob_mirror_remove.
void tob_feed_removal(tob_feed *feed, tob_source_kind kind, const char *id, uint64_t max_version);

// tob_feed_refuse counts something that can't be taken in.
void tob_feed_refuse(tob_feed *feed, tob_error error, tob_moment now);

#endif
