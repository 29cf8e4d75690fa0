// What waits for the committer, and who refuses it when the committer does not come.
#include "ingestd/committer_state.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/random.h"

enum { GUARD_INTERVAL_MS = 250 };

void tob_work_list_init(tob_work_list *list) {
    *list = (tob_work_list){.last = &list->first};
}

void tob_work_list_add(tob_work_list *list, tob_work *w) {
    w->next = NULL;
    *list->last = w;
    list->last = &w->next;
}

tob_work *tob_work_list_take(tob_work_list *list) {
    tob_work *w = list->first;
    if (w) {
        list->first = w->next;
        if (!list->first) {
            list->last = &list->first;
        }
    }
    return w;
}

// For how long the committer has been at one group; 0 when it waits for work.
static uint64_t working_ms(const tob_committer *c) {
    uint64_t since = atomic_load(&c->working_since_ms);
    uint64_t now = tob_clock_monotonic_ms();
    return since && now > since ? now - since : 0;
}

bool tob_committer_stalled(const tob_committer *c) {
    return working_ms(c) > TOB_STALL_MS;
}

// Callers come back later the longer it takes already, and not all at once.
static uint32_t retry_ms(const tob_committer *c) {
    uint64_t wait_ms = working_ms(c);
    wait_ms = wait_ms < TOB_STALL_MS ? TOB_STALL_MS : wait_ms;
    wait_ms += tob_random_below(wait_ms / 2);
    return (uint32_t)(wait_ms < TOB_STALL_MAX_RETRY_MS
                          ? wait_ms
                          : TOB_STALL_MAX_RETRY_MS - tob_random_below(TOB_STALL_MAX_RETRY_MS / 4));
}

static void refuse(tob_committer *c, tob_rpc_call *call, tob_work_kind kind) {
    if (kind == TOB_WORK_REMOVE) {
        atomic_store(&c->sweep_wanted, true);
        tob_rpc_fail(call, TOB_UNAVAILABLE, retry_ms(c),
                     "deleted; its last values go later, because the journal can't keep up");
    } else {
        tob_rpc_fail(call, TOB_BUSY, retry_ms(c), "the journal can't keep up");
    }
}

bool tob_committer_refuses(tob_committer *c, tob_rpc_call *call) {
    bool stalled = tob_committer_stalled(c);
    if (stalled) {
        refuse(c, call, TOB_WORK_SUBMIT);
    }
    return stalled;
}

static void enqueue(tob_committer *c, const tob_work *what) {
    if (tob_committer_stalled(c)) {
        refuse(c, what->call, what->kind);
        return;
    }
    tob_arena *arena = tob_rpc_call_arena(what->call);
    tob_work *w = tob_arena_alloc(arena, sizeof(*w));
    if (!w) {
        atomic_store(&c->sweep_wanted, what->kind == TOB_WORK_REMOVE || atomic_load(&c->sweep_wanted));
        tob_rpc_fail(what->call, tob_arena_error(arena), TOB_RETRY_AFTER_MS,
                     "the request takes too much memory");
        return;
    }
    *w = *what;
    pthread_mutex_lock(&c->lock);
    tob_work_list_add(&c->waiting, w);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void tob_committer_submit(tob_committer *c, tob_rpc_call *call, const tob_submission *submission) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_SUBMIT, .call = call, .of.submission = submission});
}

void tob_committer_remove(tob_committer *c, tob_rpc_call *call, tob_source_kind kind, const char *id) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_REMOVE, .call = call, .of.removal = {kind, id}});
}

void tob_committer_last(tob_committer *c, tob_rpc_call *call, tob_source_kind kind, const char *id) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_LAST, .call = call, .of.last = {kind, id}});
}

void tob_committer_snapshot(tob_committer *c, tob_rpc_call *call,
                            const Tobogganing__V1__SnapshotRequest *request) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_SNAPSHOT, .call = call, .of.snapshot = request});
}

