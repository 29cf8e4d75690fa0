#include <stdlib.h>
#include <string.h>

#include "ingestd/directory_state.h"

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

// The types that there are need no copy for each client.
static const char *known_type(const char *type) {
    static const char *const known[] = {"native", "docker", "mobile"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(type, known[i]) == 0) {
            return known[i];
        }
    }
    return NULL;
}

// Everything that a client's row points to is copied; a name that is the id needs no second copy.
static tob_error copy_client(const tob_directory_client *client, tob_directory_client *ret) {
    const char *strings[3] = {client->id}, *copies[3] = {NULL};
    size_t count = 1, name = 0, type = 0;
    const char *known = known_type(client->type);
    tob_directory_previous_key *previous = NULL;
    if (strcmp(client->name, client->id) != 0) {
        name = count;
        strings[count++] = client->name;
    }
    if (!known) {
        type = count;
        strings[count++] = client->type;
    }
    char *block = copy_strings(strings, count, copies);
    if (!block) {
        return TOB_NO_MEMORY;
    }
    if (client->previous_key) {
        previous = malloc(sizeof(*previous));
        if (!previous) {
            free(block);
            return TOB_NO_MEMORY;
        }
        *previous = *client->previous_key;
    }
    *ret = *client;
    ret->id = copies[0];
    ret->name = copies[name];
    ret->type = known ? known : copies[type];
    ret->previous_key = previous;
    return TOB_OK;
}

static void client_fini(tob_directory_client *client) {
    free((char *)client->id);
    free((tob_directory_previous_key *)client->previous_key);
}

// Whether what was heard before tells nothing about these keys.
static bool starts_again(const tob_directory_client *before, const tob_directory_client *after) {
    return !after->previous_key || after->revoked ||
           !tob_equal_constant_time(before->key_hash, after->key_hash, TOB_SHA256_BYTES);
}

static void count_client(tob_directory *directory, bool before, bool after) {
    if (before && !after) {
        atomic_fetch_sub_explicit(&directory->registered_clients, 1, memory_order_relaxed);
    } else if (!before && after) {
        atomic_fetch_add_explicit(&directory->registered_clients, 1, memory_order_relaxed);
    }
}

tob_error tob_directory_put_client(tob_directory *directory, const tob_directory_client *client,
                                   bool *ret_relabelled) {
    tob_directory *d = directory;
    bool relabelled = false, counted_before = false;
    tob_directory_client copy = {.id = NULL};
    tob_error err = copy_client(client, &copy);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&d->lock);
    uint32_t row = tob_index_find(&d->clients.by_id, copy.id, strlen(copy.id));
    if (row != TOB_INDEX_NONE) {
        tob_directory_client *there = tob_directory_client_at(d, row), before = *there;
        counted_before = !before.revoked;
        relabelled = strcmp(before.name, copy.name) != 0 || strcmp(before.type, copy.type) != 0;
        if (starts_again(&before, &copy)) {
            tob_directory_note_heard(d, row, false);
        }
        atomic_fetch_or_explicit(&d->clients.notes[row], (uint8_t)TOB_NOTE_FRESH, memory_order_relaxed);
        *there = copy;
        copy = before;
        count_client(d, counted_before, !there->revoked);
    } else {
        err = tob_directory_table_add(&d->clients, &copy);
        if (!err) {
            count_client(d, false, !copy.revoked);
            copy = (tob_directory_client){.id = NULL}; // moved
        }
    }
    pthread_rwlock_unlock(&d->lock);
    client_fini(&copy);
    if (!err && ret_relabelled) {
        *ret_relabelled = relabelled;
    }
    return err;
}

static void count_headend(tob_directory *directory, bool before, bool after) {
    if (before && !after) {
        atomic_fetch_sub_explicit(&directory->registered_headends, 1, memory_order_relaxed);
    } else if (!before && after) {
        atomic_fetch_add_explicit(&directory->registered_headends, 1, memory_order_relaxed);
    }
}

static tob_error copy_headend(const tob_directory_headend *headend, tob_directory_headend *ret) {
    const char *strings[] = {headend->id, headend->name, headend->cluster_id ? headend->cluster_id : "",
                             headend->region, headend->datacenter};
    const char *copies[5] = {NULL};
    if (!copy_strings(strings, 5, copies)) {
        return TOB_NO_MEMORY;
    }
    *ret = *headend;
    ret->id = copies[0];
    ret->name = copies[1];
    ret->cluster_id = copies[2];
    ret->region = copies[3];
    ret->datacenter = copies[4];
    return TOB_OK;
}

