#include "ingestd/eraser.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ingestd/erase_record.h"
#include "ingestd/state_number.h"
#include "journal/rewrite.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"

#define STATE_FILE  "erased"
#define ARENA_BYTES ((size_t)256 << 20) // a record of TOB_JOURNAL_MAX_RECORD_BYTES, unpacked

struct tob_eraser {
    tob_eraser_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t wake;
    bool stopping;
    tob_erasure *erasures; // in the order in which they were asked for
    size_t count;
    size_t capacity;
    uint64_t done_change; // everything up to this change of the registry is done

    tob_arena *arena; // the thread's own
};

// One pass over the journal: the thread's own copies of the erasures that it works on.
typedef struct pass {
    tob_eraser *eraser;
    tob_erasure erasures[TOB_ERASER_AT_ONCE];
    bool registered[TOB_ERASER_AT_ONCE]; // again, since: what is not older than the erasure stays
    size_t count;
    uint64_t first_segment;
    uint64_t end_segment; // this one is not looked at
    tob_rewrite *rewrite; // that is to be committed
    bool found;           // a row of theirs
    tob_error error;      // of a step on the committer's thread
    tob_journal_problem problem;
} pass;

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

// Copies what the pass knows into the list.
static void show(pass *p) {
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

static void progress(pass *p, const char *format, ...) TOB_PRINTF(2, 3);
static void progress(pass *p, const char *format, ...) {
    va_list args;
    for (size_t i = 0; i < p->count; i++) {
        va_start(args, format);
        vsnprintf(p->erasures[i].progress, sizeof(p->erasures[i].progress), format, args);
        va_end(args);
    }
    show(p);
}

static void failed(pass *p, tob_error err) {
    const char *text = p->problem.text[0] ? p->problem.text : tob_error_string(err);
    for (size_t i = 0; i < p->count; i++) {
        snprintf(p->erasures[i].problem, sizeof(p->erasures[i].problem), "%s", text);
    }
    show(p);
    tob_warn("erase_failed", TOB_STR("client_id", p->erasures[0].client_id), TOB_UINT("clients", p->count),
             TOB_STR("problem", text), TOB_UINT("retry_ms", TOB_ERASER_RETRY_MS));
}

// False once stopping.
static bool wait_ms(tob_eraser *e, uint64_t ms) {
    uint64_t until = tob_clock_monotonic_ms() + ms;
    pthread_mutex_lock(&e->lock);
    while (!e->stopping && tob_clock_monotonic_ms() < until) {
        tob_cond_wait_until(&e->wake, &e->lock, until);
    }
    bool go_on = !e->stopping;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

// ---- steps on the committer's thread

static void look_for_rows(const tob_committer_view *view, void *user) {
    pass *p = user;
    const tob_fleet *fleet = tob_store_fleet(view->store);
    p->found = false;
    tob_directory_read_lock(view->directory);
    for (size_t i = 0; i < p->count; i++) {
        const char *id = p->erasures[i].client_id;
        size_t n = strlen(id);
        p->registered[i] = tob_directory_find_client(view->directory, id, n) != NULL;
        p->found |= !p->registered[i] && tob_fleet_find_client(fleet, id, n) != TOB_FLEET_NONE;
    }
    tob_directory_read_unlock(view->directory);
}

// Looks once more: who is registered from here on reports into the new segment, which is not looked at.
static void rotate(const tob_committer_view *view, void *user) {
    pass *p = user;
    bool fatal = false;
    tob_store_stats stats;
    look_for_rows(view, p);
    if (p->found) {
        return;
    }
    p->error = tob_store_rotate(view->store, &fatal, &p->problem);
    if (fatal) {
        tob_committer_give_up("rotate", &p->problem);
    }
    tob_store_get_stats(view->store, &stats);
    p->first_segment = stats.oldest.segment;
    p->end_segment = stats.end.segment;
}

static void commit_rewrite(const tob_committer_view *view, void *user) {
    pass *p = user;
    (void)view;
    p->error = tob_rewrite_commit(p->rewrite, &p->problem);
}

static tob_error on_committer(pass *p, tob_committer_task step) {
    tob_committer_run(p->eraser->options.committer, step, p);
    return p->error;
}

// ---- the thread

static tob_error replace(void *user, tob_position at, const void *payload, size_t n, void *replacement,
                         bool *ret_replace) {
    pass *p = user;
    tob_error err = TOB_OK;
    for (size_t i = 0; i < p->count && !err; i++) {
        bool erased = false;
        uint64_t samples = 0;
        if (p->registered[i] && tob_position_compare(at, p->erasures[i].before) >= 0) {
            continue;
        }
        err = tob_erase_record(p->eraser->arena, p->erasures[i].client_id,
                               *ret_replace ? replacement : payload, n, replacement, &erased, &samples);
        if (!err && erased) {
            *ret_replace = true;
            p->erasures[i].records++;
            p->erasures[i].samples += samples;
        }
    }
    return err;
}

// A segment that is deleted meanwhile has nothing to erase any more.
static tob_error erase_segment(pass *p, uint64_t segment) {
    tob_erasure before[TOB_ERASER_AT_ONCE];
    memcpy(before, p->erasures, sizeof(before));
    p->rewrite = NULL;
    tob_error err =
        tob_rewrite_segment(p->eraser->options.journal_dir, segment, replace, p, &p->rewrite, &p->problem);
    if (!err && p->rewrite) {
        err = on_committer(p, commit_rewrite);
    }
    if (err) {
        memcpy(p->erasures, before, sizeof(before));
    }
    for (size_t i = 0; i < p->count && !err; i++) {
        p->erasures[i].segments++;
        p->erasures[i].segments_rewritten += p->erasures[i].records > before[i].records ? 1 : 0;
    }
    return err == TOB_NOT_FOUND ? TOB_OK : err;
}

static tob_error wait_for_rows(pass *p) {
    progress(p, "fleet: waiting for its row to go");
    do {
        if (!wait_ms(p->eraser, TOB_ERASER_SETTLE_MS)) {
            return TOB_CANCELLED;
        }
        (void)on_committer(p, look_for_rows);
    } while (p->found);
    return TOB_OK;
}

static tob_error renew_checkpoint(pass *p) {
    uint32_t removed = 0;
    progress(p, "checkpoint: a new one is made");
    tob_error err = tob_checkpointer_renew(p->eraser->options.checkpointer, &removed, &p->problem);
    for (size_t i = 0; i < p->count; i++) {
        p->erasures[i].checkpoints += removed;
    }
    return err;
}

static tob_error carry_out(pass *p) {
    tob_error err = TOB_OK;
    do {
        err = wait_for_rows(p);
        err = err ? err : on_committer(p, rotate);
    } while (!err && p->found);
    if (!err) {
        err = renew_checkpoint(p);
    }
    for (uint64_t segment = p->first_segment; !err && segment < p->end_segment; segment++) {
        progress(p, "journal: %" PRIu64 " of %" PRIu64 " segments", segment - p->first_segment,
                 p->end_segment - p->first_segment);
        err = wait_ms(p->eraser, 0) ? erase_segment(p, segment) : TOB_CANCELLED;
    }
    return err;
}

static void succeeded(pass *p) {
    tob_eraser *e = p->eraser;
    uint64_t change = p->erasures[p->count - 1].change;
    tob_error err = tob_state_number_write(e->options.state_dir, STATE_FILE, change);
    if (err) { // it is done; after a restart it would be done again
        tob_warn("erased_not_noted", TOB_ERR(err));
    }
    for (size_t i = 0; i < p->count; i++) {
        tob_erasure *one = &p->erasures[i];
        one->done = true;
        one->progress[0] = one->problem[0] = 0;
        one->finished_unix_ms = tob_clock_unix_ms();
        tob_info("erasure_done", TOB_STR("client_id", one->client_id), TOB_UINT("segments", one->segments),
                 TOB_UINT("segments_rewritten", one->segments_rewritten), TOB_UINT("records", one->records),
                 TOB_UINT("samples", one->samples), TOB_UINT("checkpoints", one->checkpoints));
    }
    pthread_mutex_lock(&e->lock);
    e->done_change = change;
    pthread_mutex_unlock(&e->lock);
    show(p);
}

// Waits for erasures and takes the oldest ones. False once stopping.
static bool take(tob_eraser *e, pass *ret) {
    *ret = (pass){.eraser = e};
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
    pass p;
    while (take(e, &p)) {
        tob_error err = carry_out(&p);
        if (!err) {
            succeeded(&p);
        } else if (err != TOB_CANCELLED) {
            failed(&p, err);
            (void)wait_ms(e, TOB_ERASER_RETRY_MS);
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
