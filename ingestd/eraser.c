#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/eraser_state.h"
#include "ingestd/state_number.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"

#define STATE_FILE  "erased"
#define ARENA_BYTES ((size_t)256 << 20) // a record of TOB_JOURNAL_MAX_RECORD_BYTES, unpacked

// ---- the list

tob_error tob_eraser_new(const tob_eraser_options *options, tob_eraser **ret) {
    tob_journal_problem problem;
    tob_eraser *e = calloc(1, sizeof(*e));
    if (!e) {
        return TOB_NO_MEMORY;
    }
    e->options = *options;
    pthread_mutex_init(&e->lock, NULL);
    tob_cond_init(&e->wake);
    tob_error err = tob_arena_new(ARENA_BYTES, &e->arena);
    if (!err) {
        err = tob_state_number_read(options->state_dir, STATE_FILE, &e->done_change);
    }
    if (!err) {
        err = tob_rewrite_drop_unfinished(options->journal_dir, &problem);
    }
    if (err) {
        tob_eraser_free(e);
        return err;
    }
    *ret = e;
    return TOB_OK;
}

void tob_eraser_free(tob_eraser *eraser) {
    if (!eraser) {
        return;
    }
    tob_eraser_stop(eraser);
    tob_arena_free(eraser->arena);
    free(eraser->erasures);
    pthread_mutex_destroy(&eraser->lock);
    pthread_cond_destroy(&eraser->wake);
    free(eraser);
}

// Under the lock; NULL: there is none. A client that was registered again and erased again is there twice.
//   change   of the erasure, or 0: the newest
static tob_erasure *find(const tob_eraser *e, const char *client_id, uint64_t change) {
    for (size_t i = e->count; i > 0; i--) {
        tob_erasure *erasure = &e->erasures[i - 1];
        if (strcmp(erasure->client_id, client_id) == 0 && (!change || erasure->change == change)) {
            return erasure;
        }
    }
    return NULL;
}

// Room for one more: the oldest one that is done is forgotten when enough are remembered.
static tob_error make_room(tob_eraser *e) {
    if (e->count >= TOB_ERASER_REMEMBERED && e->erasures[0].done) {
        memmove(e->erasures, e->erasures + 1, (e->count - 1) * sizeof(*e->erasures));
        e->count--;
    }
    if (e->count == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 16;
        tob_erasure *bigger = realloc(e->erasures, capacity * sizeof(*bigger));
        if (!bigger) {
            return TOB_NO_MEMORY;
        }
        e->erasures = bigger;
        e->capacity = capacity;
    }
    return TOB_OK;
}

void tob_eraser_erase(tob_eraser *e, const char *client_id, uint64_t change) {
    pthread_mutex_lock(&e->lock);
    const tob_erasure *known = find(e, client_id, 0);
    bool news = change > e->done_change && !(known && known->change >= change);
    tob_error err = news ? make_room(e) : TOB_OK;
    if (news && !err) {
        tob_committer_stats stats;
        tob_erasure *erasure = &e->erasures[e->count++];
        tob_committer_get_stats(e->options.committer, &stats);
        *erasure = (tob_erasure){.change = change, .before = stats.journal_end};
        snprintf(erasure->client_id, sizeof(erasure->client_id), "%s", client_id);
        snprintf(erasure->progress, sizeof(erasure->progress), "waiting");
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    if (err) { // the next start reads the registry's deletions again
        tob_err("erasure_lost", TOB_STR("client_id", client_id), TOB_ERR(err));
    }
}

void tob_eraser_numbered(tob_eraser *e, uint64_t last_change) {
    pthread_mutex_lock(&e->lock);
    if (e->done_change > last_change) {
        size_t kept = 0;
        for (size_t i = 0; i < e->count; i++) {
            if (!e->erasures[i].done) {
                e->erasures[kept] = e->erasures[i];
                e->erasures[kept++].change = last_change;
            }
        }
        e->count = kept;
        e->done_change = 0;
    }
    pthread_mutex_unlock(&e->lock);
}

bool tob_eraser_get(tob_eraser *e, const char *client_id, tob_erasure *ret) {
    pthread_mutex_lock(&e->lock);
    const tob_erasure *erasure = find(e, client_id, 0);
    if (erasure) {
        *ret = *erasure;
    }
    pthread_mutex_unlock(&e->lock);
    return erasure != NULL;
}

// ---- what a pass tells

void tob_eraser_show(tob_erase_pass *p) {
    tob_eraser *e = p->eraser;
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < p->count; i++) {
        tob_erasure *listed = find(e, p->erasures[i].client_id, p->erasures[i].change);
        if (listed) {
            *listed = p->erasures[i];
        }
    }
    pthread_mutex_unlock(&e->lock);
}

