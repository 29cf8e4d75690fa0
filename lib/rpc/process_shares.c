#include "rpc/process_shares.h"

#include <stdlib.h>
#include <string.h>

#include "util/random.h"

void tob_process_shares_fini(tob_process_shares *shares) {
    for (size_t i = 0; i < shares->count; i++) {
        free(shares->shares[i]);
    }
    shares->count = 0;
}

// Another id, from 0.
static void renew(tob_process_share *share, uint64_t now_ms, uint64_t now_unix_ms) {
    share->id = tob_random_u64();
    if (share->id == TOB_PROCESS_RETIRED) {
        share->id++;
    }
    share->started_unix_ms = now_unix_ms;
    share->acked_ms = now_ms;
    share->dirty = false;
    share->ever_sent = false;
    memcpy(share->base, share->sent, sizeof(share->base));
}

// The share that can best be spared.
static size_t spare(const tob_process_shares *shares) {
    size_t best = 0;
    for (size_t i = 1; i < shares->count; i++) {
        const tob_process_share *a = shares->shares[i];
        const tob_process_share *b = shares->shares[best];
        if (a->dirty != b->dirty ? b->dirty : a->acked_ms < b->acked_ms) {
            best = i;
        }
    }
    return best;
}

static void settle(tob_process_shares *shares, size_t i) {
    tob_process_share *share = shares->shares[i];
    for (size_t k = 0; k < share->count; k++) {
        shares->settled[k] += share->sent[k];
    }
    free(share);
    shares->shares[i] = shares->shares[--shares->count];
}

tob_error tob_process_shares_of(tob_process_shares *shares, uint64_t key, uint64_t now_ms,
                                uint64_t now_unix_ms, tob_process_share **ret) {
    tob_process_share *share = NULL;
    for (size_t i = 0; i < shares->count && !share; i++) {
        share = shares->shares[i]->key == key ? shares->shares[i] : NULL;
    }
    bool fresh = !share;
    if (fresh) {
        share = calloc(1, sizeof(*share));
        if (!share) {
            return TOB_NO_MEMORY;
        }
        share->key = key;
        if (shares->count == TOB_PROCESS_MAX_SHARES) {
            settle(shares, spare(shares));
        }
        shares->shares[shares->count++] = share;
    }
    if (fresh || now_ms - share->acked_ms > TOB_SHARE_STALE_MS) {
        renew(share, now_ms, now_unix_ms);
    }
    *ret = share;
    return TOB_OK;
}

void tob_process_shares_repeat(const tob_process_share *share, Tobogganing__V1__Process *message) {
    message->id = share->id;
    message->started_unix_ms = share->started_unix_ms;
    if (message->n_counters > share->count) {
        message->n_counters = share->count;
    }
    for (size_t k = 0; k < message->n_counters; k++) {
        message->counters[k]->value = share->sent[k] - share->base[k];
    }
}

void tob_process_shares_assign(const tob_process_shares *shares, tob_process_share *share,
                               Tobogganing__V1__Process *message) {
    size_t count = message->n_counters;
    memcpy(share->before, share->sent, sizeof(share->before));
    share->dirty = share->dirty || !share->ever_sent || count != share->count;
    for (size_t k = 0; k < count; k++) {
        uint64_t elsewhere = shares->settled[k];
        for (size_t i = 0; i < shares->count; i++) {
            elsewhere += shares->shares[i] != share ? shares->shares[i]->sent[k] : 0;
        }
        uint64_t ours = message->counters[k]->value - elsewhere; // the others took theirs from the same total
        share->dirty = share->dirty || ours != share->sent[k];
        share->sent[k] = ours;
    }
    share->count = count;
    tob_process_shares_repeat(share, message);
}

void tob_process_share_acked(tob_process_share *share, uint64_t now_ms) {
    share->dirty = false;
    share->ever_sent = true;
    share->acked_ms = now_ms;
}

void tob_process_share_lost(tob_process_share *share) {
    share->dirty = true;
    share->ever_sent = true;
}

void tob_process_share_not_taken(tob_process_share *share) {
    memcpy(share->sent, share->before, sizeof(share->sent));
}
