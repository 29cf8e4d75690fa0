#include "ingestd/digests.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "util/index.h"

enum { CHUNK_SENDERS = 4096 };

// Senders in chunks that never move, in the order in which they came.
typedef struct generation {
    tob_sender_digests **chunks;
    size_t chunk_count;
    uint32_t count;
    uint64_t first; // number of the first sender
    tob_index index;
} generation;

// What a sender will have once everything queued is added.
typedef struct queued_sender {
    uint8_t sender[TOB_SENDER_BYTES];
    uint64_t digests[TOB_DIGESTS_BATCHES];
} queued_sender;

struct tob_digests {
    uint32_t max_senders;
    generation *newer;
    generation *older;
    int64_t started_unix_ms;  // of the newer; moved along with steps of the clock
    int64_t received_unix_ms; // of the last batch; -1: none yet
    queued_sender *queued;
    size_t queued_count;
    size_t queued_capacity;
    tob_index queued_index;
};

tob_batch_key tob_batch_key_of(const char *agent_id, uint64_t boot_id, const void *batch, size_t batch_len) {
    tob_batch_key key;
    uint8_t boot[8];
    XXH3_state_t state;
    XXH128_canonical_t canonical;
    for (size_t i = 0; i < sizeof(boot); i++) {
        boot[i] = (uint8_t)(boot_id >> (8 * i));
    }
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, agent_id, strlen(agent_id) + 1);
    XXH3_128bits_update(&state, boot, sizeof(boot));
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(key.sender, canonical.digest, sizeof(key.sender));
    uint64_t digest = XXH3_64bits(batch, batch_len);
    key.digest = digest ? digest : 1;
    return key;
}

// ---- a generation

static tob_sender_digests *sender_at(const generation *g, uint32_t i) {
    return &g->chunks[i / CHUNK_SENDERS][i % CHUNK_SENDERS];
}

static const char *sender_id(const void *owner, uint32_t row, size_t *ret_len) {
    *ret_len = TOB_SENDER_BYTES;
    return (const char *)sender_at(owner, row)->sender;
}

static tob_error generation_new(uint64_t first, generation **ret) {
    generation *g = calloc(1, sizeof(*g));
    if (!g) {
        return TOB_NO_MEMORY;
    }
    g->first = first;
    tob_index_init(&g->index, sender_id, g);
    *ret = g;
    return TOB_OK;
}

static void generation_free(generation *g) {
    if (!g) {
        return;
    }
    for (size_t i = 0; i < g->chunk_count; i++) {
        free(g->chunks[i]);
    }
    free(g->chunks);
    tob_index_fini(&g->index);
    free(g);
}

static tob_error generation_reserve(generation *g, size_t n) {
    while (g->count + n > g->chunk_count * CHUNK_SENDERS) {
        tob_sender_digests **chunks = realloc(g->chunks, (g->chunk_count + 1) * sizeof(*chunks));
        if (!chunks) {
            return TOB_NO_MEMORY;
        }
        g->chunks = chunks;
        chunks[g->chunk_count] = malloc(CHUNK_SENDERS * sizeof(**chunks));
        if (!chunks[g->chunk_count]) {
            return TOB_NO_MEMORY;
        }
        g->chunk_count++;
    }
    return tob_index_reserve(&g->index, n);
}

static tob_sender_digests *generation_find(const generation *g, const uint8_t sender[TOB_SENDER_BYTES]) {
    uint32_t row = tob_index_find(&g->index, (const char *)sender, TOB_SENDER_BYTES);
    return row == TOB_INDEX_NONE ? NULL : sender_at(g, row);
}

static tob_error generation_add(generation *g, const tob_sender_digests *sender) {
    tob_error err = generation_reserve(g, 1);
    if (err) {
        return err;
    }
    *sender_at(g, g->count) = *sender;
    return tob_index_add(&g->index, g->count++);
}

// ---- the two of them

static const char *queued_id(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_digests *d = owner;
    *ret_len = TOB_SENDER_BYTES;
    return (const char *)d->queued[row].sender;
}

