#include "ingestd/process_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/process.h"

struct tob_process_table {
    Tobogganing__V1__Process **processes; // each one unpacked by protobuf-c
    uint64_t *heard_unix_ms;              // by the same index
    size_t count;
};

tob_error tob_process_table_new(tob_process_table **ret) {
    tob_process_table *table = calloc(1, sizeof(*table));
    if (!table) {
        return TOB_NO_MEMORY;
    }
    table->processes = calloc(TOB_PROCESS_TABLE_MAX, sizeof(*table->processes));
    table->heard_unix_ms = calloc(TOB_PROCESS_TABLE_MAX, sizeof(*table->heard_unix_ms));
    if (!table->processes || !table->heard_unix_ms) {
        tob_process_table_free(table);
        return TOB_NO_MEMORY;
    }
    *ret = table;
    return TOB_OK;
}

void tob_process_table_free(tob_process_table *table) {
    if (!table) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        tobogganing__v1__process__free_unpacked(table->processes[i], NULL);
    }
    free(table->processes);
    free(table->heard_unix_ms);
    free(table);
}

static const char *check(const Tobogganing__V1__Process *process) {
    if (process->id == 0) {
        return "id: must not be 0";
    }
    if (strlen(process->kind) > TOB_COUNTER_MAX_LABEL_BYTES) {
        return "kind: over 64 bytes";
    }
    if (process->n_counters > TOB_PROCESS_MAX_COUNTERS) {
        return "counters: more than 1000";
    }
    for (size_t i = 0; i < process->n_counters; i++) {
        const Tobogganing__V1__Counter *counter = process->counters[i];
        if (counter->n_labels > TOB_COUNTER_MAX_LABELS) {
            return "counters.labels: more than 3";
        }
        for (size_t l = 0; l < counter->n_labels; l++) {
            if (strlen(counter->labels[l]) > TOB_COUNTER_MAX_LABEL_BYTES) {
                return "counters.labels: over 64 bytes";
            }
        }
    }
    return NULL;
}

static bool same_counter(const Tobogganing__V1__Counter *a, const Tobogganing__V1__Counter *b) {
    if (a->family != b->family || a->n_labels != b->n_labels) {
        return false;
    }
    for (size_t i = 0; i < a->n_labels; i++) {
        if (strcmp(a->labels[i], b->labels[i]) != 0) {
            return false;
        }
    }
    return true;
}

static Tobogganing__V1__Counter *find_counter(const Tobogganing__V1__Process *in,
                                              const Tobogganing__V1__Counter *like) {
    for (size_t i = 0; i < in->n_counters; i++) {
        if (same_counter(in->counters[i], like)) {
            return in->counters[i];
        }
    }
    return NULL;
}

static tob_error copy_message(const ProtobufCMessage *message, ProtobufCMessage **ret) {
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(n ? n : 1);
    if (!packed) {
        return TOB_NO_MEMORY;
    }
    protobuf_c_message_pack(message, packed);
    *ret = protobuf_c_message_unpack(message->descriptor, NULL, n, packed);
    free(packed);
    return *ret ? TOB_OK : TOB_NO_MEMORY;
}

static size_t find(const tob_process_table *table, uint64_t id) {
    size_t i = 0;
    while (i < table->count && table->processes[i]->id != id) {
        i++;
    }
    return i;
}

// Appends a process that is new. The last place is kept for the sum of the retired.
static tob_error add(tob_process_table *table, Tobogganing__V1__Process *process, uint64_t now_unix_ms) {
    size_t max = process->id == TOB_PROCESS_RETIRED ? TOB_PROCESS_TABLE_MAX : TOB_PROCESS_TABLE_MAX - 1;
    if (table->count >= max) {
        return TOB_BUSY;
    }
    table->processes[table->count] = process;
    table->heard_unix_ms[table->count] = now_unix_ms;
    table->count++;
    return TOB_OK;
}

