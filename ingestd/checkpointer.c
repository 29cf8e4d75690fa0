#include "ingestd/checkpointer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/positions.h"
#include "journal/checkpoint.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"

enum {
    PAGE_BYTES = TOB_JOURNAL_MAX_RECORD_BYTES,
    LOOK_INTERVAL_MS = 200, // at how far the journal has grown
};

struct tob_checkpointer {
    tob_checkpointer_options options;
    char *dir;
    uint64_t start_unix_ms; // with the monotonic clock this makes a wall clock that nobody steps
    uint64_t start_ms;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; // guards stopping, stop_by_ms, stats and renewal
    pthread_cond_t wake;
    bool stopping;
    uint64_t stop_by_ms;
    tob_checkpointer_stats stats;
    struct renewal *renewal; // what tob_checkpointer_renew waits for, or NULL

    // The thread's own.
    tob_buffer page;
    uint64_t last_ms; // when the last one was made
    uint64_t retry_at_ms;
    uint64_t retry_ms; // 0: the last one did not fail
    uint64_t retained_ms;
};

// One checkpoint while it is made.
typedef struct making {
    tob_checkpointer *checkpointer;
    tob_store_cursor cursor;
    tob_checkpoint_writer *writer;
    uint64_t began_ms;
    uint64_t began_unix_ms;
    uint64_t longest_pause_us;
    uint64_t clients;
    uint64_t headends;
    uint64_t bytes;
    tob_error error; // of the step under way
    tob_journal_problem problem;
} making;

tob_error tob_checkpointer_new(const tob_checkpointer_options *options, tob_checkpointer **ret) {
    tob_checkpointer *p = calloc(1, sizeof(*p));
    char *dir = strdup(options->journal_dir);
    if (!p || !dir) {
        free(p);
        free(dir);
        return TOB_NO_MEMORY;
    }
    p->options = *options;
    p->dir = dir;
    p->start_unix_ms = tob_clock_unix_ms();
    p->start_ms = p->last_ms = p->retained_ms = tob_clock_monotonic_ms();
    p->stats.at = options->last;
    p->stats.bytes = options->last_bytes;
    pthread_mutex_init(&p->lock, NULL);
    tob_cond_init(&p->wake);
    tob_buffer_init(&p->page, PAGE_BYTES);
    *ret = p;
    return TOB_OK;
}

void tob_checkpointer_free(tob_checkpointer *p) {
    if (!p) {
        return;
    }
    tob_buffer_fini(&p->page);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->dir);
    free(p);
}

void tob_checkpointer_get_stats(tob_checkpointer *p, tob_checkpointer_stats *ret) {
    pthread_mutex_lock(&p->lock);
    *ret = p->stats;
    pthread_mutex_unlock(&p->lock);
}

// One call of tob_checkpointer_renew.
struct renewal {
    bool done;
    pthread_cond_t ended;
    tob_error error;
    uint32_t removed;
    tob_journal_problem problem;
};

// ---- steps of a checkpoint, on the committer's thread

static void measure(making *m, uint64_t began_ns) {
    uint64_t us = (tob_clock_monotonic_ns() - began_ns) / 1000;
    m->longest_pause_us = us > m->longest_pause_us ? us : m->longest_pause_us;
}

static void begin(const tob_committer_view *view, void *user) {
    making *m = user;
    uint64_t at = tob_clock_monotonic_ns();
    m->clients = tob_fleet_clients(tob_store_fleet(view->store));
    m->headends = tob_fleet_headends(tob_store_fleet(view->store));
    m->error = tob_store_checkpoint_begin(view->store, m->began_unix_ms, &m->checkpointer->page, &m->cursor);
    measure(m, at);
}

static void render_page(const tob_committer_view *view, void *user) {
    making *m = user;
    uint64_t at = tob_clock_monotonic_ns();
    m->error = tob_store_checkpoint_page(view->store, &m->cursor, &m->checkpointer->page);
    measure(m, at);
}

static void settle(const tob_committer_view *view, void *user) {
    making *m = user;
    bool fatal = false;
    uint64_t at = tob_clock_monotonic_ns();
    m->error = tob_store_settle(view->store, &fatal, &m->problem);
    if (fatal) {
        tob_committer_give_up("settle", &m->problem);
    }
    measure(m, at);
}

static void tell(const tob_committer_view *view, void *user) {
    making *m = user;
    tob_store_checkpointed(view->store, m->cursor.at);
}

typedef struct retaining {
    uint64_t now_unix_ms;
    uint64_t removed;
    tob_error error;
    tob_journal_problem problem;
} retaining;

