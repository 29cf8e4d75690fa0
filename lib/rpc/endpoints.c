#include "rpc/endpoints.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/resolver.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/text.h"

#define MAX_HOST_BYTES 255
#define ADDRESS_BYTES  (sizeof("tcp://") + TOB_RESOLVER_ADDRESS_BYTES + sizeof(":65535"))

typedef char address[ADDRESS_BYTES];

// One URL.
typedef struct target {
    char host[MAX_HOST_BYTES + 1];
    uint16_t port;
    bool numeric;
    address *addresses; // sorted
    size_t count;
    uint64_t asked_ms; // monotonic, as the next two
    uint64_t due_ms;
    uint64_t backoff_ms;
} target;

// Shared by the owner and the thread: a resolver that hangs is left behind, and its thread frees what is left.
struct tob_endpoints {
    tob_resolver resolver;
    tob_endpoints_fn fn;
    void *user;
    target *targets; // of the thread, once it runs, but for due_ms, which is under the lock
    size_t target_count;
    address *told; // what `fn` was told last
    size_t told_count;

    pthread_mutex_t lock; // guards what follows
    pthread_cond_t changed;
    unsigned references;
    bool stopping;
    bool telling; // the thread is in `fn`
};

// HOST:PORT of a URL. The host may be in brackets, which stay.
static tob_error parse_url(const char *url, size_t len, target *to) {
    char text[sizeof("tcp://") + MAX_HOST_BYTES + sizeof(":65535")];
    uint64_t port = 0;
    if (len >= sizeof(text) || len < 6 || strncmp(url, "tcp://", 6) != 0) {
        return TOB_INVALID;
    }
    snprintf(text, sizeof(text), "%.*s", (int)(len - 6), url + 6);
    char *colon = strrchr(text, ':');
    if (!colon || colon == text || tob_parse_u64(colon + 1, UINT16_MAX, &port) != TOB_OK || port == 0) {
        return TOB_INVALID;
    }
    *colon = 0;
    size_t n = strlen(text);
    bool brackets = text[0] == '[' && text[n - 1] == ']';
    struct in6_addr v6;
    struct in_addr v4;
    if (n > MAX_HOST_BYTES || (!brackets && strpbrk(text, ":[]/@ \t"))) {
        return TOB_INVALID;
    }
    memcpy(to->host, text, n + 1);
    to->port = (uint16_t)port;
    if (brackets) {
        text[n - 1] = 0;
        to->numeric = true;
        return inet_pton(AF_INET6, text + 1, &v6) == 1 ? TOB_OK : TOB_INVALID;
    }
    to->numeric = inet_pton(AF_INET, text, &v4) == 1;
    return TOB_OK;
}

bool tob_endpoints_is_url(const char *url) {
    target t;
    return parse_url(url, strlen(url), &t) == TOB_OK;
}

static int compare_addresses(const void *a, const void *b) {
    return strcmp(a, b);
}

static tob_error set_addresses(target *t, tob_resolver_address *hosts, size_t count) {
    address *addresses = calloc(count ? count : 1, sizeof(*addresses));
    if (!addresses) {
        return TOB_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "tcp://%.*s:%u", TOB_RESOLVER_ADDRESS_BYTES - 1,
                 hosts[i], t->port);
    }
    qsort(addresses, count, sizeof(*addresses), compare_addresses);
    free(t->addresses);
    t->addresses = addresses;
    t->count = count;
    return TOB_OK;
}

static tob_error add_target(tob_endpoints *endpoints, const char *url, size_t len) {
    if (endpoints->target_count == TOB_ENDPOINTS_MAX_URLS) {
        return TOB_TOO_LARGE;
    }
    target *t = &endpoints->targets[endpoints->target_count];
    tob_error err = parse_url(url, len, t);
    if (!err && t->numeric) {
        tob_resolver_address host;
        snprintf(host, sizeof(host), "%.*s", (int)sizeof(host) - 1, t->host);
        err = set_addresses(t, &host, 1);
    }
    endpoints->target_count += !err;
    return err;
}

