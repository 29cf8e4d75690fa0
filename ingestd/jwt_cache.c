#include "ingestd/jwt_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define WAYS 4

typedef struct entry {
    uint64_t generation;   // of the cache when it was put; 0: empty
    uint64_t until_unix_s; // good before
    uint8_t hash[TOB_SHA256_BYTES];
    tob_jwt_claims claims;
} entry;

struct tob_jwt_cache {
    pthread_mutex_t lock; // guards entries, generation
    size_t sets;
    uint64_t generation;
    entry entries[];
};

tob_error tob_jwt_cache_new(size_t entries, tob_jwt_cache **ret) {
    tob_jwt_cache *cache = calloc(1, sizeof(*cache) + entries * sizeof(entry)); // pages come when touched
    if (!cache) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&cache->lock, NULL);
    cache->sets = entries / WAYS;
    cache->generation = 1;
    *ret = cache;
    return TOB_OK;
}

void tob_jwt_cache_free(tob_jwt_cache *cache) {
    if (cache) {
        pthread_mutex_destroy(&cache->lock);
        free(cache);
    }
}

static entry *set_of(tob_jwt_cache *cache, const uint8_t hash[TOB_SHA256_BYTES]) {
    uint64_t number = 0;
    memcpy(&number, hash, sizeof(number));
    return &cache->entries[(number & (cache->sets - 1)) * WAYS];
}

bool tob_jwt_cache_find(tob_jwt_cache *cache, const uint8_t hash[TOB_SHA256_BYTES], uint64_t now_unix_s,
                        tob_jwt_claims *ret) {
    bool found = false;
    pthread_mutex_lock(&cache->lock);
    entry *set = set_of(cache, hash);
    for (size_t i = 0; i < WAYS && !found; i++) {
        if (set[i].generation == cache->generation && now_unix_s < set[i].until_unix_s &&
            tob_equal_constant_time(set[i].hash, hash, TOB_SHA256_BYTES)) {
            *ret = set[i].claims;
            found = true;
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

void tob_jwt_cache_put(tob_jwt_cache *cache, const uint8_t hash[TOB_SHA256_BYTES], uint64_t until_unix_s,
                       const tob_jwt_claims *claims) {
    pthread_mutex_lock(&cache->lock);
    entry *set = set_of(cache, hash), *place = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        bool is_empty = set[i].generation != cache->generation;
        if (is_empty || memcmp(set[i].hash, hash, TOB_SHA256_BYTES) == 0) {
            place = &set[i];
            break;
        }
        if (set[i].until_unix_s < place->until_unix_s) {
            place = &set[i];
        }
    }
    place->generation = cache->generation;
    place->until_unix_s = until_unix_s;
    memcpy(place->hash, hash, TOB_SHA256_BYTES);
    place->claims = *claims;
    pthread_mutex_unlock(&cache->lock);
}

void tob_jwt_cache_clear(tob_jwt_cache *cache) {
    pthread_mutex_lock(&cache->lock);
    cache->generation++;
    pthread_mutex_unlock(&cache->lock);
}
