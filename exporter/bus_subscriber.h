// tob_bus_subscriber is the NNG SUB socket on ingestd's bus: it connects and reconnects by itself, for ever.
//
// Threads: one at a time.
#ifndef TOB_EXPORTER_BUS_SUBSCRIBER_H
#define TOB_EXPORTER_BUS_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define TOB_BUS_MAX_MESSAGE_BYTES (4u << 20) // a longer one closes the connection
#define TOB_BUS_QUEUED_MESSAGES   8192       // NNG's maximum; the oldest is dropped

typedef struct tob_bus_subscriber tob_bus_subscriber;

// urls: comma-separated. Does not wait for a connection.
// Errors: TOB_INVALID for a URL; TOB_NO_MEMORY; TOB_INTERNAL.
TOB_MUST_USE tob_error tob_bus_subscriber_new(const char *urls, tob_bus_subscriber **ret);
void tob_bus_subscriber_free(tob_bus_subscriber *subscriber);

// tob_bus_subscriber_fd: readable while a message waits; for poll(2) only.
int tob_bus_subscriber_fd(const tob_bus_subscriber *subscriber);

// tob_bus_subscriber_receive takes one message, borrowed until the next call; false when none waits.
bool tob_bus_subscriber_receive(tob_bus_subscriber *subscriber, const uint8_t **ret_bytes, size_t *ret_n);

#endif
