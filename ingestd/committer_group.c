// Group commit: what waits is added to the store, synced once, and answered.
#include <unistd.h>

#include "tobogganing/v1/registry.pb-c.h"

#include "ingestd/committer_state.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/random.h"

// What one group has at most: bounds the journal's memory, and how long the first of it waits for its answer.
enum {
    GROUP_BYTES = 16 << 20,
    GROUP_SERIES = 1 << 14,
};

void tob_committer_give_up(const char *what, const tob_journal_problem *problem) {
    tob_err("stopped_by_failed_sync", TOB_STR("what", what), TOB_STR("problem", problem->text),
            TOB_STR("reason", "what is on disk or in memory is unknown; start again to recover"));
    _exit(1);
}

void tob_committer_update_stats(tob_committer *c, uint64_t commits, bool failing) {
    tob_store_stats store;
    tob_store_get_stats(c->store, &store);
    pthread_mutex_lock(&c->lock);
    c->stats.epoch = c->epoch;
    c->stats.reporting_clients = tob_fleet_clients(tob_store_fleet(c->store));
    c->stats.reporting_headends = tob_fleet_headends(tob_store_fleet(c->store));
    c->stats.stored_batches = store.stored_batches;
    c->stats.stored_samples = store.stored_samples;
    c->stats.repeated_batches = store.repeated_batches;
    c->stats.commits += commits;
    c->stats.journal_oldest = store.oldest;
    c->stats.journal_end = store.end;
    c->stats.journal_bytes = store.journal_bytes;
    c->stats.journal_failing = failing;
    pthread_mutex_unlock(&c->lock);
    if (c->watcher && tob_position_compare(c->told, store.end) != 0) {
        c->told = store.end;
        c->watcher(c->watcher_user, store.end);
    }
}

tob_error tob_committer_sync(tob_committer *c, uint64_t commits) {
    bool fatal = false;
    tob_journal_problem problem = {.text = ""};
    tob_error err = tob_store_sync(c->store, &fatal, &problem);
    if (fatal) {
        tob_committer_give_up("sync", &problem);
    }
    if (err) {
        tob_err("journal_write_failed", TOB_STR("problem", problem.text), TOB_ERR(err));
    }
    c->unpublished = true;
    // A success that wrote nothing (repeats only) does not tell whether the journal can be written again.
    tob_store_stats store;
    tob_store_get_stats(c->store, &store);
    bool wrote = tob_position_compare(store.end, c->stats.journal_end) != 0;
    tob_committer_update_stats(c, err ? 0 : commits, err || (!wrote && c->stats.journal_failing));
    return err;
}

void tob_committer_settle(tob_committer *c) {
    bool fatal = false;
    tob_journal_problem problem = {.text = ""};
    tob_error err = tob_store_settle(c->store, &fatal, &problem);
    if (fatal) {
        tob_committer_give_up("settle", &problem);
    }
    if (err) {
        tob_err("journal_settle_failed", TOB_STR("problem", problem.text), TOB_ERR(err));
    }
}

// ---- the load, as callers hear of it

// How many times the interval is asked for: 1 until half of the requests' memory is used, TOB_LOAD_MAX_FACTOR when all is.
static uint64_t stretched(const tob_committer *c, uint64_t interval_ms) {
    const tob_arena_budget *memory = c->options.request_memory;
    if (!memory || memory->max_bytes < 2) {
        return interval_ms;
    }
    uint64_t half = memory->max_bytes / 2;
    uint64_t used = tob_arena_budget_used(memory);
    uint64_t over = used > half ? used - half : 0;
    double factor = 1 + (TOB_LOAD_MAX_FACTOR - 1) * (over < half ? (double)over / (double)half : 1.0);
    return (uint64_t)((double)interval_ms * factor);
}

void tob_submit_response_init(tob_committer *c, Tobogganing__V1__SubmitResponse *response) {
    tobogganing__v1__submit_response__init(response);
    uint64_t interval = stretched(c, c->options.report_interval_ms);
    uint64_t spread = interval / 10;
    response->next_report_in_ms = (uint32_t)(interval - spread + tob_random_below(2 * spread + 1));
}

// ---- adding

static bool add_submission(tob_committer *c, tob_work *w) {
    tob_error err = tob_store_add_batch(c->store, w->of.submission, &w->repeated, &w->at);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "can't append to the journal: %s",
                     tob_error_string(err));
    }
    return !err;
}

// The row of a source that can't be removed now goes with a sweep.
static void removal_failed(tob_committer *c, const tob_work *w, tob_error err) {
    tob_sweep_want(&c->sweep, tob_clock_monotonic_ms(), TOB_SWEEP_DELAY_MS);
    tob_rpc_fail(w->call, err == TOB_BUSY ? err : TOB_UNAVAILABLE, TOB_RETRY_AFTER_MS,
                 "deleted; its last values go later, because the journal can't be written: %s",
                 tob_error_string(err));
}

static bool add_removal(tob_committer *c, const tob_work *w) {
    tob_error err =
        tob_store_add_removal(c->store, w->of.removal.kind, w->of.removal.id, tob_clock_unix_ms());
    if (err) {
        removal_failed(c, w, err);
    }
    return !err;
}

// The counters of all that reported are added together, by add_counters.
static bool add_report(tob_committer *c, const tob_work *w) {
    const char *reason = NULL;
    tob_error err = tob_process_table_put(tob_store_processes(c->store), w->of.process,
                                          tob_clock_monotonic_ms(), &reason);
    if (err) {
        tob_rpc_fail(w->call, err, TOB_RETRY_AFTER_MS, "%s", reason ? reason : tob_error_string(err));
    }
    return !err;
}