tob_error tob_directory_put_headend(tob_directory *directory, const tob_directory_headend *headend,
                                    bool *ret_relabelled) {
    tob_directory *d = directory;
    bool relabelled = false;
    tob_directory_headend copy = {.id = NULL};
    tob_error err = copy_headend(headend, &copy);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&d->lock);
    uint32_t row = tob_index_find(&d->headends.by_id, copy.id, strlen(copy.id));
    if (row != TOB_INDEX_NONE) {
        tob_directory_headend *there = tob_directory_headend_at(d, row), before = *there;
        relabelled = strcmp(before.name, copy.name) != 0 || strcmp(before.region, copy.region) != 0 ||
                     strcmp(before.datacenter, copy.datacenter) != 0;
        atomic_fetch_or_explicit(&d->headends.notes[row], (uint8_t)TOB_NOTE_FRESH, memory_order_relaxed);
        *there = copy;
        copy = before;
        count_headend(d, !before.revoked, !there->revoked);
    } else {
        err = tob_directory_table_add(&d->headends, &copy);
        if (!err) {
            count_headend(d, false, !copy.revoked);
            copy.id = NULL; // moved
        }
    }
    pthread_rwlock_unlock(&d->lock);
    free((char *)copy.id);
    if (!err && ret_relabelled) {
        *ret_relabelled = relabelled;
    }
    return err;
}

bool tob_directory_remove_client(tob_directory *directory, const char *id) {
    tob_directory_client gone = {.id = NULL};
    pthread_rwlock_wrlock(&directory->lock);
    uint32_t row = tob_index_find(&directory->clients.by_id, id, strlen(id));
    bool found = row != TOB_INDEX_NONE;
    if (found) {
        gone = *tob_directory_client_at(directory, row);
        tob_directory_note_heard(directory, row, false);
        tob_directory_table_take(&directory->clients, row);
        count_client(directory, !gone.revoked, false);
    }
    pthread_rwlock_unlock(&directory->lock);
    client_fini(&gone);
    return found;
}

bool tob_directory_remove_headend(tob_directory *directory, const char *id) {
    tob_directory_headend gone = {.id = NULL};
    pthread_rwlock_wrlock(&directory->lock);
    uint32_t row = tob_index_find(&directory->headends.by_id, id, strlen(id));
    bool found = row != TOB_INDEX_NONE;
    if (found) {
        gone = *tob_directory_headend_at(directory, row);
        tob_directory_table_take(&directory->headends, row);
        count_headend(directory, !gone.revoked, false);
    }
    pthread_rwlock_unlock(&directory->lock);
    free((char *)gone.id);
    return found;
}

static void mark(tob_directory_table *t) {
    for (size_t i = 0; i < t->count; i++) {
        atomic_fetch_and_explicit(&t->notes[i], (uint8_t)~TOB_NOTE_FRESH, memory_order_relaxed);
    }
}

void tob_directory_mark(tob_directory *directory) {
    pthread_rwlock_wrlock(&directory->lock);
    mark(&directory->clients);
    mark(&directory->headends);
    pthread_rwlock_unlock(&directory->lock);
}

// The next row from *at on that was not put since the mark: a copy of its id. NULL when there is none, or no memory for it.
static char *next_stale(tob_directory *directory, const tob_directory_table *t, size_t *at,
                        tob_error *ret_err) {
    char *id = NULL;
    pthread_rwlock_rdlock(&directory->lock);
    while (*at < t->count && (atomic_load_explicit(&t->notes[*at], memory_order_relaxed) & TOB_NOTE_FRESH)) {
        ++*at;
    }
    if (*at < t->count) {
        id = strdup(tob_directory_row_id(t, *at));
        *ret_err = id ? TOB_OK : TOB_NO_MEMORY;
    }
    pthread_rwlock_unlock(&directory->lock);
    return id;
}

static tob_error sweep(tob_directory *directory, bool headends, tob_directory_removed_fn fn, void *user) {
    const tob_directory_table *t = headends ? &directory->headends : &directory->clients;
    tob_error err = TOB_OK;
    size_t at = 0; // stays after a removal: the last row has moved there
    char *id = NULL;
    while ((id = next_stale(directory, t, &at, &err))) {
        bool removed = headends ? tob_directory_remove_headend(directory, id)
                                : tob_directory_remove_client(directory, id);
        if (removed && fn) {
            fn(user, headends, id);
        }
        free(id);
    }
    return err;
}

tob_error tob_directory_sweep(tob_directory *directory, tob_directory_removed_fn fn, void *user) {
    tob_error err = sweep(directory, false, fn, user);
    return err ? err : sweep(directory, true, fn, user);
}
