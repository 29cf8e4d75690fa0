#include "exporter/manager.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "exporter/counter_keys.h"
#include "util/index.h"

typedef struct counter {
    Tobogganing__V1__CounterFamily family;
    uint64_t shown; // never goes back
    uint64_t sum;   // over the processes, those that are gone too unless ingestd has them in its own sum
    char *key;      // one byte of family, then the block
    size_t key_len;
} counter;

typedef struct process {
    struct process_key {
        uint64_t instance; // of the retired only: the others' ids are unique
        uint64_t id;
    } key;
    unsigned owner; // who said so last
    uint64_t seen;  // the owner's last message that had it
    uint64_t grew;  // the owner's last message in which a counter of it did
    uint64_t tick;  // the last message of all that had it
    uint64_t *last; // by counter: the value it last had
    size_t last_count;
} process;

typedef struct owner_state {
    bool heard;
    uint64_t heard_ms;
    uint64_t instance;
    uint64_t messages; // counts on when the slot is given to another
    uint64_t gauges[TOB_GAUGES];
    uint64_t expiries[TOB_CERTIFICATE_TYPES]; // Unix seconds; 0: none
} owner_state;

struct tob_manager {
    pthread_mutex_t lock;
    owner_state owners[TOB_MANAGER_MAX_OWNERS];
    uint64_t gauges[TOB_GAUGES];
    uint64_t expiries[TOB_CERTIFICATE_TYPES];
    uint64_t ticks;
    counter *counters;
    size_t counter_count;
    tob_index counter_index;
    process *processes;
    size_t process_count;
    tob_index process_index;
};

static const char *counter_key(const void *owner, uint32_t row, size_t *ret_len) {
    const counter *c = &((const tob_manager *)owner)->counters[row];
    *ret_len = c->key_len;
    return c->key;
}

static const char *process_key(const void *owner, uint32_t row, size_t *ret_len) {
    *ret_len = sizeof(struct process_key);
    return (const char *)&((const tob_manager *)owner)->processes[row].key;
}

static tob_error find_counter(tob_manager *manager, const char *key, size_t key_len, uint32_t *ret) {
    uint32_t at = tob_index_find(&manager->counter_index, key, key_len);
    if (at != TOB_INDEX_NONE) {
        *ret = at;
        return TOB_OK;
    }
    if (manager->counter_count == TOB_MANAGER_MAX_COUNTERS) {
        return TOB_TOO_LARGE;
    }
    char *copy = malloc(key_len);
    if (!copy) {
        return TOB_NO_MEMORY;
    }
    memcpy(copy, key, key_len);
    at = (uint32_t)manager->counter_count;
    manager->counters[at] =
        (counter){.family = (Tobogganing__V1__CounterFamily)key[0], .key = copy, .key_len = key_len};
    tob_error err = tob_index_add(&manager->counter_index, at);
    if (err) {
        free(copy);
        return err;
    }
    manager->counter_count++;
    *ret = at;
    return TOB_OK;
}

static tob_error add_presets(tob_manager *manager) {
    char key[TOB_COUNTER_KEY_BYTES];
    tob_error err = TOB_OK;
    for (size_t i = 0, len = 0; !err && (len = tob_counter_preset_key(i, key)); i++) {
        uint32_t ignored = 0;
        err = find_counter(manager, key, len, &ignored);
    }
    return err;
}

tob_error tob_manager_new(tob_manager **ret) {
    tob_manager *manager = calloc(1, sizeof(*manager));
    if (!manager) {
        return TOB_NO_MEMORY;
    }
    pthread_mutex_init(&manager->lock, NULL);
    tob_index_init(&manager->counter_index, counter_key, manager);
    tob_index_init(&manager->process_index, process_key, manager);
    manager->counters = calloc(TOB_MANAGER_MAX_COUNTERS, sizeof(*manager->counters));
    manager->processes = calloc(TOB_MANAGER_MAX_PROCESSES, sizeof(*manager->processes));
    tob_error err = manager->counters && manager->processes ? add_presets(manager) : TOB_NO_MEMORY;
    if (err) {
        tob_manager_free(manager);
        return err;
    }
    *ret = manager;
    return TOB_OK;
}

void tob_manager_free(tob_manager *manager) {
    if (!manager) {
        return;
    }
    for (size_t i = 0; i < manager->counter_count; i++) {
        free(manager->counters[i].key);
    }
    for (size_t i = 0; i < manager->process_count; i++) {
        free(manager->processes[i].last);
    }
    tob_index_fini(&manager->counter_index);
    tob_index_fini(&manager->process_index);
    free(manager->counters);
    free(manager->processes);
    pthread_mutex_destroy(&manager->lock);
    free(manager);
}

// Was it in its ingestd's last message or the one before?
static bool alive(const tob_manager *manager, const process *p) {
    const owner_state *o = &manager->owners[p->owner];
    return o->heard && p->seen + 1 >= o->messages;
}

