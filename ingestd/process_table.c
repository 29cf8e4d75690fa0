#include "ingestd/process_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/process.h"

// One process, as unpacked by protobuf-c.
typedef struct entry {
    size_t bytes; // serialized
    uint64_t heard_ms;
    uint64_t put; // number of the last put
} entry;

struct tob_process_table {
    Tobogganing__V1__Process **processes;
    entry *entries; // by the same index
    size_t count;
    size_t bytes; // of all
    uint64_t puts;
    uint64_t journalled; // puts up to this one are in the journal
};

tob_error tob_process_table_new(tob_process_table **ret) {
    tob_process_table *table = calloc(1, sizeof(*table));
    if (!table) {
        return TOB_NO_MEMORY;
    }
    table->processes = calloc(TOB_PROCESS_TABLE_MAX, sizeof(*table->processes));
    table->entries = calloc(TOB_PROCESS_TABLE_MAX, sizeof(*table->entries));
    if (!table->processes || !table->entries) {
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
    free(table->entries);
    free(table);
}

static const char *check(const Tobogganing__V1__Process *process) {
    if (process->id == 0) {
        return "id: must not be 0";
    }
    if (strlen(process->kind) > TOB_COUNTER_MAX_LABEL_BYTES) {
        return "kind: over 64 bytes";
    }
    // The sum of the retired has all labels that any of them had; the table's bytes bound it.
    if (process->n_counters > TOB_PROCESS_MAX_COUNTERS && process->id != TOB_PROCESS_RETIRED) {
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

// hint: where it probably is; a process reports its counters in the same order each time.
static Tobogganing__V1__Counter *find_counter(const Tobogganing__V1__Process *in,
                                              const Tobogganing__V1__Counter *like, size_t hint) {
    if (hint < in->n_counters && same_counter(in->counters[hint], like)) {
        return in->counters[hint];
    }
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

static tob_error add_counter(Tobogganing__V1__Process *to, const Tobogganing__V1__Counter *counter) {
    ProtobufCMessage *copy = NULL;
    Tobogganing__V1__Counter **counters =
        realloc(to->counters, (to->n_counters + 1) * sizeof(Tobogganing__V1__Counter *));
    if (!counters) {
        return TOB_NO_MEMORY;
    }
    to->counters = counters;
    tob_error err = copy_message(&counter->base, &copy);
    if (!err) {
        counters[to->n_counters++] = (Tobogganing__V1__Counter *)copy;
    }
    return err;
}

static void set_entry(tob_process_table *table, size_t at, Tobogganing__V1__Process *process) {
    size_t bytes = tobogganing__v1__process__get_packed_size(process);
    table->bytes += bytes - table->entries[at].bytes;
    table->entries[at].bytes = bytes;
    table->processes[at] = process;
}

static void drop_entry(tob_process_table *table, size_t at) {
    tobogganing__v1__process__free_unpacked(table->processes[at], NULL);
    table->bytes -= table->entries[at].bytes;
    table->count--;
    table->processes[at] = table->processes[table->count];
    table->entries[at] = table->entries[table->count];
    table->entries[table->count] = (entry){.bytes = 0};
}

// Gives `to` the counters of `from` that it has not, and the values that are greater there.
static tob_error keep_counters(Tobogganing__V1__Process *to, const Tobogganing__V1__Process *from) {
    for (size_t i = 0; i < from->n_counters; i++) {
        Tobogganing__V1__Counter *counter = find_counter(to, from->counters[i], i);
        if (counter) {
            counter->value =
                counter->value > from->counters[i]->value ? counter->value : from->counters[i]->value;
            continue;
        }
        tob_error err =
            to->n_counters < TOB_PROCESS_MAX_COUNTERS ? add_counter(to, from->counters[i]) : TOB_OK;
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

// Adds b's counters to a's.
static tob_error add_up(Tobogganing__V1__Process *a, const Tobogganing__V1__Process *b) {
    for (size_t i = 0; i < b->n_counters; i++) {
        Tobogganing__V1__Counter *sum = find_counter(a, b->counters[i], i);
        if (sum) {
            sum->value += b->counters[i]->value;
            continue;
        }
        tob_error err = add_counter(a, b->counters[i]);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

static tob_error copy_process(const Tobogganing__V1__Process *process, Tobogganing__V1__Process **ret) {
    ProtobufCMessage *copy = NULL;
    tob_error err = copy_message(&process->base, &copy);
    *ret = (Tobogganing__V1__Process *)copy;
    return err;
}

// Adds process `at` to the sum of the retired and forgets it. The new sum is made apart, so that a lack of memory changes
// nothing.
static tob_error retire_one(tob_process_table *table, size_t at) {
    Tobogganing__V1__Process none = TOBOGGANING__V1__PROCESS__INIT;
    Tobogganing__V1__Process *sum = NULL;
    size_t retired = find(table, TOB_PROCESS_RETIRED);
    none.id = TOB_PROCESS_RETIRED;
    none.kind = (char *)"retired";
    tob_error err = copy_process(retired < table->count ? table->processes[retired] : &none, &sum);
    if (!err) {
        err = add_up(sum, table->processes[at]);
    }
    if (err) {
        tobogganing__v1__process__free_unpacked(sum, NULL);
        return err;
    }
    if (retired < table->count) {
        tobogganing__v1__process__free_unpacked(table->processes[retired], NULL);
        set_entry(table, retired, sum);
        drop_entry(table, at);
    } else { // the sum takes its place
        tobogganing__v1__process__free_unpacked(table->processes[at], NULL);
        set_entry(table, at, sum);
        table->entries[at].put = 0;
    }
    return TOB_OK;
}

// The process that was silent longest, other than `except` and the sum; count: none.
static size_t longest_silent(const tob_process_table *table, size_t except) {
    size_t found = table->count;
    for (size_t i = 0; i < table->count; i++) {
        bool candidate = i != except && table->processes[i]->id != TOB_PROCESS_RETIRED;
        if (candidate && (found == table->count || table->entries[i].put < table->entries[found].put)) {
            found = i;
        }
    }
    return found;
}

static bool full(const tob_process_table *table, size_t at, const Tobogganing__V1__Process *next) {
    size_t bytes = table->bytes + tobogganing__v1__process__get_packed_size(next);
    bytes -= at < table->count ? table->entries[at].bytes : 0;
    bool retired = find(table, TOB_PROCESS_RETIRED) < table->count || next->id == TOB_PROCESS_RETIRED;
    size_t max = TOB_PROCESS_TABLE_MAX - (retired ? 0 : 1); // a place is kept for the sum
    return bytes > TOB_PROCESS_TABLE_MAX_BYTES || (at == table->count && table->count >= max);
}

// Retires the longest silent until there is room for `next`.
static tob_error make_room(tob_process_table *table, const Tobogganing__V1__Process *next, uint64_t now_ms,
                           uint64_t min_silent_ms) {
    size_t at = find(table, next->id);
    while (full(table, at, next)) {
        size_t silent = longest_silent(table, at);
        if (silent == table->count || now_ms - table->entries[silent].heard_ms < min_silent_ms) {
            return TOB_BUSY;
        }
        tob_error err = retire_one(table, silent);
        if (err) {
            return err;
        }
        at = find(table, next->id);
    }
    return TOB_OK;
}

static tob_error put(tob_process_table *table, const Tobogganing__V1__Process *process, uint64_t now_ms,
                     uint64_t min_silent_ms, const char **ret_reason) {
    *ret_reason = check(process);
    if (*ret_reason) {
        return TOB_INVALID;
    }
    Tobogganing__V1__Process *next = NULL;
    tob_error err = copy_process(process, &next);
    size_t at = find(table, process->id);
    if (!err && at < table->count) {
        err = keep_counters(next, table->processes[at]);
    }
    if (!err) {
        err = make_room(table, next, now_ms, min_silent_ms);
        *ret_reason = err == TOB_BUSY ? "too many processes" : NULL;
    }
    if (err) {
        tobogganing__v1__process__free_unpacked(next, NULL);
        return err;
    }
    at = find(table, process->id);
    if (at < table->count) {
        tobogganing__v1__process__free_unpacked(table->processes[at], NULL);
    } else {
        table->count++;
    }
    set_entry(table, at, next);
    table->entries[at].heard_ms = now_ms;
    table->entries[at].put = ++table->puts;
    return TOB_OK;
}

tob_error tob_process_table_put(tob_process_table *table, const Tobogganing__V1__Process *process,
                                uint64_t now_ms, const char **ret_reason) {
    if (process->id == TOB_PROCESS_RETIRED) {
        *ret_reason = "id: must be over 1";
        return TOB_INVALID;
    }
    return put(table, process, now_ms, TOB_PROCESS_LIVES_MS, ret_reason);
}

tob_error tob_process_table_restore(tob_process_table *table, const Tobogganing__V1__Process *process,
                                    uint64_t now_ms, const char **ret_reason) {
    tob_error err = put(table, process, now_ms, 0, ret_reason);
    table->journalled = table->puts;
    return err;
}

tob_error tob_process_table_retire(tob_process_table *table, uint64_t now_ms) {
    for (size_t i = 0; i < table->count;) {
        bool silent = now_ms - table->entries[i].heard_ms > TOB_PROCESS_FORGET_MS;
        if (!silent || table->processes[i]->id == TOB_PROCESS_RETIRED) {
            i++;
            continue;
        }
        tob_error err = retire_one(table, i);
        if (err) {
            return err;
        }
    }
    return TOB_OK;
}

Tobogganing__V1__Process **tob_process_table_all(const tob_process_table *table, size_t *ret_count) {
    *ret_count = table->count;
    return table->processes;
}

uint64_t tob_process_table_puts(const tob_process_table *table) {
    return table->puts;
}

bool tob_process_table_unjournalled(const tob_process_table *table, size_t i) {
    return table->entries[i].put > table->journalled && table->processes[i]->id != TOB_PROCESS_RETIRED;
}

void tob_process_table_journalled(tob_process_table *table, uint64_t puts) {
    table->journalled = table->journalled > puts ? table->journalled : puts;
}