static void release(tob_endpoints *endpoints) {
    pthread_mutex_lock(&endpoints->lock);
    bool last = --endpoints->references == 0;
    pthread_mutex_unlock(&endpoints->lock);
    if (!last) {
        return;
    }
    for (size_t i = 0; endpoints->targets && i < endpoints->target_count; i++) {
        free(endpoints->targets[i].addresses);
    }
    pthread_cond_destroy(&endpoints->changed);
    pthread_mutex_destroy(&endpoints->lock);
    free(endpoints->targets);
    free(endpoints->told);
    free(endpoints);
}

tob_error tob_endpoints_new_with(const tob_resolver *resolver, const char *urls, tob_endpoints_fn fn,
                                 void *user, tob_endpoints **ret) {
    tob_endpoints *endpoints = calloc(1, sizeof(*endpoints));
    if (!endpoints) {
        return TOB_NO_MEMORY;
    }
    endpoints->resolver = *resolver;
    endpoints->fn = fn;
    endpoints->user = user;
    endpoints->references = 1;
    pthread_mutex_init(&endpoints->lock, NULL);
    tob_cond_init(&endpoints->changed);
    endpoints->targets = calloc(TOB_ENDPOINTS_MAX_URLS, sizeof(*endpoints->targets));
    endpoints->told = calloc(TOB_ENDPOINTS_MAX_ADDRESSES, sizeof(*endpoints->told));
    tob_error err = endpoints->targets && endpoints->told ? TOB_OK : TOB_NO_MEMORY;
    for (const char *url = urls; url && !err;) {
        size_t len = strcspn(url, ",");
        err = add_target(endpoints, url, len);
        url = url[len] ? url + len + 1 : NULL;
    }
    if (err) {
        release(endpoints);
        return err;
    }
    *ret = endpoints;
    return TOB_OK;
}

tob_error tob_endpoints_new(const char *urls, tob_endpoints_fn fn, void *user, tob_endpoints **ret) {
    return tob_endpoints_new_with(&tob_resolver_system, urls, fn, user, ret);
}

static bool contains(address *addresses, size_t count, const char *one) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(addresses[i], one) == 0) {
            return true;
        }
    }
    return false;
}

// All addresses, each once; those past the cap are left out. Returns whether they are others than `fn` was told last.
static bool gather(tob_endpoints *endpoints, address *all, size_t *ret_count) {
    size_t count = 0;
    for (size_t i = 0; i < endpoints->target_count; i++) {
        const target *t = &endpoints->targets[i];
        for (size_t j = 0; j < t->count && count < TOB_ENDPOINTS_MAX_ADDRESSES; j++) {
            if (!contains(all, count, t->addresses[j])) {
                memcpy(all[count++], t->addresses[j], sizeof(address));
            }
        }
    }
    bool same = count == endpoints->told_count;
    for (size_t i = 0; i < count && same; i++) {
        same = strcmp(all[i], endpoints->told[i]) == 0;
    }
    *ret_count = count;
    return !same;
}

static void tell(tob_endpoints *endpoints, bool always) {
    static_assert(TOB_ENDPOINTS_MAX_ADDRESSES * sizeof(address) < 65536, "fits a thread's stack");
    address all[TOB_ENDPOINTS_MAX_ADDRESSES];
    const char *pointers[TOB_ENDPOINTS_MAX_ADDRESSES];
    size_t count = 0;
    if (!gather(endpoints, all, &count) && !always) {
        return;
    }
    pthread_mutex_lock(&endpoints->lock);
    bool stopping = endpoints->stopping;
    endpoints->telling = !stopping;
    pthread_mutex_unlock(&endpoints->lock);
    if (stopping) {
        return;
    }
    memcpy(endpoints->told, all, count * sizeof(address));
    endpoints->told_count = count;
    for (size_t i = 0; i < count; i++) {
        pointers[i] = endpoints->told[i];
    }
    endpoints->fn(endpoints->user, pointers, count);
    pthread_mutex_lock(&endpoints->lock);
    endpoints->telling = false;
    pthread_cond_broadcast(&endpoints->changed);
    pthread_mutex_unlock(&endpoints->lock);
}