// Room for one more process: a new row, or that of the process that is gone longest.
static tob_error find_room(tob_manager *manager, uint32_t *ret) {
    if (manager->process_count < TOB_MANAGER_MAX_PROCESSES) {
        *ret = (uint32_t)manager->process_count++;
        return TOB_OK;
    }
    process *oldest = NULL;
    for (uint32_t i = 0; i < manager->process_count; i++) {
        process *p = &manager->processes[i];
        if (!alive(manager, p) && (!oldest || p->tick < oldest->tick)) {
            oldest = p;
        }
    }
    if (!oldest) {
        return TOB_TOO_LARGE;
    }
    tob_index_remove(&manager->process_index, (const char *)&oldest->key, sizeof(oldest->key));
    free(oldest->last);
    *oldest = (process){.last = NULL};
    *ret = (uint32_t)(oldest - manager->processes);
    return TOB_OK;
}

static tob_error find_process(tob_manager *manager, const struct process_key *key, uint32_t *ret) {
    uint32_t at = tob_index_find(&manager->process_index, (const char *)key, sizeof(*key));
    if (at == TOB_INDEX_NONE) {
        tob_error err = tob_index_reserve(&manager->process_index, 1);
        if (!err) {
            err = find_room(manager, &at);
        }
        if (err) {
            return err;
        }
        manager->processes[at].key = *key;
        err = tob_index_add(&manager->process_index, at);
        if (err) {
            return err;
        }
    }
    *ret = at;
    return TOB_OK;
}

static struct process_key key_of(const owner_state *o, uint64_t id) {
    return (struct process_key){.instance = id == TOB_PROCESS_RETIRED ? o->instance : 0, .id = id};
}

static tob_error make_room_for(process *p, uint32_t counter_at) {
    if (counter_at < p->last_count) {
        return TOB_OK;
    }
    size_t count = counter_at + 32;
    uint64_t *last = realloc(p->last, count * sizeof(*last));
    if (!last) {
        return TOB_NO_MEMORY;
    }
    memset(last + p->last_count, 0, (count - p->last_count) * sizeof(*last));
    p->last = last;
    p->last_count = count;
    return TOB_OK;
}

static tob_error apply_counter(tob_manager *manager, process *p, const Tobogganing__V1__Counter *message) {
    char key[TOB_COUNTER_KEY_BYTES];
    uint32_t at = 0;
    size_t len =
        tob_counter_key(message->family, message->n_labels, (const char *const *)message->labels, key);
    if (len == 0) {
        return TOB_INVALID;
    }
    tob_error err = find_counter(manager, key, len, &at);
    if (!err) {
        err = make_room_for(p, at);
    }
    if (err) {
        return err;
    }
    if (message->value > p->last[at]) {
        manager->counters[at].sum += message->value - p->last[at];
        p->grew = p->seen;
        p->last[at] = message->value;
    }
    return TOB_OK;
}

static tob_error apply_process(tob_manager *manager, unsigned owner, const Tobogganing__V1__Process *message,
                               uint64_t *ignored) {
    uint32_t at = 0;
    const struct process_key key = key_of(&manager->owners[owner], message->id);
    tob_error err = find_process(manager, &key, &at);
    if (err) {
        return err;
    }
    process *p = &manager->processes[at];
    p->owner = owner;
    p->seen = manager->owners[owner].messages;
    p->tick = manager->ticks;
    for (size_t i = 0; i < message->n_counters; i++) {
        err = apply_counter(manager, p, message->counters[i]);
        if (err == TOB_NO_MEMORY) {
            return err;
        }
        *ignored += err != TOB_OK;
    }
    return TOB_OK;
}

// ingestd's sum of forgotten processes grew: those that its message before had and this one has not are in
// it.
static void drop_retired(tob_manager *manager, unsigned owner) {
    for (size_t i = 0; i < manager->process_count; i++) {
        process *p = &manager->processes[i];
        if (p->owner != owner || p->seen + 1 != manager->owners[owner].messages) {
            continue;
        }
        for (size_t c = 0; c < p->last_count && c < manager->counter_count; c++) {
            manager->counters[c].sum -= p->last[c];
            p->last[c] = 0;
        }
    }
}

static void finish_message(tob_manager *manager, unsigned owner) {
    const struct process_key key = key_of(&manager->owners[owner], TOB_PROCESS_RETIRED);
    uint32_t at = tob_index_find(&manager->process_index, (const char *)&key, sizeof(key));
    if (at != TOB_INDEX_NONE && manager->processes[at].grew == manager->owners[owner].messages) {
        drop_retired(manager, owner);
    }
    for (size_t i = 0; i < manager->counter_count; i++) {
        counter *c = &manager->counters[i];
        if (c->sum > c->shown) {
            c->shown = c->sum;
        }
    }
}

const char *tob_certificate_type_name(tob_certificate_type type) {
    static const char *const names[TOB_CERTIFICATE_TYPES] = {"ca", "client", "headend", "server"};
    return names[type];
}

