// The inside of the eraser: the list of erasures (eraser.c) and one pass over the journal (eraser_pass.c).
//
// Threads: the lock guards what is said so; a pass is the eraser's thread's, and its steps on the committer's thread run while
// that waits for them.
#ifndef TOB_INGESTD_ERASER_STATE_H
#define TOB_INGESTD_ERASER_STATE_H

#include <pthread.h>

#include "ingestd/eraser.h"
#include "journal/rewrite.h"

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
typedef struct tob_erase_pass {
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
} tob_erase_pass;

// tob_eraser_show copies what the pass knows into the list.
void tob_eraser_show(tob_erase_pass *pass);

// tob_eraser_wait_ms: false once stopping.
TOB_MUST_USE bool tob_eraser_wait_ms(tob_eraser *eraser, uint64_t ms);

// tob_erase_pass_run carries out the erasures of a pass, and shows how far it is. TOB_CANCELLED once stopping; other errors with
// their problem.
TOB_MUST_USE tob_error tob_erase_pass_run(tob_erase_pass *pass);

#endif
