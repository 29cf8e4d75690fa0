// watcher is an exporter beside a store, without sockets between them: ingestd's bus, snapshots and replays on one side, the
// exporter's follower and mirror on the other, and in between a bus that loses and delays as told.
//
// Threads: one at a time. Errors: none; what can't be aborts.
#ifndef TOB_TESTS_TORTURE_WATCHER_H
#define TOB_TESTS_TORTURE_WATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compare.h"
#include "exporter/moment.h"
#include "ingestd/store.h"
#include "plain.h"

#define WATCHER_EXPIRE_MS (12 * 3600000ull)

typedef struct watcher watcher;

watcher *watcher_new(void);
void watcher_free(watcher *w);

// watcher_attach: the store was opened; _detach before it is closed. What was sent in between stays on its way.
void watcher_attach(watcher *w, tob_store *store, const char *journal_dir, uint64_t epoch, tob_moment now);
void watcher_detach(watcher *w);

// The registry: rows get their labels from it.
void watcher_register(watcher *w, unsigned source);
void watcher_unregister(watcher *w, unsigned source);

// watcher_publish sends what changed; _heartbeat, too, and a heartbeat.
void watcher_publish(watcher *w);
void watcher_heartbeat(watcher *w);

// The first n messages that are on their way arrive, or are lost.
void watcher_deliver(watcher *w, size_t n, tob_moment now);
void watcher_lose(watcher *w, size_t n);

// watcher_ask lets the exporter ask for a page if it wants one; ingestd makes it at once. _answer hands it over, if there is
// one; _refuse says that it is not to be had.
void watcher_ask(watcher *w, tob_moment now);
void watcher_answer(watcher *w, tob_moment now);
void watcher_refuse(watcher *w, tob_moment now);

// watcher_restart: the exporter begins with nothing.
void watcher_restart(watcher *w, tob_moment now);

void watcher_tick(watcher *w, tob_moment now);

// watcher_converge lets everything arrive from now on, and time pass, until the exporter has nothing to ask any more. False:
// it never ends.
bool watcher_converge(watcher *w, tob_moment *now);

// watcher_compare: after that, is the mirror what the plain state says? False: ret_text says the first difference.
bool watcher_compare(watcher *w, const plain_state *plain, tob_moment now, char ret_text[COMPARE_TEXT_BYTES]);

// How often each way was taken, over all watchers.
typedef struct watcher_counts {
    uint64_t snapshots, replays, refused_replays, lost, delivered;
} watcher_counts;

watcher_counts watcher_count(void);

#endif
