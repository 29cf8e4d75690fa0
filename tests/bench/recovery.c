// bench_recovery makes a store with a checkpoint and a journal after it, as a fleet leaves them behind, and measures how
// long the pages of the checkpoint take and what a start costs.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ingestd/store.h"
#include "journal/checkpoint.h"
#include "util/clock.h"
#include "util/options.h"
#include "wire/arena.h"
#include "wire/batch.h"

enum {
    ARENA_BYTES = 64 << 20,
    BATCHES_A_GROUP = 16,
    FIRST_SERIES = 1000, // of a batch while the fleet is filled
    MAX_SERIES = 10000,
    SAMPLE_INTERVAL_MS = 10000,
    MAX_SAMPLES = 1000,
};

static const char *dir;
static uint64_t clients, senders, journal_bytes, batch_series, batch_samples;

static const tob_option options[] = {
    {.name = "dir",
     .value = "DIR",
     .kind = TOB_OPTION_STRING,
     .target = &dir,
     .help = "For the journal; empty."},
    {.name = "clients",
     .value = "N",
     .fallback = "1000000",
     .kind = TOB_OPTION_NUMBER,
     .target = &clients,
     .min = 1,
     .max = 10000000,
     .help = "In the checkpoint."},
    {.name = "senders",
     .value = "N",
     .fallback = "1",
     .kind = TOB_OPTION_NUMBER,
     .target = &senders,
     .min = 1,
     .max = 10000000,
     .help = "Agents that the batches come from."},
    {.name = "journal-bytes",
     .value = "SIZE",
     .fallback = "150MiB",
     .kind = TOB_OPTION_BYTES,
     .target = &journal_bytes,
     .min = 0,
     .max = UINT64_C(16) << 30,
     .help = "Of journal after it."},
    {.name = "series",
     .value = "N",
     .fallback = "100",
     .kind = TOB_OPTION_NUMBER,
     .target = &batch_series,
     .min = 1,
     .max = MAX_SERIES,
     .help = "Clients in a batch of the journal."},
    {.name = "samples",
     .value = "N",
     .fallback = "1",
     .kind = TOB_OPTION_NUMBER,
     .target = &batch_samples,
     .min = 1,
     .max = MAX_SAMPLES,
     .help = "Of each of them."},
};

static const tob_command command = {.program = "bench_recovery",
                                    .summary = "measures checkpoints and recovery of a store",
                                    .options = options,
                                    .option_count = sizeof(options) / sizeof(options[0])};

static tob_store_options store_options(void) {
    return (tob_store_options){.journal = {.dir = dir,
                                           .segment_bytes = 64u << 20,
                                           .sync = TOB_JOURNAL_SYNC_NEVER},
                               .retain_ms = UINT64_MAX / 2,
                               .retain_bytes = UINT64_MAX / 2};
}

// What the child measured while it made the store.
typedef struct made {
    double page_max_ms;
    double page_mean_ms;
    uint64_t pages;
    uint64_t checkpoint_bytes;
    uint64_t series;     // in the journal after the checkpoint
    double group_max_ms; // the longest sync of a group
} made;

typedef struct maker {
    tob_store *store;
    tob_arena *arena;
    tob_batch_builder *builder;
    uint64_t number;
    uint64_t random;
    uint64_t now;
    uint64_t bytes; // of batches
    double group_max_ms;
} maker;

static double thread_cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t next_random(maker *m) {
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return m->random >> 33;
}

// A client's samples: a tunnel that has carried up to some gigabytes.
static tob_error add_series(maker *m, uint64_t client, uint64_t samples) {
    static tob_client_sample made_samples[MAX_SAMPLES];
    char id[32];
    int64_t sent = (int64_t)(next_random(m) << 2), received = (int64_t)(next_random(m) << 4);
    snprintf(id, sizeof(id), "client-%06llu", (unsigned long long)client);
    for (uint64_t i = 0; i < samples; i++) {
        made_samples[i] = (tob_client_sample){
            .time_unix_ms = (int64_t)(m->now - (samples - 1 - i) * SAMPLE_INTERVAL_MS - next_random(m) % 100),
            .present = (1u << TOB_CLIENT_METRICS) - 1,
            .values = {sent, received, sent / 700, received / 1100, (int64_t)(next_random(m) % 1000000000)}};
        sent += (int64_t)(next_random(m) % 1000000);
        received += (int64_t)(next_random(m) % 4000000);
    }
    return tob_batch_add_client(m->builder, id, "key", true, made_samples, samples);
}

