#include "rpc/process.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/process_reporter.h"
#include "util/clock.h"
#include "util/random.h"

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
    pthread_mutex_t lock; // guards counters and count
    tob_counter *counters[TOB_PROCESS_MAX_COUNTERS];
    size_t count;
    tob_counter overflow; // shared by those past the cap; not reported
    tob_process_reporter *reporter;
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
    tob_error err = tob_process_reporter_new(process, &process->reporter);
    if (err) {
        tob_process_free(process);
        return err;
    }
    *ret = process;
    return TOB_OK;
}

void tob_process_free(tob_process *process) {
    if (!process) {
        return;
    }
    tob_process_reporter_free(process->reporter);
    for (size_t i = 0; i < process->count; i++) {
        free(process->counters[i]);
    }
    pthread_mutex_destroy(&process->lock);
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

tob_error tob_process_report_start(tob_process *process, tob_rpc_client *client) {
    return tob_process_reporter_start(process->reporter, client);
}

void tob_process_report_stop(tob_process *process) {
    tob_process_reporter_stop(process->reporter);
}

tob_error tob_process_report_error(const tob_process *process) {
    return tob_process_reporter_error(process->reporter);
}