void tob_committer_report(tob_committer *c, tob_rpc_call *call, const Tobogganing__V1__Process *process) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_REPORT, .call = call, .of.process = process});
}

void tob_committer_commit(tob_committer *c, tob_rpc_call *call,
                          const Tobogganing__V1__CommitRequest *request) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_COMMIT, .call = call, .of.commit = request});
}

void tob_committer_list_consumers(tob_committer *c, tob_rpc_call *call) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_LIST_CONSUMERS, .call = call});
}

void tob_committer_forget(tob_committer *c, tob_rpc_call *call,
                          const Tobogganing__V1__ForgetConsumerRequest *request) {
    enqueue(c, &(tob_work){.kind = TOB_WORK_FORGET, .call = call, .of.forget = request});
}

void tob_committer_run(tob_committer *c, tob_committer_task task, void *user) {
    if (!c->started) {
        const tob_committer_view view = {.store = c->store,
                                         .directory = c->options.directory,
                                         .last_sequences = tob_bus_last_sequences(c->bus),
                                         .epoch = c->epoch,
                                         .relabelled = c->relabelled};
        task(&view, user);
        return;
    }
    bool done = false;
    tob_work w = {.kind = TOB_WORK_TASK, .of.task = {.run = task, .user = user, .done = &done}};
    pthread_mutex_lock(&c->lock);
    tob_work_list_add(&c->waiting, &w);
    pthread_cond_signal(&c->wake);
    while (!done) {
        pthread_cond_wait(&c->task_done, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

// Hands out at most max_taken calls, so that what is behind them can still be refused.
static void take_some(tob_committer *c, tob_work_list *ret) {
    uint64_t max = c->options.max_taken ? c->options.max_taken : UINT64_MAX;
    for (uint64_t n = 0; n < max && c->waiting.first; n++) {
        tob_work_list_add(ret, tob_work_list_take(&c->waiting));
    }
}

bool tob_committer_take_work(tob_committer *c, uint64_t due_ms, tob_work_list *ret) {
    tob_work_list_init(ret);
    atomic_store(&c->working_since_ms, 0);
    pthread_mutex_lock(&c->lock);
    while (!c->waiting.first && !c->stopping && !tob_committer_changes_wait(&c->changes) &&
           tob_clock_monotonic_ms() < due_ms) {
        tob_cond_wait_until(&c->wake, &c->lock, due_ms);
    }
    bool go_on = c->waiting.first || !c->stopping;
    atomic_store(&c->working_since_ms, tob_clock_monotonic_ms());
    take_some(c, ret);
    pthread_mutex_unlock(&c->lock);
    return go_on;
}

// Takes the calls, but not the tasks, out of what waits. The lock is held.
static void take_calls(tob_committer *c, tob_work_list *ret) {
    tob_work_list tasks;
    tob_work_list_init(&tasks);
    tob_work_list_init(ret);
    for (tob_work *w = tob_work_list_take(&c->waiting); w; w = tob_work_list_take(&c->waiting)) {
        tob_work_list_add(w->call ? ret : &tasks, w);
    }
    for (tob_work *w = tob_work_list_take(&tasks); w; w = tob_work_list_take(&tasks)) {
        tob_work_list_add(&c->waiting, w);
    }
}

// A disk may hang for long. The calls that the committer has not taken then have changed nothing: refusing them frees their
// contexts for those who ask how we are.
void *tob_committer_guard(void *committer) {
    tob_committer *c = committer;
    pthread_mutex_lock(&c->lock);
    while (c->guarding) {
        tob_cond_wait_until(&c->guard_wake, &c->lock, tob_clock_monotonic_ms() + GUARD_INTERVAL_MS);
        if (!tob_committer_stalled(c)) {
            continue;
        }
        tob_work_list calls;
        take_calls(c, &calls);
        pthread_mutex_unlock(&c->lock);
        for (tob_work *w = tob_work_list_take(&calls); w; w = tob_work_list_take(&calls)) {
            refuse(c, w->call, w->kind);
        }
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}
