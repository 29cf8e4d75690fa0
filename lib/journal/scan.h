// Reading a file of records that may be damaged: every record that passes its checks, and the holes between them. Where
// replay.h stops at the first thing that is wrong, this goes on. Inside lib/journal only.
//
// Threads: one at a time.
#ifndef TOB_JOURNAL_SCAN_H
#define TOB_JOURNAL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/segment.h"
#include "journal/verify.h"
#include "util/error.h"

typedef struct tob_scan_file {
    int fd;
    uint64_t bytes;
    uint8_t *window; // what is in memory: n bytes from `from` on
    size_t capacity;
    uint64_t from;
    size_t n;
    bool content_known;
    uint64_t content; // where nothing but zeros begins
} tob_scan_file;

// tob_scan_open opens a file for reading. Errors: TOB_NOT_FOUND, TOB_IO with errno.
TOB_MUST_USE tob_error tob_scan_open(int dir_fd, const char *name, tob_scan_file *ret);
void tob_scan_close(tob_scan_file *file);

// tob_scan_view: n bytes of the file, which must have them, valid until the next call. What the disk refuses to read
// (EIO) reads as zeros: then no check passes. Errors: TOB_IO with errno, TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_scan_view(tob_scan_file *file, uint64_t offset, size_t n, const uint8_t **ret);

// A record, as far as it can be read.
typedef struct tob_scan_record {
    bool header; // passes its check
    bool whole;  // so does the payload
    tob_record_header head;
    const uint8_t *payload; // valid until the next call
} tob_scan_record;

// tob_scan_read reads what should be a record; nothing of it passes where none is. Errors: tob_scan_view's.
TOB_MUST_USE tob_error tob_scan_read(tob_scan_file *file, uint64_t salt, uint64_t offset,
                                     tob_scan_record *ret);

// tob_scan_salt finds the salt of a segment whose header is lost out of its records: any that makes their checks pass.
// False in *ret_found when there is no such record. Errors: tob_scan_view's.
TOB_MUST_USE tob_error tob_scan_salt(tob_scan_file *file, uint64_t *ret, bool *ret_found);

// tob_scan_all_zero: is nothing in the file but zeros? Errors: tob_scan_view's.
TOB_MUST_USE tob_error tob_scan_all_zero(tob_scan_file *file, bool *ret);

// tob_scan_add_hole. Errors: TOB_NO_MEMORY.
TOB_MUST_USE tob_error tob_scan_add_hole(tob_verify_file *file_report, uint64_t offset, uint64_t end,
                                         const char *reason);

typedef struct tob_scan_range {
    uint64_t segment; // for the records' positions
    uint64_t salt;
    uint64_t expected_end; // where the records must end; 0: not known
    bool may_be_torn;      // the journal's last segment: what a crash leaves at its end is no damage
} tob_scan_range;

// tob_scan_records hands every good record to `fn` (TOB_DAMAGED from it makes a hole of the record) and adds what it
// finds to *file_report: records, holes, end, torn_bytes, times.
// Errors: tob_scan_view's; what `fn` returned.
TOB_MUST_USE tob_error tob_scan_records(tob_scan_file *file, const tob_scan_range *range,
                                        tob_verify_record_fn fn, void *user, tob_verify_file *file_report);

#endif
