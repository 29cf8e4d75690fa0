#include "ingestd/committer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tobogganing/v1/journal.pb-c.h"

#include "ingestd/bus.h"
#include "ingestd/process_table.h"
#include "ingestd/recovery.h"
#include "ingestd/snapshot.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"
#include "util/random.h"
#include "wire/record.h"

enum {
    GROUP_BYTES =
        16 << 20, // of batches in one group: bounds the journal's memory and the time to the first answer
    ARENA_BYTES = 64 << 20,
};

typedef enum work_kind { WORK_SUBMIT, WORK_SNAPSHOT, WORK_REPORT } work_kind;

// One thing to do, in the arena of its call.
typedef struct work {
    struct work *next;
    work_kind kind;
    tob_rpc_call *call;
    union {
        const tob_submission *submission;
        const Tobogganing__V1__SnapshotRequest *snapshot;
        const Tobogganing__V1__Process *process;
    } of;
    tob_position at;  // of a submission, once appended
    uint64_t samples; // of a submission, once applied
} work;

// First in, first out.
typedef struct work_list {
    work *first;
    work **last;
} work_list;

struct tob_committer {
    tob_committer_options options;
    uint64_t epoch;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; // guards waiting, stopping, stats
    pthread_cond_t wake;
    work_list waiting;
    bool stopping;
    tob_committer_stats stats;

    // The thread's own.
    tob_fleet *fleet;
    tob_process_table *processes;
    tob_journal *journal;
    tob_bus *bus;
    tob_arena *arena; // for answers and records
    bool unpublished;
    uint64_t published_ms;
    uint64_t heartbeat_ms;
    uint64_t counters_ms;      // monotonic, when counters were last journalled
    uint64_t counters_unix_ms; // the same moment by the wall clock
};

static void list_init(work_list *list) {
    *list = (work_list){.last = &list->first};
}

static void list_add(work_list *list, work *w) {
    w->next = NULL;
    *list->last = w;
    list->last = &w->next;
}

static work *list_take(work_list *list) {
    work *w = list->first;
    if (w) {
        list->first = w->next;
        if (!list->first) {
            list->last = &list->first;
        }
    }
    return w;
}

static tob_error init_parts(tob_committer *c, tob_journal_problem *ret_problem, bool *ret_bus_failed) {
    *ret_bus_failed = false;
    tob_error err = tob_fleet_new(&c->fleet);
    if (!err) {
        err = tob_process_table_new(&c->processes);
    }
    if (!err) {
        err = tob_arena_new(ARENA_BYTES, &c->arena);
    }
    if (!err) {
        err = tob_recover(&c->options.journal, c->fleet, c->processes, &c->journal,
                          &c->stats.recovered_records, &c->stats.cut_bytes, ret_problem);
    }
    if (err) {
        return err;
    }
    tob_bus_options bus = {.url = c->options.bus_url,
                           .instance = c->options.instance,
                           .epoch = c->epoch,
                           .fleet = c->fleet,
                           .directory = c->options.directory};
    err = tob_bus_new(&bus, &c->bus);
    if (err) {
        *ret_bus_failed = true;
        snprintf(ret_problem->text, sizeof(ret_problem->text), "can't listen on %s: %s", c->options.bus_url,
                 tob_error_string(err));
    }
    return err;
}

static void update_stats(tob_committer *c, uint64_t samples, uint64_t commits, bool failing) {
    pthread_mutex_lock(&c->lock);
    c->stats.epoch = c->epoch;
    c->stats.reporting_clients = tob_fleet_clients(c->fleet);
    c->stats.reporting_headends = tob_fleet_headends(c->fleet);
    c->stats.stored_samples += samples;
    c->stats.commits += commits;
    c->stats.journal_end = tob_journal_end(c->journal);
    c->stats.journal_bytes = tob_journal_bytes(c->journal);
    c->stats.journal_failing = failing;
    pthread_mutex_unlock(&c->lock);
}

tob_error tob_committer_new(const tob_committer_options *options, tob_committer **ret,
                            tob_journal_problem *ret_problem, bool *ret_bus_failed) {
    tob_committer *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    c->options = *options;
    c->epoch = tob_random_u64();
    list_init(&c->waiting);
    pthread_mutex_init(&c->lock, NULL);
    tob_cond_init(&c->wake);
    tob_error err = init_parts(c, ret_problem, ret_bus_failed);
    if (err) {
        tob_committer_free(c);
        return err;
    }
    update_stats(c, 0, 0, false);
    *ret = c;
    return TOB_OK;
}

