#include "ingestd/bus.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/positions.h"
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
    bool open;
    unsigned next_bucket; // where the last publish left off
    uint64_t last_sequences[TOB_BUS_BUCKETS];
    tob_position published[TOB_BUS_BUCKETS]; // what is before has been published in this bucket
    char *removed_clients[TOB_BUS_ROWS_PER_MESSAGE];
    char *removed_headends[TOB_BUS_ROWS_PER_MESSAGE];
    uint32_t clients[TOB_BUS_ROWS_PER_MESSAGE];
    uint32_t headends[TOB_BUS_ROWS_PER_MESSAGE];
};

static tob_error listen_on(tob_bus *bus, const char *url) {
    if (strncmp(url, "tcp://", 6) != 0) {
        return TOB_INVALID; // ipc:// in particular: NNG 1.5's listener dies of one connect-and-close
    }
    nng_listener listener;
    int rv = nng_pub0_open(&bus->socket);
    bus->open = rv == 0;
    if (rv != 0 || (rv = nng_socket_set_int(bus->socket, NNG_OPT_SENDBUF, SEND_QUEUE_MESSAGES)) != 0 ||
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
    tob_error err = tob_arena_new(ARENA_BYTES, &bus->arena);
    if (!err && options->url) {
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
        if (bus->open) {
            (void)!tob_nng_close(bus->socket); // nothing of ours is called back
        }
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

static tob_error send_to_sink(tob_bus *bus, const Tobogganing__V1__BusMessage *message) {
    uint8_t *packed = tob_arena_alloc(bus->arena, tobogganing__v1__bus_message__get_packed_size(message));
    if (!packed) {
        return tob_arena_error(bus->arena);
    }
    size_t n = tobogganing__v1__bus_message__pack(message, packed);
    return bus->options.sink(bus->options.sink_user, packed, n);
}

static tob_error send_to_socket(tob_bus *bus, const Tobogganing__V1__BusMessage *message) {
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

static tob_error send_message(tob_bus *bus, Tobogganing__V1__BusMessage *message, tob_position at) {
    Tobogganing__V1__Position position = tob_position_message(at);
    message->instance = bus->options.instance;
    message->epoch = bus->options.epoch;
    message->position = &position;
    return bus->options.url ? send_to_socket(bus, message) : send_to_sink(bus, message);
}

// Fills a message with the bucket's next changes. False: there are none.
//   ret_more   there may be others
static bool take_changes(tob_bus *bus, unsigned bucket, Tobogganing__V1__BusMessage *message,
                         bool *ret_more) {
    const size_t max = TOB_BUS_ROWS_PER_MESSAGE;
    tob_fleet *fleet = bus->options.fleet;
    tob_fleet_take_dirty(fleet, bucket, max, bus->clients, &message->n_clients, bus->headends,
                         &message->n_headends);
    tob_fleet_take_removed(fleet, TOB_SOURCE_CLIENT, bucket, max, bus->removed_clients,
                           &message->n_removed_clients);
    tob_fleet_take_removed(fleet, TOB_SOURCE_HEADEND, bucket, max, bus->removed_headends,
                           &message->n_removed_headends);
    message->removed_clients = bus->removed_clients;
    message->removed_headends = bus->removed_headends;
    *ret_more = message->n_clients == max || message->n_headends == max ||
                message->n_removed_clients == max || message->n_removed_headends == max;
    return message->n_clients + message->n_headends + message->n_removed_clients +
               message->n_removed_headends >
           0;
}

static void free_removed(Tobogganing__V1__BusMessage *message) {
    for (size_t i = 0; i < message->n_removed_clients; i++) {
        free(message->removed_clients[i]);
    }
    for (size_t i = 0; i < message->n_removed_headends; i++) {
        free(message->removed_headends[i]);
    }
}

// Sends one message of a bucket's changes, if there are any. Only the last of several has the journal's end as its
// position: what the others leave out is before it.
static tob_error publish_some(tob_bus *bus, unsigned bucket, tob_position position, size_t *ret_rows,
                              bool *ret_more) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    tob_arena_clear(bus->arena);
    bool any = take_changes(bus, bucket, &message, ret_more);
    bus->published[bucket] = *ret_more ? bus->published[bucket] : position;
    *ret_rows =
        message.n_clients + message.n_headends + message.n_removed_clients + message.n_removed_headends;
    if (!any) {
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
    if (!err) {
        err = send_message(bus, &message, bus->published[bucket]);
    }
    free_removed(&message);
    return err;
}

tob_error tob_bus_publish(tob_bus *bus, tob_position position, size_t max_rows, bool *ret_more) {
    tob_error first = TOB_OK;
    size_t sent = 0;
    unsigned done = 0; // buckets that have nothing left
    while (done < TOB_BUS_BUCKETS && sent < max_rows) {
        bool more = false;
        size_t rows = 0;
        tob_error err = publish_some(bus, bus->next_bucket, position, &rows, &more);
        first = first ? first : err;
        sent += rows;
        if (!more) {
            bus->next_bucket = (bus->next_bucket + 1) % TOB_BUS_BUCKETS;
            done++;
        }
    }
    *ret_more = done < TOB_BUS_BUCKETS;
    return first;
}

tob_error tob_bus_heartbeat(tob_bus *bus, Tobogganing__V1__Manager *manager, tob_position position) {
    Tobogganing__V1__BusMessage message = TOBOGGANING__V1__BUS_MESSAGE__INIT;
    Tobogganing__V1__Heartbeat heartbeat = TOBOGGANING__V1__HEARTBEAT__INIT;
    heartbeat.last_sequences = bus->last_sequences;
    heartbeat.n_last_sequences = TOB_BUS_BUCKETS;
    heartbeat.manager = manager;
    tob_arena_clear(bus->arena);
    message.topic = TOB_BUS_TOPIC_HEARTBEAT;
    message.heartbeat = &heartbeat;
    return send_message(bus, &message, position);
}
