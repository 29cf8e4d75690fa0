#include "ingestd/expiries.h"

#include <pthread.h>
#include <stdlib.h>

struct tob_expiries {
    pthread_mutex_t lock;
    tob_expiry authority; // without a type: not known
    tob_expiry others[TOB_EXPIRIES_MAX - 1];
    size_t count;
};

tob_error tob_expiries_new(tob_expiries **ret) {
    tob_expiries *expiries = calloc(1, sizeof(*expiries));
    if (!expiries) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&expiries->lock, NULL);
    *ret = expiries;
    return TOB_OK;
}

void tob_expiries_free(tob_expiries *expiries) {
    if (!expiries) {
        return;
    }
    pthread_mutex_destroy(&expiries->lock);
    free(expiries);
}

void tob_expiries_set(tob_expiries *expiries, const tob_expiry *given, size_t count) {
    pthread_mutex_lock(&expiries->lock);
    expiries->count = 0;
    for (size_t i = 0; i < count && i < TOB_EXPIRIES_MAX - 1; i++) {
        expiries->others[expiries->count++] = given[i];
    }
    pthread_mutex_unlock(&expiries->lock);
}

void tob_expiries_set_authority(tob_expiries *expiries, uint64_t not_after_unix_s) {
    pthread_mutex_lock(&expiries->lock);
    expiries->authority = (tob_expiry){.type = "ca", .not_after_unix_s = not_after_unix_s};
    pthread_mutex_unlock(&expiries->lock);
}

size_t tob_expiries_get(tob_expiries *expiries, tob_expiry ret[TOB_EXPIRIES_MAX]) {
    size_t count = 0;
    pthread_mutex_lock(&expiries->lock);
    if (expiries->authority.type) {
        ret[count++] = expiries->authority;
    }
    for (size_t i = 0; i < expiries->count; i++) {
        ret[count++] = expiries->others[i];
    }
    pthread_mutex_unlock(&expiries->lock);
    return count;
}
