#include "rpc/process.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/cond.h"
#include "util/random.h"

enum {
    REPORT_CHANGED_MS = 1000,
    REPORT_IDLE_MS = 10000,
    REPORT_TIMEOUT_MS = 2000,
    REPORT_ARENA_BYTES = 4 << 20,
};

struct tob_counter {
    atomic_uint_least64_t value;
    Tobogganing__V1__CounterFamily family;
    unsigned label_count;
    char labels[TOB_COUNTER_MAX_LABELS][TOB_COUNTER_MAX_LABEL_BYTES + 1];
};

struct tob_process {
    uint64_t id;
    uint64_t started_unix_ms;
    const char *kind;
    pthread_mutex_t lock; // guards counters, count, stopping
    pthread_cond_t wake;
    tob_counter *counters[TOB_PROCESS_MAX_COUNTERS];
    size_t count;
    tob_counter overflow; // shared by those past the cap; not reported
    bool stopping;
    bool reporting;
    pthread_t thread;
    tob_rpc_client *client;
    atomic_int report_error; // a tob_error
};

tob_error tob_process_new(const char *kind, tob_process **ret) {
    tob_process *process = calloc(1, sizeof(*process));
    if (!process) {
        return TOB_NO_MEMORY;
    }
    process->id = tob_random_u64();
    process->started_unix_ms = tob_clock_unix_ms();
    process->kind = kind;
    pthread_mutex_init(&process->lock, NULL);
    tob_cond_init(&process->wake);
    *ret = process;
    return TOB_OK;
}

void tob_process_free(tob_process *process) {
    if (!process) {
        return;
    }
    for (size_t i = 0; i < process->count; i++) {
        free(process->counters[i]);
    }
    pthread_mutex_destroy(&process->lock);
    pthread_cond_destroy(&process->wake);
    free(process);
}

static tob_counter *counter_new(Tobogganing__V1__CounterFamily family, const char *const *labels) {
    tob_counter *counter = calloc(1, sizeof(*counter));
    if (!counter) {
        return NULL;
    }
    counter->family = family;
    for (unsigned i = 0; i < TOB_COUNTER_MAX_LABELS && labels[i]; i++) {
        snprintf(counter->labels[i], sizeof(counter->labels[i]), "%s", labels[i]);
        counter->label_count++;
    }
    return counter;
}

static bool counter_is(const tob_counter *counter, Tobogganing__V1__CounterFamily family,
                       const char *const *labels) {
    if (counter->family != family) {
        return false;
    }
    for (unsigned i = 0; i < TOB_COUNTER_MAX_LABELS; i++) {
        if ((labels[i] != NULL) != (i < counter->label_count) ||
            (labels[i] && strncmp(counter->labels[i], labels[i], TOB_COUNTER_MAX_LABEL_BYTES) != 0)) {
            return false;
        }
    }
    return true;
}

tob_counter *tob_process_counter(tob_process *process, Tobogganing__V1__CounterFamily family,
                                 const char *label0, const char *label1, const char *label2) {
    const char *const labels[TOB_COUNTER_MAX_LABELS] = {label0, label1, label2};
    tob_counter *found = NULL;
    pthread_mutex_lock(&process->lock);
    for (size_t i = 0; i < process->count && !found; i++) {
        found = counter_is(process->counters[i], family, labels) ? process->counters[i] : NULL;
    }
    if (!found && process->count < TOB_PROCESS_MAX_COUNTERS) {
        found = counter_new(family, labels);
        if (found) {
            process->counters[process->count++] = found;
        }
    }
    pthread_mutex_unlock(&process->lock);
    return found ? found : &process->overflow;
}

