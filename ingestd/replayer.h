// tob_replayer answers Bus.Replay out of the journal's files, from a thread of its own: reading them may take long. For the
// rows of what it has read it asks the committer.
//
// Threads: _call from any thread, never blocks; the rest from one.
#ifndef TOB_INGESTD_REPLAYER_H
#define TOB_INGESTD_REPLAYER_H

#include <stdint.h>

#include "tobogganing/v1/bus.pb-c.h"

#include "ingestd/committer.h"
#include "rpc/server.h"

#define TOB_REPLAY_DEFAULT_BYTES (1u << 20)
#define TOB_REPLAY_MAX_BYTES     (4u << 20)
#define TOB_REPLAY_PAGE_SOURCES  4096u       // in one page of rows, but for those of its last record
#define TOB_REPLAY_ROWS_BEHIND   (64u << 20) // of journal, at most: a snapshot is cheaper then
#define TOB_REPLAY_MAX_WAIT_MS   60000u

typedef struct tob_replayer tob_replayer;

typedef struct tob_replayer_options {
    tob_committer *committer; // borrowed
    const char *journal_dir;  // copied
    uint64_t segment_bytes;
    uint64_t instance;
    uint64_t
        max_waiting; // calls that wait here at once, those that wait for the journal to go on included; over 0
} tob_replayer_options;

// tob_replayer_new watches the committer, which must not have been started. Errors: TOB_NOT_FOUND, TOB_IO, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_replayer_new(const tob_replayer_options *options, tob_replayer **ret);
TOB_MUST_USE tob_error tob_replayer_start(tob_replayer *replayer);

// tob_replayer_call answers the call. The request is in its arena.
void tob_replayer_call(tob_replayer *replayer, tob_rpc_call *call,
                       const Tobogganing__V1__ReplayRequest *request);

// tob_replayer_hurry: from now on nobody waits for the journal to go on; who does is answered at once.
void tob_replayer_hurry(tob_replayer *replayer);

// tob_replayer_stop answers what waits, and ends the thread. The committer must still run; nothing may call any more. Accepts
// NULL and one that was not started.
void tob_replayer_stop(tob_replayer *replayer);
void tob_replayer_free(tob_replayer *replayer);

#endif