static tob_error add_counters(tob_committer *c, const tob_work_list *group) {
    for (const tob_work *w = group->first; w; w = w->next) {
        if (w->kind == TOB_WORK_REPORT) {
            return tob_store_add_counters(c->store, tob_clock_unix_ms());
        }
    }
    return TOB_OK;
}

// Adds one thing to the group; false when it is answered already.
static bool add(tob_committer *c, tob_work *w) {
    // A removal is carried out in any case: the source is deleted already.
    if (w->kind != TOB_WORK_REMOVE && tob_clock_monotonic_ms() >= tob_rpc_call_deadline_ms(w->call)) {
        tob_rpc_fail(w->call, TOB_DEADLINE, 0, "the call's time was over before it could be stored");
        return false;
    }
    switch (w->kind) {
    case TOB_WORK_SUBMIT: return add_submission(c, w);
    case TOB_WORK_REMOVE: return add_removal(c, w);
    case TOB_WORK_COMMIT: return tob_committer_commit_add(c, w);
    case TOB_WORK_FORGET: return tob_committer_forget_add(c, w);
    case TOB_WORK_REPORT: return add_report(c, w);
    case TOB_WORK_SNAPSHOT:
    case TOB_WORK_LAST:
    case TOB_WORK_LIST_CONSUMERS:
    case TOB_WORK_TASK: break;
    }
    return false;
}

static void add_group(tob_committer *c, tob_work_list *durable, tob_work_list *ret) {
    size_t bytes = 0, series = 0;
    while (durable->first && bytes < GROUP_BYTES && series < GROUP_SERIES) {
        bool alone = tob_committer_alone(c, durable->first);
        if (alone && ret->first) {
            return;
        }
        tob_work *w = tob_work_list_take(durable);
        const tob_submission *s = w->kind == TOB_WORK_SUBMIT ? w->of.submission : NULL;
        size_t batch_len = s ? s->batch_len : 0;
        size_t count = s ? s->client_count + s->headend_count : 1;
        if (!add(c, w)) {
            continue; // and its memory is gone
        }
        bytes += batch_len;
        series += count;
        tob_work_list_add(ret, w);
        if (alone) {
            return;
        }
    }
}

// ---- answering

static uint32_t samples_of(const tob_submission *s) {
    size_t samples = 0;
    for (size_t i = 0; i < s->client_count; i++) {
        samples += s->clients[i]->n_time_unix_ms;
    }
    for (size_t i = 0; i < s->headend_count; i++) {
        samples += s->headends[i]->n_time_unix_ms;
    }
    return (uint32_t)samples;
}

static void answer_submission(tob_committer *c, const tob_work *w) {
    const tob_submission *s = w->of.submission;
    Tobogganing__V1__SubmitResponse response;
    Tobogganing__V1__Position durable = TOBOGGANING__V1__POSITION__INIT;
    tob_submit_response_init(c, &response);
    durable.segment = w->at.segment;
    durable.offset = w->at.offset;
    response.stored_series = (uint32_t)(s->client_count + s->headend_count);
    response.stored_samples = samples_of(s);
    response.rejected = s->rejected;
    response.n_rejected = s->rejected_count;
    response.durable = &durable;
    response.repeated = w->repeated;
    tob_rpc_reply(w->call, &response.base);
}

static void answer_removal(tob_committer *c, const tob_work *w) {
    Tobogganing__V1__DeleteResponse response = TOBOGGANING__V1__DELETE_RESPONSE__INIT;
    // A report of the source may have been checked before it was deleted and arrive now.
    tob_sweep_want(&c->sweep, tob_clock_monotonic_ms(), TOB_SWEEP_DELAY_MS);
    tob_rpc_reply(w->call, &response.base);
}

static void answer_report(const tob_work *w) {
    Tobogganing__V1__ReportResponse response = TOBOGGANING__V1__REPORT_RESPONSE__INIT;
    tob_rpc_reply(w->call, &response.base);
}

static void answer(tob_committer *c, const tob_work *w) {
    switch (w->kind) {
    case TOB_WORK_SUBMIT: answer_submission(c, w); break;
    case TOB_WORK_REMOVE: answer_removal(c, w); break;
    case TOB_WORK_COMMIT: tob_committer_answer_commit(c, w); break;
    case TOB_WORK_FORGET: tob_committer_answer_forget(w); break;
    case TOB_WORK_REPORT: answer_report(w); break;
    case TOB_WORK_SNAPSHOT:
    case TOB_WORK_LAST:
    case TOB_WORK_LIST_CONSUMERS:
    case TOB_WORK_TASK: break;
    }
}

static void answer_failed(tob_committer *c, const tob_work *w, tob_error err) {
    if (w->kind == TOB_WORK_REMOVE) {
        removal_failed(c, w, err);
    } else {
        tob_rpc_fail(w->call, TOB_UNAVAILABLE, TOB_RETRY_AFTER_MS, "the journal can't be written: %s",
                     tob_error_string(err));
    }
}

void tob_committer_commit_all(tob_committer *c, tob_work_list *durable) {
    while (durable->first) {
        tob_work_list group;
        tob_work_list_init(&group);
        add_group(c, durable, &group);
        tob_error counters = add_counters(c, &group);
        tob_error err = group.first ? tob_committer_sync(c, 1) : TOB_OK;
        tob_committer_publish(c, false);
        for (tob_work *w = tob_work_list_take(&group); w; w = tob_work_list_take(&group)) {
            tob_error failed = w->kind == TOB_WORK_REPORT && !err ? counters : err;
            if (failed) {
                answer_failed(c, w, failed);
            } else {
                answer(c, w);
            }
        }
        atomic_store(&c->working_since_ms, tob_clock_monotonic_ms());
    }
}
