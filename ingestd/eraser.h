// tob_eraser takes erased clients out of this ingestd's journal and checkpoints: it has a checkpoint made, begins a new
// segment, writes every older segment that holds a batch with the client anew without it (each record at its place and as
// long as it was: Record.erased in journal.proto), and removes older checkpoints, which hold its last
// values. What stays: that the id was removed (Record.removed_clients), until the segment is older than --journal-retain, and
// the audit log. Of a client that is registered again, what it reported since stays too, but for its fleet row, which comes back
// with the next report. Readers that are in a segment while it is written anew finish it as it was.
//
// Threads: tob_eraser_erase and _get from any; it has a thread of its own, which works one erasure after the other.
// Errors:  none; what fails is said in the erasure and in the log, and tried again.
#ifndef TOB_INGESTD_ERASER_H
#define TOB_INGESTD_ERASER_H

#include <stdbool.h>
#include <stdint.h>

#include "ingestd/checkpointer.h"
#include "ingestd/committer.h"
#include "util/error.h"
#include "util/text.h"

#define TOB_ERASER_REMEMBERED 1024 // erasures that are done
#define TOB_ERASER_AT_ONCE    16   // in one pass over the journal
#define TOB_ERASER_RETRY_MS   10000
#define TOB_ERASER_SETTLE_MS  500 // for reports that were let in just before the client was deleted

typedef struct tob_eraser tob_eraser;

typedef struct tob_erasure {
    char client_id[TOB_MAX_ID_BYTES + 1];
    uint64_t change;     // of the registry, that asked for it
    tob_position before; // the journal's end then: who is registered again keeps what came later
    bool done;
    char progress[96];
    char problem[512];
    uint32_t segments;
    uint32_t segments_rewritten;
    uint64_t records;
    uint64_t samples;
    uint32_t checkpoints;
    uint64_t finished_unix_ms;
} tob_erasure;

typedef struct tob_eraser_options {
    tob_committer *committer;
    tob_checkpointer *checkpointer;
    const char *journal_dir;
    const char *state_dir; // keeps which erasures are done ("erased", mode 0600), over restarts
} tob_eraser_options;

// All borrowed. TOB_NO_MEMORY, TOB_INTERNAL, TOB_MALFORMED and TOB_IO for the file.
TOB_MUST_USE tob_error tob_eraser_new(const tob_eraser_options *options, tob_eraser **ret);
TOB_MUST_USE tob_error tob_eraser_start(tob_eraser *eraser);
// tob_eraser_stop ends after the segment that it is at. Idempotent; NULL is fine.
void tob_eraser_stop(tob_eraser *eraser);
void tob_eraser_free(tob_eraser *eraser);

// tob_eraser_erase: a client that was deleted by the registry's change `change` is to be erased. Known or done ones are
// nothing new.
void tob_eraser_erase(tob_eraser *eraser, const char *client_id, uint64_t change);

// tob_eraser_numbered: the registry's newest change is this one. When more was done than it has changes, it is another database,
// or one from a backup, that numbers its changes anew: what was done does not count any more.
void tob_eraser_numbered(tob_eraser *eraser, uint64_t last_change);

// False when nothing is known of it: it was not asked for, or it was done before the last start.
bool tob_eraser_get(tob_eraser *eraser, const char *client_id, tob_erasure *ret);

#endif