static void dropped_older(const tob_committer_view *view, void *user) {
    (void)user;
    tob_store_dropped_older(view->store);
}

static void retain(const tob_committer_view *view, void *user) {
    retaining *r = user;
    r->error = tob_store_retain(view->store, r->now_unix_ms, &r->removed, &r->problem);
}

// ---- the thread

static bool too_late(tob_checkpointer *p) {
    pthread_mutex_lock(&p->lock);
    bool late = p->stopping && tob_clock_monotonic_ms() >= p->stop_by_ms;
    pthread_mutex_unlock(&p->lock);
    return late;
}

static tob_error run_step(making *m, tob_committer_task step) {
    tob_committer_run(m->checkpointer->options.committer, step, m);
    return m->error;
}

static tob_error write_page(making *m) {
    const tob_buffer *page = &m->checkpointer->page;
    return tob_checkpoint_append(m->writer, page->data, page->len, &m->problem);
}

static tob_error write_pages(making *m) {
    tob_error err = write_page(m);
    while (!err && m->checkpointer->page.len > 0) {
        err = too_late(m->checkpointer) ? TOB_DEADLINE : run_step(m, render_page);
        if (!err && m->checkpointer->page.len > 0) {
            err = write_page(m);
        }
    }
    return err;
}

static tob_error make(making *m) {
    tob_checkpointer *p = m->checkpointer;
    tob_error err = run_step(m, begin);
    if (!err) {
        err = tob_checkpoint_create(p->dir, m->cursor.at, &m->writer, &m->problem);
    }
    if (!err) {
        err = write_pages(m);
    }
    if (!err) {
        tob_committer_stats stats;
        tob_committer_get_stats(p->options.committer, &stats);
        tob_journal_settle_ahead(p->dir, stats.journal_end);
        err = run_step(m, settle);
    }
    if (err) {
        tob_checkpoint_abort(m->writer);
        return err;
    }
    return tob_checkpoint_commit(m->writer, &m->bytes, &m->problem);
}

// A few at a time, since the committer does it: reports go on in between.
static void retain_segments(tob_checkpointer *p) {
    uint64_t now = tob_clock_monotonic_ms(), removed = 0;
    retaining r = {.now_unix_ms = p->start_unix_ms + (now - p->start_ms)};
    do {
        r.removed = 0;
        tob_committer_run(p->options.committer, retain, &r);
        removed += r.removed;
    } while (r.removed && !r.error && !too_late(p));
    p->retained_ms = now;
    if (r.error) {
        tob_warn("retain_failed", TOB_STR("problem", r.problem.text), TOB_ERR(r.error));
    }
    if (removed) {
        tob_info("segments_removed", TOB_UINT("segments", removed));
    }
}

static void succeeded(tob_checkpointer *p, making *m) {
    uint64_t took_ms = tob_clock_monotonic_ms() - m->began_ms;
    tob_committer_run(p->options.committer, tell, m);
    pthread_mutex_lock(&p->lock);
    p->stats = (tob_checkpointer_stats){.at = m->cursor.at,
                                        .unix_ms = m->began_unix_ms,
                                        .bytes = m->bytes,
                                        .took_ms = took_ms,
                                        .longest_pause_us = m->longest_pause_us};
    pthread_mutex_unlock(&p->lock);
    p->last_ms = m->began_ms;
    p->retry_ms = 0;
    p->retry_at_ms = 0;
    tob_info("checkpoint", TOB_UINT("took_ms", took_ms), TOB_UINT("bytes", m->bytes),
             TOB_UINT("clients", m->clients), TOB_UINT("headends", m->headends),
             TOB_UINT("longest_pause_us", m->longest_pause_us));
    retain_segments(p);
}

// A full disk, say, would fail again and again: logged when it begins, then only at the debug level.
static void failed(tob_checkpointer *p, const making *m, tob_error err) {
    tob_log_level level = p->retry_ms ? TOB_LOG_DEBUG : TOB_LOG_WARN;
    p->retry_ms = p->retry_ms ? p->retry_ms * 2 : TOB_CHECKPOINT_RETRY_MS;
    p->retry_ms = p->retry_ms < TOB_CHECKPOINT_RETRY_MAX_MS ? p->retry_ms : TOB_CHECKPOINT_RETRY_MAX_MS;
    p->retry_at_ms = tob_clock_monotonic_ms() + p->retry_ms;
    TOB_LOG_AT(level, "checkpoint_failed", TOB_STR("problem", m->problem.text), TOB_ERR(err),
               TOB_UINT("retry_ms", p->retry_ms), TOB_LOG_END);
}

