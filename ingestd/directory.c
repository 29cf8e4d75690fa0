#include "ingestd/directory.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/index.h"

// A row begins with its id, and its strings are one allocation that begins with the id too.
struct tob_directory {
    pthread_rwlock_t lock; // guards all but the counts
    tob_directory_client *clients;
    size_t client_count;
    size_t client_capacity;
    tob_index clients_by_id;
    tob_directory_headend *headends;
    size_t headend_count;
    size_t headend_capacity;
    tob_index headends_by_id;
    _Atomic uint64_t registered_clusters;
    _Atomic uint64_t registered_clients;
    _Atomic uint64_t registered_headends;
};

static const char *client_id(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_directory *directory = owner;
    *ret_len = strlen(directory->clients[row].id);
    return directory->clients[row].id;
}

static const char *headend_id(const void *owner, uint32_t row, size_t *ret_len) {
    const tob_directory *directory = owner;
    *ret_len = strlen(directory->headends[row].id);
    return directory->headends[row].id;
}

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
    tob_index_init(&directory->clients_by_id, client_id, directory);
    tob_index_init(&directory->headends_by_id, headend_id, directory);
    *ret = directory;
    return TOB_OK;
}

void tob_directory_free(tob_directory *directory) {
    if (!directory) {
        return;
    }
    for (size_t i = 0; i < directory->client_count; i++) {
        free((char *)directory->clients[i].id);
    }
    for (size_t i = 0; i < directory->headend_count; i++) {
        free((char *)directory->headends[i].id);
    }
    free(directory->clients);
    free(directory->headends);
    tob_index_fini(&directory->clients_by_id);
    tob_index_fini(&directory->headends_by_id);
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
    uint32_t row = tob_index_find(&directory->clients_by_id, id, len);
    return row == TOB_INDEX_NONE ? NULL : &directory->clients[row];
}

const tob_directory_headend *tob_directory_find_headend(const tob_directory *directory, const char *id,
                                                        size_t len) {
    uint32_t row = tob_index_find(&directory->headends_by_id, id, len);
    return row == TOB_INDEX_NONE ? NULL : &directory->headends[row];
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

// Copies `count` strings behind one another into one allocation; NULL without memory.
static char *copy_strings(const char *const *strings, size_t count, const char **ret_copies) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += strlen(strings[i]) + 1;
    }
    char *block = malloc(bytes), *to = block;
    for (size_t i = 0; block && i < count; i++) {
        size_t n = strlen(strings[i]) + 1;
        memcpy(to, strings[i], n);
        ret_copies[i] = to;
        to += n;
    }
    return block;
}

// Room for one row more.
static tob_error grow(void **rows, size_t count, size_t *capacity, size_t row_bytes) {
    if (count < *capacity) {
        return TOB_OK;
    }
    size_t more = *capacity ? *capacity * 2 : 64;
    if (more >= TOB_INDEX_NONE) {
        return TOB_NO_MEMORY;
    }
    void *bigger = realloc(*rows, more * row_bytes);
    if (!bigger) {
        return TOB_NO_MEMORY;
    }
    *rows = bigger;
    *capacity = more;
    return TOB_OK;
}

tob_error tob_directory_put_client(tob_directory *directory, const tob_directory_client *client) {
    tob_directory *d = directory;
    tob_error err = TOB_OK;
    const char *copies[3] = {NULL};
    char *block = copy_strings((const char *[]){client->id, client->name, client->type}, 3, copies);
    if (!block) {
        return TOB_NO_MEMORY;
    }
    tob_directory_client copy = *client;
    copy.id = copies[0];
    copy.name = copies[1];
    copy.type = copies[2];
    bool counted_before = false;
    pthread_rwlock_wrlock(&d->lock);
    uint32_t row = tob_index_find(&d->clients_by_id, copy.id, strlen(copy.id));
    if (row != TOB_INDEX_NONE) {
        counted_before = !d->clients[row].revoked;
        char *old = (char *)d->clients[row].id;
        d->clients[row] = copy;
        block = old;
    } else {
        err = grow((void **)&d->clients, d->client_count, &d->client_capacity, sizeof(*d->clients));
        if (!err) {
            err = tob_index_reserve(&d->clients_by_id, 1);
        }
        if (err) {
            goto out;
        }
        d->clients[d->client_count] = copy;
        err = tob_index_add(&d->clients_by_id, (uint32_t)d->client_count);
        if (err) {
            goto out;
        }
        d->client_count++;
        block = NULL; // moved
    }
    if (counted_before && copy.revoked) {
        atomic_fetch_sub_explicit(&d->registered_clients, 1, memory_order_relaxed);
    } else if (!counted_before && !copy.revoked) {
        atomic_fetch_add_explicit(&d->registered_clients, 1, memory_order_relaxed);
    }
out:
    pthread_rwlock_unlock(&d->lock);
    free(block);
    return err;
}

