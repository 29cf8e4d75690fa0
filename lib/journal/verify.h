// tob_verify looks at everything that is in a journal's directory, damaged or not: all segments and checkpoints, every
// record of them. It changes nothing, and a running writer does not disturb it.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_VERIFY_H
#define TOB_JOURNAL_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"

#define TOB_VERIFY_FILE_BYTES   64
#define TOB_VERIFY_MAX_SEGMENTS (1u << 20) // from the first to the last, with those missing between

// What a check of a record's payload found out.
typedef struct tob_verify_note {
    uint64_t unix_ms;     // the record's time; 0: it has none
    const char *reason;   // TOB_DAMAGED: what is wrong with it; static text
    bool head;            // it is a checkpoint's head
    tob_position reaches; // a checkpoint's record: the journal must reach to here; {0, 0}: not said
} tob_verify_note;

// Called for each record, which is borrowed, oldest first in a file; `at` is a checkpoint's place for all of its records.
// TOB_DAMAGED: it passes the journal's checks and is
// none of ours, so it counts as damaged; other errors end the reading.
typedef tob_error (*tob_verify_record_fn)(void *user, tob_position at, const void *payload, size_t n,
                                          tob_verify_note *ret);

// Bytes that are no record.
typedef struct tob_verify_hole {
    uint64_t offset;
    uint64_t end;
    const char *reason;
    uint64_t before_unix_ms; // of the records before and after it in the file; 0: not known
    uint64_t after_unix_ms;
} tob_verify_hole;

// A segment or a checkpoint.
typedef struct tob_verify_file {
    char name[TOB_VERIFY_FILE_BYTES];
    tob_position at;    // a segment's number, offset 0; a checkpoint's place
    bool missing;       // a segment between others without a file
    bool unfinished;    // a last segment whose making a crash interrupted: holds nothing
    const char *header; // what is wrong with the header; NULL: nothing
    bool salt_known;    // from the header, or found out from the records
    uint64_t salt;
    uint64_t previous_end; // where the segment before it ends, as its header says; 0: not known
    uint64_t bytes;        // of the file
    uint64_t end;          // of the last record or hole
    uint64_t torn_bytes;   // after it: what a crash left of a write that was never acknowledged
    uint64_t records;
    uint64_t first_unix_ms; // of its records; 0: not known
    uint64_t last_unix_ms;
    tob_verify_hole *holes;
    size_t hole_count;
    size_t hole_capacity;
    bool head;            // a checkpoint's: it was among the records
    tob_position reaches; // likewise: the greatest of its records'
    bool ended;           // a checkpoint's: so was its end
    const char *place;    // what is wrong with a checkpoint's place in the journal; NULL: nothing
} tob_verify_file;

typedef struct tob_verify {
    bool in_use;               // another process has the journal open
    tob_verify_file *segments; // ascending, missing ones included
    size_t segment_count;
    tob_verify_file *checkpoints; // the newest first
    size_t checkpoint_count;
    size_t damages; // how many things are wrong
} tob_verify;

typedef struct tob_verify_options {
    const char *dir;
    tob_verify_record_fn record;
    tob_verify_record_fn checkpoint_record;
    void *user;
    bool locked; // by the caller: nobody else has the journal
} tob_verify_options;

// What `place` may be.
extern const char tob_verify_place_behind[];
extern const char tob_verify_place_before[];
extern const char tob_verify_place_between[];

// tob_verify_run reads everything.
//   ret           owned by the caller; tob_verify_fini
//   ret_problem   filled on an error
// Errors: TOB_NOT_FOUND no such directory; TOB_PRECONDITION a newer format; TOB_TOO_LARGE over
//         TOB_VERIFY_MAX_SEGMENTS; TOB_IO; TOB_NO_MEMORY; what a callback returned. Damage is none.
TOB_MUST_USE tob_error tob_verify_run(const tob_verify_options *options, tob_verify *ret,
                                      tob_journal_problem *ret_problem);
void tob_verify_fini(tob_verify *verify);

// tob_verify_each_damage tells every damage: its file, where, and why.
typedef void (*tob_verify_damage_fn)(void *user, const tob_verify_file *file, uint64_t offset, uint64_t bytes,
                                     const char *reason);
void tob_verify_each_damage(const tob_verify *verify, tob_verify_damage_fn fn, void *user);

// The oldest and the last place of the journal.
tob_position tob_verify_oldest(const tob_verify *verify);
tob_position tob_verify_end(const tob_verify *verify);

#endif
