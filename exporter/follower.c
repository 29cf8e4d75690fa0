#include "exporter/follower.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "exporter/bus_subscriber.h"
#include "exporter/peers.h"
#include "rpc/endpoints.h"
#include "util/clock.h"
#include "util/log.h"
#include "wire/arena.h"

#define TICK_MS          200
#define MESSAGES_AT_ONCE 1000 // before pages and time get their turn

struct tob_follower {
    tob_instances *instances;
    tob_bus_subscriber *bus;
    tob_peers *peers;
    tob_endpoints *bus_endpoints;
    tob_endpoints *ingest_endpoints;
    size_t expected; // addresses behind the ingest URLs, at least
    tob_arena *arena;
    int wake_fd;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    bool malformed; // the last bus message was, and that is logged
};

static tob_moment now(void) {
    return (tob_moment){.monotonic_ms = tob_clock_monotonic_ms(), .unix_ms = tob_clock_unix_ms()};
}

static void wake(void *user) {
    tob_follower *follower = user;
    uint64_t one = 1;
    ssize_t ignored = write(follower->wake_fd, &one, sizeof(one));
    (void)ignored; // it fails only when it is already readable
}

// The next two run on the endpoints' threads.
static void on_bus_addresses(void *user, const char *const *addresses, size_t count) {
    tob_follower *follower = user;
    tob_error err = tob_bus_subscriber_dial(follower->bus, addresses, count);
    tob_info("bus_addresses", TOB_UINT("count", count));
    if (err) {
        tob_err("bus_dial_failed", TOB_ERR(err));
    }
}

static void on_ingest_addresses(void *user, const char *const *addresses, size_t count) {
    tob_follower *follower = user;
    tob_error err = tob_peers_set_addresses(follower->peers, addresses, count);
    tob_info("ingest_addresses", TOB_UINT("count", count));
    if (err) {
        tob_err("ingest_dial_failed", TOB_ERR(err));
    }
    wake(follower);
}

static void ask(tob_follower *follower) {
    tob_behind behind[TOB_PEERS_MAX];
    tob_page_request request;
    tob_peers_tick(follower->peers, tob_clock_monotonic_ms());
    size_t count = tob_peers_behind(follower->peers, behind);
    for (size_t i = 0; i < count; i++) {
        uint64_t instance = behind[i].instance;
        if (!behind[i].idle || !tob_instances_request(follower->instances, instance, now(), &request)) {
            continue;
        }
        tob_error err = tob_peers_call(follower->peers, instance, &request);
        if (err) {
            tob_instances_page_failed(follower->instances, instance, err, "", 0, now());
        }
    }
    tob_instances_check_ready(follower->instances, behind, count, follower->expected, now());
}

static void take_page(tob_follower *follower, const tob_peer_answer *a) {
    ProtobufCMessage *page = NULL;
    bool snapshot = a->kind == TOB_RESYNC_SNAPSHOT;
    tob_error err = a->error;
    if (!err) {
        tob_arena_clear(follower->arena);
        err = tob_arena_unpack(follower->arena,
                               snapshot ? &tobogganing__v1__snapshot_response__descriptor
                                        : &tobogganing__v1__replay_response__descriptor,
                               a->body, a->body_len, &page);
    }
    if (err) {
        tob_instances_page_failed(follower->instances, a->instance, err, a->message, a->retry_after_ms,
                                  now());
    } else if (snapshot) {
        tob_instances_snapshot(follower->instances, a->instance,
                               (const Tobogganing__V1__SnapshotResponse *)page, a->body_len, now());
    } else {
        tob_instances_replay(follower->instances, a->instance, (const Tobogganing__V1__ReplayResponse *)page,
                             a->body_len, now());
    }
}

static void take_answers(tob_follower *follower) {
    tob_peer_answer answer;
    while (tob_peers_take(follower->peers, &answer)) {
        if (answer.kind == TOB_RESYNC_NONE) {
            tob_instances_hello(follower->instances, answer.instance, answer.epoch, now());
        } else {
            take_page(follower, &answer);
        }
        tob_peer_answer_clear(&answer);
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
    tob_instances_bus(follower->instances, (const Tobogganing__V1__BusMessage *)message, now());
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
        take_answers(follower);
        tob_instances_tick(follower->instances, now());
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

static size_t count_urls(const char *urls) {
    size_t count = 0;
    bool in_url = false;
    for (; *urls; urls++) {
        bool separator = *urls == ',' || *urls == ' ';
        count += !separator && !in_url;
        in_url = !separator;
    }
    return count;
}

static tob_error make_endpoints(tob_follower *follower, const tob_follower_options *options,
                                const char **ret_at_fault) {
    tob_error err =
        tob_endpoints_new(options->bus_urls, on_bus_addresses, follower, &follower->bus_endpoints);
    if (err) {
        *ret_at_fault = "bus";
        return err;
    }
    err = tob_endpoints_new(options->ingest_urls, on_ingest_addresses, follower, &follower->ingest_endpoints);
    *ret_at_fault = "ingest";
    return err;
}

tob_error tob_follower_new(const tob_follower_options *options, tob_follower **ret,
                           const char **ret_at_fault) {
    tob_follower *follower = calloc(1, sizeof(*follower));
    if (!follower) {
        return TOB_NO_MEMORY;
    }
    follower->instances = options->instances;
    follower->expected = count_urls(options->ingest_urls);
    follower->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    tob_error err = follower->wake_fd < 0 ? TOB_INTERNAL : TOB_OK;
    if (!err) {
        err = tob_arena_new(TOB_FOLLOWER_MAX_ARENA_BYTES, &follower->arena);
    }
    if (!err) {
        err = tob_bus_subscriber_new(options->buckets ? options->buckets : UINT64_MAX, &follower->bus);
    }
    if (!err) {
        err = tob_peers_new(options->bearer, wake, follower, &follower->peers);
    }
    if (!err) {
        err = make_endpoints(follower, options, ret_at_fault);
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
    tob_follower_stop(follower);
    tob_endpoints_free(follower->bus_endpoints);
    tob_endpoints_free(follower->ingest_endpoints);
    tob_peers_free(follower->peers);
    tob_bus_subscriber_free(follower->bus);
    tob_arena_free(follower->arena);
    if (follower->wake_fd >= 0) {
        close(follower->wake_fd);
    }
    free(follower);
}

tob_error tob_follower_start(tob_follower *follower) {
    tob_error err = tob_endpoints_start(follower->bus_endpoints);
    if (!err) {
        err = tob_endpoints_start(follower->ingest_endpoints);
    }
    if (err) {
        return err;
    }
    if (pthread_create(&follower->thread, NULL, run, follower) != 0) {
        return TOB_NO_MEMORY;
    }
    follower->running = true;
    return TOB_OK;
}

tob_error tob_follower_set_bearer(tob_follower *follower, const char *bearer) {
    return tob_peers_set_bearer(follower->peers, bearer);
}

void tob_follower_stop(tob_follower *follower) {
    if (!follower) {
        return;
    }
    if (follower->bus_endpoints) {
        tob_endpoints_stop(follower->bus_endpoints);
    }
    if (follower->ingest_endpoints) {
        tob_endpoints_stop(follower->ingest_endpoints);
    }
    if (follower->running) {
        atomic_store(&follower->stopping, true);
        wake(follower);
        pthread_join(follower->thread, NULL);
        follower->running = false;
    }
    if (follower->peers) {
        tob_peers_stop(follower->peers);
    }
}
