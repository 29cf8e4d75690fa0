#include "exporter/bus_subscriber.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/nng.h"

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 1000

// bus.proto: a BusMessage begins with the tag of its topic. A prefix of this alone takes all topics.
static const uint8_t all_topics[] = {0x08};

struct tob_bus_subscriber {
    nng_socket socket;
    int fd;
    nng_msg *message;
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
    if (!result) {
        result = nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, all_topics, sizeof(all_topics));
    }
    return result;
}

static int dial_each(nng_socket socket, char *urls) {
    char *rest = NULL;
    int result = NNG_EADDRINVAL;
    for (char *url = strtok_r(urls, ", ", &rest); url; url = strtok_r(NULL, ", ", &rest)) {
        result = nng_dial(socket, url, NULL, NNG_FLAG_NONBLOCK);
        if (result) {
            return result;
        }
    }
    return result;
}

tob_error tob_bus_subscriber_new(const char *urls, tob_bus_subscriber **ret) {
    tob_bus_subscriber *subscriber = calloc(1, sizeof(*subscriber));
    char *copy = strdup(urls);
    int result = subscriber && copy ? nng_sub0_open(&subscriber->socket) : NNG_ENOMEM;
    if (!result) {
        result = set_options(subscriber->socket);
        if (!result) {
            result = nng_socket_get_int(subscriber->socket, NNG_OPT_RECVFD, &subscriber->fd);
        }
        if (!result) {
            result = dial_each(subscriber->socket, copy);
        }
        if (result) {
            (void)!tob_nng_close(subscriber->socket);
        }
    }
    free(copy);
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
    (void)!tob_nng_close(subscriber->socket); // nothing of ours is called back
    free(subscriber);
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