static void take_gauges(owner_state *o, const Tobogganing__V1__Manager *message) {
    o->gauges[TOB_GAUGE_CLUSTERS] = message->clusters;
    o->gauges[TOB_GAUGE_CLIENTS] = message->clients;
    o->gauges[TOB_GAUGE_ON_PREVIOUS_KEY] = message->clients_on_previous_key;
    memset(o->expiries, 0, sizeof(o->expiries));
    for (size_t i = 0; i < message->n_certificate_expiries; i++) {
        for (int type = 0; type < TOB_CERTIFICATE_TYPES; type++) {
            const char *name = tob_certificate_type_name((tob_certificate_type)type);
            if (strcmp(message->certificate_expiries[i]->type, name) == 0) {
                o->expiries[type] = message->certificate_expiries[i]->not_after_unix_s;
            }
        }
    }
}

static void add_gauges(tob_manager *manager, const owner_state *o) {
    for (size_t g = 0; g < TOB_GAUGES; g++) {
        if (g == TOB_GAUGE_ON_PREVIOUS_KEY) {
            manager->gauges[g] += o->gauges[g];
        } else if (o->gauges[g] > manager->gauges[g]) {
            manager->gauges[g] = o->gauges[g];
        }
    }
    for (size_t type = 0; type < TOB_CERTIFICATE_TYPES; type++) {
        uint64_t soonest = manager->expiries[type], its = o->expiries[type];
        manager->expiries[type] = its && (!soonest || its < soonest) ? its : soonest;
    }
}

static void apply_gauges(tob_manager *manager, uint64_t monotonic_ms) {
    memset(manager->gauges, 0, sizeof(manager->gauges));
    memset(manager->expiries, 0, sizeof(manager->expiries));
    for (size_t i = 0; i < TOB_MANAGER_MAX_OWNERS; i++) {
        const owner_state *o = &manager->owners[i];
        if (o->heard && monotonic_ms - o->heard_ms <= TOB_MANAGER_GAUGE_MS) {
            add_gauges(manager, o);
        }
    }
}

void tob_manager_begin_owner(tob_manager *manager, unsigned owner, uint64_t instance) {
    tob_manager_forget(manager, owner);
    pthread_mutex_lock(&manager->lock);
    manager->owners[owner].instance = instance;
    pthread_mutex_unlock(&manager->lock);
}

void tob_manager_forget(tob_manager *manager, unsigned owner) {
    pthread_mutex_lock(&manager->lock);
    // By two: a process of the one before is in no message before the next one's first.
    manager->owners[owner] = (owner_state){.messages = manager->owners[owner].messages + 2};
    pthread_mutex_unlock(&manager->lock);
}

tob_error tob_manager_apply(tob_manager *manager, unsigned owner, const Tobogganing__V1__Manager *message,
                            uint64_t monotonic_ms, uint64_t *ret_ignored) {
    uint64_t ignored = 0;
    tob_error err = TOB_OK;
    if (owner >= TOB_MANAGER_MAX_OWNERS) {
        return TOB_INVALID;
    }
    pthread_mutex_lock(&manager->lock);
    owner_state *o = &manager->owners[owner];
    o->messages++;
    o->heard = true;
    o->heard_ms = monotonic_ms;
    take_gauges(o, message);
    manager->ticks++;
    for (size_t i = 0; i < message->n_processes && err != TOB_NO_MEMORY; i++) {
        err = apply_process(manager, owner, message->processes[i], &ignored);
        ignored += err != TOB_OK;
    }
    finish_message(manager, owner);
    apply_gauges(manager, monotonic_ms);
    pthread_mutex_unlock(&manager->lock);
    if (err == TOB_NO_MEMORY) {
        return err;
    }
    *ret_ignored = ignored;
    return TOB_OK;
}

uint64_t tob_manager_gauge(tob_manager *manager, tob_gauge gauge) {
    pthread_mutex_lock(&manager->lock);
    uint64_t value = manager->gauges[gauge];
    pthread_mutex_unlock(&manager->lock);
    return value;
}

uint64_t tob_manager_expiry(tob_manager *manager, tob_certificate_type type) {
    pthread_mutex_lock(&manager->lock);
    uint64_t value = manager->expiries[type];
    pthread_mutex_unlock(&manager->lock);
    return value;
}

tob_error tob_manager_next(tob_manager *manager, Tobogganing__V1__CounterFamily family, size_t *at,
                           tob_manager_counter *ret) {
    tob_error err = TOB_NOT_FOUND;
    pthread_mutex_lock(&manager->lock);
    for (; *at < manager->counter_count && err; ++*at) {
        const counter *c = &manager->counters[*at];
        if (c->family == family) {
            *ret = (tob_manager_counter){.block = c->key + 1, .block_len = c->key_len - 1, .value = c->shown};
            err = TOB_OK;
        }
    }
    pthread_mutex_unlock(&manager->lock);
    return err;
}
