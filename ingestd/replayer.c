#include "ingestd/replayer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ingestd/positions.h"
#include "ingestd/replay_records.h"
#include "ingestd/replay_rows.h"
#include "journal/reader.h"
#include "util/clock.h"
#include "util/cond.h"
#include "util/log.h"

enum {
    ARENA_BYTES = 96 << 20,   // a page of records, or of rows
    RENDER_SOURCES = 2048,    // that the committer looks up at once
    ANSWER_EARLIER_MS = 200,  // than a waiting caller's deadline
    FROM_OLDEST_ATTEMPTS = 3, // the oldest may be deleted just then
};

// A call that waits, in its arena.
typedef struct waiter {
    struct waiter *next;
    tob_rpc_call *call;
    const Tobogganing__V1__ReplayRequest *request;
    uint64_t until_ms;  // answered then, whatever there is
    tob_position tried; // nothing was there before this end; {0, 0}: not looked yet
} waiter;

struct tob_replayer {
    tob_replayer_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; // guards what follows, up to `stopping`
    pthread_cond_t wake;
    waiter *first;
    waiter **last;
    size_t waiting;
    tob_position end; // of the journal
    bool hurry;
    bool stopping;

    // The thread's own.
    tob_journal_reader *reader;
    tob_arena *arena;
    tob_replay_rows *rows;
};

