// tob_repair makes a damaged journal one that can be opened again, and keeps every record of it that can be read, at its
// place.
//
// Nothing is deleted: a damaged file is set aside, whole, in DIR/damaged-TIME/. Then
//   - bytes of a segment that are no record become records that mean nothing (the caller makes their payload), so that
//     all others stay where they were: readers' places stay good;
//   - a lost header is made anew out of the records' checks;
//   - a missing segment becomes one of such records;
//   - of the checkpoints, and the way without one where the journal reaches back to its beginning, that one is chosen with
//     which the least is lost. A damaged one that is chosen keeps the records that can be read; other damaged ones are
//     set aside;
//   - a journal that ends before the chosen checkpoint's place, or a reader's, is continued up to it.
// Each file is replaced at once, by a rename, and the checkpoints come first: a repair that was interrupted can be
// repaired, and a second one finds nothing to do.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_REPAIR_H
#define TOB_JOURNAL_REPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/verify.h"
#include "util/buffer.h"

#define TOB_REPAIR_FILLER_BYTES 32
#define TOB_REPAIR_DIR_BYTES    48

typedef struct tob_repair tob_repair;

typedef struct tob_repair_options {
    tob_verify_options verify;

    // Writes what a payload of n bytes that means nothing begins with, and returns how much that is, at most n; zeros
    // follow. n is a multiple of 8. unix_ms: the time of the record before it; 0: not known.
    size_t (*filler)(uint64_t unix_ms, size_t n, uint8_t to[TOB_REPAIR_FILLER_BYTES]);

    // Appends the head of a checkpoint whose own is lost. Called after everything was read.
    tob_error (*head)(void *user, tob_position at, tob_buffer *to);

    // The places of readers, which stay good. Borrowed. Called after everything was read.
    tob_error (*places)(void *user, const tob_position **ret, size_t *ret_count);
} tob_repair_options;

typedef enum tob_repair_action {
    TOB_REPAIR_SET_ASIDE,          // a checkpoint
    TOB_REPAIR_REWRITE_CHECKPOINT, // with the records that can be read
    TOB_REPAIR_MAKE_CHECKPOINT,    // an empty one, at the journal's begin: there is no other any more
    TOB_REPAIR_REWRITE_SEGMENT,
    TOB_REPAIR_MAKE_SEGMENT,
} tob_repair_action;

typedef struct tob_repair_step {
    tob_repair_action action;
    char name[TOB_VERIFY_FILE_BYTES];
    tob_position at;             // a segment's number, offset 0; a checkpoint's place
    const tob_verify_file *file; // as it was found; NULL: there was none
    uint64_t previous_end;       // of a segment's header
    uint64_t salt;
    uint64_t end; // where a segment will end
} tob_repair_step;

// tob_repair_begin locks the journal, reads everything, and decides what to do; nothing is changed yet.
//   options   borrowed until tob_repair_end
//   ret       owned by the caller; tob_repair_end
// Errors: TOB_BUSY another process has the journal; tob_verify_run's.
TOB_MUST_USE tob_error tob_repair_begin(const tob_repair_options *options, tob_repair **ret,
                                        tob_journal_problem *ret_problem);
void tob_repair_end(tob_repair *repair);

// What was found, and what will be done: 0 steps for a journal that is good as it is. Borrowed.
const tob_verify *tob_repair_found(const tob_repair *repair);
const tob_repair_step *tob_repair_steps(const tob_repair *repair, size_t *ret_count);

// tob_repair_apply does it, and reads everything again.
//   now_unix_ms   names the directory for what is set aside
//   ret_dir       its name
// Errors: TOB_IO, TOB_NO_MEMORY, with the problem filled: what was not done yet can be done by another repair;
//         TOB_DAMAGED when there still is damage.
TOB_MUST_USE tob_error tob_repair_apply(tob_repair *repair, uint64_t now_unix_ms,
                                        char ret_dir[TOB_REPAIR_DIR_BYTES], tob_journal_problem *ret_problem);

#endif
