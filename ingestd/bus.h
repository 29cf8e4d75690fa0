// tob_bus publishes changed rows, removals and heartbeats (bus.proto) over NNG PUB.
//
// Threads: one at a time (the committer's). Publishing never blocks: PUB drops for slow subscribers, who
// notice the gap in the sequence and ask for what they missed.
#ifndef TOB_INGESTD_BUS_H
#define TOB_INGESTD_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/directory.h"
#include "ingestd/fleet.h"
#include "journal/journal.h"
#include "wire/bus_topics.h"

#define TOB_BUS_ROWS_PER_MESSAGE 1000 // of each kind, and so many removals
// What the committer publishes at once, about; more than comes meanwhile.
#define TOB_BUS_ROWS_PER_PUBLISH 32768

typedef struct tob_bus tob_bus;

// Takes one serialized BusMessage, borrowed, instead of the socket.
typedef tob_error (*tob_bus_sink)(void *user, const void *message, size_t n);

typedef struct tob_bus_options {
    const char *url;   // "tcp://127.0.0.1:8011"; port 0 picks one; NULL: no socket, but
    tob_bus_sink sink; // this
    void *sink_user;
    uint64_t instance;
    uint64_t epoch;
    tob_fleet *fleet;         // borrowed
    tob_directory *directory; // borrowed
} tob_bus_options;

// Errors: TOB_UNAVAILABLE when the address is taken, TOB_INVALID for the URL, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_bus_new(const tob_bus_options *options, tob_bus **ret);
void tob_bus_free(tob_bus *bus);
uint16_t tob_bus_port(const tob_bus *bus);

// tob_bus_publish sends changed rows and removals, bucket by bucket.
//   position   the journal's end: everything before it has been applied to the fleet
//   max_rows   begins no further message after about so many
//   ret_more   set: is something left?
// Errors: TOB_NO_MEMORY; the rows then count as sent, and the sequence has a gap for subscribers to see.
TOB_MUST_USE tob_error tob_bus_publish(tob_bus *bus, tob_position position, size_t max_rows, bool *ret_more);

// tob_bus_heartbeat sends one. manager is borrowed. Everything before `position` must have been published.
TOB_MUST_USE tob_error tob_bus_heartbeat(tob_bus *bus, Tobogganing__V1__Manager *manager,
                                         tob_position position);

// The last sequence of each bucket, TOB_BUS_BUCKETS of them; borrowed.
uint64_t *tob_bus_last_sequences(tob_bus *bus);

#endif
