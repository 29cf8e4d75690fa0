#include "exporter/follower.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "exporter/bus_subscriber.h"
#include "util/clock.h"
#include "util/log.h"
#include "wire/arena.h"

#define TICK_MS          200
#define MESSAGES_AT_ONCE 1000 // before pages and time get their turn

// What became of a call, from NNG's thread to ours.
typedef struct answer {
    bool there;
    tob_error error;
    uint32_t retry_after_ms;
    char message[TOB_RPC_MESSAGE_BYTES];
    uint8_t *body;
    size_t body_len;
} answer;

struct tob_follower {
    tob_follow *follow;
    tob_bus_subscriber *bus;
    tob_rpc_client *client;
    tob_arena *arena;
    int wake_fd;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    bool malformed; // the last bus message was, and that is logged
    pthread_mutex_t lock;
    answer answer; // under the lock
};

static tob_moment now(void) {
    return (tob_moment){.monotonic_ms = tob_clock_monotonic_ms(), .unix_ms = tob_clock_unix_ms()};
}

static void wake(tob_follower *follower) {
    uint64_t one = 1;
    ssize_t ignored = write(follower->wake_fd, &one, sizeof(one));
    (void)ignored; // it fails only when it is already readable
}

static void put_answer(tob_follower *follower, const tob_rpc_result *result) {
    answer a = {.there = true, .error = result->error, .retry_after_ms = result->retry_after_ms};
    strncpy(a.message, result->message ? result->message : "", sizeof(a.message) - 1);
    if (!a.error) {
        a.body = malloc(result->body_len ? result->body_len : 1);
        if (a.body && result->body_len) {
            memcpy(a.body, result->body, result->body_len);
        }
        a.body_len = result->body_len;
        a.error = a.body ? TOB_OK : TOB_NO_MEMORY;
    }
    pthread_mutex_lock(&follower->lock);
    follower->answer = a;
    pthread_mutex_unlock(&follower->lock);
    wake(follower);
}

static void on_page(void *user, const tob_rpc_result *result) {
    put_answer(user, result);
}

static void ask(tob_follower *follower) {
    Tobogganing__V1__SnapshotRequest request = TOBOGGANING__V1__SNAPSHOT_REQUEST__INIT;
    if (!tob_follow_request(follower->follow, now(), &request)) {
        return;
    }
    uint8_t packed[64];
    size_t n = tobogganing__v1__snapshot_request__pack(&request, packed);
    tob_error err = tob_rpc_client_call(follower->client, "/tobogganing.v1.Bus/Snapshot", packed, n,
                                        TOB_FOLLOWER_PAGE_TIMEOUT_MS, on_page, follower);
    if (err) {
        tob_follow_page_failed(follower->follow, err, "", 0, now());
    }
}

static void take_page(tob_follower *follower, const answer *a) {
    ProtobufCMessage *page = NULL;
    tob_error err = a->error;
    if (!err) {
        tob_arena_clear(follower->arena);
        err = tob_arena_unpack(follower->arena, &tobogganing__v1__snapshot_response__descriptor, a->body,
                               a->body_len, &page);
    }
    if (err) {
        tob_follow_page_failed(follower->follow, err, a->message, a->retry_after_ms, now());
    } else {
        tob_follow_page(follower->follow, (const Tobogganing__V1__SnapshotResponse *)page, now());
    }
}

static void take_answer(tob_follower *follower) {
    pthread_mutex_lock(&follower->lock);
    answer a = follower->answer;
    follower->answer = (answer){.there = false};
    pthread_mutex_unlock(&follower->lock);
    if (a.there) {
        take_page(follower, &a);
        free(a.body);
    }
}

static void take_message(tob_follower *follower, const uint8_t *bytes, size_t n) {
    ProtobufCMessage *message = NULL;
    tob_arena_clear(follower->arena);
    tob_error err =
        tob_arena_unpack(follower->arena, &tobogganing__v1__bus_message__descriptor, bytes, n, &message);
    if (err) {
        // Its bucket's next message, or the heartbeat, shows that it is missing.
        if (!follower->malformed) {
            tob_warn("bus_message_refused", TOB_ERR(err), TOB_UINT("bytes", n));
        }
        follower->malformed = true;
        return;
    }
    follower->malformed = false;
    tob_follow_bus(follower->follow, (const Tobogganing__V1__BusMessage *)message, now());
}

// False when no more messages wait.
static bool take_messages(tob_follower *follower) {
    const uint8_t *bytes = NULL;
    size_t n = 0;
    for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
        if (!tob_bus_subscriber_receive(follower->bus, &bytes, &n)) {
            return false;
        }
        take_message(follower, bytes, n);
    }
    return true;
}

static void *run(void *user) {
    tob_follower *follower = user;
    while (!atomic_load(&follower->stopping)) {
        bool more = take_messages(follower);
        take_answer(follower);
        tob_follow_tick(follower->follow, now());
        ask(follower);
        struct pollfd fds[] = {{.fd = tob_bus_subscriber_fd(follower->bus), .events = POLLIN},
                               {.fd = follower->wake_fd, .events = POLLIN}};
        poll(fds, 2, more ? 0 : TICK_MS);
        uint64_t ignored = 0;
        if ((fds[1].revents & POLLIN) && read(follower->wake_fd, &ignored, sizeof(ignored)) < 0) {
            continue; // somebody else's wake was read: nothing to do
        }
    }
    return NULL;
}

tob_error tob_follower_new(tob_follow *follow, const char *bus_urls, tob_follower **ret) {
    tob_follower *follower = calloc(1, sizeof(*follower));
    if (!follower) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&follower->lock, NULL);
    follower->follow = follow;
    follower->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    tob_error err = follower->wake_fd < 0 ? TOB_INTERNAL : TOB_OK;
    if (!err) {
        err = tob_arena_new(TOB_FOLLOWER_MAX_ARENA_BYTES, &follower->arena);
    }
    if (!err) {
        err = tob_bus_subscriber_new(bus_urls, &follower->bus);
    }
    if (err) {
        tob_follower_free(follower);
        return err;
    }
    *ret = follower;
    return TOB_OK;
}

void tob_follower_free(tob_follower *follower) {
    if (!follower) {
        return;
    }
    tob_bus_subscriber_free(follower->bus);
    tob_arena_free(follower->arena);
    free(follower->answer.body);
    if (follower->wake_fd >= 0) {
        close(follower->wake_fd);
    }
    pthread_mutex_destroy(&follower->lock);
    free(follower);
}

tob_error tob_follower_start(tob_follower *follower, tob_rpc_client *client) {
    follower->client = client;
    atomic_store(&follower->stopping, false);
    if (pthread_create(&follower->thread, NULL, run, follower) != 0) {
        return TOB_NO_MEMORY;
    }
    follower->running = true;
    return TOB_OK;
}

void tob_follower_stop(tob_follower *follower) {
    if (!follower || !follower->running) {
        return;
    }
    atomic_store(&follower->stopping, true);
    wake(follower);
    pthread_join(follower->thread, NULL);
    follower->running = false;
}
