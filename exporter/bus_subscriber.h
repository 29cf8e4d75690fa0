// tob_bus_subscriber is the NNG SUB socket on the buses of all ingestd: it connects to each address and reconnects by
// itself, for ever.
//
// Threads: _receive on one, _dial on one, which may be another; _new and _free around them.
#ifndef TOB_EXPORTER_BUS_SUBSCRIBER_H
#define TOB_EXPORTER_BUS_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_BUS_MAX_MESSAGE_BYTES (4u << 20) // a longer one closes the connection
#define TOB_BUS_QUEUED_MESSAGES   8192       // NNG's maximum; the oldest is dropped
#define TOB_BUS_MAX_ADDRESSES     256u

typedef struct tob_bus_subscriber tob_bus_subscriber;

// tob_bus_subscriber_new
//   buckets   bit b: rows of bucket b are wanted; the heartbeat always is
// Errors: TOB_NO_MEMORY; TOB_INTERNAL.
TOB_MUST_USE tob_error tob_bus_subscriber_new(uint64_t buckets, tob_bus_subscriber **ret);
void tob_bus_subscriber_free(tob_bus_subscriber *subscriber);

// tob_bus_subscriber_dial makes these its addresses ("tcp://192.0.2.1:8011"): new ones are dialled, which does not wait
// for a connection, others closed.
// Errors: TOB_INVALID for an address, TOB_TOO_LARGE over the cap, TOB_NO_MEMORY; the rest of them are dialled all the
//         same.
TOB_MUST_USE tob_error tob_bus_subscriber_dial(tob_bus_subscriber *subscriber, const char *const *addresses,
                                               size_t count);

// tob_bus_subscriber_fd: readable while a message waits; for poll(2) only.
int tob_bus_subscriber_fd(const tob_bus_subscriber *subscriber);

// tob_bus_subscriber_receive takes one message, borrowed until the next call; false when none waits.
bool tob_bus_subscriber_receive(tob_bus_subscriber *subscriber, const uint8_t **ret_bytes, size_t *ret_n);

#endif
