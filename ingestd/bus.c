#include "ingestd/bus.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/rows.h"
#include "rpc/nng.h"
#include "wire/arena.h"

enum {
    SEND_QUEUE_MESSAGES = 4096, // for each subscriber
    ARENA_BYTES = 16 << 20,
};

struct tob_bus {
    tob_bus_options options;
    nng_socket socket;
    uint16_t port;
    tob_arena *arena;
    uint64_t last_sequences[TOB_BUS_BUCKETS];
    uint32_t clients[TOB_BUS_ROWS_PER_MESSAGE];
    uint32_t headends[TOB_BUS_ROWS_PER_MESSAGE];
};

static tob_error listen_on(tob_bus *bus, const char *url) {
    if (strncmp(url, "tcp://", 6) != 0) {
        return TOB_INVALID; // ipc:// in particular: NNG 1.5's listener dies of one connect-and-close
    }
    nng_listener listener;
    int rv = 0;
    if ((rv = nng_socket_set_int(bus->socket, NNG_OPT_SENDBUF, SEND_QUEUE_MESSAGES)) != 0 ||
        (rv = nng_socket_set_bool(bus->socket, NNG_OPT_TCP_NODELAY, true)) != 0 ||
        (rv = nng_socket_set_bool(bus->socket, NNG_OPT_TCP_KEEPALIVE, true)) != 0 ||
        (rv = nng_listen(bus->socket, url, &listener, 0)) != 0) {
        return tob_error_from_nng(rv);
    }
    int port = 0;
    rv = nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);
    bus->port = (uint16_t)port;
    return tob_error_from_nng(rv);
}

tob_error tob_bus_new(const tob_bus_options *options, tob_bus **ret) {
    tob_bus *bus = calloc(1, sizeof(*bus));
    if (!bus) {
        return TOB_NO_MEMORY;
    }
    bus->options = *options;
    int rv = nng_pub0_open(&bus->socket);
    if (rv != 0) {
        free(bus);
        return tob_error_from_nng(rv);
    }
    tob_error err = tob_arena_new(ARENA_BYTES, &bus->arena);
    if (!err) {
        err = listen_on(bus, options->url);
    }
    if (err) {
        tob_bus_free(bus);
        return err;
    }
    *ret = bus;
    return TOB_OK;
}

void tob_bus_free(tob_bus *bus) {
    if (bus) {
        (void)!tob_nng_close(bus->socket); // nothing of ours is called back
        tob_arena_free(bus->arena);
        free(bus);
    }
}

uint16_t tob_bus_port(const tob_bus *bus) {
    return bus->port;
}

uint64_t *tob_bus_last_sequences(tob_bus *bus) {
    return bus->last_sequences;
}

static tob_error send_message(tob_bus *bus, Tobogganing__V1__BusMessage *message, tob_position at) {
    Tobogganing__V1__Position position = TOBOGGANING__V1__POSITION__INIT;
    position.segment = at.segment;
    position.offset = at.offset;
    message->instance = bus->options.instance;
    message->epoch = bus->options.epoch;
    message->position = &position;
    nng_msg *msg = NULL;
    int rv = nng_msg_alloc(&msg, tobogganing__v1__bus_message__get_packed_size(message));
    if (rv != 0) {
        return tob_error_from_nng(rv);
    }
    tobogganing__v1__bus_message__pack(message, nng_msg_body(msg));
    rv = nng_sendmsg(bus->socket, msg, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        nng_msg_free(msg);
    }
    return tob_error_from_nng(rv);
}

// Sends one message of a bucket's changed rows, if there are any.
static tob_error publish_some(tob_bus *bus, unsigned bucket, tob_position position, bool *ret_more) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    tob_arena_clear(bus->arena);
    tob_fleet_take_dirty(bus->options.fleet, bucket, TOB_BUS_ROWS_PER_MESSAGE, bus->clients,
                         &message.n_clients, bus->headends, &message.n_headends);
    *ret_more =
        message.n_clients == TOB_BUS_ROWS_PER_MESSAGE || message.n_headends == TOB_BUS_ROWS_PER_MESSAGE;
    if (message.n_clients + message.n_headends == 0) {
        return TOB_OK;
    }
    message.topic = bucket + 1;
    message.sequence = ++bus->last_sequences[bucket];
    tob_error err = tob_rows_clients(bus->options.fleet, bus->options.directory, bus->arena, bus->clients,
                                     message.n_clients, &message.clients);
    if (!err) {
        err = tob_rows_headends(bus->options.fleet, bus->options.directory, bus->arena, bus->headends,
                                message.n_headends, &message.headends);
    }
    return err ? err : send_message(bus, &message, position);
}

tob_error tob_bus_publish(tob_bus *bus, tob_position position) {
    tob_error first = TOB_OK;
    for (unsigned bucket = 0; bucket < TOB_BUS_BUCKETS; bucket++) {
        bool more = true;
        while (more) {
            tob_error err = publish_some(bus, bucket, position, &more);
            first = first ? first : err;
        }
    }
    return first;
}

tob_error tob_bus_heartbeat(tob_bus *bus, Tobogganing__V1__Manager *manager, tob_position position) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    heartbeat.last_sequences = bus->last_sequences;
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    heartbeat.manager = manager;
    message.topic = TOB_BUS_TOPIC_HEARTBEAT;
    message.heartbeat = &heartbeat;
    return send_message(bus, &message, position);
}