void tob_counter_add(tob_counter *counter, uint64_t n) {
    atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

uint64_t tob_counter_value(const tob_counter *counter) {
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

static Tobogganing__V1__Counter *counter_message(tob_arena *arena, tob_counter *counter) {
    Tobogganing__V1__Counter *message = tob_arena_alloc(arena, sizeof(*message));
    char **labels = tob_arena_alloc(arena, TOB_COUNTER_MAX_LABELS * sizeof(*labels));
    if (!message || !labels) {
        return NULL;
    }
    tobogganing__v1__counter__init(message);
    message->family = counter->family;
    message->n_labels = counter->label_count;
    message->labels = labels;
    message->value = tob_counter_value(counter);
    for (unsigned i = 0; i < counter->label_count; i++) {
        labels[i] = counter->labels[i];
    }
    return message;
}

tob_error tob_process_message(tob_process *process, tob_arena *arena, Tobogganing__V1__Process **ret) {
    tob_counter *counters[TOB_PROCESS_MAX_COUNTERS];
    pthread_mutex_lock(&process->lock);
    size_t count = process->count;
    memcpy(counters, process->counters, count * sizeof(counters[0])); // they live as long as the process
    pthread_mutex_unlock(&process->lock);

    Tobogganing__V1__Process *message = tob_arena_alloc(arena, sizeof(*message));
    Tobogganing__V1__Counter **messages = tob_arena_alloc(arena, (count + 1) * sizeof(*messages));
    if (!message || !messages) {
        return tob_arena_error(arena);
    }
    tobogganing__v1__process__init(message);
    message->id = process->id;
    message->kind = (char *)process->kind;
    message->started_unix_ms = process->started_unix_ms;
    message->counters = messages;
    message->n_counters = count;
    for (size_t i = 0; i < count; i++) {
        messages[i] = counter_message(arena, counters[i]);
        if (!messages[i]) {
            return tob_arena_error(arena);
        }
    }
    *ret = message;
    return TOB_OK;
}

static uint64_t total(const Tobogganing__V1__Process *message) {
    uint64_t sum = message->n_counters;
    for (size_t i = 0; i < message->n_counters; i++) {
        sum += message->counters[i]->value;
    }
    return sum;
}

typedef struct reporter {
    tob_process *process;
    tob_arena *arena;
    uint64_t reported_total;
    uint64_t reported_at_ms;
} reporter;

// Reports when something has changed or it is time. A failure is tried again with the next turn: the values
// are cumulative, so nothing is lost.
static void report(reporter *r, bool due) {
    tob_arena_clear(r->arena);
    Tobogganing__V1__Process *message = NULL;
    if (tob_process_message(r->process, r->arena, &message) != TOB_OK) {
        return;
    }
    uint64_t now = tob_clock_monotonic_ms();
    due = due || r->reported_at_ms == 0 || now - r->reported_at_ms >= REPORT_IDLE_MS;
    if (total(message) == r->reported_total && !due) {
        return;
    }
    ProtobufCMessage *response = NULL;
    tob_error err = tob_rpc_client_call_wait(r->process->client, "/tobogganing.v1.Processes/Report",
                                             &message->base, &tobogganing__v1__report_response__descriptor,
                                             REPORT_TIMEOUT_MS, &response, NULL);
    atomic_store(&r->process->report_error, (int)err);
    if (!err) {
        r->reported_total = total(message);
        r->reported_at_ms = now;
        protobuf_c_message_free_unpacked(response, NULL);
    }
}

static void *report_loop(void *arg) {
    reporter r = {.process = arg};
    tob_process *process = arg;
    if (tob_arena_new(REPORT_ARENA_BYTES, &r.arena) != TOB_OK) {
        return NULL;
    }
    pthread_mutex_lock(&process->lock);
    while (!process->stopping) {
        pthread_mutex_unlock(&process->lock);
        report(&r, false);
        uint64_t until_ms = tob_clock_monotonic_ms() + REPORT_CHANGED_MS;
        pthread_mutex_lock(&process->lock);
        if (!process->stopping) {
            tob_cond_wait_until(&process->wake, &process->lock, until_ms);
        }
    }
    pthread_mutex_unlock(&process->lock);
    report(&r, true);
    tob_arena_free(r.arena);
    return NULL;
}

tob_error tob_process_report_start(tob_process *process, tob_rpc_client *client) {
    process->client = client;
    if (pthread_create(&process->thread, NULL, report_loop, process) != 0) {
        return TOB_NO_MEMORY;
    }
    process->reporting = true;
    return TOB_OK;
}

void tob_process_report_stop(tob_process *process) {
    if (!process->reporting) {
        return;
    }
    pthread_mutex_lock(&process->lock);
    process->stopping = true;
    pthread_cond_signal(&process->wake);
    pthread_mutex_unlock(&process->lock);
    pthread_join(process->thread, NULL);
    process->reporting = false;
}

tob_error tob_process_report_error(const tob_process *process) {
    return (tob_error)atomic_load(&process->report_error);
}
