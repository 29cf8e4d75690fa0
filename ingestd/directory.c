#include "ingestd/directory.h"

#include <stdlib.h>
#include <string.h>

#include "ingestd/directory_state.h"

tob_error tob_directory_new(tob_directory **ret) {
    tob_directory *directory = calloc(1, sizeof(*directory));
    if (!directory) {
        return TOB_NO_MEMORY;
    }
    // A revocation must not wait for a fleet of readers that never pauses.
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&directory->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    tob_directory_table_init(&directory->clients, sizeof(tob_directory_client));
    tob_directory_table_init(&directory->headends, sizeof(tob_directory_headend));
    *ret = directory;
    return TOB_OK;
}

tob_directory_client *tob_directory_client_at(const tob_directory *directory, size_t row) {
    return (tob_directory_client *)tob_directory_row(&directory->clients, row);
}

tob_directory_headend *tob_directory_headend_at(const tob_directory *directory, size_t row) {
    return (tob_directory_headend *)tob_directory_row(&directory->headends, row);
}

void tob_directory_free(tob_directory *directory) {
    if (!directory) {
        return;
    }
    for (size_t i = 0; i < directory->clients.count; i++) {
        free((char *)tob_directory_client_at(directory, i)->id);
        free((tob_directory_previous_key *)tob_directory_client_at(directory, i)->previous_key);
    }
    for (size_t i = 0; i < directory->headends.count; i++) {
        free((char *)tob_directory_headend_at(directory, i)->id);
    }
    tob_directory_table_fini(&directory->clients);
    tob_directory_table_fini(&directory->headends);
    pthread_rwlock_destroy(&directory->lock);
    free(directory);
}

void tob_directory_read_lock(tob_directory *directory) {
    pthread_rwlock_rdlock(&directory->lock);
}

void tob_directory_read_unlock(tob_directory *directory) {
    pthread_rwlock_unlock(&directory->lock);
}

const tob_directory_client *tob_directory_find_client(const tob_directory *directory, const char *id,
                                                      size_t len) {
    uint32_t row = tob_index_find(&directory->clients.by_id, id, len);
    return row == TOB_INDEX_NONE ? NULL : tob_directory_client_at(directory, row);
}

const tob_directory_headend *tob_directory_find_headend(const tob_directory *directory, const char *id,
                                                        size_t len) {
    uint32_t row = tob_index_find(&directory->headends.by_id, id, len);
    return row == TOB_INDEX_NONE ? NULL : tob_directory_headend_at(directory, row);
}

uint64_t tob_directory_clusters(const tob_directory *directory) {
    return atomic_load_explicit(&directory->registered_clusters, memory_order_relaxed);
}

uint64_t tob_directory_clients(const tob_directory *directory) {
    return atomic_load_explicit(&directory->registered_clients, memory_order_relaxed);
}

uint64_t tob_directory_headends(const tob_directory *directory) {
    return atomic_load_explicit(&directory->registered_headends, memory_order_relaxed);
}

void tob_directory_set_clusters(tob_directory *directory, uint64_t count) {
    atomic_store_explicit(&directory->registered_clusters, count, memory_order_relaxed);
}

tob_key_match tob_directory_match_key(const tob_directory_client *client,
                                      const uint8_t key_hash[TOB_SHA256_BYTES], uint64_t now_unix_ms) {
    static const uint8_t nobodys[TOB_SHA256_BYTES];
    const tob_directory_previous_key *previous = client ? client->previous_key : NULL;
    // The newest is compared whether or not there is such a client, so that the time does not tell. That a key is being
    // rotated is no secret.
    bool newest = tob_equal_constant_time(client ? client->key_hash : nobodys, key_hash, TOB_SHA256_BYTES);
    bool before = previous && tob_equal_constant_time(previous->hash, key_hash, TOB_SHA256_BYTES);
    if (client && newest) {
        return TOB_KEY_NEWEST;
    }
    return before && now_unix_ms < previous->expires_unix_ms ? TOB_KEY_PREVIOUS : TOB_KEY_WRONG;
}

void tob_directory_note_heard(tob_directory *directory, size_t row, bool previous) {
    _Atomic uint8_t *note = &directory->clients.notes[row];
    uint8_t now = atomic_load_explicit(note, memory_order_relaxed);
    if (((now & TOB_NOTE_HEARD_PREVIOUS) != 0) == previous) {
        return;
    }
    if (previous) {
        now = atomic_fetch_or_explicit(note, (uint8_t)TOB_NOTE_HEARD_PREVIOUS, memory_order_relaxed);
        if (!(now & TOB_NOTE_HEARD_PREVIOUS)) {
            atomic_fetch_add_explicit(&directory->heard_previous, 1, memory_order_relaxed);
        }
    } else {
        now = atomic_fetch_and_explicit(note, (uint8_t)~TOB_NOTE_HEARD_PREVIOUS, memory_order_relaxed);
        if (now & TOB_NOTE_HEARD_PREVIOUS) {
            atomic_fetch_sub_explicit(&directory->heard_previous, 1, memory_order_relaxed);
        }
    }
}

void tob_directory_client_heard(tob_directory *directory, const tob_directory_client *client,
                                tob_key_match key) {
    if (key != TOB_KEY_WRONG) {
        size_t row = (size_t)(client - (const tob_directory_client *)directory->clients.rows);
        tob_directory_note_heard(directory, row, key == TOB_KEY_PREVIOUS);
    }
}

uint64_t tob_directory_on_previous_key(tob_directory *directory, uint64_t now_unix_ms) {
    if (atomic_load_explicit(&directory->heard_previous, memory_order_relaxed) == 0) {
        return 0;
    }
    uint64_t count = 0;
    pthread_rwlock_rdlock(&directory->lock);
    for (size_t i = 0; i < directory->clients.count; i++) {
        uint8_t note = atomic_load_explicit(&directory->clients.notes[i], memory_order_relaxed);
        if (!(note & TOB_NOTE_HEARD_PREVIOUS)) {
            continue;
        }
        const tob_directory_client *client = tob_directory_client_at(directory, i);
        count +=
            client->previous_key && now_unix_ms < client->previous_key->expires_unix_ms && !client->revoked;
    }
    pthread_rwlock_unlock(&directory->lock);
    return count;
}