// Unpacks the builder's batch and makes it another sender's.
static tob_error take_batch(maker *m, uint64_t sender, tob_submission *ret) {
    tob_buffer body;
    ProtobufCMessage *message = NULL;
    tob_buffer_init(&body, TOB_MAX_INFLATED_BYTES);
    tob_error err = tob_batch_pack(m->builder, ++m->number, &body);
    tob_batch_clear(m->builder);
    if (!err) {
        err = tob_arena_unpack(m->arena, &tobogganing__v1__submit_request__descriptor, body.data, body.len,
                               &message);
    }
    tob_buffer_fini(&body);
    const Tobogganing__V1__SubmitRequest *request = (const Tobogganing__V1__SubmitRequest *)message;
    if (!err) {
        err = tob_arena_unpack(m->arena, &tobogganing__v1__batch__descriptor, request->batch.data,
                               request->batch.len, &message);
    }
    if (err) {
        return err;
    }
    Tobogganing__V1__Batch *batch = (Tobogganing__V1__Batch *)message;
    batch->boot_id = sender + 1;
    uint8_t *bytes = tob_arena_alloc(m->arena, tobogganing__v1__batch__get_packed_size(batch));
    if (!bytes) {
        return TOB_NO_MEMORY;
    }
    *ret = (tob_submission){.batch = bytes,
                            .batch_len = tobogganing__v1__batch__pack(batch, bytes),
                            .agent_id = batch->agent_id,
                            .boot_id = batch->boot_id,
                            .received_unix_ms = m->now,
                            .clients = batch->clients,
                            .client_count = batch->n_clients};
    return TOB_OK;
}

// Hands the builder's batch to the store, as ingestd's service does.
static tob_error submit(maker *m, uint64_t sender) {
    tob_submission submission;
    bool repeated = false;
    tob_position at;
    const char *reason = NULL;
    tob_error err = take_batch(m, sender, &submission);
    for (size_t i = 0; !err && i < submission.client_count; i++) {
        err = tob_batch_check_client(submission.clients[i], m->now, &reason);
    }
    if (err) {
        return err;
    }
    m->bytes += submission.batch_len;
    return tob_store_add_batch(m->store, &submission, &repeated, &at);
}

static tob_error sync_group(maker *m) {
    bool fatal = false;
    tob_journal_problem problem = {.text = ""};
    double start_ms = thread_cpu_ms();
    tob_error err = tob_store_sync(m->store, &fatal, &problem);
    double took_ms = thread_cpu_ms() - start_ms;
    m->group_max_ms = took_ms > m->group_max_ms ? took_ms : m->group_max_ms;
    if (err) {
        fprintf(stderr, "bench_recovery: %s\n", problem.text);
    }
    tob_arena_clear(m->arena);
    return err;
}

static tob_error fill(maker *m) {
    tob_error err = TOB_OK;
    uint64_t series = clients / senders < FIRST_SERIES ? clients / senders : FIRST_SERIES;
    series = series ? series : 1;
    for (uint64_t client = 0, batches = 0; client < clients && !err; batches++) {
        for (uint64_t i = 0; i < series && client < clients && !err; i++) {
            err = add_series(m, client++, 1);
        }
        if (!err) {
            err = submit(m, batches % senders);
        }
        if (!err && (batches * series) % FIRST_SERIES == 0) {
            err = sync_group(m);
        }
    }
    return err ? err : sync_group(m);
}

static tob_error run_journal(maker *m, uint64_t *ret_series) {
    uint64_t end = m->bytes + journal_bytes;
    tob_error err = TOB_OK;
    for (uint64_t n = 0; !err && m->bytes < end; n++) {
        for (uint64_t i = 0; i < batch_series && !err; i++, ++*ret_series) {
            err = add_series(m, next_random(m) % clients, batch_samples);
        }
        if (!err) {
            err = submit(m, next_random(m) % senders);
        }
        if (!err && n % BATCHES_A_GROUP == 0) {
            m->now += 10;
            err = sync_group(m);
        }
    }
    return err ? err : sync_group(m);
}

