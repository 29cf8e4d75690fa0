// The committer's insides, for its own files only: committer.c is its life, committer_queue.c what waits, committer_group.c
// what becomes durable, committer_answers.c what is
// answered from memory, committer_consumers.c who reads the journal, committer_changes.c what the registry changed,
// committer_clock.c what happens by the clock.
//
// Threads: the lock guards what is said to be under it; two fields are atomic; all else is the thread's own.
#ifndef TOB_INGESTD_COMMITTER_STATE_H
#define TOB_INGESTD_COMMITTER_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "ingestd/bus.h"
#include "ingestd/committer.h"
#include "ingestd/sweep.h"
#include "util/buffer.h"
#include "wire/arena.h"

typedef enum tob_work_kind {
    TOB_WORK_SUBMIT, // these are made durable
    TOB_WORK_REMOVE,
    TOB_WORK_COMMIT,
    TOB_WORK_FORGET,
    TOB_WORK_REPORT,
    TOB_WORK_SNAPSHOT, // these are not
    TOB_WORK_LAST,
    TOB_WORK_LIST_CONSUMERS,
    TOB_WORK_TASK,
} tob_work_kind;

typedef struct tob_work_source {
    tob_source_kind kind;
    const char *id;
} tob_work_source;

typedef struct tob_work_task {
    tob_committer_task run;
    void *user;
    bool *done; // under the lock
} tob_work_task;

// One thing to do: in the arena of its call, or a task on its caller's stack.
typedef struct tob_work {
    struct tob_work *next;
    tob_work_kind kind;
    tob_rpc_call *call; // NULL: a task
    union {
        const tob_submission *submission;
        tob_work_source removal;
        tob_work_source last;
        const Tobogganing__V1__CommitRequest *commit;
        const Tobogganing__V1__ForgetConsumerRequest *forget;
        const Tobogganing__V1__SnapshotRequest *snapshot;
        const Tobogganing__V1__Process *process;
        tob_work_task task;
    } of;
    tob_position at; // of a submission, once added
    bool repeated;   // likewise
} tob_work;

// First in, first out.
typedef struct tob_work_list {
    tob_work *first;
    tob_work **last;
} tob_work_list;

void tob_work_list_init(tob_work_list *list);
void tob_work_list_add(tob_work_list *list, tob_work *w);
tob_work *tob_work_list_take(tob_work_list *list);

// Sources that the registry changed, as they come, and those that are being looked at: each as its kind, the length of its id,
// the id. There may be as many as an import has, so a slice of them is done at a time.
typedef struct tob_committer_changes {
    tob_buffer waiting; // under the lock
    bool all;           // likewise: there was no room for what came; any row may have other labels
    tob_buffer taken;   // the thread's
    size_t done;        // bytes of that
    uint64_t due_ms;    // of the next slice; UINT64_MAX: nothing is taken
} tob_committer_changes;

struct tob_committer {
    tob_committer_options options;
    uint64_t epoch;
    pthread_t thread;
    pthread_t guard;
    bool started;
    void (*watcher)(void *user, tob_position end);
    void *watcher_user;
    pthread_mutex_t lock; // guards waiting, changes, stopping, guarding, tasks' done, stats
    pthread_cond_t wake;
    pthread_cond_t guard_wake;
    pthread_cond_t task_done;
    tob_work_list waiting;
    tob_committer_changes changes;
    bool stopping;
    bool guarding;
    tob_committer_stats stats;              // written by the thread only
    atomic_bool sweep_wanted;               // by other threads
    atomic_uint_least64_t working_since_ms; // monotonic; 0: waits for work. Set again after each group

    tob_store *store;
    tob_bus *bus;
    tob_arena *arena;                                              // for answers
    Tobogganing__V1__CertificateExpiry expiries[TOB_EXPIRIES_MAX]; // of the Manager that was filled last
    Tobogganing__V1__CertificateExpiry *expiry_rows[TOB_EXPIRIES_MAX];
    tob_sweep sweep;
    tob_position relabelled; // see tob_committer_view
    tob_position told;       // the watcher
    bool unpublished;
    uint64_t published_ms;
    uint64_t heartbeat_ms;
    uint64_t counters_hash;     // of our own, as last counted
    uint64_t counters_ms;       // when that was
    uint64_t counters_tried_ms; // when journalling was last tried
};

// committer_queue.c

// tob_committer_take_work waits for work, at most until `due_ms`, and hands out some of it. False once stopping and nothing
// waits.
bool tob_committer_take_work(tob_committer *c, uint64_t due_ms, tob_work_list *ret);

// The thread that refuses what waits while the journal hangs.
void *tob_committer_guard(void *committer);

// committer_changes.c

void tob_committer_changes_init(tob_committer_changes *changes);
void tob_committer_changes_fini(tob_committer_changes *changes);

// Is there something to take, and nothing taken? The lock is held.
bool tob_committer_changes_wait(const tob_committer_changes *changes);

// Looks at the next of the changed sources, when it is time.
void tob_committer_follow_changes(tob_committer *c, uint64_t now_ms);

// Rows have new versions though the journal has nothing of it.
void tob_committer_relabelled(tob_committer *c);

// committer_group.c

// Makes durable and answers what the list has.
void tob_committer_commit_all(tob_committer *c, tob_work_list *durable);

// tob_committer_sync makes what was added durable. On an error nothing of it happened.
//   commits   groups of calls that this is, for the statistics
TOB_MUST_USE tob_error tob_committer_sync(tob_committer *c, uint64_t commits);
void tob_committer_settle(tob_committer *c);
void tob_committer_update_stats(tob_committer *c, uint64_t commits, bool failing);

// committer_answers.c
void tob_committer_answer_snapshot(tob_committer *c, const tob_work *w);
void tob_committer_answer_last(tob_committer *c, const tob_work *w);
void tob_committer_fill_manager(tob_committer *c, Tobogganing__V1__Manager *manager);

// committer_consumers.c

// tob_committer_commit_add does what a Commit wants but for the sync. False: it is answered already.
bool tob_committer_commit_add(tob_committer *c, const tob_work *w);
bool tob_committer_forget_add(tob_committer *c, const tob_work *w);

// tob_committer_alone: it makes or forgets a consumer, whose lease the table has only once that is applied, so it is a group
// of its own.
bool tob_committer_alone(const tob_committer *c, const tob_work *w);
void tob_committer_answer_commit(tob_committer *c, const tob_work *w);
void tob_committer_answer_forget(const tob_work *w);
void tob_committer_answer_consumers(tob_committer *c, const tob_work *w);

// committer_clock.c

// Publishes changed rows if it is time; `all`: now, and all of them.
void tob_committer_publish(tob_committer *c, bool all);
void tob_committer_heartbeat(tob_committer *c);

// Does what is due. _due: when something will be, monotonic milliseconds.
void tob_committer_tick(tob_committer *c);
uint64_t tob_committer_due(const tob_committer *c);

#endif