void tob_committer_free(tob_committer *c) {
    if (!c) {
        return;
    }
    tob_bus_free(c->bus);
    tob_journal_close(c->journal);
    tob_process_table_free(c->processes);
    tob_fleet_free(c->fleet);
    tob_arena_free(c->arena);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    free(c);
}

uint16_t tob_committer_bus_port(const tob_committer *c) {
    return tob_bus_port(c->bus);
}

void tob_committer_get_stats(tob_committer *c, tob_committer_stats *ret) {
    pthread_mutex_lock(&c->lock);
    *ret = c->stats;
    pthread_mutex_unlock(&c->lock);
}

static void enqueue(tob_committer *c, const work *what) {
    work *w = tob_arena_alloc(tob_rpc_call_arena(what->call), sizeof(*w));
    if (!w) {
        tob_rpc_fail(what->call, TOB_NO_MEMORY, TOB_RETRY_AFTER_MS, "the request takes too much memory");
        return;
    }
    *w = *what;
    pthread_mutex_lock(&c->lock);
    list_add(&c->waiting, w);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void tob_committer_submit(tob_committer *c, tob_rpc_call *call, const tob_submission *submission) {
    enqueue(c, &(work){.kind = WORK_SUBMIT, .call = call, .of.submission = submission});
}

void tob_committer_snapshot(tob_committer *c, tob_rpc_call *call,
                            const Tobogganing__V1__SnapshotRequest *request) {
    enqueue(c, &(work){.kind = WORK_SNAPSHOT, .call = call, .of.snapshot = request});
}

void tob_committer_report(tob_committer *c, tob_rpc_call *call, const Tobogganing__V1__Process *process) {
    enqueue(c, &(work){.kind = WORK_REPORT, .call = call, .of.process = process});
}

void tob_submit_response_init(tob_committer *c, Tobogganing__V1__SubmitResponse *response) {
    tobogganing__v1__submit_response__init(response);
    uint64_t interval = c->options.report_interval_ms;
    uint64_t spread = interval / 10;
    response->next_report_in_ms = (uint32_t)(interval - spread + tob_random_below(2 * spread + 1));
}

// ---- submissions

static tob_error append(tob_committer *c, work *w) {
    const tob_submission *s = w->of.submission;
    uint8_t prefix[TOB_RECORD_PREFIX_BYTES];
    size_t n = tob_record_prefix(s->received_unix_ms, s->batch_len, prefix);
    const tob_journal_part parts[] = {{prefix, n}, {s->batch, s->batch_len}};
    return tob_journal_append(c->journal, parts, 2, &w->at);
}

// Writes what was appended. A failed fdatasync ends the process: what the page cache holds then is unknown,
// only a new start finds out.
static tob_error sync_journal(tob_committer *c) {
    bool fatal = false;
    tob_journal_problem problem = {.text = ""};
    tob_error err = tob_journal_sync(c->journal, &fatal, &problem);
    if (err) {
        tob_err("journal_write_failed", TOB_STR("problem", problem.text), TOB_ERR(err));
    }
    if (fatal) {
        tob_err("stopped_by_failed_sync",
                TOB_STR("reason", "what is on disk is unknown; start again to recover"));
        _exit(1);
    }
    return err;
}

// What is durable must be served: without the memory for it, start again and recover.
static void apply(tob_committer *c, work *w) {
    const tob_submission *s = w->of.submission;
    tob_error err = TOB_OK;
    for (size_t i = 0; i < s->client_count && !err; i++) {
        err = tob_fleet_apply_client(c->fleet, s->clients[i], s->received_unix_ms);
        w->samples += s->clients[i]->n_time_unix_ms;
    }
    for (size_t i = 0; i < s->headend_count && !err; i++) {
        err = tob_fleet_apply_headend(c->fleet, s->headends[i], s->received_unix_ms);
        w->samples += s->headends[i]->n_time_unix_ms;
    }
    if (err) {
        tob_err("stopped_by_failed_apply", TOB_ERR(err));
        _exit(1);
    }
    c->unpublished = true;
}

static void answer_submit(tob_committer *c, const work *w) {
    const tob_submission *s = w->of.submission;
    Tobogganing__V1__Position durable = TOBOGGANING__V1__POSITION__INIT;
    durable.segment = w->at.segment;
    durable.offset = w->at.offset;
    Tobogganing__V1__SubmitResponse response;
    tob_submit_response_init(c, &response);
    response.stored_series = (uint32_t)(s->client_count + s->headend_count);
    response.stored_samples = (uint32_t)w->samples;
    response.rejected = s->rejected;
    response.n_rejected = s->rejected_count;
    response.durable = &durable;
    tob_rpc_reply(w->call, &response.base);
}

// Appends submissions up to the group's size. Those that can't be are answered; the others are left in `ret`.
static void append_group(tob_committer *c, work_list *submissions, work_list *ret) {
    size_t bytes = 0;
    while (submissions->first && bytes < GROUP_BYTES) {
        work *w = list_take(submissions);
        if (tob_clock_monotonic_ms() >= tob_rpc_call_deadline_ms(w->call)) {
            tob_rpc_fail(w->call, TOB_DEADLINE, 0, "the call's time was over before it could be stored");
            continue;
        }
        tob_error err = append(c, w);
        if (err) {
            tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "can't append to the journal: %s",
                         tob_error_string(err));
            continue;
        }
        bytes += w->of.submission->batch_len;
        list_add(ret, w);
    }
}