static void failed(tob_erase_pass *p, tob_error err) {
    const char *text = p->problem.text[0] ? p->problem.text : tob_error_string(err);
    for (size_t i = 0; i < p->count; i++) {
        snprintf(p->erasures[i].problem, sizeof(p->erasures[i].problem), "%s", text);
    }
    tob_eraser_show(p);
    tob_warn("erase_failed", TOB_STR("client_id", p->erasures[0].client_id), TOB_UINT("clients", p->count),
             TOB_STR("problem", text), TOB_UINT("retry_ms", TOB_ERASER_RETRY_MS));
}

bool tob_eraser_wait_ms(tob_eraser *e, uint64_t ms) {
    uint64_t until = tob_clock_monotonic_ms() + ms;
    pthread_mutex_lock(&e->lock);
    while (!e->stopping && tob_clock_monotonic_ms() < until) {
        tob_cond_wait_until(&e->wake, &e->lock, until);
    }
    bool go_on = !e->stopping;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

// ---- the thread

// Notes up to which change everything is done; not when changes are numbered anew since the pass began.
static void note_done(tob_eraser *e, const tob_erasure *newest) {
    pthread_mutex_lock(&e->lock);
    bool counts = find(e, newest->client_id, newest->change) != NULL;
    if (counts) {
        e->done_change = newest->change;
    }
    pthread_mutex_unlock(&e->lock);
    tob_error err =
        counts ? tob_state_number_write(e->options.state_dir, STATE_FILE, newest->change) : TOB_OK;
    if (err) { // it is done; after a restart it would be done again
        tob_warn("erased_not_noted", TOB_ERR(err));
    }
}

static void succeeded(tob_erase_pass *p) {
    for (size_t i = 0; i < p->count; i++) {
        tob_erasure *one = &p->erasures[i];
        one->done = true;
        one->progress[0] = one->problem[0] = 0;
        one->finished_unix_ms = tob_clock_unix_ms();
        tob_info("erasure_done", TOB_STR("client_id", one->client_id), TOB_UINT("segments", one->segments),
                 TOB_UINT("segments_rewritten", one->segments_rewritten), TOB_UINT("records", one->records),
                 TOB_UINT("samples", one->samples), TOB_UINT("checkpoints", one->checkpoints));
    }
    note_done(p->eraser, &p->erasures[p->count - 1]);
    tob_eraser_show(p);
}

// Waits for erasures and takes the oldest ones. False once stopping.
static bool take(tob_eraser *e, tob_erase_pass *ret) {
    *ret = (tob_erase_pass){.eraser = e};
    pthread_mutex_lock(&e->lock);
    for (;;) {
        for (size_t i = 0; i < e->count && ret->count < TOB_ERASER_AT_ONCE; i++) {
            if (!e->erasures[i].done) {
                ret->erasures[ret->count++] = e->erasures[i];
            }
        }
        if (e->stopping || ret->count > 0) {
            break;
        }
        pthread_cond_wait(&e->wake, &e->lock);
    }
    bool go_on = !e->stopping;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

static void *run(void *arg) {
    tob_eraser *e = arg;
    tob_erase_pass p;
    while (take(e, &p)) {
        tob_error err = tob_erase_pass_run(&p);
        if (!err) {
            succeeded(&p);
        } else if (err != TOB_CANCELLED) {
            failed(&p, err);
            (void)!tob_eraser_wait_ms(e, TOB_ERASER_RETRY_MS);
        }
    }
    return NULL;
}

tob_error tob_eraser_start(tob_eraser *e) {
    if (pthread_create(&e->thread, NULL, run, e) != 0) {
        return TOB_INTERNAL;
    }
    e->started = true;
    return TOB_OK;
}

void tob_eraser_stop(tob_eraser *e) {
    if (!e || !e->started) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    e->started = false;
}