tob_error tob_process_table_put(tob_process_table *table, const Tobogganing__V1__Process *process,
                                uint64_t now_unix_ms, const char **ret_reason) {
    *ret_reason = check(process);
    if (*ret_reason) {
        return TOB_INVALID;
    }
    ProtobufCMessage *copy = NULL;
    tob_error err = copy_message(&process->base, &copy);
    if (err) {
        return err;
    }
    Tobogganing__V1__Process *next = (Tobogganing__V1__Process *)copy;
    size_t at = find(table, process->id);
    if (at == table->count) {
        err = add(table, next, now_unix_ms);
        if (err) {
            protobuf_c_message_free_unpacked(copy, NULL);
            *ret_reason = "too many processes";
            return err;
        }
    } else {
        for (size_t i = 0; i < next->n_counters; i++) {
            const Tobogganing__V1__Counter *before = find_counter(table->processes[at], next->counters[i]);
            if (before && before->value > next->counters[i]->value) {
                next->counters[i]->value = before->value;
            }
        }
        tobogganing__v1__process__free_unpacked(table->processes[at], NULL);
        table->processes[at] = next;
        table->heard_unix_ms[at] = now_unix_ms;
    }
    return TOB_OK;
}

// Adds b's counters to a's.
static tob_error add_up(Tobogganing__V1__Process *a, const Tobogganing__V1__Process *b) {
    Tobogganing__V1__Counter **counters =
        realloc(a->counters, (a->n_counters + b->n_counters) * sizeof(*counters));
    if (!counters && a->n_counters + b->n_counters > 0) {
        return TOB_NO_MEMORY;
    }
    a->counters = counters;
    for (size_t i = 0; i < b->n_counters; i++) {
        Tobogganing__V1__Counter *sum = find_counter(a, b->counters[i]);
        if (sum) {
            sum->value += b->counters[i]->value;
            continue;
        }
        ProtobufCMessage *copy = NULL;
        tob_error err = copy_message(&b->counters[i]->base, &copy);
        if (err) {
            return err;
        }
        a->counters[a->n_counters++] = (Tobogganing__V1__Counter *)copy;
    }
    return TOB_OK;
}

static tob_error retired_sum(tob_process_table *table, uint64_t now_unix_ms, Tobogganing__V1__Process **ret) {
    size_t at = find(table, TOB_PROCESS_RETIRED);
    if (at == table->count) {
        Tobogganing__V1__Process empty = TOBOGGANING__V1__PROCESS__INIT;
        const char *reason = NULL;
        empty.id = TOB_PROCESS_RETIRED;
        empty.kind = (char *)"retired";
        tob_error err = tob_process_table_put(table, &empty, now_unix_ms, &reason);
        if (err) {
            return err;
        }
    }
    *ret = table->processes[at];
    return TOB_OK;
}

tob_error tob_process_table_retire(tob_process_table *table, uint64_t now_unix_ms) {
    for (size_t i = 0; i < table->count;) {
        Tobogganing__V1__Process *process = table->processes[i];
        bool silent = now_unix_ms > table->heard_unix_ms[i] + TOB_PROCESS_FORGET_MS;
        if (!silent || process->id == TOB_PROCESS_RETIRED) {
            i++;
            continue;
        }
        Tobogganing__V1__Process *sum = NULL;
        tob_error err = retired_sum(table, now_unix_ms, &sum);
        if (!err) {
            err = add_up(sum, process);
        }
        if (err) {
            return err;
        }
        tobogganing__v1__process__free_unpacked(process, NULL);
        table->count--;
        table->processes[i] = table->processes[table->count];
        table->heard_unix_ms[i] = table->heard_unix_ms[table->count];
    }
    return TOB_OK;
}

Tobogganing__V1__Process **tob_process_table_all(const tob_process_table *table, size_t *ret_count) {
    *ret_count = table->count;
    return table->processes;
}

uint64_t tob_process_table_heard_unix_ms(const tob_process_table *table, size_t i) {
    return table->heard_unix_ms[i];
}