tob_error tob_digests_new(uint32_t max_senders, tob_digests **ret) {
    tob_digests *d = calloc(1, sizeof(*d));
    if (!d) {
        return TOB_NO_MEMORY;
    }
    d->max_senders = max_senders;
    d->received_unix_ms = -1;
    tob_index_init(&d->queued_index, queued_id, d);
    tob_error err = generation_new(0, &d->older);
    if (!err) {
        err = generation_new(0, &d->newer);
    }
    if (err) {
        tob_digests_free(d);
        return err;
    }
    *ret = d;
    return TOB_OK;
}

void tob_digests_free(tob_digests *d) {
    if (d) {
        generation_free(d->older);
        generation_free(d->newer);
        tob_index_fini(&d->queued_index);
        free(d->queued);
        free(d);
    }
}

static const tob_sender_digests *find(const tob_digests *d, const uint8_t sender[TOB_SENDER_BYTES]) {
    const tob_sender_digests *found = generation_find(d->newer, sender);
    return found ? found : generation_find(d->older, sender);
}

// The last digests of a sender, queued ones included; NULL: unknown.
static const uint64_t *last_digests(const tob_digests *d, const uint8_t sender[TOB_SENDER_BYTES]) {
    uint32_t row = tob_index_find(&d->queued_index, (const char *)sender, TOB_SENDER_BYTES);
    if (row != TOB_INDEX_NONE) {
        return d->queued[row].digests;
    }
    const tob_sender_digests *found = find(d, sender);
    return found ? found->digests : NULL;
}

static bool has(const uint64_t digests[TOB_DIGESTS_BATCHES], uint64_t digest) {
    bool found = false;
    for (size_t i = 0; i < TOB_DIGESTS_BATCHES; i++) {
        found = found || digests[i] == digest;
    }
    return found;
}

// One that is there already stays where it is: recovery adds again what a page of the checkpoint has, and must not lose those
// before it.
static void push(uint64_t digests[TOB_DIGESTS_BATCHES], uint64_t digest) {
    for (size_t i = 0; i < TOB_DIGESTS_BATCHES; i++) {
        if (digests[i] == digest) {
            return;
        }
    }
    memmove(digests + 1, digests, (TOB_DIGESTS_BATCHES - 1) * sizeof(*digests));
    digests[0] = digest;
}

bool tob_digests_has(const tob_digests *d, const tob_batch_key *key) {
    const uint64_t *digests = last_digests(d, key->sender);
    return digests && has(digests, key->digest);
}

void tob_digests_prefetch(const tob_digests *d, const tob_batch_key *key, bool entry) {
    const char *id = (const char *)key->sender;
    if (!entry) {
        tob_index_prefetch(&d->newer->index, id, TOB_SENDER_BYTES);
        return;
    }
    uint32_t row = tob_index_guess(&d->newer->index, id, TOB_SENDER_BYTES);
    if (row != TOB_INDEX_NONE) {
        const tob_sender_digests *sender = sender_at(d->newer, row);
        __builtin_prefetch(sender);
        __builtin_prefetch((const char *)(sender + 1) - 1);
    }
}

tob_error tob_digests_reserve(tob_digests *d) {
    if (d->queued_count == d->queued_capacity) {
        size_t capacity = d->queued_capacity ? d->queued_capacity * 2 : 64;
        queued_sender *queued = realloc(d->queued, capacity * sizeof(*queued));
        if (!queued) {
            return TOB_NO_MEMORY;
        }
        d->queued = queued;
        d->queued_capacity = capacity;
    }
    tob_error err = tob_index_reserve(&d->queued_index, 1);
    return err ? err : generation_reserve(d->newer, d->queued_count + 1);
}