// Asks for one name and says when to ask again.
static void resolve(tob_endpoints *endpoints, target *t) {
    static_assert(TOB_RESOLVER_MAX_ADDRESSES * sizeof(tob_resolver_address) < 65536, "fits a thread's stack");
    const tob_resolver *resolver = &endpoints->resolver;
    tob_resolver_address found[TOB_RESOLVER_MAX_ADDRESSES];
    size_t count = 0;
    tob_error err = resolver->lookup(resolver->user, t->host, found, &count);
    if (!err) {
        err = set_addresses(t, found, count);
    }
    uint64_t wait_ms = resolver->resolve_ms;
    if (err) {
        t->backoff_ms = t->backoff_ms ? t->backoff_ms * 2 : resolver->retry_ms;
        wait_ms = t->backoff_ms = t->backoff_ms < wait_ms ? t->backoff_ms : wait_ms;
    } else {
        t->backoff_ms = 0;
    }
    pthread_mutex_lock(&endpoints->lock);
    t->asked_ms = tob_clock_monotonic_ms();
    t->due_ms = t->asked_ms + wait_ms;
    pthread_mutex_unlock(&endpoints->lock);
}

// The name that is due first, or NULL. The lock is held.
static target *next_name(const tob_endpoints *endpoints) {
    target *next = NULL;
    for (size_t i = 0; i < endpoints->target_count; i++) {
        target *t = &endpoints->targets[i];
        if (!t->numeric && (!next || t->due_ms < next->due_ms)) {
            next = t;
        }
    }
    return next;
}

// Waits for the next name that is due; NULL when it is time to stop.
static target *wait_for_name(tob_endpoints *endpoints) {
    target *t = NULL;
    pthread_mutex_lock(&endpoints->lock);
    while (!endpoints->stopping && !t) {
        target *next = next_name(endpoints);
        if (next->due_ms <= tob_clock_monotonic_ms()) {
            t = next;
        } else {
            tob_cond_wait_until(&endpoints->changed, &endpoints->lock, next->due_ms);
        }
    }
    bool stopping = endpoints->stopping;
    pthread_mutex_unlock(&endpoints->lock);
    return stopping ? NULL : t;
}

static void *run(void *arg) {
    tob_endpoints *endpoints = arg;
    for (target *t = wait_for_name(endpoints); t; t = wait_for_name(endpoints)) {
        resolve(endpoints, t);
        tell(endpoints, false);
    }
    release(endpoints);
    return NULL;
}

tob_error tob_endpoints_start(tob_endpoints *endpoints) {
    pthread_t thread;
    tell(endpoints, true);
    pthread_mutex_lock(&endpoints->lock);
    bool names = next_name(endpoints) != NULL;
    endpoints->references += names;
    pthread_mutex_unlock(&endpoints->lock);
    if (names && pthread_create(&thread, NULL, run, endpoints) != 0) {
        release(endpoints);
        return TOB_NO_MEMORY;
    }
    if (names) {
        pthread_detach(thread);
    }
    return TOB_OK;
}

void tob_endpoints_hurry(tob_endpoints *endpoints) {
    pthread_mutex_lock(&endpoints->lock);
    for (size_t i = 0; i < endpoints->target_count; i++) {
        target *t = &endpoints->targets[i];
        uint64_t soon = t->asked_ms + endpoints->resolver.retry_ms;
        if (!t->numeric && t->asked_ms && soon < t->due_ms) {
            t->due_ms = soon;
        }
    }
    pthread_cond_broadcast(&endpoints->changed);
    pthread_mutex_unlock(&endpoints->lock);
}

void tob_endpoints_stop(tob_endpoints *endpoints) {
    pthread_mutex_lock(&endpoints->lock);
    endpoints->stopping = true;
    pthread_cond_broadcast(&endpoints->changed);
    while (endpoints->telling) {
        pthread_cond_wait(&endpoints->changed, &endpoints->lock);
    }
    pthread_mutex_unlock(&endpoints->lock);
}

void tob_endpoints_free(tob_endpoints *endpoints) {
    if (endpoints) {
        tob_endpoints_stop(endpoints);
        release(endpoints);
    }
}