tob_error tob_directory_put_headend(tob_directory *directory, const tob_directory_headend *headend) {
    tob_directory *d = directory;
    tob_error err = TOB_OK;
    const char *copies[4] = {NULL};
    char *block =
        copy_strings((const char *[]){headend->id, headend->name, headend->region, headend->datacenter}, 4,
                     copies);
    if (!block) {
        return TOB_NO_MEMORY;
    }
    tob_directory_headend copy = {.id = copies[0],
                                  .name = copies[1],
                                  .region = copies[2],
                                  .datacenter = copies[3]};
    pthread_rwlock_wrlock(&d->lock);
    uint32_t row = tob_index_find(&d->headends_by_id, copy.id, strlen(copy.id));
    if (row != TOB_INDEX_NONE) {
        char *old = (char *)d->headends[row].id;
        d->headends[row] = copy;
        block = old;
        goto out;
    }
    err = grow((void **)&d->headends, d->headend_count, &d->headend_capacity, sizeof(*d->headends));
    if (!err) {
        err = tob_index_reserve(&d->headends_by_id, 1);
    }
    if (err) {
        goto out;
    }
    d->headends[d->headend_count] = copy;
    err = tob_index_add(&d->headends_by_id, (uint32_t)d->headend_count);
    if (err) {
        goto out;
    }
    d->headend_count++;
    block = NULL; // moved
    atomic_fetch_add_explicit(&d->registered_headends, 1, memory_order_relaxed);
out:
    pthread_rwlock_unlock(&d->lock);
    free(block);
    return err;
}

// Takes the row of an id out of a table and its index; the last row moves to its place. Rows begin with their id.
//   ret_row   the row, whose strings are the caller's now
static bool take_row(tob_index *index, void *rows, size_t row_bytes, size_t *count, const char *id,
                     void *ret_row) {
    uint32_t row = tob_index_find(index, id, strlen(id));
    if (row == TOB_INDEX_NONE) {
        return false;
    }
    uint32_t last = (uint32_t)*count - 1;
    char *to = (char *)rows + row * row_bytes;
    const char *from = (const char *)rows + last * row_bytes;
    const char *last_id = NULL;
    memcpy(&last_id, from, sizeof(last_id));
    memcpy(ret_row, to, row_bytes);
    bool removed = tob_index_remove(index, id, strlen(id));
    if (last != row) {
        removed = removed && tob_index_remove(index, last_id, strlen(last_id));
        memcpy(to, from, row_bytes);
        tob_error err = tob_index_add(index, row); // has room: two went, one comes
        assert(!err);
        (void)err;
    }
    assert(removed);
    (void)removed;
    *count = last;
    return true;
}

bool tob_directory_remove_client(tob_directory *directory, const char *id) {
    tob_directory_client row = {.id = NULL};
    pthread_rwlock_wrlock(&directory->lock);
    bool found = take_row(&directory->clients_by_id, directory->clients, sizeof(row),
                          &directory->client_count, id, &row);
    if (found && !row.revoked) {
        atomic_fetch_sub_explicit(&directory->registered_clients, 1, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&directory->lock);
    free((char *)row.id);
    return found;
}

bool tob_directory_remove_headend(tob_directory *directory, const char *id) {
    tob_directory_headend row = {.id = NULL};
    pthread_rwlock_wrlock(&directory->lock);
    bool found = take_row(&directory->headends_by_id, directory->headends, sizeof(row),
                          &directory->headend_count, id, &row);
    if (found) {
        atomic_fetch_sub_explicit(&directory->registered_headends, 1, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&directory->lock);
    free((char *)row.id);
    return found;
}

void tob_directory_count_cluster(tob_directory *directory) {
    atomic_fetch_add_explicit(&directory->registered_clusters, 1, memory_order_relaxed);
}