void tob_digests_queue(tob_digests *d, const tob_batch_key *key) {
    uint32_t row = tob_index_find(&d->queued_index, (const char *)key->sender, TOB_SENDER_BYTES);
    if (row == TOB_INDEX_NONE) {
        queued_sender next = {.digests = {0}};
        const tob_sender_digests *known = find(d, key->sender);
        memcpy(next.sender, key->sender, sizeof(next.sender));
        if (known) {
            memcpy(next.digests, known->digests, sizeof(next.digests));
        }
        row = (uint32_t)d->queued_count++;
        d->queued[row] = next;
        (void)!tob_index_add(&d->queued_index, row); // room was made for it
    }
    push(d->queued[row].digests, key->digest);
}

void tob_digests_forget_queued(tob_digests *d) {
    while (d->queued_count > 0) {
        d->queued_count--;
        tob_index_remove(&d->queued_index, (const char *)d->queued[d->queued_count].sender, TOB_SENDER_BYTES);
    }
}

// The newer generation becomes the older one. Without the memory for a new one, all stays as it is until the next batch.
static void rotate(tob_digests *d) {
    generation *next = NULL;
    if (generation_new(d->newer->first + d->newer->count, &next)) {
        return;
    }
    generation_free(d->older);
    d->older = d->newer;
    d->newer = next;
    d->started_unix_ms = d->received_unix_ms;
}

// Time goes on to a batch's, and the generations with it.
static void advance(tob_digests *d, int64_t received_unix_ms) {
    if (d->received_unix_ms >= 0) {
        int64_t passed = received_unix_ms - d->received_unix_ms;
        bool step = passed > TOB_DIGESTS_STEP_MS || passed < -TOB_DIGESTS_STEP_MS;
        d->started_unix_ms += step ? passed : 0;
    }
    d->received_unix_ms = received_unix_ms;
    if (d->newer->count == 0) {
        d->started_unix_ms = received_unix_ms;
    }
    if (received_unix_ms - d->started_unix_ms >= TOB_DIGESTS_ROTATE_MS) {
        rotate(d);
    }
}

tob_error tob_digests_add(tob_digests *d, const tob_batch_key *key, uint64_t received_unix_ms) {
    advance(d, (int64_t)received_unix_ms);
    uint32_t heard_unix_s = (uint32_t)(received_unix_ms / 1000);
    tob_sender_digests *known = generation_find(d->newer, key->sender);
    if (known) {
        push(known->digests, key->digest);
        known->heard_unix_s = heard_unix_s;
        return TOB_OK;
    }
    tob_sender_digests sender = {.heard_unix_s = heard_unix_s};
    const tob_sender_digests *before = generation_find(d->older, key->sender);
    memcpy(sender.sender, key->sender, sizeof(sender.sender));
    if (before) {
        memcpy(sender.digests, before->digests, sizeof(sender.digests));
    }
    push(sender.digests, key->digest);
    if (d->newer->count >= d->max_senders) {
        rotate(d);
    }
    return generation_add(d->newer, &sender);
}

// ---- checkpoints

tob_digests_range tob_digests_numbers(const tob_digests *d) {
    return (tob_digests_range){.older = d->older->first,
                               .newer = d->newer->first,
                               .end = d->newer->first + d->newer->count};
}

const tob_sender_digests *tob_digests_at(const tob_digests *d, uint64_t number) {
    const generation *g = number < d->newer->first ? d->older : d->newer;
    return sender_at(g, (uint32_t)(number - g->first));
}

tob_error tob_digests_restore(tob_digests *d, const tob_sender_digests *sender) {
    int64_t heard_unix_ms = (int64_t)sender->heard_unix_s * 1000;
    if (d->newer->count == 0 || heard_unix_ms < d->started_unix_ms) {
        d->started_unix_ms = heard_unix_ms;
    }
    tob_sender_digests *known = generation_find(d->newer, sender->sender);
    if (known) {
        *known = *sender;
        return TOB_OK;
    }
    if (d->newer->count >= d->max_senders) {
        rotate(d);
    }
    return generation_add(d->newer, sender);
}

void tob_digests_restore_newer(tob_digests *d) {
    rotate(d);
}
