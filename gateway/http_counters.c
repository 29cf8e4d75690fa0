#include "gateway/http_counters.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// Immutable once it is in its slot.
typedef struct entry {
    const char *method;
    const char *pattern;
    int status;
    tob_counter *counter;
} entry;

struct tob_http_counters {
    tob_process *process;
    _Atomic(entry *) slots[TOB_HTTP_COUNTERS_SLOTS];
};

tob_error tob_http_counters_new(tob_process *process, tob_http_counters **ret) {
    tob_http_counters *counters = calloc(1, sizeof(*counters));
    if (!counters) {
        return TOB_NO_MEMORY;
    }
    counters->process = process;
    *ret = counters;
    return TOB_OK;
}

void tob_http_counters_free(tob_http_counters *counters) {
    if (!counters) {
        return;
    }
    for (size_t i = 0; i < TOB_HTTP_COUNTERS_SLOTS; i++) {
        free(atomic_load(&counters->slots[i]));
    }
    free(counters);
}

static tob_counter *look_up(tob_http_counters *counters, const char *method, const char *pattern,
                            int status) {
    char text[12];
    snprintf(text, sizeof(text), "%d", status);
    return tob_process_counter(counters->process,
                               TOBOGGANING__V1__COUNTER_FAMILY__COUNTER_FAMILY_HTTP_REQUESTS, method, pattern,
                               text);
}

static size_t slot_of(const char *method, const char *pattern, int status) {
    uintptr_t h = (uintptr_t)method * 31 + (uintptr_t)pattern * 7 + (uintptr_t)status;
    return (h ^ h >> 9) % TOB_HTTP_COUNTERS_SLOTS;
}

// Puts a new entry into the slot; when that was taken meanwhile, or without memory, it is just not remembered.
static void remember(_Atomic(entry *) *slot, const entry *e) {
    entry *expected = NULL;
    entry *copy = malloc(sizeof(*copy));
    if (!copy) {
        return;
    }
    *copy = *e;
    if (!atomic_compare_exchange_strong(slot, &expected, copy)) {
        free(copy);
    }
}

void tob_http_counters_add(tob_http_counters *counters, const char *method, const char *pattern, int status) {
    size_t at = slot_of(method, pattern, status);
    for (size_t tries = 0; tries < TOB_HTTP_COUNTERS_SLOTS; tries++) {
        _Atomic(entry *) *slot = &counters->slots[(at + tries) % TOB_HTTP_COUNTERS_SLOTS];
        entry *e = atomic_load_explicit(slot, memory_order_acquire);
        if (!e) {
            entry fresh = {.method = method, .pattern = pattern, .status = status};
            fresh.counter = look_up(counters, method, pattern, status);
            tob_counter_add(fresh.counter, 1);
            remember(slot, &fresh);
            return;
        }
        if (e->method == method && e->pattern == pattern && e->status == status) {
            tob_counter_add(e->counter, 1);
            return;
        }
    }
    tob_counter_add(look_up(counters, method, pattern, status), 1);
}