static tob_error checkpoint(maker *m, made *ret) {
    tob_checkpoint_writer *writer = NULL;
    tob_store_cursor cursor;
    tob_buffer page;
    tob_journal_problem problem = {.text = ""};
    double total_ms = 0;
    tob_buffer_init(&page, TOB_JOURNAL_MAX_RECORD_BYTES);
    tob_error err = tob_store_checkpoint_begin(m->store, m->now, &page, &cursor);
    if (!err) {
        err = tob_checkpoint_create(dir, cursor.at, &writer, &problem);
    }
    while (!err && page.len > 0) {
        err = tob_checkpoint_append(writer, page.data, page.len, &problem);
        double start_ms = thread_cpu_ms();
        if (!err) {
            err = tob_store_checkpoint_page(m->store, &cursor, &page);
        }
        double took_ms = thread_cpu_ms() - start_ms;
        total_ms += took_ms;
        ret->page_max_ms = took_ms > ret->page_max_ms ? took_ms : ret->page_max_ms;
        ret->pages++;
    }
    ret->page_mean_ms = total_ms / (double)ret->pages;
    if (!err) {
        err = tob_checkpoint_commit(writer, &ret->checkpoint_bytes, &problem);
    } else {
        tob_checkpoint_abort(writer);
    }
    tob_buffer_fini(&page);
    return err;
}

static tob_error make(made *ret) {
    maker m = {.random = 1, .now = tob_clock_unix_ms()};
    tob_store_options how = store_options();
    tob_store_recovery recovery;
    tob_journal_problem problem = {.text = ""};
    tob_error err = tob_store_open(&how, 0, &m.store, &recovery, &problem);
    if (!err) {
        err = tob_arena_new(ARENA_BYTES, &m.arena);
    }
    if (!err) {
        err = tob_batch_builder_new("agent", 1, TOB_MAX_BATCH_BYTES, &m.builder);
    }
    if (!err) {
        err = fill(&m);
    }
    if (!err) {
        err = checkpoint(&m, ret);
    }
    if (!err) {
        err = run_journal(&m, &ret->series);
    }
    if (err) {
        fprintf(stderr, "bench_recovery: %s %s\n", tob_error_string(err), problem.text);
    }
    ret->group_max_ms = m.group_max_ms;
    tob_batch_builder_free(m.builder);
    tob_arena_free(m.arena);
    tob_store_close(m.store);
    return err;
}

// In a child, so that what is measured begins with nothing.
static int make_in_child(made *ret) {
    int ends[2], status = 1;
    if (pipe(ends)) {
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        tob_error err = make(ret);
        bool told = write(ends[1], ret, sizeof(*ret)) == (ssize_t)sizeof(*ret);
        _exit(err || !told ? 1 : 0);
    }
    close(ends[1]);
    bool heard = child > 0 && read(ends[0], ret, sizeof(*ret)) == (ssize_t)sizeof(*ret);
    close(ends[0]);
    return child > 0 && waitpid(child, &status, 0) == child && heard && status == 0 ? 0 : 1;
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    char **args = NULL;
    size_t arg_count = 0;
    made made_store = {.pages = 0};
    int status = tob_options_parse(&command, argc, argv, &args, &arg_count);
    if (status >= 0) {
        return status;
    }
    if (!dir || make_in_child(&made_store)) {
        fprintf(stderr, "bench_recovery: can't make the store in --dir\n");
        return 1;
    }
    tob_store *store = NULL;
    tob_store_options how = store_options();
    tob_store_recovery recovery;
    tob_journal_problem problem = {.text = ""};
    double cpu = cpu_s();
    uint64_t start_ms = tob_clock_monotonic_ms();
    tob_error err = tob_store_open(&how, start_ms, &store, &recovery, &problem);
    uint64_t took_ms = tob_clock_monotonic_ms() - start_ms;
    cpu = cpu_s() - cpu;
    if (err) {
        fprintf(stderr, "bench_recovery: %s\n", problem.text);
        return 1;
    }
    printf("{\"clients\": %u, \"checkpoint_bytes\": %llu, \"journal_bytes\": %llu, \"records\": %llu, "
           "\"series\": %llu, "
           "\"recovery_cpu_s\": %.3f, \"recovery_s\": %.3f, \"pages\": %llu, \"page_mean_ms\": %.3f, "
           "\"page_max_ms\": %.3f, \"group_max_ms\": %.3f}\n",
           tob_fleet_clients(tob_store_fleet(store)), (unsigned long long)recovery.checkpoint_bytes,
           (unsigned long long)journal_bytes, (unsigned long long)recovery.records,
           (unsigned long long)made_store.series, cpu, (double)took_ms / 1e3,
           (unsigned long long)made_store.pages, made_store.page_mean_ms, made_store.page_max_ms,
           made_store.group_max_ms);
    tob_store_close(store);
    return 0;
}
