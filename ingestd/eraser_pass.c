#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ingestd/erase_record.h"
#include "ingestd/eraser_state.h"
#include "util/clock.h"

static void progress(tob_erase_pass *p, const char *format, ...) TOB_PRINTF(2, 3);
static void progress(tob_erase_pass *p, const char *format, ...) {
    va_list args;
    for (size_t i = 0; i < p->count; i++) {
        va_start(args, format);
        vsnprintf(p->erasures[i].progress, sizeof(p->erasures[i].progress), format, args);
        va_end(args);
    }
    tob_eraser_show(p);
}

// ---- steps on the committer's thread

static void look_for_rows(const tob_committer_view *view, void *user) {
    tob_erase_pass *p = user;
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

// A client that is registered again may still have the row that it had before: that its id was gone in between nobody may have
// seen. It goes, and comes back with the next report.
static tob_error drop_rows(tob_erase_pass *p, tob_store *store, bool *ret_fatal) {
    tob_error err = TOB_OK;
    bool added = false;
    for (size_t i = 0; i < p->count && !err; i++) {
        const char *id = p->erasures[i].client_id;
        if (p->registered[i] &&
            tob_fleet_find_client(tob_store_fleet(store), id, strlen(id)) != TOB_FLEET_NONE) {
            err = tob_store_add_removal(store, TOB_SOURCE_CLIENT, id, tob_clock_unix_ms());
            added = true;
        }
    }
    if (!added) {
        return TOB_OK;
    }
    tob_error failed = tob_store_sync(store, ret_fatal, &p->problem);
    return err ? err : failed;
}

// Looks once more: who is registered from here on reports into the new segment, which is not looked at.
static void rotate(const tob_committer_view *view, void *user) {
    tob_erase_pass *p = user;
    bool fatal = false;
    tob_store_stats stats;
    look_for_rows(view, p);
    p->error = TOB_OK;
    if (p->found) {
        return;
    }
    p->error = drop_rows(p, view->store, &fatal);
    if (!p->error) {
        p->error = tob_store_rotate(view->store, &fatal, &p->problem);
    }
    if (fatal) {
        tob_committer_give_up("rotate", &p->problem);
    }
    tob_store_get_stats(view->store, &stats);
    p->first_segment = stats.oldest.segment;
    p->end_segment = stats.end.segment;
}

static void commit_rewrite(const tob_committer_view *view, void *user) {
    tob_erase_pass *p = user;
    (void)view;
    p->error = tob_rewrite_commit(p->rewrite, &p->problem);
}

static tob_error on_committer(tob_erase_pass *p, tob_committer_task step) {
    tob_committer_run(p->eraser->options.committer, step, p);
    return p->error;
}

// ---- steps on the eraser's thread

static tob_error replace(void *user, tob_position at, const void *payload, size_t n, void *replacement,
                         bool *ret_replace) {
    tob_erase_pass *p = user;
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
static tob_error erase_segment(tob_erase_pass *p, uint64_t segment) {
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

static tob_error wait_for_rows(tob_erase_pass *p) {
    progress(p, "fleet: waiting for its row to go");
    do {
        if (!tob_eraser_wait_ms(p->eraser, TOB_ERASER_SETTLE_MS)) {
            return TOB_CANCELLED;
        }
        (void)on_committer(p, look_for_rows);
    } while (p->found);
    return TOB_OK;
}

static tob_error renew_checkpoint(tob_erase_pass *p) {
    uint32_t removed = 0;
    progress(p, "checkpoint: a new one is made");
    tob_error err = tob_checkpointer_renew(p->eraser->options.checkpointer, &removed, &p->problem);
    for (size_t i = 0; i < p->count; i++) {
        p->erasures[i].checkpoints += removed;
    }
    return err;
}

tob_error tob_erase_pass_run(tob_erase_pass *p) {
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
        err = tob_eraser_wait_ms(p->eraser, 0) ? erase_segment(p, segment) : TOB_CANCELLED;
    }
    return err;
}
