// tob_bus publishes changed rows and heartbeats (bus.proto) over NNG PUB.
//
// Threads: one at a time (the committer's). Publishing never blocks: PUB drops for slow subscribers, who
// notice the gap in the sequence and page through a snapshot.
#ifndef TOB_INGESTD_BUS_H
#define TOB_INGESTD_BUS_H

#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/fleet.h"
#include "journal/journal.h"
#include "wire/bus_topics.h"

#define TOB_BUS_ROWS_PER_MESSAGE 1000

typedef struct tob_bus tob_bus;

typedef struct tob_bus_options {
    const char *url; // "tcp://127.0.0.1:8011"; port 0 picks one
    uint64_t instance;
    uint64_t epoch;
    tob_fleet *fleet;         // borrowed
    tob_directory *directory; // borrowed
} tob_bus_options;

// Errors: TOB_UNAVAILABLE when the address is taken, TOB_INVALID for the URL, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_bus_new(const tob_bus_options *options, tob_bus **ret);
void tob_bus_free(tob_bus *bus);
uint16_t tob_bus_port(const tob_bus *bus);

// tob_bus_publish sends all changed rows. Errors: TOB_NO_MEMORY; the rows then count as sent, and the
// sequence has a gap for subscribers to see.
TOB_MUST_USE tob_error tob_bus_publish(tob_bus *bus, tob_position position);

// tob_bus_heartbeat sends one. manager is borrowed.
TOB_MUST_USE tob_error tob_bus_heartbeat(tob_bus *bus, Tobogganing__V1__Manager *manager,
                                         tob_position position);

// The last sequence of each bucket, TOB_BUS_BUCKETS of them; borrowed.
uint64_t *tob_bus_last_sequences(tob_bus *bus);

#endif