static void publish(tob_committer *c, bool now) {
    uint64_t at = tob_clock_monotonic_ms();
    if (!c->unpublished || (!now && at - c->published_ms < TOB_PUBLISH_INTERVAL_MS)) {
        return;
    }
    tob_error err = tob_bus_publish(c->bus, tob_journal_end(c->journal));
    if (err) {
        tob_warn("publish_failed", TOB_ERR(err));
    }
    c->unpublished = false;
    c->published_ms = at;
}

static void commit_group(tob_committer *c, work_list *submissions) {
    work_list group;
    list_init(&group);
    append_group(c, submissions, &group);
    if (!group.first) {
        return;
    }
    tob_error err = sync_journal(c);
    uint64_t samples = 0;
    for (work *w = group.first; w && !err; w = w->next) {
        apply(c, w);
        samples += w->samples;
    }
    update_stats(c, samples, err ? 0 : 1, err != TOB_OK);
    publish(c, false);
    for (work *w = list_take(&group); w; w = list_take(&group)) {
        if (err) {
            tob_rpc_fail(w->call, TOB_UNAVAILABLE, TOB_RETRY_AFTER_MS, "the journal can't be written: %s",
                         tob_error_string(err));
        } else {
            answer_submit(c, w);
        }
    }
}

// ---- the other work

static void fill_manager(tob_committer *c, Tobogganing__V1__Manager *manager) {
    tobogganing__v1__manager__init(manager);
    manager->clusters = tob_directory_clusters(c->options.directory);
    manager->clients = tob_directory_clients(c->options.directory);
    manager->headends = tob_directory_headends(c->options.directory);
    manager->processes = tob_process_table_all(c->processes, &manager->n_processes);
}

static void answer_snapshot(tob_committer *c, const work *w) {
    uint64_t max_rows = w->of.snapshot->max_rows ? w->of.snapshot->max_rows : TOB_SNAPSHOT_DEFAULT_ROWS;
    if (max_rows > TOB_SNAPSHOT_MAX_ROWS) {
        tob_rpc_fail(w->call, TOB_INVALID, 0, "max_rows: over %d", TOB_SNAPSHOT_MAX_ROWS);
        return;
    }
    tob_arena_clear(c->arena);
    Tobogganing__V1__Manager manager;
    Tobogganing__V1__SnapshotResponse page = TOBOGGANING__V1__SNAPSHOT_RESPONSE__INIT;
    tob_error err =
        tob_snapshot_rows(c->fleet, c->options.directory, c->arena, w->of.snapshot->cursor, max_rows, &page);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "no memory for the page");
        return;
    }
    fill_manager(c, &manager);
    page.instance = c->options.instance;
    page.epoch = c->epoch;
    page.version = tob_fleet_version(c->fleet);
    page.manager = &manager;
    page.last_sequences = tob_bus_last_sequences(c->bus);
    page.n_last_sequences = TOB_BUS_BUCKETS;
    tob_rpc_reply(w->call, &page.base);
}

static void answer_report(tob_committer *c, const work *w) {
    const char *reason = NULL;
    tob_error err = tob_process_table_put(c->processes, w->of.process, tob_clock_unix_ms(), &reason);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "%s", reason ? reason : tob_error_string(err));
        return;
    }
    Tobogganing__V1__ReportResponse response = TOBOGGANING__V1__REPORT_RESPONSE__INIT;
    tob_rpc_reply(w->call, &response.base);
}

static void do_all(tob_committer *c, work_list *taken) {
    work_list submissions;
    list_init(&submissions);
    for (work *w = list_take(taken); w; w = list_take(taken)) {
        switch (w->kind) {
        case WORK_SUBMIT: list_add(&submissions, w); break;
        case WORK_SNAPSHOT: answer_snapshot(c, w); break;
        case WORK_REPORT: answer_report(c, w); break;
        }
    }
    while (submissions.first) {
        commit_group(c, &submissions);
    }
}

// ---- what happens by the clock

