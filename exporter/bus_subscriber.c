#include "exporter/bus_subscriber.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/dial.h"
#include "rpc/nng.h"
#include "wire/bus_topics.h"

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 1000

// bus.proto: a BusMessage begins with the tag of its topic. A prefix of this alone takes all topics.
#define TOPIC_TAG        0x08

typedef struct dialled {
    char *address;
    tob_dial *dial;
} dialled;

struct tob_bus_subscriber {
    nng_socket socket;
    int fd;
    nng_msg *message;
    dialled dialled[TOB_BUS_MAX_ADDRESSES];
    size_t count;
};

static int set_options(nng_socket socket) {
    int result = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, TOB_BUS_MAX_MESSAGE_BYTES);
    if (!result) {
        result = nng_socket_set_int(socket, NNG_OPT_RECVBUF, TOB_BUS_QUEUED_MESSAGES);
    }
    if (!result) {
        result = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    }
    if (!result) {
        result = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    }
    return result;
}

static int subscribe(nng_socket socket, uint64_t buckets) {
    uint8_t prefix[] = {TOPIC_TAG, TOB_BUS_TOPIC_HEARTBEAT};
    if (buckets == UINT64_MAX) {
        return nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, prefix, 1);
    }
    int result = nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, prefix, sizeof(prefix));
    for (unsigned b = 0; b < TOB_BUS_BUCKETS && !result; b++) {
        prefix[1] = (uint8_t)(1 + b);
        if (buckets >> b & 1) {
            result = nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, prefix, sizeof(prefix));
        }
    }
    return result;
}

tob_error tob_bus_subscriber_new(uint64_t buckets, tob_bus_subscriber **ret) {
    tob_bus_subscriber *subscriber = calloc(1, sizeof(*subscriber));
    int result = subscriber ? nng_sub0_open(&subscriber->socket) : NNG_ENOMEM;
    if (!result) {
        result = set_options(subscriber->socket);
        if (!result) {
            result = subscribe(subscriber->socket, buckets);
        }
        if (!result) {
            result = nng_socket_get_int(subscriber->socket, NNG_OPT_RECVFD, &subscriber->fd);
        }
        if (result) {
            (void)!tob_nng_close(subscriber->socket);
        }
    }
    if (result) {
        free(subscriber);
        return tob_error_from_nng(result);
    }
    *ret = subscriber;
    return TOB_OK;
}

void tob_bus_subscriber_free(tob_bus_subscriber *subscriber) {
    if (!subscriber) {
        return;
    }
    nng_msg_free(subscriber->message);
    for (size_t i = 0; i < subscriber->count; i++) {
        tob_dial_forget(subscriber->dialled[i].dial);
        free(subscriber->dialled[i].address);
    }
    (void)!tob_nng_close(subscriber->socket); // nothing of ours is called back
    free(subscriber);
}

static bool is_among(const char *address, const char *const *addresses, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(address, addresses[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void close_others(tob_bus_subscriber *subscriber, const char *const *addresses, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < subscriber->count; i++) {
        dialled *d = &subscriber->dialled[i];
        if (is_among(d->address, addresses, count)) {
            subscriber->dialled[kept++] = *d;
        } else {
            tob_dial_close(d->dial);
            free(d->address);
        }
    }
    subscriber->count = kept;
}

static bool is_dialled(const tob_bus_subscriber *subscriber, const char *address) {
    for (size_t i = 0; i < subscriber->count; i++) {
        if (strcmp(subscriber->dialled[i].address, address) == 0) {
            return true;
        }
    }
    return false;
}

static tob_error dial(tob_bus_subscriber *subscriber, const char *address) {
    if (subscriber->count == TOB_BUS_MAX_ADDRESSES) {
        return TOB_TOO_LARGE;
    }
    dialled *d = &subscriber->dialled[subscriber->count];
    d->address = strdup(address);
    tob_error err =
        d->address ? tob_dial_start(subscriber->socket, address, NULL, &d->dial) : TOB_NO_MEMORY;
    if (err) {
        free(d->address);
        return err;
    }
    subscriber->count++;
    return TOB_OK;
}

tob_error tob_bus_subscriber_dial(tob_bus_subscriber *subscriber, const char *const *addresses,
                                  size_t count) {
    tob_error first = TOB_OK;
    close_others(subscriber, addresses, count);
    for (size_t i = 0; i < count; i++) {
        tob_error err = is_dialled(subscriber, addresses[i]) ? TOB_OK : dial(subscriber, addresses[i]);
        first = first ? first : err;
    }
    return first;
}

int tob_bus_subscriber_fd(const tob_bus_subscriber *subscriber) {
    return subscriber->fd;
}

bool tob_bus_subscriber_receive(tob_bus_subscriber *subscriber, const uint8_t **ret_bytes, size_t *ret_n) {
    nng_msg_free(subscriber->message);
    subscriber->message = NULL;
    if (nng_recvmsg(subscriber->socket, &subscriber->message, NNG_FLAG_NONBLOCK)) {
        subscriber->message = NULL;
        return false;
    }
    *ret_bytes = nng_msg_body(subscriber->message);
    *ret_n = nng_msg_len(subscriber->message);
    return true;
}
