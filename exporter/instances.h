// tob_instances is every ingestd that this exporter heard of, each with its tob_follow, and what concerns all of them:
// the slots that their rows belong to, when a resync may begin, when the mirror may be shown, who is forgotten.
//
// Threads: one at a time; tob_instances_ready and _silent from any.
// Errors:  none to return: what can't be taken in is logged, and comes again.
#ifndef TOB_EXPORTER_INSTANCES_H
#define TOB_EXPORTER_INSTANCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "exporter/follow.h"
#include "exporter/manager.h"
#include "exporter/mirror.h"
#include "exporter/moment.h"
#include "util/error.h"

#define TOB_MAX_INSTANCES         TOB_MIRROR_MAX_OWNERS
#define TOB_INSTANCE_MIN_KEEP_MS  60000u // without a word, even when expire_after is less
#define TOB_INSTANCES_COMPLAIN_MS 60000u

typedef struct tob_instances tob_instances;

typedef struct tob_instances_options {
    tob_mirror *mirror;   // borrowed for its life
    tob_manager *manager; // likewise; NULL: counters are not taken in
    uint64_t buckets;     // bit b: bucket b is followed; 0: all
    uint64_t ready_timeout_ms;
} tob_instances_options;

TOB_MUST_USE tob_error tob_instances_new(const tob_instances_options *options, tob_moment now,
                                         tob_instances **ret);
void tob_instances_free(tob_instances *instances);

// tob_instances_bus takes in one message of the bus.
void tob_instances_bus(tob_instances *instances, const Tobogganing__V1__BusMessage *message, tob_moment now);

// tob_instances_hello: an ingestd said who it is, in this epoch.
void tob_instances_hello(tob_instances *instances, uint64_t instance, uint64_t epoch, tob_moment now);

// tob_instances_request: is there a page to ask this one for? As tob_follow_request; the answer goes to one of the
// next three. Of those that have a first snapshot already, one is resynced at a time, a third of the time at most.
bool tob_instances_request(tob_instances *instances, uint64_t instance, tob_moment now,
                           tob_page_request *ret);
void tob_instances_snapshot(tob_instances *instances, uint64_t instance,
                            const Tobogganing__V1__SnapshotResponse *page, size_t bytes, tob_moment now);
void tob_instances_replay(tob_instances *instances, uint64_t instance,
                          const Tobogganing__V1__ReplayResponse *page, size_t bytes, tob_moment now);
void tob_instances_page_failed(tob_instances *instances, uint64_t instance, tob_error error,
                               const char *message, uint32_t retry_after_ms, tob_moment now);

// tob_instances_tick notices silence, hides what expired and forgets who was not heard of for the mirror's
// expire_after: call it every few hundred milliseconds.
void tob_instances_tick(tob_instances *instances, tob_moment now);

// Who answers calls at one address.
typedef struct tob_behind {
    bool known;
    bool idle; // it can be asked for a page
    bool
        needless; // it never answered, but one of the other IP version with the same port did: the same host, by its name
    uint64_t instance;
} tob_behind;

// tob_instances_check_ready: the mirror may be shown once every address but the needless has given a snapshot, or, when
// at least one instance has, ready_timeout_ms after the start: one that is away must not hide the others' fleet for ever.
//   expected   at least as many addresses there have to be: names may not be resolved yet
void tob_instances_check_ready(tob_instances *instances, const tob_behind *addresses, size_t count,
                               size_t expected, tob_moment now);

// May the mirror be shown? Stays so.
bool tob_instances_ready(const tob_instances *instances);

// Was nothing heard on any bus for TOB_BUS_SILENT_MS?
bool tob_instances_silent(const tob_instances *instances);

// How many there are now.
size_t tob_instances_count(const tob_instances *instances);

#endif
