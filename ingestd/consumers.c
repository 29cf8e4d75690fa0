#include "ingestd/consumers.h"

#include <stdlib.h>
#include <string.h>

struct tob_consumers {
    tob_consumer all[TOB_CONSUMERS_MAX]; // by name
    size_t count;
};

tob_error tob_consumers_new(tob_consumers **ret) {
    tob_consumers *consumers = calloc(1, sizeof(*consumers));
    if (!consumers) {
        return TOB_NO_MEMORY;
    }
    *ret = consumers;
    return TOB_OK;
}

void tob_consumers_free(tob_consumers *consumers) {
    free(consumers);
}

const tob_consumer *tob_consumers_all(const tob_consumers *consumers, size_t *ret_count) {
    *ret_count = consumers->count;
    return consumers->all;
}

// Where the name is, or would go.
static size_t place_of(const tob_consumers *consumers, const char *name) {
    size_t at = 0;
    while (at < consumers->count && strcmp(consumers->all[at].name, name) < 0) {
        at++;
    }
    return at;
}

static bool is_at(const tob_consumers *consumers, size_t at, const char *name) {
    return at < consumers->count && strcmp(consumers->all[at].name, name) == 0;
}

const tob_consumer *tob_consumers_find(const tob_consumers *consumers, const char *name) {
    size_t at = place_of(consumers, name);
    return is_at(consumers, at, name) ? &consumers->all[at] : NULL;
}

tob_error tob_consumers_put(tob_consumers *consumers, const char *name, tob_position position) {
    size_t len = strlen(name);
    if (!tob_id_valid(name, len)) {
        return TOB_INVALID;
    }
    size_t at = place_of(consumers, name);
    tob_consumer *consumer = &consumers->all[at];
    if (!is_at(consumers, at, name)) {
        if (consumers->count == TOB_CONSUMERS_MAX) {
            return TOB_BUSY;
        }
        memmove(consumer + 1, consumer, (consumers->count - at) * sizeof(*consumer));
        *consumer = (tob_consumer){.holder = 0};
        memcpy(consumer->name, name, len + 1);
        consumers->count++;
    }
    consumer->position = position;
    return TOB_OK;
}

void tob_consumers_forget(tob_consumers *consumers, const char *name) {
    size_t at = place_of(consumers, name);
    if (is_at(consumers, at, name)) {
        consumers->count--;
        memmove(&consumers->all[at], &consumers->all[at + 1],
                (consumers->count - at) * sizeof(consumers->all[0]));
    }
}

tob_error tob_consumers_lease(tob_consumers *consumers, const char *name, uint64_t holder, uint64_t now_ms,
                              uint64_t until_ms, uint64_t *ret_wait_ms) {
    size_t at = place_of(consumers, name);
    if (!is_at(consumers, at, name)) {
        return TOB_NOT_FOUND;
    }
    tob_consumer *consumer = &consumers->all[at];
    if (consumer->holder != 0 && consumer->holder != holder && consumer->lease_until_ms > now_ms) {
        *ret_wait_ms = consumer->lease_until_ms - now_ms;
        return TOB_ABORTED;
    }
    consumer->holder = until_ms ? holder : 0;
    consumer->lease_until_ms = until_ms;
    return TOB_OK;
}
