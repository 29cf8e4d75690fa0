#include "ingestd/committer.h"

#include <stdio.h>
#include <stdlib.h>

#include "ingestd/committer_state.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/random.h"

enum { ARENA_BYTES = 64 << 20 };

static tob_error open_bus(tob_committer *c, tob_journal_problem *ret_problem) {
    tob_bus_options bus = {.url = c->options.bus_url,
                           .instance = c->options.instance,
                           .epoch = c->epoch,
                           .fleet = tob_store_fleet(c->store),
                           .directory = c->options.directory};
    tob_error err = tob_bus_new(&bus, &c->bus);
    if (err) {
        snprintf(ret_problem->text, sizeof(ret_problem->text), "can't listen on %s: %s", c->options.bus_url,
                 tob_error_string(err));
    }
    return err;
}

static tob_error init_parts(tob_committer *c, tob_store_recovery *ret_recovery,
                            tob_journal_problem *ret_problem, bool *ret_bus_failed) {
    *ret_bus_failed = false;
    snprintf(ret_problem->text, sizeof(ret_problem->text), "out of memory");
    tob_error err = tob_arena_new(ARENA_BYTES, &c->arena);
    if (!err) {
        err =
            tob_store_open(&c->options.store, tob_clock_monotonic_ms(), &c->store, ret_recovery, ret_problem);
    }
    if (err) {
        return err;
    }
    err = open_bus(c, ret_problem);
    *ret_bus_failed = err != TOB_OK;
    return err;
}

tob_error tob_committer_new(const tob_committer_options *options, tob_committer **ret,
                            tob_store_recovery *ret_recovery, tob_journal_problem *ret_problem,
                            bool *ret_bus_failed) {
    tob_committer *c = calloc(1, sizeof(*c));
    if (!c) {
        return TOB_NO_MEMORY;
    }
    c->options = *options;
    c->epoch = tob_random_u64();
    tob_work_list_init(&c->waiting);
    tob_committer_changes_init(&c->changes);
    pthread_mutex_init(&c->lock, NULL);
    tob_cond_init(&c->wake);
    tob_cond_init(&c->guard_wake);
    tob_cond_init(&c->task_done);
    tob_error err = init_parts(c, ret_recovery, ret_problem, ret_bus_failed);
    if (err) {
        tob_committer_free(c);
        return err;
    }
    tob_sweep_init(&c->sweep, tob_clock_monotonic_ms());
    tob_committer_update_stats(c, 0, false);
    *ret = c;
    return TOB_OK;
}

void tob_committer_free(tob_committer *c) {
    if (!c) {
        return;
    }
    tob_bus_free(c->bus);
    tob_store_close(c->store);
    tob_arena_free(c->arena);
    tob_committer_changes_fini(&c->changes);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->guard_wake);
    pthread_cond_destroy(&c->task_done);
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

void tob_committer_watch(tob_committer *c, void (*fn)(void *user, tob_position end), void *user) {
    c->watcher = fn;
    c->watcher_user = user;
    tob_committer_update_stats(c, 0, false);
}

static void run_task(tob_committer *c, const tob_work *w) {
    const tob_committer_view view = {.store = c->store,
                                     .directory = c->options.directory,
                                     .last_sequences = tob_bus_last_sequences(c->bus),
                                     .epoch = c->epoch,
                                     .relabelled = c->relabelled};
    w->of.task.run(&view, w->of.task.user);
    bool *done = w->of.task.done; // the work is on its owner's stack
    pthread_mutex_lock(&c->lock);
    *done = true;
    pthread_cond_broadcast(&c->task_done);
    pthread_mutex_unlock(&c->lock);
}

static void do_all(tob_committer *c, tob_work_list *taken) {
    tob_work_list durable;
    tob_work_list_init(&durable);
    for (tob_work *w = tob_work_list_take(taken); w; w = tob_work_list_take(taken)) {
        switch (w->kind) {
        case TOB_WORK_SUBMIT:
        case TOB_WORK_REMOVE:
        case TOB_WORK_COMMIT:
        case TOB_WORK_FORGET:
        case TOB_WORK_REPORT: tob_work_list_add(&durable, w); break;
        case TOB_WORK_SNAPSHOT: tob_committer_answer_snapshot(c, w); break;
        case TOB_WORK_LAST: tob_committer_answer_last(c, w); break;
        case TOB_WORK_LIST_CONSUMERS: tob_committer_answer_consumers(c, w); break;
        case TOB_WORK_TASK: run_task(c, w); break;
        }
    }
    tob_committer_commit_all(c, &durable);
}

static void *run(void *arg) {
    tob_committer *c = arg;
    tob_work_list taken;
    tob_committer_heartbeat(c);
    while (tob_committer_take_work(c, tob_committer_due(c), &taken)) {
        do_all(c, &taken);
        tob_committer_tick(c);
    }
    tob_committer_heartbeat(c);
    tob_committer_settle(c);
    return NULL;
}

tob_error tob_committer_start(tob_committer *c) {
    c->guarding = true;
    if (pthread_create(&c->guard, NULL, tob_committer_guard, c) != 0) {
        return TOB_NO_MEMORY;
    }
    c->started = true; // before the thread: nobody else runs tasks by himself from here on
    if (pthread_create(&c->thread, NULL, run, c) != 0) {
        c->started = false;
        pthread_mutex_lock(&c->lock);
        c->guarding = false;
        pthread_cond_signal(&c->guard_wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->guard, NULL);
        return TOB_NO_MEMORY;
    }
    return TOB_OK;
}

static void drain(const tob_committer_view *view, void *user) {
    (void)view;
    tob_committer *c = user;
    tob_committer_heartbeat(c); // publishes, and journals counters
    tob_committer_settle(c);
}

void tob_committer_drain(tob_committer *c) {
    tob_committer_run(c, drain, c);
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
    pthread_mutex_lock(&c->lock);
    c->guarding = false;
    pthread_cond_signal(&c->guard_wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->guard, NULL);
    c->started = false;
}