static void count_ourselves(tob_committer *c) {
    Tobogganing__V1__Process *message = NULL;
    const char *reason = NULL;
    tob_arena_clear(c->arena);
    tob_error err = tob_process_message(c->options.process, c->arena, &message);
    if (!err) {
        err = tob_process_table_put(c->processes, message, tob_clock_unix_ms(), &reason);
    }
    if (!err) {
        err = tob_process_table_retire(c->processes, tob_clock_unix_ms());
    }
    if (err) {
        tob_warn("counters_not_updated", TOB_ERR(err));
    }
}

static void heartbeat(tob_committer *c) {
    Tobogganing__V1__Manager manager;
    count_ourselves(c);
    fill_manager(c, &manager);
    tob_error err = tob_bus_heartbeat(c->bus, &manager, tob_journal_end(c->journal));
    if (err) {
        tob_warn("heartbeat_failed", TOB_ERR(err));
    }
    c->heartbeat_ms = tob_clock_monotonic_ms();
}

// Journals the counters of the processes that reported since the last time. Never the sum of the retired: recovery
// reads their own records again and retires them again.
static void journal_counters(tob_committer *c) {
    Tobogganing__V1__Record record = TOBOGGANING__V1__RECORD__INIT;
    record.received_unix_ms = tob_clock_unix_ms();
    size_t count = 0;
    Tobogganing__V1__Process **all = tob_process_table_all(c->processes, &count);
    tob_arena_clear(c->arena);
    record.processes = tob_arena_alloc(c->arena, (count + 1) * sizeof(*record.processes));
    for (size_t i = 0; record.processes && i < count; i++) {
        bool heard = tob_process_table_heard_unix_ms(c->processes, i) >= c->counters_unix_ms;
        if (heard && all[i]->id != TOB_PROCESS_RETIRED) {
            record.processes[record.n_processes++] = all[i];
        }
    }
    uint8_t *packed = tob_arena_alloc(c->arena, tobogganing__v1__record__get_packed_size(&record));
    tob_position at;
    tob_error err = packed ? TOB_OK : tob_arena_error(c->arena);
    if (!err) {
        const tob_journal_part part = {packed, tobogganing__v1__record__pack(&record, packed)};
        err = tob_journal_append(c->journal, &part, 1, &at);
    }
    if (!err) {
        err = sync_journal(c);
        update_stats(c, 0, err ? 0 : 1, err != TOB_OK);
    }
    if (err) {
        tob_warn("counters_not_journalled", TOB_ERR(err));
    }
    c->counters_ms = tob_clock_monotonic_ms();
    c->counters_unix_ms = err ? c->counters_unix_ms : record.received_unix_ms;
}

static void tick(tob_committer *c) {
    uint64_t now = tob_clock_monotonic_ms();
    publish(c, false);
    if (now - c->heartbeat_ms >= TOB_HEARTBEAT_INTERVAL_MS) {
        heartbeat(c);
    }
    if (now - c->counters_ms >= TOB_COUNTERS_JOURNAL_MS) {
        journal_counters(c);
    }
}

// Waits for work until the next thing is due; false once stopping and nothing waits.
static bool take_work(tob_committer *c, work_list *ret) {
    uint64_t elapsed = tob_clock_monotonic_ms() - c->heartbeat_ms;
    uint64_t due = elapsed < TOB_HEARTBEAT_INTERVAL_MS ? TOB_HEARTBEAT_INTERVAL_MS - elapsed : 0;
    if (c->unpublished && due > TOB_PUBLISH_INTERVAL_MS) {
        due = TOB_PUBLISH_INTERVAL_MS;
    }
    list_init(ret);
    pthread_mutex_lock(&c->lock);
    if (!c->waiting.first && !c->stopping && due > 0) {
        tob_cond_wait_until(&c->wake, &c->lock, tob_clock_monotonic_ms() + due);
    }
    bool go_on = c->waiting.first || !c->stopping;
    if (c->waiting.first) {
        *ret = c->waiting;
        list_init(&c->waiting);
    }
    pthread_mutex_unlock(&c->lock);
    return go_on;
}

static void *run(void *arg) {
    tob_committer *c = arg;
    work_list taken;
    heartbeat(c);
    while (take_work(c, &taken)) {
        do_all(c, &taken);
        tick(c);
    }
    publish(c, true);
    heartbeat(c);
    journal_counters(c);
    return NULL;
}

tob_error tob_committer_start(tob_committer *c) {
    c->counters_ms = tob_clock_monotonic_ms();
    if (pthread_create(&c->thread, NULL, run, c) != 0) {
        return TOB_NO_MEMORY;
    }
    c->started = true;
    return TOB_OK;
}

void tob_committer_stop(tob_committer *c) {
    if (!c->started) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->started = false;
}