static tob_error make_checkpoint(tob_checkpointer *p, tob_journal_problem *ret_problem) {
    making m = {.checkpointer = p,
                .began_ms = tob_clock_monotonic_ms(),
                .began_unix_ms = tob_clock_unix_ms()};
    tob_error err = make(&m);
    if (err) {
        *ret_problem = m.problem;
        failed(p, &m, err);
    } else {
        succeeded(p, &m);
    }
    return err;
}

// The renewal that waits, for the thread to carry out; NULL: none does.
static struct renewal *next_renewal(tob_checkpointer *p) {
    pthread_mutex_lock(&p->lock);
    struct renewal *renewal = p->renewal;
    pthread_mutex_unlock(&p->lock);
    return renewal;
}

static void end_renewal(tob_checkpointer *p, struct renewal *renewal, tob_error err) {
    pthread_mutex_lock(&p->lock);
    renewal->error = err;
    renewal->done = true;
    p->renewal = NULL;
    pthread_cond_signal(&renewal->ended);
    pthread_mutex_unlock(&p->lock);
}

static void renew(tob_checkpointer *p, struct renewal *renewal) {
    tob_error err = make_checkpoint(p, &renewal->problem);
    if (!err) {
        err = tob_checkpoint_keep_newest(p->dir, &renewal->removed, &renewal->problem);
    }
    if (!err) {
        tob_committer_run(p->options.committer, dropped_older, NULL);
    }
    end_renewal(p, renewal, err);
}

tob_error tob_checkpointer_renew(tob_checkpointer *p, uint32_t *ret_removed,
                                 tob_journal_problem *ret_problem) {
    struct renewal renewal = {.done = false};
    pthread_cond_init(&renewal.ended, NULL);
    pthread_mutex_lock(&p->lock);
    if (p->stopping || !p->started) {
        renewal.error = TOB_CANCELLED;
    } else {
        p->renewal = &renewal;
        pthread_cond_signal(&p->wake);
        while (!renewal.done) {
            pthread_cond_wait(&renewal.ended, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&renewal.ended);
    *ret_removed = renewal.removed;
    *ret_problem = renewal.problem;
    return renewal.error;
}

// Has the journal grown since the last checkpoint, and enough?
static bool grown(tob_checkpointer *p, uint64_t *ret_bytes) {
    tob_committer_stats stats;
    tob_committer_get_stats(p->options.committer, &stats);
    tob_position from = p->stats.at.segment ? p->stats.at : stats.journal_oldest;
    *ret_bytes = tob_positions_apart(from, stats.journal_end, p->options.segment_bytes);
    return *ret_bytes > 0;
}

static bool wanted(tob_checkpointer *p, uint64_t now_ms) {
    uint64_t bytes = 0;
    if (now_ms < p->retry_at_ms || !grown(p, &bytes)) {
        return false;
    }
    uint64_t enough = p->stats.bytes > p->options.bytes ? p->stats.bytes : p->options.bytes;
    return bytes > enough || now_ms - p->last_ms >= p->options.interval_ms;
}

// False once stopping.
static bool wait_a_little(tob_checkpointer *p) {
    pthread_mutex_lock(&p->lock);
    if (!p->stopping && !p->renewal) {
        tob_cond_wait_until(&p->wake, &p->lock, tob_clock_monotonic_ms() + LOOK_INTERVAL_MS);
    }
    bool go_on = !p->stopping;
    pthread_mutex_unlock(&p->lock);
    return go_on;
}

static void *run(void *arg) {
    tob_checkpointer *p = arg;
    uint64_t bytes = 0;
    tob_journal_problem ignored; // it is in the log
    while (wait_a_little(p)) {
        uint64_t now = tob_clock_monotonic_ms();
        struct renewal *renewal = next_renewal(p);
        if (renewal) {
            renew(p, renewal);
        } else if (wanted(p, now)) {
            (void)!make_checkpoint(p, &ignored);
        } else if (now - p->retained_ms >= TOB_RETAIN_INTERVAL_MS) {
            retain_segments(p);
        }
    }
    struct renewal *renewal = next_renewal(p);
    if (renewal) {
        end_renewal(p, renewal, TOB_CANCELLED);
    }
    if (grown(p, &bytes)) {
        (void)!make_checkpoint(p, &ignored);
    }
    return NULL;
}

tob_error tob_checkpointer_start(tob_checkpointer *p) {
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        return TOB_NO_MEMORY;
    }
    p->started = true;
    return TOB_OK;
}

void tob_checkpointer_stop(tob_checkpointer *p) {
    if (!p || !p->started) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    p->stop_by_ms = tob_clock_monotonic_ms() + TOB_CHECKPOINT_LAST_MS;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    p->started = false;
}