static void on_end(void *user, tob_position end) {
    tob_replayer *r = user;
    pthread_mutex_lock(&r->lock);
    r->end = end;
    if (r->first) {
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
}

tob_error tob_replayer_new(const tob_replayer_options *options, tob_replayer **ret) {
    tob_replayer *r = calloc(1, sizeof(*r));
    if (!r) {
        return TOB_NO_MEMORY;
    }
    r->options = *options;
    r->last = &r->first;
    pthread_mutex_init(&r->lock, NULL);
    tob_cond_init(&r->wake);
    tob_error err = tob_journal_reader_new(options->journal_dir, &r->reader);
    if (!err) {
        err = tob_arena_new(ARENA_BYTES, &r->arena);
    }
    if (!err) {
        err = tob_replay_rows_new(&r->rows);
    }
    if (err) {
        tob_replayer_free(r);
        return err;
    }
    tob_committer_watch(options->committer, on_end, r);
    *ret = r;
    return TOB_OK;
}

void tob_replayer_free(tob_replayer *r) {
    if (!r) {
        return;
    }
    tob_journal_reader_free(r->reader);
    tob_arena_free(r->arena);
    tob_replay_rows_free(r->rows);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    free(r);
}

// ---- calls

// What is wrong with the request; NULL: nothing.
static const char *check(const Tobogganing__V1__ReplayRequest *request) {
    if (request->max_bytes > TOB_REPLAY_MAX_BYTES) {
        return "max_bytes: over 4 MiB";
    }
    switch (request->view) {
    case TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_ROWS: return request->from ? NULL : "from: missing";
    case TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_RECORDS:
        return request->wait_ms > TOB_REPLAY_MAX_WAIT_MS ? "wait_ms: over 60000" : NULL;
    default: return "view: unknown";
    }
}

// How long the call may wait for the journal to go on.
static uint64_t wait_until(const tob_rpc_call *call, const Tobogganing__V1__ReplayRequest *request) {
    uint64_t now = tob_clock_monotonic_ms();
    uint64_t deadline = tob_rpc_call_deadline_ms(call) - ANSWER_EARLIER_MS;
    return now + request->wait_ms < deadline ? now + request->wait_ms : deadline;
}

void tob_replayer_call(tob_replayer *r, tob_rpc_call *call, const Tobogganing__V1__ReplayRequest *request) {
    const char *problem = check(request);
    if (problem) {
        tob_rpc_fail(call, TOB_INVALID, 0, "%s", problem);
        return;
    }
    if (request->instance != r->options.instance) {
        tob_rpc_fail(call, TOB_PRECONDITION, 0, "instance: this is the journal of %016" PRIx64,
                     r->options.instance);
        return;
    }
    waiter *w = tob_arena_alloc(tob_rpc_call_arena(call), sizeof(*w));
    if (!w) {
        tob_rpc_fail(call, tob_arena_error(tob_rpc_call_arena(call)), TOB_RETRY_AFTER_MS,
                     "no memory to wait");
        return;
    }
    *w = (waiter){.call = call, .request = request, .until_ms = wait_until(call, request)};
    pthread_mutex_lock(&r->lock);
    bool full = r->waiting >= r->options.max_waiting;
    if (!full) {
        *r->last = w;
        r->last = &w->next;
        r->waiting++;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    if (full) {
        tob_rpc_fail(call, TOB_BUSY, TOB_RETRY_AFTER_MS, "too many replays are waiting");
    }
}

// ---- reading

static void fail_read(tob_replayer *r, tob_rpc_call *call, tob_error err,
                      const tob_journal_problem *problem) {
    tob_committer_stats stats;
    tob_committer_get_stats(r->options.committer, &stats);
    if (err == TOB_NOT_FOUND || err == TOB_OUT_OF_RANGE) {
        tob_rpc_fail(call, TOB_OUT_OF_RANGE, 0,
                     "from: not a place of the journal from the oldest %" PRIu64 ":%" PRIu64
                     " to the end %" PRIu64 ":%" PRIu64 ", or too far back, or labels have changed since",
                     stats.journal_oldest.segment, stats.journal_oldest.offset, stats.journal_end.segment,
                     stats.journal_end.offset);
        return;
    }
    tob_err("replay_failed", TOB_STR("problem", problem->text), TOB_ERR(err));
    tob_rpc_fail(call, err, TOB_RETRY_AFTER_MS, "the journal can't be read: %s", tob_error_string(err));
}

static uint64_t max_bytes(const Tobogganing__V1__ReplayRequest *request) {
    return request->max_bytes ? request->max_bytes : TOB_REPLAY_DEFAULT_BYTES;
}

// Reads records from where the request wants; TOB_OK also when the page is full.
static tob_error read_records(tob_replayer *r, const waiter *w, tob_position end, tob_record_page *page,
                              tob_position *ret_next, tob_journal_problem *problem) {
    tob_position from = tob_position_of(w->request->from);
    tob_error err = TOB_NOT_FOUND;
    for (unsigned i = 0; i < FROM_OLDEST_ATTEMPTS && err == TOB_NOT_FOUND; i++) {
        tob_arena_clear(r->arena);
        *page = (tob_record_page){.arena = r->arena};
        err = tob_journal_read(r->reader, from, end, max_bytes(w->request), tob_record_page_add, page,
                               ret_next, problem);
        if (page->full || (err == TOB_NOT_FOUND && page->count > 0)) {
            return TOB_OK; // what follows is for the next call to say
        }
        if (from.segment != 0) {
            return err;
        }
    }
    return err;
}

// False: there is nothing yet, and the call waits.
static bool answer_records(tob_replayer *r, waiter *w, tob_position end, bool hurry) {
    tob_position at = tob_position_of(w->request->from);
    tob_record_page page = {0};
    tob_journal_problem problem = {.text = ""};
    tob_error err = TOB_OK;
    if (tob_position_compare(at, end) != 0) {
        err = read_records(r, w, end, &page, &at, &problem);
    }
    if (err) {
        fail_read(r, w->call, err, &problem);
        return true;
    }
    if (page.count == 0) {
        at = end;
        if (!hurry && tob_clock_monotonic_ms() < w->until_ms) {
            w->tried = end;
            return false;
        }
    }
    tob_committer_stats stats;
    tob_committer_get_stats(r->options.committer, &stats);
    Tobogganing__V1__Position next = tob_position_message(at);
    Tobogganing__V1__Position last = tob_position_message(end);
    Tobogganing__V1__ReplayResponse response = TOBOGGANING__V1__REPLAY_RESPONSE__INIT;
    response.instance = r->options.instance;
    response.epoch = stats.epoch;
    response.next = &next;
    response.end = &last;
    response.records = page.records;
    response.n_records = page.count;
    tob_rpc_reply(w->call, &response.base);
    return true;
}

// ---- rows

// What holds when a page of rows is begun. Everything in the bus's messages up to these sequences is in the journal before
// this end; rows are rendered later, so they are at least as new.
typedef struct row_page {
    tob_replayer *replayer;
    uint64_t epoch;
    uint64_t version;
    tob_position end;
    tob_position relabelled;
    uint64_t last_sequences[TOB_BUS_BUCKETS];
    size_t from; // source to render next
    tob_error error;
    Tobogganing__V1__ReplayResponse response;
} row_page;

static void begin_rows(const tob_committer_view *view, void *user) {
    row_page *page = user;
    tob_store_stats stats;
    tob_store_get_stats(view->store, &stats);
    page->epoch = view->epoch;
    page->version = tob_fleet_version(tob_store_fleet(view->store));
    page->end = stats.end;
    page->relabelled = view->relabelled;
    memcpy(page->last_sequences, view->last_sequences, sizeof(page->last_sequences));
}

static void render_rows(const tob_committer_view *view, void *user) {
    row_page *page = user;
    page->error =
        tob_replay_rows_render(page->replayer->rows, page->from, RENDER_SOURCES, tob_store_fleet(view->store),
                               view->directory, page->replayer->arena, &page->response);
    page->from += RENDER_SOURCES;
}

typedef struct source_page {
    tob_replay_rows *rows;
    bool full;
} source_page;

static tob_error add_sources(void *user, tob_position at, const void *payload, size_t n) {
    source_page *page = user;
    (void)at;
    page->full = tob_replay_rows_count(page->rows) >= TOB_REPLAY_PAGE_SOURCES;
    return page->full ? TOB_CANCELLED : tob_replay_rows_add(page->rows, payload, n);
}

// Rows with other labels are published but not journalled: who may have missed some of them needs a snapshot.
static bool missed_labels(tob_position from, tob_position relabelled) {
    return relabelled.segment > 0 && tob_position_compare(from, relabelled) <= 0;
}

static tob_error read_sources(tob_replayer *r, const waiter *w, const row_page *begun, tob_position *ret_next,
                              tob_journal_problem *problem) {
    tob_position from = tob_position_of(w->request->from);
    tob_position end = begun->end;
    source_page page = {.rows = r->rows};
    if (tob_positions_apart(from, end, r->options.segment_bytes) > TOB_REPLAY_ROWS_BEHIND ||
        missed_labels(from, begun->relabelled)) {
        return TOB_OUT_OF_RANGE;
    }
    tob_replay_rows_clear(r->rows, w->request->buckets);
    *ret_next = from;
    if (tob_position_compare(from, end) == 0) {
        return TOB_OK;
    }
    tob_error err =
        tob_journal_read(r->reader, from, end, max_bytes(w->request), add_sources, &page, ret_next, problem);
    return page.full ? TOB_OK : err;
}

static void answer_rows(tob_replayer *r, const waiter *w) {
    row_page page = {.replayer = r};
    tob_position at = {0, 0};
    tob_journal_problem problem = {.text = ""};
    tob_committer_run(r->options.committer, begin_rows, &page);
    tob_error err = read_sources(r, w, &page, &at, &problem);
    if (err) {
        fail_read(r, w->call, err, &problem);
        return;
    }
    tob_arena_clear(r->arena);
    tobogganing__v1__replay_response__init(&page.response);
    while (page.from < tob_replay_rows_count(r->rows) && !page.error) {
        tob_committer_run(r->options.committer, render_rows, &page);
    }
    if (page.error) {
        tob_rpc_fail(w->call, page.error, TOB_RETRY_AFTER_MS, "no memory for the page");
        return;
    }
    Tobogganing__V1__Position next = tob_position_message(at);
    Tobogganing__V1__Position end = tob_position_message(page.end);
    page.response.instance = r->options.instance;
    page.response.epoch = page.epoch;
    page.response.version = page.version;
    page.response.next = &next;
    page.response.end = &end;
    page.response.last_sequences = page.last_sequences;
    page.response.n_last_sequences = TOB_BUS_BUCKETS;
    tob_rpc_reply(w->call, &page.response.base);
}

// ---- the thread

// Takes the first that has something to be done about out of the list; else says when one will. The lock is held.
static waiter *take(tob_replayer *r, uint64_t *ret_due_ms) {
    uint64_t now = tob_clock_monotonic_ms();
    *ret_due_ms = UINT64_MAX;
    for (waiter **at = &r->first; *at; at = &(*at)->next) {
        waiter *w = *at;
        if (r->hurry || w->until_ms <= now || tob_position_compare(w->tried, r->end) != 0) {
            *at = w->next;
            r->last = *at ? r->last : at;
            return w;
        }
        *ret_due_ms = w->until_ms < *ret_due_ms ? w->until_ms : *ret_due_ms;
    }
    return NULL;
}

// The lock is held.
static void sleep_until(tob_replayer *r, uint64_t due_ms) {
    if (due_ms == UINT64_MAX) {
        pthread_cond_wait(&r->wake, &r->lock);
    } else {
        tob_cond_wait_until(&r->wake, &r->lock, due_ms);
    }
}

static bool answer(tob_replayer *r, waiter *w, tob_position end, bool hurry) {
    if (w->request->view == TOBOGGANING__V1__REPLAY_VIEW__REPLAY_VIEW_RECORDS) {
        return answer_records(r, w, end, hurry);
    }
    answer_rows(r, w);
    return true;
}

static void *run(void *arg) {
    tob_replayer *r = arg;
    uint64_t due = UINT64_MAX;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        waiter *w = take(r, &due);
        if (!w && r->stopping) {
            break;
        }
        if (!w) {
            sleep_until(r, due);
            continue;
        }
        tob_position end = r->end;
        bool hurry = r->hurry;
        pthread_mutex_unlock(&r->lock);
        bool answered = answer(r, w, end, hurry);
        pthread_mutex_lock(&r->lock);
        if (answered) {
            r->waiting--;
        } else {
            w->next = NULL;
            *r->last = w;
            r->last = &w->next;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

tob_error tob_replayer_start(tob_replayer *r) {
    if (pthread_create(&r->thread, NULL, run, r) != 0) {
        return TOB_NO_MEMORY;
    }
    r->started = true;
    return TOB_OK;
}

void tob_replayer_hurry(tob_replayer *r) {
    pthread_mutex_lock(&r->lock);
    r->hurry = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

void tob_replayer_stop(tob_replayer *r) {
    if (!r || !r->started) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->hurry = true;
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->started = false;
}
