#include "ingestd/limiter.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "util/log.h"
#include "util/random.h"

enum {
    WAYS = 8, // places that one address can have
    SETS = TOB_LIMITER_ENTRIES / WAYS,
    LOCKS = 64,
    KEY_BYTES = 16,
    PREFIX_BYTES = 8, // of an IPv6 address
};

// An address: as IPv6, IPv4 mapped into it (RFC 4291 §2.5.5.2), with what follows the /64 cleared.
typedef struct key {
    uint8_t bytes[KEY_BYTES];
} key;

// A bucket, by the time at which it will have filled again: what it lacks now is what time it lacks until then (the GCRA of
// ITU-T I.371).
typedef struct entry {
    key address;
    uint64_t full_at_ms;
    uint64_t failed_ms; // last; 0: nobody's
    uint64_t logged_ms;
} entry;

struct tob_limiter {
    uint64_t burst_ms; // in which an empty bucket fills
    uint64_t seed;     // so that nobody knows which addresses share their places
    pthread_mutex_t locks[LOCKS];
    entry sets[SETS][WAYS];
};

static const key no_address = {{0xff, 0xff, 0xff, 0xff}}; // a multicast address: nobody's own

tob_error tob_limiter_new(uint64_t burst, tob_limiter **ret) {
    tob_limiter *limiter = calloc(1, sizeof(*limiter));
    if (!limiter) {
        return TOB_NO_MEMORY;
    }
    limiter->burst_ms = burst * TOB_LIMITER_REFILL_MS;
    limiter->seed = tob_random_u64();
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&limiter->locks[i], NULL);
    }
    *ret = limiter;
    return TOB_OK;
}

void tob_limiter_free(tob_limiter *limiter) {
    if (!limiter) {
        return;
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_destroy(&limiter->locks[i]);
    }
    free(limiter);
}

static key key_of(const char *address) {
    struct in_addr ipv4;
    struct in6_addr ipv6 = {{{0}}};
    key of = no_address;
    if (inet_pton(AF_INET, address, &ipv4) == 1) {
        ipv6.s6_addr[10] = ipv6.s6_addr[11] = 0xff;
        memcpy(ipv6.s6_addr + 12, &ipv4, sizeof(ipv4));
    } else if (inet_pton(AF_INET6, address, &ipv6) != 1) {
        return of;
    }
    bool mapped = IN6_IS_ADDR_V4MAPPED(&ipv6);
    memset(of.bytes, 0, sizeof(of.bytes));
    memcpy(of.bytes, ipv6.s6_addr, mapped ? KEY_BYTES : PREFIX_BYTES);
    return of;
}

static bool same(const key *a, const key *b) {
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static size_t set_of(const tob_limiter *limiter, const key *address) {
    return XXH3_64bits_withSeed(address->bytes, sizeof(address->bytes), limiter->seed) % SETS;
}

// The entry of an address, or NULL. The set's lock is held.
static entry *find(tob_limiter *limiter, size_t set, const key *address) {
    for (size_t i = 0; i < WAYS; i++) {
        entry *e = &limiter->sets[set][i];
        if (e->failed_ms && same(&e->address, address)) {
            return e;
        }
    }
    return NULL;
}

static entry *find_or_add(tob_limiter *limiter, size_t set, const key *address) {
    entry *e = find(limiter, set, address);
    if (e) {
        return e;
    }
    e = limiter->sets[set];
    for (size_t i = 1; i < WAYS; i++) {
        entry *other = &limiter->sets[set][i];
        e = other->failed_ms < e->failed_ms ? other : e;
    }
    *e = (entry){.address = *address};
    return e;
}

// Is the bucket empty? Until one attempt is in it again it takes *ret_retry_ms then.
static bool is_empty(const tob_limiter *limiter, const entry *e, uint64_t now_ms, uint64_t *ret_retry_ms) {
    uint64_t lacks_ms = e && e->full_at_ms > now_ms ? e->full_at_ms - now_ms : 0;
    if (lacks_ms + TOB_LIMITER_REFILL_MS <= limiter->burst_ms) {
        return false;
    }
    *ret_retry_ms = lacks_ms + TOB_LIMITER_REFILL_MS - limiter->burst_ms;
    return true;
}

bool tob_limiter_failed(tob_limiter *limiter, const char *address, uint64_t now_ms, uint64_t *ret_retry_ms) {
    key of = key_of(address);
    size_t set = set_of(limiter, &of);
    pthread_mutex_t *lock = &limiter->locks[set % LOCKS];
    pthread_mutex_lock(lock);
    entry *e = find_or_add(limiter, set, &of);
    bool empty = is_empty(limiter, e, now_ms, ret_retry_ms);
    if (!empty) {
        e->full_at_ms = (e->full_at_ms > now_ms ? e->full_at_ms : now_ms) + TOB_LIMITER_REFILL_MS;
    }
    e->failed_ms = now_ms ? now_ms : 1;
    pthread_mutex_unlock(lock);
    return empty;
}

bool tob_limiter_full(tob_limiter *limiter, const char *address, uint64_t now_ms, uint64_t *ret_retry_ms) {
    key of = key_of(address);
    size_t set = set_of(limiter, &of);
    pthread_mutex_t *lock = &limiter->locks[set % LOCKS];
    pthread_mutex_lock(lock);
    bool empty = is_empty(limiter, find(limiter, set, &of), now_ms, ret_retry_ms);
    pthread_mutex_unlock(lock);
    return empty;
}

// Once in TOB_LIMITER_LOG_MS. Whose entry others have taken is not told of: somebody who has so many addresses would fill
// the log.
static bool worth_a_line(tob_limiter *limiter, const key *address, uint64_t now_ms) {
    size_t set = set_of(limiter, address);
    pthread_mutex_t *lock = &limiter->locks[set % LOCKS];
    pthread_mutex_lock(lock);
    entry *e = find(limiter, set, address);
    bool worth = e && (!e->logged_ms || now_ms >= e->logged_ms + TOB_LIMITER_LOG_MS);
    if (worth) {
        e->logged_ms = now_ms ? now_ms : 1;
    }
    pthread_mutex_unlock(lock);
    return worth;
}

static void write_address(const key *address, char *to, size_t n) {
    char text[INET6_ADDRSTRLEN] = "";
    struct in6_addr ipv6;
    memcpy(ipv6.s6_addr, address->bytes, sizeof(address->bytes));
    if (same(address, &no_address)) {
        snprintf(to, n, "unknown");
    } else if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
        (void)!inet_ntop(AF_INET, ipv6.s6_addr + 12, text, sizeof(text));
        snprintf(to, n, "%s", text);
    } else {
        (void)!inet_ntop(AF_INET6, &ipv6, text, sizeof(text));
        snprintf(to, n, "%s/64", text);
    }
}

void tob_limiter_log(tob_limiter *limiter, const char *address, const char *type, uint64_t now_ms) {
    char text[INET6_ADDRSTRLEN + 4];
    key of = key_of(address);
    if (!worth_a_line(limiter, &of, now_ms)) {
        return;
    }
    write_address(&of, text, sizeof(text));
    tob_warn("credentials_limited", TOB_STR("address", text), TOB_STR("type", type),
             TOB_STR("reason", "too many wrong credentials came from there"));
}
